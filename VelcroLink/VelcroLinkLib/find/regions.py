"""The engine's answer to a phrase: regions of a slice with scores, and the heat map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class FoundRegion:
    """mask: bool H x W on the pixels of the slice; side: "left", "right" or None; score 0..1."""

    mask: np.ndarray
    score: float
    side: str | None

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the mask's pixel nearest to its centroid: a hollow region has no middle."""
        ys, xs = np.nonzero(self.mask)
        nearest = int(np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2))
        return float(xs[nearest]), float(ys[nearest])


@dataclass(frozen=True, eq=False)
class FoundRegions:
    """present: False when the phrase is not in this slice; then regions are empty.

    score: the best one, also of what was not good enough. heat: uint8 H x W, 255 = certain.
    """

    phrase: str
    present: bool
    score: float
    regions: tuple[FoundRegion, ...]
    heat: np.ndarray

    @classmethod
    def fromAnswer(
        cls, result: Mapping[str, Any], payload: bytes, shape: tuple[int, ...]
    ) -> FoundRegions:
        """From a `ground` answer about a slice of `shape`. Raises ValueError when it does not fit,
        KeyError or TypeError when something is missing."""
        pixels = shape[0] * shape[1]
        size = -(-pixels // 8)
        told = list(result["regions"])
        if tuple(result["shape"]) != tuple(shape) or len(payload) != len(told) * size + pixels:
            raise ValueError(f"{len(payload)} bytes for {len(told)} regions of {result['shape']}")
        regions = []
        for number, region in enumerate(told):
            bits = np.frombuffer(payload, np.uint8, size, number * size)
            mask = np.unpackbits(bits, count=pixels).reshape(shape).astype(bool)
            if mask.any():
                regions.append(FoundRegion(mask, _score(region["score"]), region.get("side")))
        heat = np.frombuffer(payload, np.uint8, pixels, len(told) * size).reshape(shape)
        present = bool(result["present"]) and bool(regions)
        return cls(
            phrase=str(result["phrase"]),
            present=present,
            score=_score(result["score"]),
            regions=tuple(regions) if present else (),
            heat=heat.copy(),
        )


def _score(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"score {value!r}")
    return number
