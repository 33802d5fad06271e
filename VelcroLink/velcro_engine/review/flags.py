"""What needs a look: findings with one line each, and one number to sort by.

Every cue is divided by its threshold; from 1 on it is a finding of its own. Several cues that are
high together add up (root of the sum of squares), as a moved segment is a little wrong in place,
extent and grey level alike. The thresholds were chosen on cases of the training split that the
expectations had not seen (`velcrolink evaluate --task review --split train`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

PLACE = 4.0  # Mahalanobis distance of the centre
VOLUME = 4.5  # SD
EXTENT = 5.5  # SD
GREY = 4.5  # SD
OUTSIDE = 0.15  # share of the voxels where the structure was never seen
STRAY_AWAY_MM = 10.0
STRAY_NEAR_MM = 1.0  # enough for a piece of some size
STRAY_LARGE_ML, STRAY_LARGE_SHARE = 0.2, 0.05
STRAY_ML = 0.1  # smaller pieces are specks
STRAY_SHARE = 0.01
SMALL_ML = 0.3  # of smaller segments a few voxels make a large share
OVERLAP = 0.05  # of the segment
OTHER_NAME = 0.75  # probability of another entry by vote, its own being nearly excluded
OWN_NAME = 0.03
TOGETHER = 1.3  # root of the sum of squares of all cues
CONFIRMED = 0.85  # factor when the model gives the segment's own name and side
FEW_CASES = 5  # structures known from fewer cases are judged by place alone
TOO_LARGE = 2.5  # times the usual longest diameter of the knowledge base


@dataclass(frozen=True)
class Finding:
    """One thing that needs a look. kind: short name; text: one line for the reader."""

    kind: str
    text: str


@dataclass
class Judgement:
    """Findings, and the score to sort by: from 1 on the segment is flagged."""

    findings: list[Finding] = field(default_factory=list)
    score: float = 0.0

    @property
    def flagged(self) -> bool:
        return bool(self.score >= 1.0)


@dataclass
class Evidence:
    """All that is known of a segment, as plain numbers; None where something does not apply.

    side_mm: how far it lies on the other side than named. ml: its volume. gaps: one line for each. stray: (ml, mm
    away) of the largest extra piece. overlap: (share, name) with the one it overlaps most.
    named, other: probability of its own entry (its kinds and parts included) and of the best
    other entry; confirmed: the model gives the same entry and side; different: another, unrelated
    one; dice: of its mask with the segment. duplicate: name of another segment that claims to be the
    same. order: a line when it lies in the wrong order with its counterpart. size_ratio: longest diameter / upper end of the usual.
    """

    empty: bool = False
    side_mm: float | None = None
    side_text: str = ""
    distance: float | None = None
    moved_mm: np.ndarray | None = None
    elsewhere: str | None = None
    volume: float | None = None
    volume_ratio: float | None = None
    extent: float | None = None
    extent_ratio: float | None = None
    grey: float | None = None
    outside: float | None = None
    cases: int = 0
    ml: float = 0.0
    gaps: tuple[str, ...] = ()
    stray: tuple[float, float] | None = None
    stray_share: float = 0.0
    scattered: bool = False
    overlap: tuple[float, str] | None = None
    named: float | None = None
    other: float | None = None
    other_name: str = ""
    confirmed: bool = False
    different: bool = False
    dice: float | None = None
    duplicate: str = ""
    order: str = ""
    size_ratio: float | None = None


def judge(e: Evidence) -> Judgement:
    """The findings and the score of one segment."""
    if e.empty:
        return Judgement([Finding("empty", "Empty: it has no voxel in the image.")], 3.0)
    found: list[Finding] = []
    score = 0.0
    for kind, text in _certain(e):
        found.append(Finding(kind, text))
        score = max(score, 2.0 if kind in ("side", "gap") else 1.5)
    ratios = soft_ratios(e)
    texts = _soft_texts(e)
    together = float(np.sqrt(sum(r**2 for r in ratios.values()))) / TOGETHER
    highest = max(ratios.values(), default=0.0)
    soft = max(highest, together)
    if e.confirmed:
        soft *= CONFIRMED
    for kind, ratio in sorted(ratios.items(), key=lambda item: -item[1]):
        if ratio * (CONFIRMED if e.confirmed else 1.0) >= 1.0 or (soft >= 1.0 and ratio >= 0.55):
            found.append(Finding(kind, texts[kind]))
    if soft >= 1.0 and not found:
        kind = max(ratios, key=lambda k: ratios[k])
        found.append(Finding(kind, texts[kind]))
    return Judgement(found, max(score, min(soft, 4.0)))


def soft_ratios(e: Evidence) -> Mapping[str, float]:
    """Cue / threshold of everything that is a matter of degree."""
    ratios: dict[str, float] = {}
    if e.distance is not None:
        ratios["place"] = e.distance / PLACE
    if e.cases >= FEW_CASES:
        for kind, value, limit in (
            ("volume", e.volume, VOLUME),
            ("extent", e.extent, EXTENT),
            ("grey", e.grey, GREY),
            ("outside", e.outside if e.ml >= SMALL_ML else None, OUTSIDE),
        ):
            if value is not None:
                ratios[kind] = abs(value) / limit
    if e.stray is not None and not e.scattered:
        ml, away = e.stray
        if ml >= STRAY_ML and e.stray_share >= STRAY_SHARE:
            large = ml >= STRAY_LARGE_ML or e.stray_share >= STRAY_LARGE_SHARE
            near = 1 / CONFIRMED if large and away >= STRAY_NEAR_MM else 0.0
            ratios["piece"] = max(away / STRAY_AWAY_MM, near)
    if e.named is not None and e.other is not None and not e.confirmed:
        doubt = float(np.clip(1 - e.named / OWN_NAME / 2, 0, 1)) if e.named < 2 * OWN_NAME else 0.0
        ratios["model"] = doubt * e.other / OTHER_NAME
    return ratios


def _certain(e: Evidence) -> list[tuple[str, str]]:
    found = []
    if e.side_mm is not None:
        found.append(("side", e.side_text))
    found += [("gap", text) for text in e.gaps]
    if e.overlap is not None and e.overlap[0] >= OVERLAP:
        found.append(("overlap", f"{100 * e.overlap[0]:.0f} % of it overlaps with {e.overlap[1]}."))
    if e.order:
        found.append(("order", e.order))
    if e.duplicate:
        found.append(("duplicate", f"'{e.duplicate}' claims to be the same structure."))
    if e.size_ratio is not None and e.size_ratio >= TOO_LARGE:
        found.append(("size", f"Longest diameter {e.size_ratio:.1f} times the usual upper end."))
    return found


def _soft_texts(e: Evidence) -> dict[str, str]:
    texts = {}
    if e.moved_mm is not None:
        place = (
            f"Lies {np.linalg.norm(e.moved_mm):.0f} mm {direction(e.moved_mm)} of where expected"
        )
        texts["place"] = place + (f", in the place of {e.elsewhere}." if e.elsewhere else ".")
    if e.volume_ratio is not None:
        texts["volume"] = f"Volume {e.volume_ratio:.2f} times the usual."
    if e.extent_ratio is not None:
        texts["extent"] = f"Extent {e.extent_ratio:.2f} times the usual."
    if e.grey is not None:
        texts["grey"] = f"Unusually {'bright' if e.grey > 0 else 'dark'} for this structure."
    if e.outside is not None:
        texts["outside"] = (
            f"{100 * e.outside:.0f} % of it lies where this structure was never seen."
        )
    if e.stray is not None:
        texts["piece"] = f"A separate piece of {e.stray[0]:.2f} ml lies {e.stray[1]:.0f} mm away."
    if e.other is not None and e.named is not None:
        texts["model"] = (
            f"Linked to {e.other_name} ({100 * e.other:.0f} %), own name {100 * e.named:.0f} %."
        )
    return texts


def direction(vector: np.ndarray) -> str:
    """Words for a direction in RAS, its one or two largest parts."""
    words = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
    order = np.argsort(-np.abs(vector))
    named = [
        words[a][int(vector[a] > 0)] for a in order[:2] if abs(vector[a]) > 0.5 * abs(vector).max()
    ]
    return " and ".join(named)
