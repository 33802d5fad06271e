"""OBER: findings, qualifiers, places and sides from radiology reports (after MedTrim, 2504.15929).

`read_report(findings, impression)` gives what the report says: every finding with its mentions, the
certain, the doubtful and the denied. `ReportFindings.summary` is what MedTrim calls the report's
meta-entities. The vocabulary is data (`language/data/ontology`) and links to entries of the
knowledge base. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .language.attachment import attach_attributes
from .language.findings import ReadSentence, ReportFindings
from .language.mentions import Mention, find_mentions
from .language.ontology import Ontology, lemmas_of, load_ontology
from .language.sentences import Sentence, clean_text, split_sentences

MAXIMUM_CHARACTERS = 5_000_000
KEPT_SENTENCES = 20_000


def read_report(
    findings: str, impression: str = "", ontology: Ontology | None = None
) -> ReportFindings:
    """Read a report's findings and impression sections (either may be empty).

    Any text is read, also markup or text of another language: it then yields nothing.
    """
    ontology = ontology or load_ontology()
    sentences: list[ReadSentence] = []
    for section, text in (("findings", findings), ("impression", impression)):
        sentences.extend(_read_section(section, text, ontology))
    return ReportFindings(tuple(sentences))


def _read_section(section: str, text: str, ontology: Ontology) -> Iterable[ReadSentence]:
    text = clean_text(text[:MAXIMUM_CHARACTERS])
    for sentence in split_sentences(text, ontology.lemma):
        yield ReadSentence(sentence.text, section, _mentions(sentence, ontology))


def _mentions(sentence: Sentence, ontology: Ontology) -> tuple[Mention, ...]:
    """Mentions of a sentence; reports repeat sentences, so what was read is kept for a while."""
    words = tuple(token.text for token in sentence.tokens)
    known = ontology.read.get(words)
    if known is None:
        lemmas = lemmas_of(sentence.tokens)
        mentions = find_mentions(sentence, lemmas, ontology)
        attach_attributes(mentions, lemmas, ontology)
        if len(ontology.read) >= KEPT_SENTENCES:
            ontology.read.clear()
        known = ontology.read[words] = tuple(mentions)
    return known


def entry_of(finding: str, ontology: Ontology | None = None) -> str | None:
    """Knowledge-base entry of a finding or place, None where there is none."""
    return (ontology or load_ontology()).knowledge_base_ids.get(finding)


def as_dict(report: ReportFindings) -> dict[str, Any]:
    """JSON form: findings with their attributes, and the denied ones by name."""
    denied = sorted({m.finding for m in report.mentions(absent=True)} - set(report.summary))
    return {"findings": report.summary, "absent": denied}
