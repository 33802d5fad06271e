"""How far two frames of a head are apart, and turns as vectors."""

from __future__ import annotations

import numpy as np

from ..messages.request import Foreground

FAR = (7.0, 0.1)  # degrees, or shares of the half extent: then the slices are looked at again


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
