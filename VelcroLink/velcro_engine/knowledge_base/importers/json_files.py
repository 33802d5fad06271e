"""JSON both ways: a knowledge-base file with its entries in it, or a bare list of entries."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ...errors import KnowledgeBaseError
from ...resources import write_atomically
from ..rows import ImportResult, Rows, read_text
from ..store import KnowledgeBase
from ..writing import document


def export_json(kb: KnowledgeBase, path: Path) -> None:
    """Write a self-contained knowledge-base file, which `load_knowledge_base` reads."""
    write_atomically(path, document(kb))


def import_json(path: Path, kb: KnowledgeBase) -> ImportResult:
    """Entries of a JSON file: {"entries": [...]} with or without a manifest, or a bare list."""
    content = read_text(path)
    rows = Rows(path, kb)
    records = _records(path, content)
    places = _places(content, records)
    for place, record in zip(places, records, strict=True):
        rows.add(place, record)
    return rows.finish()


def parse(path: Path, content: str) -> Any:
    """JSON value of a text. Raises KnowledgeBaseError naming the line."""
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise KnowledgeBaseError(
            f"{path.name}: line {error.lineno} is not JSON: {error.msg}. Nothing was imported."
        ) from None
    except (ValueError, RecursionError) as error:
        reason = (
            "is nested too deeply to be read"
            if isinstance(error, RecursionError)
            else "holds a number that is too long"
        )
        raise KnowledgeBaseError(
            f"{path.name}: {reason}. Nothing was imported.", repr(error)
        ) from None


def _records(path: Path, content: str) -> list[Any]:
    value = parse(path, content)
    records = value.get("entries") if isinstance(value, dict) else value
    if not isinstance(records, list):
        raise KnowledgeBaseError(
            f"{path.name}: needs a list of entries. A manifest that names 'files' is not imported; "
            "name it with --kb instead."
        )
    return records


def _places(content: str, records: list[Any]) -> list[str]:
    """Where each record stands: the line of its id, found in order; else its number."""
    places, position = [], 0
    for number, record in enumerate(records, start=1):
        identifier = record.get("id") if isinstance(record, dict) else None
        match = None
        if isinstance(identifier, str):
            written = re.escape(json.dumps(identifier))
            match = re.compile(rf'"id"\s*:\s*{written}').search(content, position)
        if match is None:
            places.append(f"entry {number}")
            continue
        position = match.end()
        places.append(f"line {content.count(chr(10), 0, match.start()) + 1}")
    return places
