"""CSV both ways: one entry a row, one field a column.

Several values in a cell are joined by "|", the parts of a code by "^" (SCT^5366008^Hippocampus); a
backslash takes their meaning from these two and from itself. A cell that a spreadsheet would take
for a formula gets a leading apostrophe, which reading takes off again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import KnowledgeBaseError
from ...resources import write_atomically
from ..entry import FIELDS, Entry, entry_to_dict
from ..rows import ImportResult, Rows, one_line, read_text, root_parent, slug
from ..store import KnowledgeBase

_LISTS = ("synonyms", "latin", "abbreviations", "modalities", "is_a", "part_of", "places", "links")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "'")


def export_csv(kb: KnowledgeBase, path: Path) -> None:
    """Write all entries as UTF-8 with a byte order mark, which spreadsheets need to see umlauts."""
    stream = io.StringIO()
    columns = tuple(entry_to_dict(kb.entries[0])) if kb.entries else FIELDS
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(columns)
    for entry in kb.entries:
        cells = _cells(entry)
        writer.writerow([_guarded(cells[column]) for column in columns])
    write_atomically(path, "\ufeff" + stream.getvalue())


def import_csv(path: Path, kb: KnowledgeBase, kind: str = "anatomy") -> ImportResult:
    """Entries of a CSV file whose first row names the columns; only `name` is needed.

    Comma, semicolon or tab. A missing id is made from the name, a missing kind is `kind`; without
    the columns is_a and part_of an entry goes under the root of its kind.
    """
    rows = Rows(path, kb)
    table = _records(path)
    header = next(table, (0, []))[1]
    columns = [cell.strip().lower() for cell in header]
    for column in columns:
        if column not in FIELDS:
            shown = ", ".join(FIELDS)
            wrong = one_line(column[:40])
            raise KnowledgeBaseError(
                f"{path.name}: line 1: '{wrong}' is no column; known are {shown}."
            )
    if "name" not in columns or len(set(columns)) != len(columns):
        raise KnowledgeBaseError(f"{path.name}: line 1 must name each column once, 'name' too.")
    parentless = not {"is_a", "part_of"} & set(columns)
    for line, cells in table:
        place = f"line {line}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            rows.bad(place, f"has {len(cells)} cells, the first row {len(columns)}")
            continue
        try:
            record = _record(dict(zip(columns, map(_unguarded, cells), strict=True)))
        except ValueError as error:
            rows.bad(place, str(error))
            continue
        record.setdefault("definition", "")
        record["kind"] = record.get("kind") or kind
        if not record.get("id"):
            record["id"] = slug(record["name"], {*rows.entries, *kb.by_id})
        if parentless and record["kind"] in ("anatomy", "pathology", "device"):
            record["is_a"] = root_parent(record["kind"], kb)
        rows.add(place, record)
    return rows.finish()


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, cells) of each record. Raises KnowledgeBaseError when torn."""
    content = read_text(path)
    first = content.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise KnowledgeBaseError(f"{path.name}: line {line} is not CSV: {error}.") from None


def _cells(entry: Entry) -> dict[str, str]:
    record = entry_to_dict(entry)
    cells = {key: value for key, value in record.items() if isinstance(value, str)}
    for key in _LISTS:
        cells[key] = "|".join(_escaped(value, "|") for value in record[key])
    cells["size_mm"] = "" if record["size_mm"] is None else "|".join(map(repr, record["size_mm"]))
    cells["codes"] = "|".join(
        "^".join(_escaped(part, "|^") for part in (code.scheme, code.value, code.meaning))
        for code in entry.codes
    )
    return cells


def _record(cells: dict[str, str]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for key, cell in cells.items():
        if key in _LISTS:
            record[key] = [_unescaped(part).strip() for part in _split(cell, "|")]
        elif key == "size_mm":
            record[key] = _size(cell)
        elif key == "codes":
            record[key] = [_code(part) for part in _split(cell, "|")]
        elif cell or key in ("name", "definition"):
            record[key] = cell.strip() if key != "definition" else cell
    return record


def _size(cell: str) -> list[float] | None:
    if not cell.strip():
        return None
    try:
        return [float(part) for part in cell.split("|")]
    except ValueError:
        raise ValueError(f"size_mm '{cell[:40]}' is not two numbers joined by |") from None


def _code(cell: str) -> dict[str, str]:
    parts = [_unescaped(part) for part in _split(cell, "^")]
    if len(parts) not in (2, 3):
        raise ValueError(f"code '{cell[:60]}' is not SCHEME^VALUE^MEANING")
    return dict(zip(("scheme", "value", "meaning"), parts, strict=False))


def _escaped(value: str, separators: str) -> str:
    return "".join(f"\\{c}" if c in separators + "\\" else c for c in value)


def _split(cell: str, separator: str) -> list[str]:
    """Parts between separators that no backslash precedes; escapes stay as they are."""
    if not cell:
        return []
    parts, current, position = [], "", 0
    while position < len(cell):
        character = cell[position]
        if character == "\\":
            current += cell[position : position + 2]
            position += 2
            continue
        if character == separator:
            parts.append(current)
            current = ""
        else:
            current += character
        position += 1
    return [*parts, current]


def _unescaped(part: str) -> str:
    found, position = "", 0
    while position < len(part):
        if part[position] == "\\" and position + 1 < len(part):
            position += 1
        found += part[position]
        position += 1
    return found


def _guarded(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA_STARTS) else cell
