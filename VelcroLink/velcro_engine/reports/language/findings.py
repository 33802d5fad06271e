"""What a report says, sentence by sentence."""

from __future__ import annotations

from dataclasses import dataclass, field

from .mentions import ABSENT, Mention


@dataclass(frozen=True)
class ReadSentence:
    """A sentence and the mentions in it."""

    text: str
    section: str
    mentions: tuple[Mention, ...]


@dataclass(frozen=True)
class ReportFindings:
    """What a report says, sentence by sentence."""

    sentences: tuple[ReadSentence, ...] = field(default_factory=tuple)

    def mentions(self, absent: bool = False) -> list[Mention]:
        """All mentions that are not denied; with `absent` those that are."""
        return [
            mention
            for sentence in self.sentences
            for mention in sentence.mentions
            if (mention.certainty == ABSENT) == absent
        ]

    @property
    def summary(self) -> dict[str, dict[str, list[str]]]:
        """{finding: {"sides", "places", "qualifiers", "certainty"}}; empty for "no finding"."""
        found: dict[str, dict[str, set[str]]] = {}
        for mention in self.mentions():
            entry = found.setdefault(
                mention.finding,
                {"sides": set(), "places": set(), "qualifiers": set(), "certainty": set()},
            )
            entry["sides"] |= mention.sides
            entry["places"] |= mention.places
            entry["qualifiers"] |= mention.qualifiers
            entry["certainty"].add(mention.certainty)
        return {
            finding: {key: sorted(values) for key, values in entry.items()}
            for finding, entry in found.items()
        }
