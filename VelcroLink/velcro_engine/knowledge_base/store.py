"""Loading knowledge bases from files, and asking them for entries, parents, parts and codes.

Everything is read and checked before anything is returned, so a knowledge base is never half
loaded. The files' form is in `reading.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import KnowledgeBaseError
from ..resources import resource_path, user_data_folder
from .entry import Entry, code_key, entry_to_dict
from .reading import Source, read_file

BUNDLED = "KnowledgeBase/velcrolink.json"
# Entries that need no parent.
ROOTS = ("anatomical_structure", "imaging_finding", "device", "body")


@dataclass(frozen=True)
class KnowledgeBase:
    """Entries of one or more knowledge bases, in the order of their files. Immutable."""

    entries: tuple[Entry, ...]
    sources: tuple[Source, ...]
    source_of: Mapping[str, Source] = field(repr=False, default_factory=dict)

    @cached_property
    def by_id(self) -> dict[str, Entry]:
        """Entry of each id."""
        return {entry.id: entry for entry in self.entries}

    @cached_property
    def version(self) -> str:
        """For instance "velcrolink 1.0.0 + mine 3"."""
        return " + ".join(f"{source.name} {source.version}" for source in self.sources)

    @cached_property
    def content_hash(self) -> str:
        """Hex digest of all entries and their order; changes with any field of any entry."""
        digest = hashlib.blake2b(digest_size=16)
        for entry in self.entries:
            digest.update(json.dumps(entry_to_dict(entry), sort_keys=True).encode("utf-8"))
        return digest.hexdigest()

    @cached_property
    def ambiguous(self) -> frozenset[str]:
        """Names declared to be shared by several entries, in lower case."""
        return frozenset(name for source in self.sources for name in source.ambiguous)

    def __len__(self) -> int:
        return len(self.entries)

    def entry(self, identifier: str) -> Entry:
        """Entry of an id. Raises KnowledgeBaseError when there is none."""
        try:
            return self.by_id[identifier]
        except KeyError:
            raise KnowledgeBaseError(
                f"The knowledge base has no entry '{identifier}'; look it up with 'kb search'."
            ) from None

    def ancestors(self, identifier: str) -> tuple[str, ...]:
        """Ids of everything the entry is a kind of or a part of, nearest first."""
        self.entry(identifier)
        return self._walk(identifier, self._parents)

    def descendants(self, identifier: str) -> tuple[str, ...]:
        """Ids of all kinds and parts of the entry, nearest first."""
        self.entry(identifier)
        return self._walk(identifier, self._children)

    def children(self, identifier: str) -> tuple[str, ...]:
        """Ids of entries that name this one in is_a or part_of."""
        self.entry(identifier)
        return self._children.get(identifier, ())

    def parts(self, identifier: str) -> tuple[str, ...]:
        """Ids of entries that are a part of the entry, or of a part of it, nearest first."""
        self.entry(identifier)
        return self._walk(identifier, self._parts)

    def find_code(self, scheme: str, value: str) -> tuple[Entry, ...]:
        """Entries that carry the code; "UBERON:0002421" and "0002421" are the same value."""
        return self._by_code.get(code_key(scheme, value), ())

    @staticmethod
    def _walk(start: str, edges: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        seen = {start: None}
        queue = deque([start])
        while queue:
            for other in edges.get(queue.popleft(), ()):
                if other not in seen:
                    seen[other] = None
                    queue.append(other)
        return tuple(seen)[1:]

    @cached_property
    def _parents(self) -> dict[str, tuple[str, ...]]:
        return {entry.id: entry.parents for entry in self.entries}

    @cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        return _inverse((e.id, e.parents) for e in self.entries)

    @cached_property
    def _parts(self) -> dict[str, tuple[str, ...]]:
        return _inverse((e.id, e.part_of) for e in self.entries)

    @cached_property
    def _by_code(self) -> dict[tuple[str, str], tuple[Entry, ...]]:
        found: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            for code in entry.codes:
                found.setdefault(code.key, []).append(entry)
        return {key: tuple(entries) for key, entries in found.items()}


def active_paths() -> list[Path]:
    """The bundled knowledge base and, when there is one, the user's own."""
    paths = [resource_path(BUNDLED)]
    own = user_data_folder() / "knowledge_base" / "user.json"
    if _is_file(own):
        paths.append(own)
    return paths


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:  # a folder that another user owns
        raise KnowledgeBaseError(
            f"Your own knowledge base '{path}' may not be read; check its permissions or set "
            "VELCROLINK_HOME.",
            repr(error),
        ) from error


def load_knowledge_base(paths: Sequence[Path | str] | None = None) -> KnowledgeBase:
    """Read and check one or more knowledge bases. None: the bundled one alone.

    Later files add their entries. The same id in two is an error, unless the later manifest says
    `"overrides": true`, as the user's own does: then its entry takes the place of the earlier one.
    Raises KnowledgeBaseError naming file, entry and field.
    """
    chosen = [resource_path(BUNDLED)] if paths is None else [Path(path) for path in paths]
    if not chosen:
        raise KnowledgeBaseError("No knowledge base was named; name at least one file.")
    return merge([read_file(path) for path in chosen])


def merge(parts: Sequence[tuple[Source, Sequence[Entry]]]) -> KnowledgeBase:
    """One knowledge base of several; rules as in `load_knowledge_base`."""
    entries: dict[str, Entry] = {}
    source_of: dict[str, Source] = {}
    for source, own in parts:
        for entry in own:
            if entry.id in entries and not source.overrides:
                raise KnowledgeBaseError(
                    f"{source.label}: entry '{entry.id}' is already in "
                    f"{source_of[entry.id].label}; rename one of them."
                )
            entries[entry.id] = entry
            source_of[entry.id] = source
    check_references(entries.values(), entries, source_of)
    return KnowledgeBase(tuple(entries.values()), tuple(source for source, _ in parts), source_of)


def check_references(
    entries: Iterable[Entry], known: Mapping[str, Entry], source_of: Mapping[str, Source]
) -> None:
    """Raises KnowledgeBaseError on an unknown id in is_a, part_of, places, or a cycle."""
    for entry in entries:
        for name in ("is_a", "part_of", "places"):
            for other in getattr(entry, name):
                if other not in known:
                    raise KnowledgeBaseError(
                        f"{source_of[entry.id].label}: entry '{entry.id}', field {name}: "
                        f"there is no entry '{other}'."
                    )
    cycle = find_cycle({entry.id: entry.parents for entry in known.values()})
    if cycle:
        raise KnowledgeBaseError(
            f"{source_of[cycle[0]].label}: entry '{cycle[0]}' is its own ancestor: "
            + " > ".join(cycle)
        )


def find_cycle(parents: Mapping[str, Sequence[str]]) -> list[str] | None:
    """One cycle as ids from an entry back to itself, None when there is none."""
    done: set[str] = set()
    for start in parents:
        if start in done:
            continue
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            node, position = stack.pop()
            if position == 0:
                if node in done:
                    continue
                path.append(node)
                on_path.add(node)
            above = parents.get(node, ())
            if position < len(above):
                stack.append((node, position + 1))
                following = above[position]
                if following in on_path:
                    return [*path[path.index(following) :], following]
                stack.append((following, 0))
            else:
                done.add(node)
                on_path.discard(node)
                path.pop()
    return None


def _inverse(pairs: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for identifier, others in pairs:
        for other in others:
            found.setdefault(other, []).append(identifier)
    return {key: tuple(values) for key, values in found.items()}
