"""One case after the other: what measures cases goes through them here."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from ...errors import InputError, VelcroError

Found = TypeVar("Found")


def readable_cases(
    keys: Sequence[str],
    read: Callable[[str], Found],
    progress: Callable[[int, int, str], None],
    problems: list[str],
    what: str = "",
) -> Iterator[tuple[str, Found]]:
    """(key, read(key)) of every case that can be read; the others get a line in `problems`.

    progress(number, count, what + key) is called before each.
    """
    for number, key in enumerate(keys):
        progress(number, len(keys), f"{what}{key}")
        try:
            found = read(key)
        except VelcroError as error:
            problems.append(f"{key}: {error.message}")
            continue
        yield key, found


def check_measured(rows: Sequence[Any], problems: Sequence[str]) -> None:
    """Raises InputError, with what was left out, when nothing could be measured."""
    if not rows:
        first = f" ({problems[0]})" if problems else ""
        raise InputError(
            f"No labelled region could be measured{first}; check --data and --kb.",
            "; ".join(problems),
        )


def write_dataclass_rows(path: Path, kind: type, rows: Sequence[Any]) -> None:
    """CSV with a column for each field of the dataclass `kind`, one line a row."""
    names = [field.name for field in fields(kind)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)
