"""Three directions decide where a propagated structure ends.

The walk sees a region along one direction only, each slice through the eyes of the one before. Here
the axial, coronal and sagittal slices through it are looked at again, twice. Where the model's
names of pixels can be relied on, their mean over the three comes first: nothing is prompted there,
so nothing drifts. Then the decoder is asked with the box of what was found so far, and the mean of
its answers (and of the names) is the new region, up to `REACH_MM` beyond the old one. Without names
the decoder is asked both times, the second time with better boxes. Averaging networks over the
three anatomical views is an old habit of segmentation (Prasoon et al., MICCAI 2013).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..imaging.slice_voxels import voxels_of_slice
from ..linking.region_mask import MASK_TEMPERATURE
from .evidence import box_of
from .sight import WORLD, layer_of_axis
from .walk import Walk

BOX_SLACK = 0.06  # of a box's sides, and two pixels: how far beyond it a decoder is asked
REACH_MM = 4.0  # beyond what was found so far
LEAST_SHARE = 0.25  # of the walk's voxels that must be found again, or the walk stands
UNSEEN = 8.0  # log-odds against a voxel that no slice of a direction was asked for
INSIDE = 0.45  # mean share from which a voxel is inside

Box3 = tuple[slice, slice, slice]


def seen_from_all_sides(work: Walk, voxels: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """The region (bool, K x J x I) that three directions agree on, from what the walk found.

    kept: layers of the walk's plane that stay as they are: the start and what was corrected."""
    found = voxels
    half = (1 - work.share) / 2
    for ask, begin in ((not work.by_pixels, work.share), (True, work.share + half)):
        found = look_from_all_sides(work, found, kept, (begin, begin + half), ask)
        if np.count_nonzero(found & voxels) < LEAST_SHARE * np.count_nonzero(voxels):
            return voxels
    return found


def look_from_all_sides(
    work: Walk, voxels: np.ndarray, kept: Sequence[int], span: tuple[float, float], ask: bool
) -> np.ndarray:
    """The region after one look. ask: whether the decoder is asked, or the names alone decide."""
    box, near = _reach(voxels, work)
    low = np.array([part.start for part in box])[:, None]
    odds = np.full(near.shape, -UNSEEN * len(WORLD), dtype=np.float32)
    margins = np.zeros(near.shape, dtype=np.float32)
    names = np.zeros(near.shape, dtype=np.float32)
    for number, plane in enumerate(WORLD):
        for done, index, own in work.layers(plane, voxels if ask else _whole(box, near, voxels)):
            share = (number + done) / len(WORLD)
            work.progress(span[0] + (span[1] - span[0]) * share, f"{plane} slice {index + 1}")
            cut = work.cut(plane, index)
            where, pixel = voxels_of_slice(cut, work.volume)
            place = np.stack(where) - low
            seen = ((place >= 0) & (place < np.array(near.shape)[:, None])).all(axis=0)
            at, of = tuple(place[:, seen]), (pixel[0][seen], pixel[1][seen])
            request = cut.request(box=box_of(own))
            if ask:
                logits, _, encoded, window = work.decode(request)
                odds[at] += (_asked(logits, box_of(own)) + UNSEEN)[of]
            else:
                encoded, window = work.encode(request)
            if work.by_pixels:
                margin = work.margin(encoded, window, own.shape)
                assert margin is not None
                margins[at] += margin[of]
                names[at] += 1 / (1 + np.exp(-margin[of]))
    found = np.zeros_like(voxels)
    if ask:
        shares = 1 / (1 + np.exp(-odds / len(WORLD)))
        inside = (shares + names / len(WORLD)) / 2 if work.by_pixels else shares
        found[box] = _touching((inside > INSIDE) & near, voxels[box])
    else:
        found[box] = _touching((margins > 0) & near, voxels[box])
    for index in kept:
        layer = layer_of_axis(work.axis, index)
        found[layer] = voxels[layer]
    return found


def _asked(logits: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """The decoder's log-odds (H x W) in its box and a little beyond, against elsewhere."""
    odds = np.clip(logits / MASK_TEMPERATURE, -UNSEEN, UNSEEN)
    return np.where(_around(box, logits.shape), odds, -UNSEEN)


def _whole(box: Box3, near: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """`near` in the whole volume: names are looked up wherever the region may reach."""
    out = np.zeros_like(voxels)
    out[box] = near
    return out


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
