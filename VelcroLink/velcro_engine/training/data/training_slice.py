"""What a training slice is made of: picture, targets of every pixel, prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from .appearance import Generator
from .case_data import Case

IGNORE = -1


@dataclass
class SlicePrompts:
    """points P x 2 x 2, labels P x 2 (8-slot padding is added by the collator), entity P, side P,
    masks P x S/2 x S/2 uint8, has_mask P."""

    points: np.ndarray
    labels: np.ndarray
    entity: np.ndarray
    side: np.ndarray
    masks: np.ndarray
    has_mask: np.ndarray


@dataclass
class TrainingSlice:
    image: np.ndarray
    position: np.ndarray
    pixel_entity: np.ndarray
    dense_entity: np.ndarray
    dense_side: np.ndarray
    prompts: SlicePrompts
    modality: int = 0  # of `case_data.MODALITY_NUMBERS`


def dense_targets(
    layers: list[np.ndarray],
    entity_of: np.ndarray,
    side_of: np.ndarray,
    case: Case,
    nothing: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Entity and side of every pixel of the half-resolution grid, -1 where unknown."""
    entity = np.full(layers[0].shape, IGNORE, dtype=np.int64)
    side = entity.copy()
    for layer in layers:  # later layers (findings, devices) lie over earlier ones
        cell = layer.astype(np.int64)
        linked = entity_of[cell]
        use = (cell > 0) & (linked >= 0)
        entity = np.where(use, linked, entity)
        side = np.where(use, side_of[cell], side)
    if case.stripped and case.exhaustive:  # what is not labelled there is air or skull
        near = F.max_pool2d(torch.from_numpy(layers[0] > 0).float()[None, None], 9, 1, 4)
        entity = np.where(near[0, 0].numpy() == 0, nothing, entity)
    return entity, side


def empty_box(rng: Generator, layers: list[np.ndarray], half: int) -> np.ndarray | None:
    """Corners (2 x 2 pixels of the slice) of a box with nothing labelled in it, if there is one.
    layers: H x W at half resolution; half: their side."""
    anything = np.zeros((half, half), dtype=bool)
    for layer in layers:
        anything |= layer > 0
    if anything.mean() < 0.1:
        return None
    for _ in range(8):
        w, h = rng.uniform(6, 40, 2)
        x, y = rng.uniform(0, half - w), rng.uniform(0, half - h)
        if anything[int(y) : int(y + h) + 1, int(x) : int(x + w) + 1].mean() < 0.02:
            return np.array([[x, y], [x + w, y + h]], dtype=np.float32) * 2
    return None


def flip_horizontally(made: TrainingSlice) -> TrainingSlice:
    """A mirrored person, shown in the same convention."""
    size = made.image.shape[-1]
    prompts = made.prompts
    points = prompts.points.copy()
    points[..., 0] = size - 1 - points[..., 0]
    corners = prompts.labels[:, 0] == 2
    left = points[corners, 1, 0].copy()
    points[corners, 1, 0] = points[corners, 0, 0]
    points[corners, 0, 0] = left
    points[prompts.labels == -1] = 0
    return TrainingSlice(
        np.ascontiguousarray(made.image[..., ::-1]),
        np.ascontiguousarray(made.position[..., ::-1]),
        np.ascontiguousarray(made.pixel_entity[:, ::-1]),
        np.ascontiguousarray(made.dense_entity[:, ::-1]),
        np.ascontiguousarray(made.dense_side[:, ::-1]),
        SlicePrompts(
            points,
            prompts.labels,
            prompts.entity,
            prompts.side,
            np.ascontiguousarray(prompts.masks[..., ::-1]),
            prompts.has_mask,
        ),
        made.modality,
    )
