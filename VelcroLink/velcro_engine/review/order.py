"""Segments whose names differ only by a direction must lie in that order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..knowledge_base.spelling import fold

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
