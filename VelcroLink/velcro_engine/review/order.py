"""Segments whose names differ only by a direction must lie in that order, and side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..knowledge_base.spelling import fold
from ..segmentations.shapes import Shape

# word of the lower RAS coordinate, word of the higher one, axis
PAIRS = (
    ("posterior", "anterior", 1),
    ("inferior", "superior", 2),
    ("lower", "upper", 2),
)
CLEAR_MM = 1.0


def order_contradictions(
    names: Sequence[str], centres: Sequence[np.ndarray | None]
) -> dict[int, str]:
    """{number: one line} for segments that lie on the wrong side of their counterpart, e.g. the
    anterior part of a structure behind its posterior part. centres: RAS mm, None when empty."""
    by_words = {tuple(fold(name).split()): n for n, name in enumerate(names)}
    found: dict[int, str] = {}
    for words, n in by_words.items():
        for low, high, axis in PAIRS:
            if low not in words:
                continue
            other = by_words.get(tuple(high if word == low else word for word in words))
            own, its = centres[n], None if other is None else centres[other]
            if other is None or own is None or its is None:
                continue
            apart = float(own[axis] - its[axis])
            if apart > CLEAR_MM:
                text = f"'{names[n]}' lies {apart:.0f} mm {high} to '{names[other]}'."
                found[n] = found[other] = text
    return found


def separated_parts(
    names: Sequence[str], shapes: Sequence[Shape], known: Sequence[bool]
) -> dict[int, str]:
    """{number: one line} for the two parts of one structure that do not touch each other.

    known: segments whose usual place is known are judged by that instead: parts of the brain's
    surface that are named by direction need not be neighbours.
    """
    by_words = {tuple(fold(name).split()): n for n, name in enumerate(names)}
    found: dict[int, str] = {}
    for words, n in by_words.items():
        for low, high, _axis in PAIRS:
            if low not in words:
                continue
            other = by_words.get(tuple(high if word == low else word for word in words))
            if other is None or known[n] or known[other]:
                continue
            if shapes[n].voxels and shapes[other].voxels and not touch(shapes[n], shapes[other]):
                found[n] = found[other] = (
                    f"'{names[n]}' and '{names[other]}' do not touch: one of them may be displaced."
                )
    return found


def touch(a: Shape, b: Shape) -> bool:
    """Whether two shapes share a voxel or have neighbouring ones, corners included."""
    low = np.maximum(a.start, b.start) - 1
    high = np.minimum(np.add(a.start, a.mask.shape), np.add(b.start, b.mask.shape)) + 1
    if (high <= low).any():
        return False
    own, other = _part(a, low, high), _part(b, low, high)
    for axis in range(3):
        before, after = np.roll(own, 1, axis), np.roll(own, -1, axis)
        edge: list[slice | int] = [slice(None)] * 3
        edge[axis] = 0
        before[tuple(edge)] = False
        edge[axis] = -1
        after[tuple(edge)] = False
        own = own | before | after
    return bool((own & other).any())


def _part(shape: Shape, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The shape's voxels between two corners (k, j, i), empty outside its own box."""
    out = np.zeros(tuple(high - low), dtype=bool)
    start = np.array(shape.start)
    first = np.maximum(low, start)
    last = np.minimum(high, start + shape.mask.shape)
    if (last > first).all():
        to = tuple(slice(a, b) for a, b in zip(first - low, last - low, strict=True))
        of = tuple(slice(a, b) for a, b in zip(first - start, last - start, strict=True))
        out[to] = shape.mask[of]
    return out
