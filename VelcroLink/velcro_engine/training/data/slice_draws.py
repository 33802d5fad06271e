"""What is drawn at random for a training slice: prompts, poses, display axes and the foreground that
another scan of the same person would have."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from ...messages.request import Foreground
from .appearance import Generator
from .case_data import Case


def draw_prompt(rng: Generator, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tight box, loose box (0-25 % outward, now and then a little inward) or interior point."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) * 2.0 - 0.5
    draw = rng.random()
    if draw < 0.2:
        inside = F.avg_pool2d(torch.from_numpy(mask).float()[None, None], 5, 1, 2)[0, 0].numpy()
        inside = np.where(mask, inside, 0)
        ys, xs = np.nonzero(inside >= np.quantile(inside[mask], rng.uniform(0.3, 0.95)))
        pick = int(rng.integers(len(ys)))
        return np.array([[xs[pick] * 2.0 + 0.5, ys[pick] * 2.0 + 0.5], [0, 0]]), np.array([1, -1])
    if draw < 0.6:
        width, height = box[2] - box[0], box[3] - box[1]
        out = rng.uniform(-0.04, 0.24, 4) * [width, height, width, height]
        box = box + out * [-1, -1, 1, 1]
    else:
        box = box + rng.uniform(-1, 1, 4)
    return box.reshape(2, 2), np.array([2, 3])


def random_rotation(rng: Generator, tilt: float, spin: float, axis: int) -> np.ndarray:
    """Random rotation: `spin` degrees (one sigma) about `axis`, `tilt` about the two others."""
    matrix = np.eye(3)
    for a in range(3):
        angle = np.deg2rad(np.clip(rng.normal(0, spin if a == axis else tilt), -45, 45))
        c, s = np.cos(angle), np.sin(angle)
        i, j = [(1, 2), (2, 0), (0, 1)][a]
        step = np.eye(3)
        step[i, i], step[i, j], step[j, i], step[j, j] = c, -s, s, c
        matrix = step @ matrix
    return matrix


def display_axes(axis: int, rng: Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image right, image down and normal in RAS, radiological display. Sagittal slices are shown
    from either side."""
    if axis == 2:
        return np.array([-1.0, 0, 0]), np.array([0, -1.0, 0]), np.array([0, 0, 1.0])
    if axis == 1:
        return np.array([-1.0, 0, 0]), np.array([0, 0, -1.0]), np.array([0, 1.0, 0])
    sign = 1.0 if rng.random() < 0.35 else -1.0
    return np.array([0, sign, 0]), np.array([0, 0, -1.0]), np.array([1.0, 0, 0])


def perturbed(
    rng: Generator, case: Case, crop_mm: float | None, target: np.ndarray, axis: int
) -> Foreground | None:
    """The foreground as another scan of the same person would have it: with scalp, neck or a
    tighter field of view."""
    if case.fore is None or rng.random() < 0.05:
        return None
    centre, half = np.array(case.fore.centre), np.array(case.fore.half_extent)
    if case.distance is not None and rng.random() < 0.5:
        scalp = rng.uniform(3, 16)
        centre = centre + rng.normal(0, 2, 3)
        half = half + scalp
        half[1] += (face := rng.uniform(0, 12))
        centre[1] += face
        neck = rng.uniform(0, 90) * (rng.random() < 0.8)
        centre[2] -= neck / 2
        half[2] += neck / 2
    if crop_mm is not None:
        for a in range(3):
            if a != axis or rng.random() < 0.3:
                low = max(centre[a] - half[a], target[a] + case.origin[a] - crop_mm / 2)
                high = min(centre[a] + half[a], target[a] + case.origin[a] + crop_mm / 2)
                if high - low > 4:
                    centre[a], half[a] = (low + high) / 2, (high - low) / 2
    elif rng.random() < 0.12:  # a slab: the volume does not reach as far along one axis
        a = int(rng.integers(3))
        cut = rng.uniform(0, 0.5) * half[a] * rng.choice([-1, 1])
        centre[a] += cut / 2
        half[a] -= abs(cut) / 2
    centre = centre + rng.normal(0, 0.03, 3) * half
    half = half * np.exp(rng.normal(0, 0.04, 3))
    return Foreground(tuple(map(float, centre)), tuple(map(float, half)))


def within(fore: Foreground, slab: np.ndarray) -> Foreground:
    """The foreground of a scan that reaches from slab[0] to slab[1] (mm, S axis of RAS) only."""
    low = max(fore.centre[2] - fore.half_extent[2], float(slab[0]))
    high = min(fore.centre[2] + fore.half_extent[2], float(slab[1]))
    if high - low < 4:
        return fore
    return Foreground(
        (*fore.centre[:2], (low + high) / 2), (*fore.half_extent[:2], (high - low) / 2)
    )
