"""A user's points are kept to: what the model says is bent until every point lies on its own side.

The decoder was trained on a box or a point, and heeds further points poorly: of 49 points that say
"outside", each put into the largest mistake of a boxed region's mask, it followed one
(Testing/bench/bench_points.py). So the points beside a
box are not asked of it. Instead the difference between what it says and what the user says is
interpolated from the points to the pixels like them, near and of the same grey (kriging; Rasmussen
and Williams, "Gaussian Processes for Machine Learning", 2006, chapter 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

REACH = 0.4  # one sigma of a point's reach, in units of the region's size (root of its area)
LEAST_REACH = 1.5  # pixels
GREY_SIGMA = 30.0  # of 255: pixels that differ by more from a point's are left alone
SURE = 1.5  # log-odds that a point has at least, on its side
NOISE = 0.05  # of the kernel: two points side by side must not swing what lies around them

Point = tuple[float, float, int]


def points_to_keep(box: Sequence[float] | None, points: Sequence[Point]) -> tuple[Point, ...]:
    """The points (x, y, label) that the decoder's answer must be held to: all but a single point
    inside, which it was trained on."""
    if box is None and len(points) == 1:
        return ()
    return tuple(points)


def held_to(
    odds: np.ndarray, pixels: np.ndarray, points: Sequence[Point], area: float
) -> np.ndarray:
    """Log-odds (H x W) of which every point's pixel has the sign that its label asks for.

    pixels: uint8, H x W. points: (x, y, label) in pixels, label 1 = inside, 0 = outside; those
    outside the picture are left out. area: of the region, in pixels.
    """
    height, width = odds.shape
    places = {
        (int(np.rint(y)), int(np.rint(x))): label
        for x, y, label in points
        if -0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5
    }
    if not places:
        return odds
    rows, columns = (np.array(v) for v in zip(*places, strict=True))
    inside = np.array(list(places.values())) == 1
    now = odds[rows, columns].astype(np.float64)
    wanted = np.where(inside, np.maximum(now, SURE), np.minimum(now, -SURE))
    if np.array_equal(wanted, now):
        return odds
    smooth = _smooth(pixels)
    reach = max(LEAST_REACH, REACH * float(np.sqrt(area)))
    y, x = np.ogrid[:height, :width]
    kernels = np.stack(
        [
            np.exp(
                -((y - row) ** 2 + (x - column) ** 2) / (2 * reach**2)
                - (smooth - smooth[row, column]) ** 2 / (2 * GREY_SIGMA**2)
            )
            for row, column in zip(rows, columns, strict=True)
        ]
    )
    between = kernels[:, rows, columns] + NOISE * np.eye(len(rows))
    bent = odds + np.tensordot(np.linalg.solve(between, wanted - now), kernels, axes=1)
    # neighbouring points of both kinds may overshoot each other: the last word is theirs
    bent[rows, columns] = np.where(
        inside, np.maximum(bent[rows, columns], SURE), np.minimum(bent[rows, columns], -SURE)
    )
    return bent


def _smooth(pixels: np.ndarray) -> np.ndarray:
    image = sitk.GetImageFromArray(pixels.astype(np.float32))
    return sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, [1.0, 1.0]))
