"""What the Link part of the panel shows: candidates, measured attributes and one line of notice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from velcro_engine.messages.result import LinkedEntry, LinkResult

from .state import SavedLink


@dataclass(frozen=True)
class Candidate:
    """A knowledge-base entry that the region may show. side: "left", "right" or None."""

    entryId: str
    name: str
    side: str | None
    confidence: float

    @classmethod
    def fromEntry(cls, entry: LinkedEntry) -> Candidate:
        return cls(entry.id, entry.name, entry.side, entry.confidence)

    @property
    def title(self) -> str:
        return f"{self.name}, {self.side}" if self.side else self.name


@dataclass(frozen=True)
class Outcome:
    """A link as the panel shows it. live: it can be accepted; one that came with a loaded scene can
    not, because the mask's embedding and pixels were not saved with it. accepted: it was, so that a
    second press does not make a second segment."""

    candidates: tuple[Candidate, ...]
    abstained: bool
    attributes: dict[str, Any] = field(default_factory=dict)
    milliseconds: float | None = None
    plane: str | None = None
    model: str = ""
    knowledgeBase: str = ""
    live: bool = True
    accepted: bool = False

    @classmethod
    def fromResult(cls, result: LinkResult, plane: str | None, milliseconds: float) -> Outcome:
        return cls(
            candidates=tuple(map(Candidate.fromEntry, result.entries)),
            abstained=result.abstained,
            attributes=dict(result.attributes),
            milliseconds=milliseconds,
            plane=plane,
            model=result.model,
            knowledgeBase=result.knowledge_base,
        )

    @classmethod
    def fromSaved(cls, saved: SavedLink) -> Outcome:
        return cls(
            candidates=tuple(map(Candidate.fromEntry, saved.entries)),
            abstained=saved.abstained,
            attributes=dict(saved.attributes),
            plane=saved.plane,
            model=saved.model,
            knowledgeBase=saved.knowledgeBase,
            live=False,
        )

    def withThreshold(self, threshold: float) -> Outcome:
        """Abstains also when the best candidate's confidence is below the user's threshold."""
        best = max((c.confidence for c in self.candidates), default=0.0)
        return replace(self, abstained=self.abstained or best < threshold)


@dataclass(frozen=True)
class Notice:
    """One line for the user. kind: "information", "warning" or "error"."""

    kind: str
    text: str
