"""The vocabulary of reports together with all names of a knowledge base.

The chest vocabulary of `data/ontology` is written by hand. For reports of other regions every
finding and device of the knowledge base is looked up by its name and synonyms as well, and every
anatomical entry as a place. A phrase that the vocabulary knows already keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...knowledge_base.entry import Entry
from .ontology import Ontology, fold_phrase, read_ontology

MINIMUM_LETTERS = 4  # shorter names are abbreviations, which mean many things


def ontology_with_entries(entries: Iterable[Entry]) -> Ontology:
    """A new vocabulary: the bundled one and the names of `entries`."""
    ontology = read_ontology()
    known = set(ontology.knowledge_base_ids)
    by_entry = {kb: ours for ours, kb in ontology.knowledge_base_ids.items() if kb}
    for entry in entries:
        identity = entry.id if entry.id in known else by_entry.get(entry.id, entry.id)
        ontology.knowledge_base_ids.setdefault(identity, entry.id)
        index = ontology.places if entry.kind == "anatomy" else ontology.terms
        for name in (entry.name, *entry.synonyms):
            plain = name.lower().replace("-", " - ").replace(",", " , ")
            phrase = fold_phrase(plain, ontology.lemma)
            if phrase and sum(map(len, phrase)) >= MINIMUM_LETTERS and plain.isascii():
                index.add(phrase, identity)
    return ontology
