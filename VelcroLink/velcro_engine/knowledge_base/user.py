"""The user's own knowledge base: added to, corrected, never lost.

It lies in the user's data folder as `knowledge_base/user.json`, and its entries take the place of
bundled ones with the same id. Every change writes a new version and keeps the one before it in
`versions/`, so that any of them can be brought back.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, KnowledgeBaseError
from ..resources import user_data_folder, write_atomically
from .entry import Entry
from .reading import Source, read_file
from .rows import BadRows, ImportResult
from .store import KnowledgeBase, merge
from .writing import document

NAME = "own"
_LOCK_SECONDS = 30
_VERSION_FILE = re.compile(r"user-([0-9]{6})\.json\Z")


@dataclass(frozen=True)
class Change:
    """What an addition did to the user's knowledge base."""

    added: int
    replaced: int
    skipped: int
    version: int
    path: Path


def user_path() -> Path:
    """Where the user's knowledge base lies, whether or not it exists yet."""
    return user_data_folder() / "knowledge_base" / "user.json"


def user_entries() -> tuple[int, list[Entry]]:
    """(version, entries) of the user's knowledge base; (0, []) when there is none yet."""
    path = user_path()
    if not path.is_file():
        return 0, []
    source, entries = read_file(path)
    return _version(source), entries


def user_versions() -> list[int]:
    """Versions that can be brought back, oldest first."""
    folder = user_path().parent / "versions"
    if not folder.is_dir():
        return []
    found = (_VERSION_FILE.match(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def save_user_entries(entries: Sequence[Entry], bundled: KnowledgeBase) -> int:
    """Write a new version with exactly these entries; returns its number.

    bundled: what the entries may refer to. Raises KnowledgeBaseError, and keeps the present
    version, when the entries do not fit together with it.
    """
    with _lock():
        return _save(entries, bundled)


def add_to_user_knowledge_base(
    read: ImportResult,
    active: KnowledgeBase,
    *,
    on_conflict: str = "error",
    dry_run: bool = False,
) -> Change:
    """Take imported entries into the user's knowledge base, all or none.

    active: bundled and own together, as loaded. on_conflict: of an id that is already there,
    "error" raises BadRows naming every such row, "skip" keeps the old, "replace" takes the new;
    entries in `read.updates` always take the new.
    """
    if on_conflict not in ("error", "skip", "replace"):
        raise InputError(f"'{on_conflict}' is none of error, skip, replace.")
    with _lock():
        version, own = user_entries()
        merged = {entry.id: entry for entry in own}
        added = replaced = skipped = 0
        clashes = []
        for entry in read.entries:
            present = merged.get(entry.id) or active.by_id.get(entry.id)
            if present is None:
                added += 1
            elif present == entry:
                skipped += 1
                continue
            elif entry.id in read.updates or on_conflict == "replace":
                replaced += 1
            elif on_conflict == "skip":
                skipped += 1
                continue
            else:
                place = read.places.get(entry.id, "entry")
                clashes.append(f"{place}: entry '{entry.id}' is already there ('{present.name}')")
            merged[entry.id] = entry
        if clashes:
            raise BadRows(read.file, clashes)
        bundled = _without_own(active)
        _check(list(merged.values()), bundled)
        if not dry_run and (added or replaced):
            version = _save(list(merged.values()), bundled)
    return Change(added, replaced, skipped, version, user_path())


def restore_user_version(version: int, bundled: KnowledgeBase) -> int:
    """Bring an earlier version back as the newest; returns the new number."""
    with _lock():
        path = _version_path(version)
        if not path.is_file():
            shown = ", ".join(map(str, user_versions())) or "none"
            raise InputError(f"There is no version {version}; there are: {shown}.")
        return _save(read_file(path)[1], bundled)


def _save(entries: Sequence[Entry], bundled: KnowledgeBase) -> int:
    _check(entries, bundled)
    path = user_path()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    version = 0
    if path.is_file():
        content = path.read_bytes()
        version = _version(read_file(path)[0])
        write_atomically(_version_path(version), content)
    version = max([version, *user_versions()]) + 1
    own = KnowledgeBase(tuple(entries), ())
    text = document(own, name=NAME, version=str(version), licence="the user's", overrides=True)
    write_atomically(path, text)
    return version


def _check(entries: Sequence[Entry], bundled: KnowledgeBase) -> None:
    """Raises KnowledgeBaseError when bundled and own entries do not fit together."""
    own = Source(NAME, "new", "the user's", overrides=True)
    # One merged source stands for all others: their order and sources do not matter here.
    merge([(Source("active", "", ""), bundled.entries), (own, entries)])


def _without_own(active: KnowledgeBase) -> KnowledgeBase:
    """The active knowledge base with the user's entries taken out, as far as nothing needs them."""
    own = str(user_path())
    kept = [e for e in active.entries if active.source_of[e.id].path != own]
    if len(kept) == len(active.entries):
        return active
    from .store import load_knowledge_base

    others = [Path(source.path) for source in active.sources if source.path not in ("", own)]
    return load_knowledge_base(others)


def _version(source: Source) -> int:
    try:
        return int(source.version)
    except ValueError:
        raise KnowledgeBaseError(
            f"{source.label}: the version '{source.version}' of your knowledge base is no number."
        ) from None


def _version_path(version: int) -> Path:
    return user_path().parent / "versions" / f"user-{version:06d}.json"


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One writer at a time, also across processes. A lock left by a killed process goes stale."""
    path = user_path().with_name("user.lock")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except (FileExistsError, PermissionError) as error:
            # Windows says "permission denied" while another process is deleting its lock.
            if isinstance(error, PermissionError) and os.name != "nt":
                raise InputError(f"'{path.parent}' cannot be written to.", repr(error)) from error
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _LOCK_SECONDS:
                    path.unlink()
                    continue
            if time.monotonic() > deadline:
                raise InputError(
                    f"Another VelcroLink is changing your knowledge base; if none runs, delete "
                    f"'{path}'."
                ) from None
            time.sleep(0.05)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
