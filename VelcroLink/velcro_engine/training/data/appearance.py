"""How a training slice is made to look: contrast, bias field, noise, resolution, artificial skull.

All functions take and return float32 pictures H x W with grey levels 0..1. The tone curves change
the order of tissues' brightness now and then, so that a network trained on T1 images has seen
T2-like and FLAIR-like contrasts (the idea of SynthSeg, Billot et al. 2023, without needing a label
for every tissue).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

Generator = np.random.Generator


def smooth_field(rng: Generator, size: int, cells: int) -> np.ndarray:
    """Smooth random field size x size with values of unit normal knots."""
    knots = torch.from_numpy(rng.standard_normal((1, 1, cells, cells)).astype(np.float32))
    return F.interpolate(knots, (size, size), mode="bicubic", align_corners=True)[0, 0].numpy()


def random_tone(rng: Generator, image: np.ndarray, keep_zero: bool) -> np.ndarray:
    """A random tone curve: gamma, sometimes inversion, sometimes any curve at all."""
    draw = rng.random()
    if draw < 0.55:
        out = image ** np.exp(rng.normal(0, 0.3))
    elif draw < 0.80:
        knots = np.linspace(0, 1, 6)
        values = np.sort(rng.random(6)) * 0.8 + knots * 0.2
        out = np.interp(image, knots, values)
    elif draw < 0.93:
        knots = np.linspace(0, 1, 6)
        out = np.interp(image, knots, rng.random(6))
    else:
        out = 1.0 - image
    out = out.astype(np.float32)
    if keep_zero:  # air stays black
        out = out * np.clip(image * 20, 0, 1)
    return out


def recolour(rng: Generator, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A CT slice in the contrast of an MR: a random tone curve (fat, soft tissue and bone in any
    order of brightness) and a random step for each labelled organ, which CT shows all alike.

    labels: H x W label ids, 0 = not labelled.
    """
    knots = np.linspace(0, 1, 6)
    out = np.interp(image, knots, np.concatenate([[0.0], rng.random(5)])).astype(np.float32)
    steps = rng.normal(0, 0.22, 256).astype(np.float32)
    steps[0] = 0.0
    step = F.pad(torch.from_numpy(steps[labels])[None, None], (1, 1, 1, 1), mode="replicate")
    soft = F.avg_pool2d(step, 3, 1)[0, 0].numpy()
    return np.clip(out + soft * np.clip(image * 10, 0, 1), 0, 1)


def change_resolution(rng: Generator, image: np.ndarray) -> np.ndarray:
    """Blur along both axes or one (thick slices seen from the side)."""
    size = image.shape[0]
    low = [max(24, int(size * rng.uniform(0.3, 0.9))), size, size]
    if rng.random() < 0.5:
        low[1] = low[0]
    height, width = (low[0], low[1]) if rng.random() < 0.5 else (low[1], low[0])
    t = torch.from_numpy(image)[None, None]
    t = F.interpolate(t, (height, width), mode="bilinear", antialias=True)
    return F.interpolate(t, (size, size), mode="bilinear")[0, 0].numpy()


def degrade(rng: Generator, image: np.ndarray, keep_zero: bool) -> np.ndarray:
    """Contrast, bias field, resolution and noise, each with its own chance."""
    size = image.shape[0]
    if rng.random() < 0.75:
        image = random_tone(rng, image, keep_zero)
    if rng.random() < 0.4:
        image = image * np.exp(
            smooth_field(rng, size, int(rng.integers(3, 6))) * rng.uniform(0, 0.3)
        )
    if rng.random() < 0.35:
        image = change_resolution(rng, image)
    if rng.random() < 0.5:
        noise = rng.standard_normal(image.shape).astype(np.float32)
        image = np.abs(image + noise * rng.uniform(0.0, 0.08))
    if rng.random() < 0.5:
        image = image * rng.uniform(0.7, 1.25) + rng.uniform(-0.05, 0.1)
    return np.clip(image, 0, 1).astype(np.float32)


def draw_skull(
    rng: Generator,
    image: np.ndarray,
    distance: np.ndarray,
    field: Callable[[int], np.ndarray] | None = None,
) -> np.ndarray:
    """Draw fluid, skull, marrow and scalp around a stripped brain.

    distance: H x W, mm to the brain (0 inside). Thicknesses and grey levels are random, and vary
    along the head, so that the network learns to look past them, whatever they look like.
    field: smooth random field of a number of cells in the shape of `image`, which may then be a
    volume; otherwise of a square picture.
    """
    size = image.shape[0]
    if field is None:

        def field(cells: int) -> np.ndarray:
            return smooth_field(rng, size, cells)

    brain = distance <= 0.0
    level = float(np.median(image[brain & (image > 0)])) if (brain & (image > 0)).any() else 0.5
    wobble = field(6)
    fluid = rng.uniform(0.5, 4.0) + 1.0 * wobble
    bone = fluid + np.clip(rng.uniform(3.0, 9.0) + 2.0 * field(6), 1.5, None)
    scalp = bone + np.clip(rng.uniform(3.0, 14.0) + 4.0 * field(5), 1.0, None)
    texture = field(40)

    def tissue(mean: float, rough: float) -> np.ndarray:
        return np.clip(mean * (1 + rough * texture), 0, 1)

    out = image.copy()
    gap = image < 0.02
    out = np.where(gap & (distance <= fluid), tissue(level * rng.uniform(0.05, 0.6), 0.1), out)
    is_bone = (distance > fluid) & (distance <= bone)
    out = np.where(is_bone, tissue(level * rng.uniform(0.0, 0.35), 0.2), out)
    if rng.random() < 0.6:  # marrow between the tables
        third = (bone - fluid) / 3
        marrow = (distance > fluid + third) & (distance <= bone - third)
        out = np.where(marrow, tissue(level * rng.uniform(0.3, 1.4), 0.2), out)
    is_scalp = (distance > bone) & (distance <= scalp)
    out = np.where(is_scalp, tissue(min(1.0, level * rng.uniform(0.5, 2.2)), 0.15), out)
    if rng.random() < 0.5:  # muscle and face: patches farther out
        blob = field(5) > rng.uniform(0.2, 1.0)
        far = (distance > scalp) & (distance <= scalp + rng.uniform(5, 25)) & blob
        out = np.where(far, tissue(level * rng.uniform(0.3, 1.5), 0.4), out)
    if rng.random() < 0.5:
        air = distance > scalp
        out = np.where(air & (out < 0.02), np.abs(texture) * rng.uniform(0, 0.05), out)
    return out.astype(np.float32)
