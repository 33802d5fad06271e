"""Which slices show how a head lies, and how far two frames of a head are apart: one rule for the
panel, which cuts the slices, and the engine, which looks at them (`head_frame`)."""

from __future__ import annotations

import numpy as np

from .request import Foreground, Triple

PLANES = ("sagittal", "coronal", "axial")  # their normals are R, A, S
LEVELS = (-0.6, -0.3, 0.0, 0.3, 0.6)  # of the half extent, where slices are cut in each plane
MODALITIES = (None, "MR")
LEAST_HALF_MM = 25.0  # of the foreground; a smaller crop does not tell how the head lies
FAR = (7.0, 0.1)  # degrees, or shares of the half extent: then the slices are looked at again
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


def is_far(found: Foreground, start: Foreground) -> bool:
    """Whether what the model was told while it looked was wrong enough to look again."""
    turn = np.array(found.axes) @ np.array(start.axes).T
    degrees = float(np.rad2deg(np.linalg.norm(turn_vector(turn))))
    half = np.asarray(found.half_extent)
    shift = np.abs(np.asarray(found.centre) - np.asarray(start.centre)) / half
    grown = np.abs(np.log(half / np.asarray(start.half_extent)))
    return degrees > FAR[0] or float(max(shift.max(), grown.max())) > FAR[1]


def turn_matrix(vector: np.ndarray) -> np.ndarray:
    """Rotation by |vector| radians about it (Rodrigues' formula)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: np.ndarray = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation


def turn_vector(matrix: np.ndarray) -> np.ndarray:
    """Inverse of `turn_matrix` for turns below 180 degrees."""
    angle = float(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1)))
    skew = np.array(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )
    return skew / 2 if angle < 1e-6 else angle / (2 * np.sin(angle)) * skew
