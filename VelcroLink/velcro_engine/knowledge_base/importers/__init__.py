"""Knowledge bases from and to other formats, all rows or none.

csv, json, Slicer terminology (.term.json) go both ways; OBO, UMLS RRF and OpenAnatomy atlases are
read. A reader returns an `ImportResult` or raises `BadRows` with a line for every bad row.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from ..rows import BadRows, ImportResult
from ..store import KnowledgeBase

__all__ = [
    "export_file",
    "import_file",
    "open_anatomy",
    "BadRows",
    "ImportResult",
]


def import_file(
    path: Path | str,
    file_format: str | None,
    kb: KnowledgeBase,
    *,
    kind: str = "anatomy",
    cuis: Path | None = None,
) -> ImportResult:
    """Entries of a file in one of the formats csv, json, obo, umls, term, openanatomy.

    file_format None: told from the name. kb: the active knowledge base, which parents may lie in.
    kind: of entries whose file does not say. cuis: for umls, the concepts to take. Keeps nothing;
    `user.add_to_user_knowledge_base` does. Raises BadRows, or KnowledgeBaseError when the file
    cannot be read at all.
    """
    path = Path(path)
    chosen = file_format or _told_from_name(path)
    if chosen == "csv":
        from .tables import import_csv

        return import_csv(path, kb, kind)
    if chosen == "json":
        from .json_files import import_json

        return import_json(path, kb)
    if chosen == "obo":
        from .obo import import_obo

        return import_obo(path, kb, kind)
    if chosen == "umls":
        from .umls import import_umls

        return import_umls(path, kb, kind, cuis)
    if chosen == "term":
        from .slicer_terms import import_terms

        return import_terms(path, kb)
    if chosen == "openanatomy":
        from .open_anatomy import import_atlas

        return import_atlas(path, kb)
    raise InputError(f"'{chosen}' is no format to import; use csv, json, obo, umls, term, ...")


def export_file(kb: KnowledgeBase, path: Path | str, file_format: str | None = None) -> None:
    """Write a whole knowledge base as csv, json or term (told from the name when None)."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; name a file to write, such as kb.csv.")
    chosen = file_format or _told_from_name(path)
    if chosen == "csv":
        from .tables import export_csv

        export_csv(kb, path)
    elif chosen == "json":
        from .json_files import export_json

        export_json(kb, path)
    elif chosen == "term":
        from .slicer_terms import export_terms

        export_terms(kb, path)
    else:
        raise InputError(f"'{chosen}' is no format to export; use csv, json or term.")


def _told_from_name(path: Path) -> str:
    name = path.name.lower()
    if name.endswith(".term.json"):
        return "term"
    if name.endswith(".rrf") or path.is_dir():
        return "umls"
    for ending, known in ((".csv", "csv"), (".tsv", "csv"), (".json", "json"), (".obo", "obo")):
        if name.endswith(ending):
            return known
    raise InputError(f"The format of '{path.name}' cannot be told from its name; say --format.")
