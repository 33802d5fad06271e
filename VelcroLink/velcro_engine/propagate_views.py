"""Three directions decide where a propagated region ends.

The walk sees a region along one direction only, each slice through the eyes of the one before. Here
the axial, coronal and sagittal slices through it are asked again, each with the box of what was
found so far, and the mean of what they say (and of the model's names of pixels, where they can be
relied on) is the new region, up to `REACH_MM` beyond the old one. Where no names hold the walk, its boxes
are poor, and a second turn starts from better ones. Averaging networks over the three anatomical views is an old habit of segmentation (Prasoon
et al., MICCAI 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import SimpleITK as sitk

from .propagate_evidence import box_of
from .propagate_walk import WORLD, Walk, layer_of_axis
from .region_mask import MASK_TEMPERATURE
from .slices import voxels_of_slice

BOX_SLACK = 0.06  # of a box's sides, and two pixels: how far beyond it a decoder is asked
REACH_MM = 4.0  # beyond what was found so far
LEAST_SHARE = 0.25  # of the walk's voxels that must be found again, or the walk stands
TURNS = 2  # where the walk had no names to hold to; of a finding, whose border is in doubt, one
UNSEEN = 8.0  # log-odds against a voxel that no slice of a direction was asked for
INSIDE = 0.45  # mean share from which a voxel is inside

Box3 = tuple[slice, slice, slice]


def seen_from_all_sides(work: Walk, voxels: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """The region (bool, K x J x I) that three directions agree on, from what the walk found.

    kept: layers of the walk's plane that stay as they are: the start and what was corrected."""
    turns = TURNS if work.identity.kind == "anatomy" and not work.by_pixels else 1
    marks = [work.share + (1 - work.share) * turn / turns for turn in range(turns + 1)]
    found = voxels
    for span in pairwise(marks):
        found = _once(work, found, kept, span)
        if np.count_nonzero(found & voxels) < LEAST_SHARE * np.count_nonzero(voxels):
            return voxels
    return found


def _once(
    work: Walk, voxels: np.ndarray, kept: Sequence[int], span: tuple[float, float]
) -> np.ndarray:
    box, near = _reach(voxels, work)
    low = np.array([part.start for part in box])
    odds = np.full(near.shape, -UNSEEN * len(WORLD), dtype=np.float32)
    names = np.zeros(near.shape, dtype=np.float32) if work.by_pixels else None
    for number, plane in enumerate(WORLD):
        for done, index, own in work.layers(plane, voxels):
            share = (number + done) / len(WORLD)
            work.progress(span[0] + (span[1] - span[0]) * share, f"{plane} slice {index + 1}")
            cut = work.cut(plane, index)
            prompt = box_of(own)
            request = cut.request(box=prompt)
            logits, _, encoded, window = work.decode(request)
            logits = np.clip(logits / MASK_TEMPERATURE, -UNSEEN, UNSEEN) + UNSEEN
            logits *= _around(prompt, own.shape)
            where, pixel = voxels_of_slice(cut, work.volume)
            place = np.stack(where) - low[:, None]
            seen = ((place >= 0) & (place < np.array(near.shape)[:, None])).all(axis=0)
            at = tuple(place[:, seen])
            of = (pixel[0][seen], pixel[1][seen])
            odds[at] += logits[of]
            margin = work.margin(encoded, window, own.shape) if names is not None else None
            if names is not None and margin is not None:
                names[at] += 1 / (1 + np.exp(-margin[of]))
    shares = 1 / (1 + np.exp(-odds / len(WORLD)))
    if names is not None:
        shares = (shares + names / len(WORLD)) / 2
    found = np.zeros_like(voxels)
    found[box] = _touching((shares > INSIDE) & near, voxels[box])
    for index in kept:
        layer = layer_of_axis(work.axis, index)
        found[layer] = voxels[layer]
    return found


def _around(box: Sequence[float], shape: tuple[int, ...]) -> np.ndarray:
    """The pixels (bool, H x W) in a box and a little beyond: a decoder is asked about no others."""
    x0, y0, x1, y1 = box
    slack_x, slack_y = 2 + BOX_SLACK * (x1 - x0), 2 + BOX_SLACK * (y1 - y0)
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (abs(x - (x0 + x1) / 2) <= (x1 - x0) / 2 + slack_x) & (
        abs(y - (y0 + y1) / 2) <= (y1 - y0) / 2 + slack_y
    )


def _reach(voxels: np.ndarray, work: Walk) -> tuple[Box3, np.ndarray]:
    """Where the region may reach: a box of the volume, and which of its voxels."""
    spacing = np.linalg.norm(work.volume.ijk_to_ras[:3, :3], axis=0)
    radius = [max(1, round(REACH_MM / float(s))) for s in spacing]
    spans = []
    for axis, grow in enumerate(radius[::-1]):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(voxels.any(axis=others))
        first, last = int(filled[0]), int(filled[-1])
        spans.append(slice(max(0, first - grow), min(voxels.shape[axis], last + grow + 1)))
    box = (spans[0], spans[1], spans[2])
    image = sitk.GetImageFromArray(voxels[box].astype(np.uint8))
    return box, sitk.GetArrayFromImage(sitk.BinaryDilate(image, radius)) > 0


def _touching(found: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """The pieces that hold voxels of the old region."""
    image = sitk.ConnectedComponent(sitk.GetImageFromArray(found.astype(np.uint8)), True)
    pieces = sitk.GetArrayFromImage(image)
    held = np.zeros(int(pieces.max()) + 1, dtype=bool)
    held[np.unique(pieces[voxels])] = True
    held[0] = False
    return held[pieces]
