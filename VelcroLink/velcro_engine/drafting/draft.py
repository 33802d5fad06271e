"""A draft report in which every sentence names its source. For a human to check; never a diagnosis.

Sentences come from three kinds of source and from nowhere else: the linked entry, its measured
attributes, and sentences of the user's own library about the same place. An optional language model
may reword them; what it says that no source says is struck out (`check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..cases.record import Hit
from ..cases.summary import excerpt
from ..errors import InputError
from ..knowledge_base import KnowledgeBase
from ..messages.result import LinkResult

NOTICE = "DRAFT for a human to check. For research and teaching, not for clinical use."
MOST_CASES = 3
DOUBTFUL_BELOW = 0.5
SOURCES = ("link", "measurement", "case")


@dataclass(frozen=True)
class Sentence:
    """One sentence. source: "link", "measurement" or "case"; reference: what exactly, in words."""

    text: str
    source: str
    reference: str


@dataclass(frozen=True)
class Draft:
    """sentences in order. wording: the language model's version of them, "" without one; struck:
    its sentences that were taken out, each with the reason. prompt: what it was sent."""

    sentences: tuple[Sentence, ...]
    wording: str = ""
    struck: tuple[tuple[str, str], ...] = ()
    prompt: str = ""
    notice: str = NOTICE
    extra: dict[str, Any] = field(default_factory=dict)


def draft_report(result: LinkResult, base: KnowledgeBase, hits: Sequence[Hit] = ()) -> Draft:
    """Template draft of one linked region. hits: of the library; only sentences and accepted regions
    with a text are used. Raises InputError when the link has no entry."""
    if not result.entries:
        raise InputError("The region has no entry; link it first.")
    first = result.entries[0]
    entry = base.entry(first.id)
    name = f"{first.side} {entry.name.lower()}" if first.side else entry.name.lower()
    percent = f"{100 * first.confidence:.0f} %"
    model = f"{result.model}, knowledge base {result.knowledge_base}, entry {entry.id}"
    link = f"linked by {model}, confidence {percent}"
    sentences = []
    if result.abstained:
        sentences.append(
            Sentence(
                f"The marked region matches no entry; the nearest is {name} ({percent}).",
                "link",
                link,
            )
        )
    elif first.confidence < DOUBTFUL_BELOW:
        others = ", ".join(e.name.lower() for e in result.entries[1:3])
        also = f"; also considered: {others}" if others else ""
        text = f"The marked region may be the {name} ({percent}){also}."
        sentences.append(Sentence(text, "link", link))
    elif entry.kind == "anatomy":
        sentences.append(Sentence(f"The marked region is the {name}.", "link", link))
    else:
        sentences.append(Sentence(f"The marked region shows {name}.", "link", link))
    sentences += measurement_sentences(result.attributes, name)
    sentences += case_sentences(hits)
    return Draft(tuple(sentences))


def measurement_sentences(attributes: dict[str, Any], name: str) -> list[Sentence]:
    """What was measured, with its unit; nothing for what could not be known."""
    found = []
    longest, across = attributes.get("longest_diameter_mm"), attributes.get("perpendicular_mm")
    if longest is not None and across is not None:
        found.append(
            Sentence(
                f"On this slice it measures {longest:.0f} x {across:.0f} mm.",
                "measurement",
                "longest diameter and its perpendicular, from the mask",
            )
        )
    if attributes.get("area_mm2") is not None:
        text = f"Its area on this slice is {attributes['area_mm2'] / 100:.1f} cm²."
        found.append(Sentence(text, "measurement", "area of the mask"))
    if attributes.get("size") in ("small", "large"):
        word = "smaller" if attributes["size"] == "small" else "larger"
        text = f"On this slice it is {word} than usual for this entry."
        found.append(
            Sentence(text, "measurement", "longest diameter against the entry's usual size")
        )
    where = [w for w in (attributes.get("zone"), attributes.get("body_side")) if w]
    if where:
        text = f"Its centre lies {', '.join(where)} in the imaged body."
        found.append(Sentence(text, "measurement", "centre of the mask in the body's outline"))
    return found


def case_sentences(hits: Sequence[Hit]) -> list[Sentence]:
    """What the library says about similar regions in the same place; each is quoted as theirs."""
    found: list[Sentence] = []
    seen: set[str] = set()
    for hit in hits:
        text = excerpt(hit.item.text)
        if not text or text.lower() in seen or len(found) >= MOST_CASES:
            continue
        seen.add(text.lower())
        reference = (
            f"case '{hit.item.case}', item {hit.item.identifier}, similarity {hit.score:.2f}"
        )
        found.append(Sentence(f"In a similar case it was reported: “{text}”", "case", reference))
    return found


def draft_document(draft: Draft) -> dict[str, Any]:
    """JSON form; everything is plain text, whoever shows it as HTML escapes it."""
    return {
        "notice": draft.notice,
        "sentences": [vars(sentence) for sentence in draft.sentences],
        "wording": draft.wording,
        "struck": [{"text": text, "reason": reason} for text, reason in draft.struck],
        "prompt": draft.prompt,
    }


def draft_text(draft: Draft) -> str:
    """Plain text: each sentence with the number of its source, the sources below."""
    lines = [draft.notice, ""]
    if draft.wording:
        lines += [draft.wording, "", "Worded by a language model from these sentences:"]
    lines += [f"{s.text} [{n}]" for n, s in enumerate(draft.sentences, start=1)]
    lines += ["", "Sources"]
    lines += [f"[{n}] {s.source}: {s.reference}" for n, s in enumerate(draft.sentences, start=1)]
    if draft.struck:
        lines += ["", "Struck out, because no source says it"]
        lines += [f"- {text} ({reason})" for text, reason in draft.struck]
    return "\n".join(lines) + "\n"
