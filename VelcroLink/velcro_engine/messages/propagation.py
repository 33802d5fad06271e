"""What a propagation is asked for and what comes out: rules, one step a slice, the result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Point = tuple[float, float, int]
FINDING_GREY, FINDING_IDENTITY = 1.5, 0.2
UNSURE = 0.6  # of the start's confidence: a model that was unsure there may be so elsewhere


@dataclass(frozen=True)
class Rules:
    """When to stop and how much to smooth.

    confidence: least estimated IoU of the model's mask. agreement: least Dice with the neighbour's
    mask. least_share, burst: area over the largest area so far, and over the neighbour's. growth:
    most area over the neighbour's that a mask is let grow to, per mm. likeness: least cosine of the
    region's embedding with the start's. smoothing: weight of the neighbour's logits at 1 mm
    distance. reach_mm: how far a mask may reach beyond its neighbour, per mm of slice distance,
    plus one pixel. grey, identity: weight of the grey levels' evidence and of the image tokens'
    (how much more a place resembles the start's entry than any other, in units of the calibration's
    temperature), 0 for none. least_identity: least mean of the latter over the mask. names_found:
    least Dice of what the model names like the start with the start's own mask; below, names are
    not followed. appearance: weight of the likeness to the start's pixels, 0 for none.
    least_appearance: least mean likeness of a mask, as a share of the start's. limit: most slices
    in each direction, None for no limit.
    """

    confidence: float = 0.25
    agreement: float = 0.35
    least_share: float = 0.02
    least_pixels: int = 4
    burst: float = 2.0
    growth: float = 1.04
    likeness: float = 0.3
    smoothing: float = 0.3
    reach_mm: float = 2.5
    grey: float = 0.6
    identity: float = 1.0
    least_identity: float = -1.0
    names_found: float = 0.65
    appearance: float = 1.0
    least_appearance: float = 0.3
    limit: int | None = None


@dataclass(frozen=True)
class Step:
    """One slice of the walk. index: layer along the volume's axis of the plane. mask, logits: on
    the slice's pixels. agreement: Dice with the neighbour it came from, 1 for the start. level: of
    the logits, at which the start's mask fills its box."""

    index: int
    mask: np.ndarray
    logits: np.ndarray
    confidence: float
    agreement: float
    probabilities: np.ndarray
    side: np.ndarray
    embedding: np.ndarray
    identity: float | None = None
    corrected: bool = False
    level: float = 0.0


@dataclass
class Propagation:
    """The result. steps: of the walk, by layer. voxels: bool K x J x I on the volume, the region:
    it may reach beyond the walk once three directions were asked (`propagation.views`). areas: mm2 by
    layer of the plane, of all layers that hold voxels. stopped: {"-": reason, "+": reason} along
    the volume's axis: why the walk ended. entry_id, side, confidence: by vote of all slices. volume_ml and, over axial
    slices, longest_mm and perpendicular_mm; None without position."""

    plane: str
    start: int
    steps: dict[int, Step]
    voxels: np.ndarray
    areas: dict[int, float]
    stopped: dict[str, str]
    entry_id: str
    side: str | None
    confidence: float
    volume_ml: float
    longest_mm: float | None
    perpendicular_mm: float | None
    seconds: float = 0.0
    corrections: dict[int, tuple[Point, ...]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """JSON-able, without the voxels."""
        indices = sorted(self.areas)
        return {
            "plane": self.plane,
            "start": self.start,
            "first": indices[0],
            "last": indices[-1],
            "stopped": self.stopped,
            "entry_id": self.entry_id,
            "side": self.side,
            "confidence": round(self.confidence, 4),
            "voxels": int(self.voxels.sum()),
            "volume_ml": round(self.volume_ml, 3),
            "longest_diameter_mm": _rounded(self.longest_mm),
            "perpendicular_mm": _rounded(self.perpendicular_mm),
            "seconds": round(self.seconds, 2),
            "slices": [self._slice(i) for i in indices],
        }

    def _slice(self, index: int) -> dict[str, Any]:
        """A layer; confidence and agreement are null beyond the walk."""
        step = self.steps.get(index)
        return {
            "index": index,
            "area_mm2": round(self.areas[index], 2),
            "confidence": None if step is None else round(step.confidence, 3),
            "agreement": None if step is None else round(step.agreement, 3),
            "corrected": step is not None and step.corrected,
        }


def rules_for(rules: Rules, kind: str) -> Rules:
    """A finding is what looks alike, and too ragged for the coarse grid of the image tokens."""
    if kind == "anatomy" or rules.grey <= 0:
        return rules
    return replace(
        rules, grey=max(rules.grey, FINDING_GREY), identity=FINDING_IDENTITY * rules.identity
    )


def why_stop(rules: Rules, found: Step, near: Step, start: Step, largest: int) -> str:
    """The reason why a walk ends before the slice `found` beside `near`, "" when it goes on.

    largest: pixels of the largest mask so far."""
    area = int(found.mask.sum())
    if found.confidence < min(rules.confidence, UNSURE * start.confidence):
        return "the model is not sure of the mask"
    if area < max(rules.least_pixels, rules.least_share * largest):
        return "the region ends"
    if area > rules.burst * max(int(near.mask.sum()), 16):
        return "the region bursts"
    if found.agreement < rules.agreement:
        return "the mask no longer agrees with its neighbour"
    if found.identity is not None and found.identity < min(
        rules.least_identity, (start.identity or 0.0) - 2.5
    ):
        return "another structure begins"
    if float(found.embedding @ start.embedding) < rules.likeness:
        return "another structure begins"
    return ""


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
