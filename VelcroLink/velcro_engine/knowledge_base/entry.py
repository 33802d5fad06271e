"""One entry of a knowledge base, and its strict reading from JSON.

`Resources/KnowledgeBase/schema.json` says the same for editors and other programs; a test holds
the two together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

KINDS = ("anatomy", "pathology", "device")
# As DICOM writes them; XR stands for CR, DX and RF alike, NM and PT are nuclear medicine and PET.
MODALITIES = ("MR", "CT", "XR", "US", "MG", "NM", "PT")
LATERALITIES = ("paired", "midline", "unpaired", "any")
REGIONS = (
    "brain",
    "head",
    "neck",
    "chest",
    "abdomen",
    "pelvis",
    "spine",
    "limb",
    "body",
    "fetus",
)
# private scheme of entries without a SNOMED CT code; the panel writes the same
OWN_SCHEME = "99VELCROLINK"
KNOWN_SCHEMES = ("SCT", "UMLS", "UBERON", "RADLEX", "MESH", "FMA", "TA2")
MAXIMUM_NAME = 200
MAXIMUM_DEFINITION = 10_000

_ID = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*\Z")
_SCHEME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z")
_LINK = re.compile(r"https?://[^\s\"<>\\^`{|}]+\Z")
# Line breaks and tabs may stand in a definition; other control characters have no place in text
# that goes to XML, HTML and CSV.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Code:
    """A concept of a published vocabulary that the entry is the same as."""

    scheme: str
    value: str
    meaning: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """(scheme, bare value) as compared: "UBERON:0002421" and "0002421" are one code."""
        return code_key(self.scheme, self.value)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that can be seen on an image. Lists are tuples; ids are lower snake case.

    definition: text for readers and for the text tower. laterality: "paired" (one left, one
    right), "midline", "unpaired", "any". size_mm: usual longest diameter (low, high) in an adult.
    is_a, part_of, places: ids of other entries. links: http(s) addresses, opened on click only.
    """

    id: str
    name: str
    definition: str
    kind: str
    synonyms: tuple[str, ...] = ()
    latin: tuple[str, ...] = ()
    abbreviations: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    laterality: str = "any"
    region: str = "body"
    is_a: tuple[str, ...] = ()
    part_of: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    size_mm: tuple[float, float] | None = None
    codes: tuple[Code, ...] = ()
    links: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids in is_a, then part_of, each once."""
        return tuple(dict.fromkeys(self.is_a + self.part_of))

    @property
    def terms(self) -> tuple[str, ...]:
        """Everything the entry is called: name, synonyms, Latin names, abbreviations."""
        return (self.name, *self.synonyms, *self.latin, *self.abbreviations)


FIELDS = tuple(field.name for field in fields(Entry))
_FIELD_SET = frozenset(FIELDS)


class EntryError(ValueError):
    """An entry breaks a rule; `field` names where. Callers add file and line."""

    def __init__(self, field: str, reason: str) -> None:
        field, reason = " ".join(field.split()), " ".join(reason.split())
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def text(entry: Entry) -> str:
    """The text that the text tower embeds (VELCRO's form)."""
    return f"[TITLE]{entry.name}[BODY]{entry.definition}"


def code_key(scheme: str, value: str) -> tuple[str, str]:
    """(upper-case scheme, value without a repeated scheme), for comparison."""
    scheme = scheme.upper()
    value = value.strip()
    for prefix in (f"{scheme}:", f"{scheme}_"):
        if value.upper().startswith(prefix):
            value = value[len(prefix) :]
    return scheme, value.upper()


def entry_to_dict(entry: Entry) -> dict[str, Any]:
    """JSON-able dict with every field, in the order in which the bundled files have them."""
    return {
        "id": entry.id,
        "name": entry.name,
        "synonyms": list(entry.synonyms),
        "latin": list(entry.latin),
        "abbreviations": list(entry.abbreviations),
        "definition": entry.definition,
        "kind": entry.kind,
        "modalities": list(entry.modalities),
        "laterality": entry.laterality,
        "region": entry.region,
        "is_a": list(entry.is_a),
        "part_of": list(entry.part_of),
        "places": list(entry.places),
        "size_mm": None if entry.size_mm is None else [_plain(v) for v in entry.size_mm],
        "codes": [
            {"scheme": code.scheme, "value": code.value, "meaning": code.meaning}
            for code in entry.codes
        ],
        "links": list(entry.links),
    }


def entry_from_dict(data: Any) -> Entry:
    """Strict inverse of `entry_to_dict`; id, name, definition and kind are needed.

    Raises EntryError (field, reason) on anything unknown, missing or of another type.
    """
    if not isinstance(data, Mapping):
        raise EntryError("entry", "is not an object with named fields")
    if not data.keys() <= _FIELD_SET:
        unknown = next(str(key) for key in data if key not in _FIELD_SET)
        raise EntryError(unknown[:60], "is not a field of an entry")
    for key in ("id", "name", "definition", "kind"):
        if key not in data:
            raise EntryError(key, "is missing")
    identifier = _string(data, "id", MAXIMUM_NAME)
    if not _ID.match(identifier):
        raise EntryError("id", f"'{identifier[:60]}' is not lower snake case (a-z, 0-9, _)")
    return Entry(
        id=identifier,
        name=_string(data, "name", MAXIMUM_NAME),
        definition=_string(data, "definition", MAXIMUM_DEFINITION, may_be_empty=True),
        kind=_one_of(data, "kind", KINDS),
        synonyms=_strings(data, "synonyms"),
        latin=_strings(data, "latin"),
        abbreviations=_strings(data, "abbreviations"),
        modalities=_modalities(data),
        laterality=_one_of(data, "laterality", LATERALITIES, "any"),
        region=_one_of(data, "region", REGIONS, "body"),
        is_a=_ids(data, "is_a"),
        part_of=_ids(data, "part_of"),
        places=_ids(data, "places"),
        size_mm=_size(data.get("size_mm")),
        codes=_codes(data.get("codes", [])),
        links=_links(data),
    )


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else float(value)


def _clean(field: str, value: Any, maximum: int, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        raise EntryError(field, "must be text")
    if value != value.strip():
        raise EntryError(field, "begins or ends with a space")
    if not value and not may_be_empty:
        raise EntryError(field, "is empty")
    if len(value) > maximum:
        raise EntryError(field, f"is longer than {maximum} characters")
    if _CONTROL.search(value):
        raise EntryError(field, "holds a control character")
    return value


def _string(data: Mapping, field: str, maximum: int, may_be_empty: bool = False) -> str:
    return _clean(field, data[field], maximum, may_be_empty)


def _list(data: Mapping, field: str) -> list:
    value = data.get(field, [])
    if not isinstance(value, (list, tuple)):
        raise EntryError(field, "must be a list")
    return list(value)


def _strings(data: Mapping, field: str, maximum: int = MAXIMUM_NAME) -> tuple[str, ...]:
    given = _list(data, field)
    if not given:
        return ()
    values = tuple([_clean(field, value, maximum) for value in given])
    if len(values) > 1 and len(set(values)) != len(values):
        raise EntryError(field, "names the same thing twice")
    return values


def _ids(data: Mapping, field: str) -> tuple[str, ...]:
    values = _strings(data, field)
    for value in values:
        if not _ID.match(value):
            raise EntryError(field, f"'{value[:60]}' is not an id (lower snake case)")
    if values and data["id"] in values:
        raise EntryError(field, "names the entry itself")
    return values


def _one_of(data: Mapping, field: str, allowed: tuple[str, ...], default: str | None = None) -> str:
    value = data.get(field, default)
    if value not in allowed:
        shown = value[:40] if isinstance(value, str) else value
        raise EntryError(field, f"{shown!r} is none of {', '.join(allowed)}")
    return value


def _modalities(data: Mapping) -> tuple[str, ...]:
    values = _strings(data, "modalities")
    for value in values:
        if value not in MODALITIES:
            raise EntryError("modalities", f"{value[:40]!r} is none of {', '.join(MODALITIES)}")
    return values


def _size(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    good = (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    )
    if not good or not 0 < value[0] <= value[1] <= 2500:
        raise EntryError("size_mm", "must be [low, high] in mm, 0 < low <= high <= 2500")
    return float(value[0]), float(value[1])


def _codes(value: Any) -> tuple[Code, ...]:
    if not isinstance(value, (list, tuple)):
        raise EntryError("codes", "must be a list")
    codes = []
    for item in value:
        if not isinstance(item, Mapping) or not {"scheme", "value"} <= set(item):
            raise EntryError("codes", "each code needs scheme and value")
        if not set(item) <= {"scheme", "value", "meaning"}:
            raise EntryError("codes", "a code has scheme, value and meaning only")
        code = Code(
            _clean("codes", item["scheme"], 32),
            _clean("codes", item["value"], 64),
            _clean("codes", item.get("meaning", ""), MAXIMUM_NAME, may_be_empty=True),
        )
        if not _SCHEME.match(code.scheme):
            raise EntryError("codes", f"'{code.scheme}' is not a coding scheme's name")
        codes.append(code)
    if len(codes) > 1 and len({code.key for code in codes}) != len(codes):
        raise EntryError("codes", "names the same code twice")
    return tuple(codes)


def _links(data: Mapping) -> tuple[str, ...]:
    values = _strings(data, "links", 1000)
    for value in values:
        if not _LINK.match(value):
            raise EntryError("links", f"'{value[:80]}' is not a web address")
    return values
