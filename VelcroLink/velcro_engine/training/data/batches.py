"""Slices of one training batch as tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...model.preprocess import MAXIMUM_POINTS, NO_POINT

Batch = dict[str, Tensor]


def collate(samples: list) -> Batch:
    """Slices of one batch as tensors; prompts of all slices in one list with their slice's row."""
    prompts = [s.prompts for s in samples]
    points = np.concatenate([p.points for p in prompts])
    labels = np.concatenate([p.labels for p in prompts])
    padded = np.zeros((len(points), MAXIMUM_POINTS, 2), dtype=np.float32)
    kinds = np.full((len(points), MAXIMUM_POINTS), NO_POINT, dtype=np.float32)
    padded[:, :2], kinds[:, :2] = points, labels
    rows = np.repeat(np.arange(len(samples)), [len(p.entity) for p in prompts])
    arrays = {
        "image": np.stack([s.image for s in samples]),
        "position": np.stack([s.position for s in samples]).astype(np.float32),
        "modality": np.array([s.modality for s in samples], dtype=np.int64),
        "pixel_entity": np.stack([s.pixel_entity for s in samples]),
        "dense_entity": np.stack([s.dense_entity for s in samples]),
        "dense_side": np.stack([s.dense_side for s in samples]),
        "points": padded,
        "labels": kinds,
        "row": rows,
        "entity": np.concatenate([p.entity for p in prompts]),
        "side": np.concatenate([p.side for p in prompts]),
        "masks": np.concatenate([p.masks for p in prompts]),
        "has_mask": np.concatenate([p.has_mask for p in prompts]),
    }
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
