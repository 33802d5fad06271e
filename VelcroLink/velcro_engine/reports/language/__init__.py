"""How radiology reports are worded: cleaning, sentences, terms, negation, qualifiers.

`reports.meta_entities` reads a report with all of it; its vocabulary lies in `data/` as JSON and CSV.
"""

__all__ = [
    "attachment",
    "coder",
    "entry_terms",
    "findings",
    "mentions",
    "mesh_codes",
    "ontology",
    "published",
    "regions",
    "report_file",
    "sentences",
]
