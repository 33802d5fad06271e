"""Which slices show how a head lies, and how far two frames of a head are apart: one rule for the
panel, which cuts the slices, and the engine, which looks at them (`head.frame`)."""

from __future__ import annotations

import numpy as np

from ..messages.request import Foreground, Triple

PLANES = ("sagittal", "coronal", "axial")  # their normals are R, A, S
LEVELS = (-0.6, -0.3, 0.0, 0.3, 0.6)  # of the half extent, where slices are cut in each plane
MODALITIES = (None, "MR")
LEAST_HALF_MM = 25.0  # of the foreground; a smaller crop does not tell how the head lies
LOOKS = 2


def head_cuts(fore: Foreground) -> list[tuple[str, Triple]]:
    """(plane, RAS point on it) of the slices that `find_head` wants to see."""
    cuts = []
    for axis, plane in enumerate(PLANES):
        for level in LEVELS:
            point = np.array(fore.centre)
            point[axis] += level * fore.half_extent[axis]
            cuts.append((plane, (float(point[0]), float(point[1]), float(point[2]))))
    return cuts


def can_hold_head(modality: str | None, fore: Foreground | None) -> bool:
    """Whether looking is worth while: an image with a position that is no CT (the model has seen no
    heads there), and large enough in all directions."""
    return modality in MODALITIES and fore is not None and min(fore.half_extent) >= LEAST_HALF_MM
