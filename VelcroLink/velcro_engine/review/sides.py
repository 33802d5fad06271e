"""On which side of the patient's middle a segment lies, and whether its name says the other one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..messages.request import Foreground

LEAST_PAIRS = 3
CLEAR_MM = 3.0  # beyond the middle plane: on the other side without doubt
MATE_MM = 1.0  # enough when the segment of the other side is wrong too
BODY_MM = 40.0  # half width from which the foreground's middle can be the body's
BODY_SHARE = 0.12  # of the half width: nearer to the middle of the foreground nothing is said
PAIR_MM = 4.0  # left and right closer than this say nothing about the middle


@dataclass(frozen=True)
class Middle:
    """The plane between left and right. normal: unit, RAS, towards the patient's right; offset mm;
    unsure_mm: nearer to the plane than that no side is told. pairs: how many it was found from."""

    normal: np.ndarray
    offset: float
    unsure_mm: float
    pairs: int

    def right_of(self, ras: np.ndarray) -> float:
        """mm to the right of the plane, negative to the left."""
        return float(self.normal @ ras - self.offset)


def find_middle(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], fore: Foreground | None
) -> Middle | None:
    """The middle plane from the centres (RAS mm) of segments named as left and right of one
    structure, in any order: exchanged names do not move it. Without pairs the foreground's middle,
    if that is wide enough to be a body; None when neither is known."""
    apart = [(a, b) for a, b in pairs if abs(float(b[0] - a[0])) >= PAIR_MM]
    if len(apart) >= LEAST_PAIRS:
        directions = np.array([(b - a) * np.sign(b[0] - a[0]) for a, b in apart])
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        normal = np.median(directions, axis=0)
        normal /= np.linalg.norm(normal)
        levels = [float(normal @ (a + b)) / 2 for a, b in apart]
        return Middle(normal, float(np.median(levels)), CLEAR_MM, len(apart))
    if fore is None or fore.half_extent[0] < BODY_MM:
        return None
    unsure = max(2 * CLEAR_MM, BODY_SHARE * fore.half_extent[0])
    return Middle(np.array([1.0, 0.0, 0.0]), fore.centre[0], unsure, 0)


def contradiction(
    middle: Middle | None, side: str | None, centre: np.ndarray | None, mate: np.ndarray | None
) -> float | None:
    """mm that a segment lies on the other side than it is named, None when there is nothing wrong.

    mate: centre of the segment named as the other side of the same structure.
    """
    if middle is None or side is None or centre is None:
        return None
    wrong = middle.right_of(centre) * (1 if side == "left" else -1)
    if wrong >= middle.unsure_mm:
        return wrong
    if mate is None or middle.pairs < LEAST_PAIRS or wrong < MATE_MM:
        return None
    mate_wrong = middle.right_of(mate) * (-1 if side == "left" else 1)
    return wrong if mate_wrong >= MATE_MM else None
