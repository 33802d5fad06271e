"""Similar cases as the engine's case library tells them, for the Cases tab."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _


@dataclass(frozen=True)
class SimilarCase:
    """One kept region or sentence. score: cosine with the current region. thumbnail: Base64 PNG."""

    identifier: int
    case: str
    finding: str
    location: str
    excerpt: str
    score: float
    accepted: bool
    thumbnail: str

    @classmethod
    def fromHit(cls, hit: Mapping[str, Any]) -> SimilarCase:
        """From a hit of a `cases` answer. Raises KeyError, TypeError or ValueError when it is no
        such thing."""
        score = float(hit["score"])
        if not math.isfinite(score):
            raise ValueError(f"score {hit['score']!r}")
        findings = [_words(f["name"], f.get("side")) for f in hit["findings"]]
        return cls(
            identifier=int(hit["id"]),
            case=str(hit["case"]),
            finding="; ".join(findings) or _words(hit["name"], hit.get("side")) or _("Unnamed"),
            location="; ".join(
                _words(p["name"], p.get("side"), p.get("zone")) for p in hit["places"]
            ),
            excerpt=str(hit.get("text") or ""),
            score=score,
            accepted=bool(hit.get("accepted")),
            thumbnail=str(hit.get("thumbnail_png") or ""),
        )

    @property
    def similarity(self) -> str:
        """In words, with its number."""
        return _("similarity {score:.2f}").format(score=self.score)


def casesFromHits(hits: Sequence[Mapping[str, Any]]) -> list[SimilarCase]:
    """All hits, best first. Raises like `SimilarCase.fromHit`."""
    return [SimilarCase.fromHit(hit) for hit in hits]


@dataclass(frozen=True)
class Place:
    """The place that cases are conditioned on, as the chip shows it."""

    name: str
    side: str | None

    @classmethod
    def fromAnswer(cls, told: Mapping[str, Any] | None) -> Place | None:
        """None when the search was not conditioned."""
        if told is None:
            return None
        return cls(str(told["name"]), told.get("side"))

    @property
    def title(self) -> str:
        return _words(self.name, self.side)


def _words(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)
