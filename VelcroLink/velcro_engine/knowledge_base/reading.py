"""Reading one knowledge-base file: manifest, entries, and what is wrong with them.

A knowledge base is one JSON file: a manifest (`schema_version`, `name`, `version`, `licence`,
`language`) with either `entries` or `files` (paths of entries files, relative to it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import KnowledgeBaseError
from .entry import Entry, EntryError, entry_from_dict

SCHEMA_VERSION = 1
MAXIMUM_FILE_BYTES = 2 * 1024**3
_MANIFEST_FIELDS = {
    "schema_version",
    "name",
    "version",
    "licence",
    "language",
    "description",
    "overrides",
    "ambiguous",
    "files",
    "entries",
    "$schema",
}


@dataclass(frozen=True)
class Source:
    """What a manifest says about one knowledge base. `overrides`: its entries may replace others'.

    `ambiguous`: names that several entries share on purpose, in lower case.
    """

    name: str
    version: str
    licence: str
    language: str = "en"
    overrides: bool = False
    ambiguous: tuple[str, ...] = ()
    path: str = ""

    @property
    def label(self) -> str:
        """File name, or the name when it comes from no file; for messages."""
        return Path(self.path).name if self.path else self.name


def read_file(path: Path | str) -> tuple[Source, list[Entry]]:
    """Manifest and entries of one knowledge base, references unchecked.

    Raises KnowledgeBaseError naming file, entry and field.
    """
    path = Path(path)
    source, records = read_records(path)
    entries: dict[str, Entry] = {}
    for origin, record in records:
        try:
            entry = entry_from_dict(record)
        except EntryError as error:
            raise KnowledgeBaseError(
                f"{origin}: entry '{_shown_id(record)}', field {error.field}: {error.reason}."
            ) from None
        if entry.id in entries:
            raise KnowledgeBaseError(f"{origin}: entry '{entry.id}' stands there twice.")
        entries[entry.id] = entry
    return source, list(entries.values())


def read_records(path: Path) -> tuple[Source, list[tuple[str, Any]]]:
    """Manifest and raw entries as (file name, JSON value) pairs."""
    manifest = read_json(path)
    source = _source(path, manifest)
    has_entries, has_files = "entries" in manifest, "files" in manifest
    if has_entries == has_files:
        raise KnowledgeBaseError(f"{path.name}: needs either 'entries' or 'files'.")
    if has_entries:
        return source, [(path.name, record) for record in _entries(path.name, manifest)]
    records: list[tuple[str, Any]] = []
    for name in _string_list(path.name, manifest, "files"):
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or "\\" in name or ":" in name:
            raise KnowledgeBaseError(f"{path.name}: '{name}' must lie beside the manifest.")
        content = read_json(path.parent / relative)
        records += [(name, record) for record in _entries(name, content)]
    return source, records


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a UTF-8 file. Raises KnowledgeBaseError with the line of an error."""
    try:
        if path.stat().st_size > MAXIMUM_FILE_BYTES:
            raise KnowledgeBaseError(f"{path.name}: is larger than 2 GiB; split it.")
        content = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_unique_pairs)
    except json.JSONDecodeError as error:
        raise KnowledgeBaseError(
            f"{path.name}: line {error.lineno} is not JSON: {error.msg}."
        ) from None
    except UnicodeDecodeError:
        raise KnowledgeBaseError(f"{path.name}: is not UTF-8 text.") from None
    except ValueError as error:  # a number of thousands of digits
        raise KnowledgeBaseError(f"{path.name}: holds a number that is too long.") from error
    except RecursionError:
        raise KnowledgeBaseError(f"{path.name}: is nested too deeply to be read.") from None
    except OSError as error:
        reason = "there is no such file" if not path.exists() else "it cannot be read"
        raise KnowledgeBaseError(f"Knowledge base '{path}': {reason}.", repr(error)) from None
    except _RepeatedKey as error:
        raise KnowledgeBaseError(f"{path.name}: the field '{error}' stands twice.") from None
    if not isinstance(content, dict):
        raise KnowledgeBaseError(f"{path.name}: is not a JSON object.")
    return content


class _RepeatedKey(Exception):
    pass


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKey(next(key for key in keys if keys.count(key) > 1))
    return found


def _source(path: Path, manifest: Mapping[str, Any]) -> Source:
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        shown = "missing" if version is None else repr(version)[:40]
        raise KnowledgeBaseError(
            f"{path.name}: schema_version is {shown}; this VelcroLink reads {SCHEMA_VERSION}."
        )
    for key in manifest:
        if key not in _MANIFEST_FIELDS:
            raise KnowledgeBaseError(f"{path.name}: '{key[:60]}' is not a manifest field.")
    for key in ("name", "version", "licence"):
        if not isinstance(manifest.get(key), str) or not manifest[key].strip():
            raise KnowledgeBaseError(f"{path.name}: the manifest needs a text '{key}'.")
    overrides = manifest.get("overrides", False)
    if not isinstance(overrides, bool):
        raise KnowledgeBaseError(f"{path.name}: 'overrides' must be true or false.")
    ambiguous = _string_list(path.name, manifest, "ambiguous")
    return Source(
        manifest["name"],
        manifest["version"],
        manifest["licence"],
        str(manifest.get("language", "en")),
        overrides,
        tuple(name.casefold() for name in ambiguous),
        str(path),
    )


def _entries(name: str, content: Mapping[str, Any]) -> list[Any]:
    entries = content.get("entries")
    if not isinstance(entries, list):
        raise KnowledgeBaseError(f"{name}: needs a list 'entries'.")
    return entries


def _string_list(name: str, manifest: Mapping[str, Any], key: str) -> list[str]:
    values = manifest.get(key, [])
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise KnowledgeBaseError(f"{name}: '{key}' must be a list of texts.")
    return values


def _shown_id(record: Any) -> str:
    if isinstance(record, Mapping):
        return str(record.get("id", record.get("name", "?")))[:60]
    return "?"
