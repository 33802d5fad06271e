"""Saving what is readable of a damaged library into a new one; the damaged file is not touched."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ..errors import InputError, VelcroError
from ..knowledge_base import KnowledgeBase
from .library import CaseLibrary
from .schema import open_damaged


def rescue(damaged: Path, target: Path, base: KnowledgeBase) -> tuple[int, int]:
    """(items saved, items that could not be read). Works on a copy, with the write-ahead log beside
    it. Raises InputError when the file is missing, `target` exists or nothing can be read."""
    if not damaged.is_file():
        raise InputError(f"'{damaged}' does not exist; give the damaged library.")
    if target.exists():
        raise InputError(f"'{target}' exists already; give a new file for what is saved.")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.sqlite3"
        for ending in ("", "-wal"):
            source = damaged.with_name(damaged.name + ending)
            if source.is_file():
                shutil.copyfile(source, copy.with_name(copy.name + ending))
        source_library = CaseLibrary.over(copy, open_damaged(copy))
        try:
            return _copy_items(source_library, target, base)
        finally:
            source_library.close()


def _copy_items(source: CaseLibrary, target: Path, base: KnowledgeBase) -> tuple[int, int]:
    numbers, lost = source.readable_numbers()
    saved = 0
    with CaseLibrary(target) as rescued:
        for number in numbers:
            try:
                rescued.add(source.item(number), base)
                saved += 1
            except VelcroError:
                lost += 1
    if not saved:
        raise InputError("Nothing could be read from the damaged library; bring back a copy of it.")
    return saved, lost
