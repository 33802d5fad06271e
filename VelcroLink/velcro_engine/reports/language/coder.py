"""What a human coder would record of a report: scorecards over what OBER read.

A coder's codes are a summary: of "hyperexpanded lungs suggesting emphysema" some record one finding,
of "opacity, may be atelectasis" the sure one, of "T-spine osteophytes" that they are multiple. Those
habits were counted on coded training reports and lie as weights in `data/coder_habits.json`, one
line each: `weight of evidence` added to a bias, a logistic score against a threshold. `evidence` and
`attribute_evidence` name that evidence; `velcro_engine.training.measuring.coder_habits` learns the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .mentions import ABSENT, ASSERTED, LIKELY, POSSIBLE, REMOVED, SUGGESTED, Mention

if TYPE_CHECKING:
    from .findings import ReadSentence, ReportFindings

HABITS = Path(__file__).parent / "data" / "coder_habits.json"
SIDES = frozenset(("left", "right", "bilateral"))
_CERTAINTIES = (ASSERTED, LIKELY, REMOVED, SUGGESTED, POSSIBLE)  # from sure to doubtful


@dataclass(frozen=True)
class CodedFinding:
    """A finding as a coder would record it; `score` is the chance that one would."""

    finding: str
    sides: frozenset[str]
    places: frozenset[str]
    qualifiers: frozenset[str]
    score: float


def coded_findings(
    report: ReportFindings, habits: Mapping[str, Any] | None = None
) -> list[CodedFinding]:
    """Findings of a report that a coder would record, with the attributes a coder would give."""
    habits = habits or load_habits()
    cards, attributes = habits["findings"], habits["attributes"]
    coded = []
    grouped = _grouped(report)
    for finding, features in evidence(report, grouped).items():
        score = chance(features, cards)
        if score < cards["threshold"]:
            continue
        usual = attributes["usual"].get(finding, ())
        values = {
            value
            for value, features in attribute_evidence(grouped[finding], finding, usual).items()
            if value in habits["values"] and chance(features, attributes) >= attributes["threshold"]
        }
        coded.append(
            CodedFinding(
                finding,
                frozenset(values & SIDES),
                frozenset(v for v in values - SIDES if "/" not in v),
                frozenset(v for v in values if "/" in v),
                round(score, 4),
            )
        )
    return coded


def chance(features: Iterable[str], card: Mapping[str, Any]) -> float:
    """Logistic score of the evidence on a scorecard with "bias" and "weights"."""
    weights = card["weights"]
    total = card["bias"] + sum(weights.get(name, 0.0) for name in features)
    return 1.0 / (1.0 + math.exp(-total))


Grouped = dict[str, list[tuple["ReadSentence", Mention]]]


def _grouped(report: ReportFindings) -> Grouped:
    grouped: Grouped = {}
    for sentence in report.sentences:
        for mention in sentence.mentions:
            if mention.certainty != ABSENT:
                grouped.setdefault(mention.finding, []).append((sentence, mention))
    return grouped


def evidence(report: ReportFindings, grouped: Grouped | None = None) -> dict[str, set[str]]:
    """{finding: names of the evidence for and against its being coded}.

    "best:CERTAINTY", "cue:WORDS", "past", "side", "place", "repeated", "both" (sections), "denied"
    (elsewhere in the report), "mixed" (in the same sentence); and for the finding F apart:
    "F", "F|best:...", "F|term:TERM", "F|cue:...", "F|at:PLACE", "F|beside:G" (in the same
    sentence), "F|with:G" (in the same report).
    """
    grouped = _grouped(report) if grouped is None else grouped
    denied = {mention.finding for mention in report.mentions(absent=True)}
    found = {}
    for finding, own in grouped.items():
        best = min((m.certainty for _, m in own), key=_CERTAINTIES.index)
        features = {finding, f"best:{best}", f"{finding}|best:{best}"}
        for sentence, mention in own:
            features.add(f"{finding}|term:{mention.term}")
            if mention.cue:
                features |= {f"cue:{mention.cue}", f"{finding}|cue:{mention.cue}"}
            if mention.past:
                features |= {"past", f"{finding}|past"}
            if mention.sides:
                features |= {"side", f"{finding}|side"}
            if mention.places:
                features.add("place")
                features |= {f"{finding}|at:{place}" for place in mention.places}
            for other in sentence.mentions:
                if other.finding == finding:
                    if other.certainty == ABSENT:
                        features.add("mixed")
                elif other.certainty != ABSENT:
                    features.add(f"{finding}|beside:{other.finding}")
        if len({id(sentence) for sentence, _ in own}) > 1:
            features.add("repeated")
        if len({sentence.section for sentence, _ in own}) > 1:
            features.add("both")
        if finding in denied:
            features |= {"denied", f"{finding}|denied"}
        features |= {f"{finding}|with:{other}" for other in grouped if other != finding}
        found[finding] = features
    return found


def attribute_evidence(
    own: list[tuple[ReadSentence, Mention]], finding: str, usual: Iterable[str]
) -> dict[str, set[str]]:
    """{attribute value: evidence that the coder would give it to this finding}.

    Candidates are the values attached to the finding's mentions, those elsewhere in its sentences,
    and the `usual` ones of the finding. For a value V of the finding F: "V", "F|V", "attached",
    "near" or "unsaid" (also "V|attached", "F|V|attached", ...), "V|plural", "F|V|plural", "V|has:W"
    for another attached value W, "V|middle left" and "V|middle right" for a middle lung zone with
    that side, "F|V|term:TERM".
    """
    attached: set[str] = set()
    near: set[str] = set()
    terms = set()
    plural = False
    for sentence, mention in own:
        attached |= mention.sides | mention.places | mention.qualifiers
        terms.add(mention.term)
        plural = plural or mention.plural
        for other in sentence.mentions:
            near |= other.sides | other.places | other.qualifiers
    shared = set()
    if "lung_middle_zone" in attached:
        shared = {f"middle {side}" for side in ("left", "right") if side in attached}
    found = {}
    for value in attached | near | set(usual):
        how = "attached" if value in attached else "near" if value in near else "unsaid"
        features = {value, f"{finding}|{value}", how, f"{value}|{how}", f"{finding}|{value}|{how}"}
        if plural:
            features |= {f"{value}|plural", f"{finding}|{value}|plural"}
        features |= {f"{value}|has:{other}" for other in attached if other != value}
        features |= {f"{value}|{word}" for word in shared}
        features |= {f"{finding}|{value}|term:{term}" for term in terms}
        found[value] = features
    return found


@lru_cache(maxsize=2)
def load_habits(path: Path = HABITS) -> dict[str, Any]:
    """The scorecards; InputError when they are missing or damaged."""
    try:
        habits = json.loads(path.read_text("utf-8"))
        habits["values"] = frozenset(habits["values"])
        for card in (habits["findings"], habits["attributes"]):
            float(card["bias"]), float(card["threshold"]), card["weights"].get
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"The coder's habits in '{path}' cannot be read; install VelcroLink again.", repr(error)
        ) from error
    return habits
