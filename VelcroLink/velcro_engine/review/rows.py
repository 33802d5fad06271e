"""What is known of each segment under review, brought together into one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..imaging.volume import Volume
from ..knowledge_base import KnowledgeBase
from ..linking.linker import Linker
from ..segmentations.names import DIFFERENT, NOT_LINKED, SAME, Meaning, agreement
from ..segmentations.shapes import Shape
from ..segmentations.stored import NamedSegment, Segmentation
from .anatomy import Fit, fit_all
from .expectations import Expectations, bundled_expectations, keys_of
from .flags import Evidence, Judgement, judge
from .links import Picture, SliceLink, Votes, linked_side
from .observing import observe
from .order import order_contradictions, separated_parts
from .sides import Middle, contradiction, find_middle

LISTED = 3  # entries kept per segment


@dataclass(frozen=True)
class Row:
    """All about one segment. Lengths in mm, volume in ml on the segmentation's own grid, positions
    RAS mm. linked: best entries by vote [(id, name, confidence)]. gaps: one line each. overlaps:
    [(name of the other, share of this one)]. score: from 1 on it is flagged; findings: why."""

    segment: NamedSegment
    meaning: Meaning
    own_name: str
    linked: tuple[tuple[str, str, float], ...]
    linked_side: str | None
    abstained: bool
    agreement: str
    dice: float | None
    voxels: int
    centre: tuple[float, float, float] | None
    longest_mm: float | None
    perpendicular_mm: float | None
    components: int
    holes: int
    gaps: tuple[str, ...]
    side_lies: str | None
    side_mm: float | None
    overlaps: tuple[tuple[str, float], ...]
    slices: tuple[SliceLink, ...]
    judgement: Judgement
    fit: Fit
    picture: Picture | None = None

    @property
    def flagged(self) -> bool:
        return self.judgement.flagged


def fits_of(
    volume: Volume,
    segmentation: Segmentation,
    meanings: Sequence[Meaning],
    shapes: Sequence[Shape],
    expectations: Expectations | None,
) -> list[Fit]:
    observations = [
        observe(shape, volume, keys_of(meaning.entry_id, meaning.side, segment.name))
        for segment, meaning, shape in zip(segmentation.segments, meanings, shapes, strict=True)
    ]
    return fit_all(observations, bundled_expectations() if expectations is None else expectations)


def _stem(segment: NamedSegment, meaning: Meaning) -> str:
    """What a left and a right segment have in common."""
    return keys_of(meaning.entry_id, None, segment.name)[0]


def _mates(
    segmentation: Segmentation, meanings: Sequence[Meaning], shapes: Sequence[Shape]
) -> tuple[dict[int, int], list[tuple[np.ndarray, np.ndarray]], dict[int, int]]:
    """(number -> number of the other side's segment, centres of all pairs, number -> another one
    that has the same name and side)."""
    named: dict[tuple[str, str], list[int]] = {}
    for n, (segment, meaning) in enumerate(zip(segmentation.segments, meanings, strict=True)):
        if shapes[n].voxels and meaning.side is not None:
            named.setdefault((_stem(segment, meaning), meaning.side), []).append(n)
    mates: dict[int, int] = {}
    centres: list[tuple[np.ndarray, np.ndarray]] = []
    twice: dict[int, int] = {}
    for (stem, side), own in named.items():
        if len(own) > 1:
            twice |= {n: own[0] if n != own[0] else own[1] for n in own}
        other = named.get((stem, "right" if side == "left" else "left"), [])
        if len(own) == len(other) == 1:
            mates[own[0]] = other[0]
            here, there = shapes[own[0]].centre, shapes[other[0]].centre
            if side == "left" and here is not None and there is not None:
                centres.append((here, there))
    return mates, centres, twice


def rows_of(volume, segmentation, base, linker, meanings, shapes, fits, votes) -> list[Row]:
    mates, pairs, twice = _mates(segmentation, meanings, shapes)
    middle = find_middle(pairs, volume.foreground) if volume.has_position else None
    order = order_contradictions(
        [s.name for s in segmentation.segments], [shape.centre for shape in shapes]
    )
    known = [fit.distance is not None for fit in fits]
    apart = separated_parts([s.name for s in segmentation.segments], shapes, known)
    rows = []
    for n, segment in enumerate(segmentation.segments):
        facts = _Facts(n, segmentation, base, linker, meanings, shapes, fits, votes, middle)
        mate = shapes[mates[n]].centre if n in mates else None
        twin = segmentation.segments[twice[n]].name if n in twice else ""
        rows.append(facts.row(segment, volume, mate, twin, order.get(n) or apart.get(n)))
    return rows


@dataclass
class _Facts:
    n: int
    segmentation: Segmentation
    base: KnowledgeBase
    linker: Linker | None
    meanings: Sequence[Meaning]
    shapes: Sequence[Shape]
    fits: Sequence[Fit]
    votes: Sequence[Votes]
    middle: Middle | None

    def row(
        self,
        segment: NamedSegment,
        volume: Volume,
        mate: np.ndarray | None,
        twin: str,
        order: str | None,
    ) -> Row:
        meaning, shape = self.meanings[self.n], self.shapes[self.n]
        fit, votes = self.fits[self.n], self.votes[self.n]
        entry = None if meaning.entry_id is None else self.base.by_id[meaning.entry_id]
        sided = entry is None or entry.laterality in ("paired", "any")
        side = meaning.side if sided else None
        wrong = contradiction(self.middle, side, shape.centre, mate)
        lies = self._lies(shape)
        linked, abstained = self._linked(votes)
        linked_to = linked[0][0] if linked else None
        agrees = agreement(self.base, meaning.entry_id, linked_to)
        side_said = self._side_said(linked_to, votes, volume)
        overlaps = tuple(
            (self.segmentation.segments[other].name, count / shape.voxels)
            for other, count in sorted(shape.overlaps.items(), key=lambda item: -item[1])
        )
        gaps = tuple(_gap_text(gap) for gap in shape.gaps)
        evidence = Evidence(
            empty=shape.voxels == 0,
            ml=shape.voxels * voxel_ml(volume),
            side_mm=wrong,
            side_text=f"Named {side}, lies {wrong or 0:.0f} mm {_other(side)} of the midline.",
            gaps=gaps,
            duplicate=twin,
            order=order or "",
            scattered=entry is not None and entry.kind != "anatomy",
            **_place_evidence(fit),
        )
        if overlaps:
            evidence.overlap = (overlaps[0][1], overlaps[0][0])
        self._piece_evidence(evidence, shape, volume)
        self._model_evidence(evidence, votes, meaning, agrees, side_said)
        if entry is not None and entry.size_mm and shape.longest_mm and not evidence.scattered:
            evidence.size_ratio = shape.longest_mm / entry.size_mm[1]
        return Row(
            segment,
            meaning,
            "" if entry is None else entry.name,
            linked,
            side_said,
            abstained,
            agrees if votes.probabilities is not None else NOT_LINKED,
            None if votes.dice is None else round(votes.dice, 4),
            shape.voxels,
            None if shape.centre is None else tuple(np.round(shape.centre, 2).tolist()),
            None if shape.longest_mm is None else round(shape.longest_mm, 2),
            None if shape.perpendicular_mm is None else round(shape.perpendicular_mm, 2),
            len(shape.pieces),
            shape.holes,
            gaps,
            lies,
            None if wrong is None else round(wrong, 1),
            overlaps,
            tuple(votes.slices),
            judge(evidence),
            fit,
            votes.picture,
        )

    def _lies(self, shape: Shape) -> str | None:
        if self.middle is None or shape.centre is None:
            return None
        right = self.middle.right_of(shape.centre)
        if abs(right) < self.middle.unsure_mm:
            return "midline"
        return "right" if right > 0 else "left"

    def _linked(self, votes: Votes) -> tuple[tuple[tuple[str, str, float], ...], bool]:
        if votes.probabilities is None or self.linker is None:
            return (), False
        order = np.argsort(-votes.probabilities, kind="stable")[:LISTED]
        entries = tuple(
            (
                self.base.entries[i].id,
                self.base.entries[i].name,
                round(float(votes.probabilities[i]), 4),
            )
            for i in order
        )
        least = max(self.linker.runtime.calibration.abstain_below, votes.nothing)
        return entries, bool(entries[0][2] < least)

    def _side_said(self, linked_to: str | None, votes: Votes, volume: Volume) -> str | None:
        if linked_to is None or self.linker is None:
            return None
        laterality = self.base.by_id[linked_to].laterality
        return linked_side(self.linker, votes, laterality, volume.has_position)

    def _piece_evidence(self, evidence: Evidence, shape: Shape, volume: Volume) -> None:
        for piece in shape.pieces[1:]:
            size = piece.voxels * voxel_ml(volume)
            if evidence.stray is None or size * piece.away_mm > np.prod(evidence.stray):
                evidence.stray = (size, piece.away_mm)
                evidence.stray_share = piece.voxels / shape.voxels

    def _model_evidence(
        self, e: Evidence, votes: Votes, meaning: Meaning, agrees: str, side_said: str | None
    ) -> None:
        e.dice = votes.dice
        if votes.probabilities is None or meaning.entry_id is None:
            return
        own = {meaning.entry_id, *self.base.descendants(meaning.entry_id)}
        own |= set(self.base.by_id[meaning.entry_id].parents)
        is_own = np.array([entry.id in own for entry in self.base.entries])
        e.named = float(votes.probabilities[is_own].sum())
        others = np.where(is_own, 0.0, votes.probabilities)
        e.other = float(others.max())
        e.other_name = self.base.entries[int(np.argmax(others))].name
        same_side = meaning.side is None or side_said is None or side_said == meaning.side
        e.confirmed = agrees == SAME and same_side
        e.different = agrees == DIFFERENT


def voxel_ml(volume: Volume) -> float:
    """Volume of one voxel in ml."""
    return abs(float(np.linalg.det(volume.ijk_to_ras[:3, :3]))) / 1000


def _place_evidence(fit: Fit) -> dict[str, Any]:
    elsewhere = None
    if fit.elsewhere is not None:
        kind, name, side = fit.elsewhere.split(":")
        elsewhere = f"{'' if side == '-' else side + ' '}{name.replace('_', ' ')}"
    return {
        "distance": fit.distance,
        "moved_mm": fit.moved_mm,
        "elsewhere": elsewhere,
        "volume": fit.volume,
        "volume_ratio": fit.volume_ratio,
        "extent": fit.extent,
        "extent_ratio": fit.extent_ratio,
        "grey": fit.grey,
        "outside": fit.outside,
        "cases": fit.n,
    }


def _gap_text(gap) -> str:
    count = gap.last - gap.first + 1
    layers = "slice is" if count == 1 else "slices are"
    return f"{count} {gap.plane} {layers} empty at {'RAS'[('sagittal', 'coronal', 'axial').index(gap.plane)]} {gap.at_mm:.1f} mm, between filled ones."


def _other(side: str | None) -> str:
    return "right" if side == "left" else "left"
