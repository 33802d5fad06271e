"""Reports from a CSV file: any common encoding and delimiter, columns by name.

Columns of the Indiana collection: uid, MeSH, Problems, indication, comparison, findings, impression.
Names are matched without regard to case; a file needs at least one of "findings", "impression",
"report" or "text".
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import InputError

MAXIMUM_BYTES = 1 << 30
MAXIMUM_FIELD = 32 << 20  # a report of 1 MB is odd but read
TEXT_COLUMNS = ("findings", "impression", "report", "text")


def read_report_file(path: Path | str, needed: Iterable[str] = ()) -> list[dict[str, str]]:
    """Rows with the keys "uid", "findings", "impression" and those of `needed`, never None.

    A column "report" or "text" takes the place of "findings" where that is missing. Raises
    InputError for a file that cannot be read, is no CSV, or lacks a column.
    """
    path = Path(path)
    text = _decoded(path)
    try:
        dialect: type[csv.Dialect] | str = csv.Sniffer().sniff(text[:4096].split("\n")[0], ",;\t|")
    except csv.Error:
        dialect = "excel"
    delimiter = dialect if isinstance(dialect, str) else dialect.delimiter
    try:
        with longest_field(MAXIMUM_FIELD):
            reader = csv.reader(
                io.StringIO(text, newline=""), delimiter="," if delimiter == "excel" else delimiter
            )
            table = [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(
            f"'{path}' is not a readable CSV file ({error}); export it again as UTF-8 CSV."
        ) from error
    if not table:
        raise InputError(f"'{path}' is empty; export the reports again.")
    return _rows(path, table, tuple(needed))


@contextlib.contextmanager
def longest_field(characters: int) -> Iterator[None]:
    """While it lasts, CSV fields may be as long; the limit is the whole process's."""
    previous = csv.field_size_limit(characters)
    try:
        yield
    finally:
        csv.field_size_limit(previous)


def _rows(path: Path, table: list[list[str]], needed: tuple[str, ...]) -> list[dict[str, str]]:
    names = [name.strip().lower() for name in table[0]]
    column = {name: index for index, name in reversed(list(enumerate(names)))}
    body = next((column[n] for n in ("findings", "report", "text") if n in column), None)
    impression = column.get("impression")
    if body is None and impression is None:
        raise InputError(
            f"'{path}' has no column named {', '.join(TEXT_COLUMNS)}; name the one with the text."
        )
    for name in needed:
        if name.lower() not in column:
            raise InputError(f"'{path}' has no column '{name}'; add it to the file.")
    uid = column.get("uid", column.get("id"))

    def cell(row: list[str], index: int | None) -> str:
        return row[index] if index is not None and index < len(row) else ""

    return [
        {
            "uid": cell(row, uid) or str(number),
            "findings": cell(row, body),
            "impression": cell(row, impression),
            **{name: cell(row, column[name.lower()]) for name in needed},
        }
        for number, row in enumerate(table[1:], 1)
    ]


def _decoded(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAXIMUM_BYTES:
            raise InputError(f"'{path}' is larger than 1 GB; split it into smaller files.")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be read; check the path and its permissions.", repr(error)
        ) from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    if b"\0" in data[:4096]:
        raise InputError(f"'{path}' is not a text file; export the reports as UTF-8 CSV.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:  # exports of older hospital systems
        return data.decode("cp1252", "replace")
