"""Codes against their vocabularies' form and the DICOM lists; links against known sites."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import KnowledgeBaseError
from .entry import KNOWN_SCHEMES, Entry
from .spelling import fold, similarity

_VALUE_FORMS = {
    "SCT": re.compile(r"[1-9][0-9]{5,17}\Z"),
    "UMLS": re.compile(r"C[0-9]{7}\Z"),
    "UBERON": re.compile(r"[0-9]{7}\Z"),
    "RADLEX": re.compile(r"RID[1-9][0-9]*\Z"),
    "MESH": re.compile(r"[DC][0-9]{6,9}\Z"),
    "FMA": re.compile(r"[1-9][0-9]*\Z"),
    "TA2": re.compile(r"[1-9][0-9]{0,4}\Z"),
}
# Sites with stable addresses, and the form of the address with the code in it.
_SITES = (
    (re.compile(r"http://purl\.obolibrary\.org/obo/UBERON_([0-9]{7})\Z"), "UBERON"),
    (re.compile(r"https?://id\.nlm\.nih\.gov/mesh/([DC][0-9]{6,9})\Z"), "MESH"),
    (re.compile(r"https?://(?:www\.)?radlex\.org/RID/(RID[1-9][0-9]*)\Z"), "RADLEX"),
    (re.compile(r"http://snomed\.info/id/([1-9][0-9]{5,17})\Z"), "SCT"),
    (re.compile(r"http://purl\.org/sig/ont/fma/fma([1-9][0-9]*)\Z"), "FMA"),
    (re.compile(r"https://en\.wikipedia\.org/wiki/([^?#\s]+)\Z"), ""),
)
_FILLERS = {
    "structure", "entire", "of", "the", "and", "region", "part", "nos", "body", "a", "an", "in",
}  # fmt: skip

# Verhoeff's check digit, which ends every SNOMED CT identifier.
_DIHEDRAL = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTATION = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip

Finding = tuple[str, str, str, str]


def has_valid_check_digit(identifier: str) -> bool:
    """Whether a SNOMED CT identifier's last digit fits the others (Verhoeff)."""
    check = 0
    for position, digit in enumerate(reversed(identifier)):
        check = int(_DIHEDRAL[check][int(_PERMUTATION[position % 8][int(digit)])])
    return check == 0


@dataclass
class Terminology:
    """Meanings by code out of the DICOM lists that 3D Slicer ships, as facts to check against."""

    meanings: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    partner: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def read(cls, folder: Path) -> Terminology:
        """Coded concepts of the folder's *.json. Raises KnowledgeBaseError if there is none."""
        lists = cls()
        for path in sorted(folder.glob("*.json")):
            try:
                lists._collect(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise KnowledgeBaseError(f"{path}: cannot be read as JSON.", repr(error)) from None
        if not lists.meanings:
            raise KnowledgeBaseError(f"'{folder}' holds no DICOM code lists (*.json).")
        return lists

    def _collect(self, node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                self._collect(item)
        elif isinstance(node, dict):
            if isinstance(node.get("CodeMeaning"), str):
                self._add(node)
            for item in node.values():
                if isinstance(item, (dict, list)):
                    self._collect(item)

    def _add(self, node: dict[str, Any]) -> None:
        sct = str(node.get("SNOMEDCTConceptID") or "")
        if node.get("CodingSchemeDesignator") == "SCT":
            sct = str(node.get("CodeValue", ""))
        cui = str(node.get("UMLSConceptUID") or "")
        if sct:
            self.meanings["SCT", sct].add(node["CodeMeaning"])
        if cui:
            self.meanings["UMLS", cui].add(node["CodeMeaning"])
        if sct and cui:
            self.partner[sct].add(cui)


def check_codes(entries: list[Entry], lists: Terminology | None) -> Iterator[Finding]:
    """Form, check digits, one entry per code and, with the lists, existence and meaning."""
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in entries:
        for code in entry.codes:
            scheme, value = code.key
            owners[scheme, value].append(entry.id)
            shown = f"{scheme} {value}"
            form = _VALUE_FORMS.get(scheme)
            if form is None and not scheme.startswith("99"):
                known = ", ".join(KNOWN_SCHEMES)
                yield "error", entry.id, "codes", f"{scheme} is not one of {known} or 99..."
            elif form is not None and not form.match(value):
                yield "error", entry.id, "codes", f"{shown} has not the form of such a code"
            elif scheme == "SCT" and not has_valid_check_digit(value):
                yield "error", entry.id, "codes", f"{shown} has a wrong check digit"
            if lists is not None and scheme in ("SCT", "UMLS"):
                yield from _look_up(entry, scheme, value, code.meaning, lists)
        if lists is not None:
            yield from _partners(entry, lists)
    for (scheme, value), who in owners.items():
        if len(who) > 1:
            message = f"{scheme} {value} is also a code of {', '.join(who[1:])}"
            yield "error", who[0], "codes", message


def _look_up(
    entry: Entry, scheme: str, value: str, meaning: str, lists: Terminology
) -> Iterator[Finding]:
    listed = lists.meanings.get((scheme, value))
    if not listed:
        yield "error", entry.id, "codes", f"{scheme} {value} is not in the DICOM lists"
        return
    names = [*entry.terms, entry.id.replace("_", " ")]
    if not any(is_compatible(own, other) for own in names for other in listed):
        shown = " / ".join(sorted(listed))
        yield "error", entry.id, "codes", f"{scheme} {value} means '{shown}'"
    elif meaning and not any(is_compatible(meaning, other) for other in listed):
        shown = " / ".join(sorted(listed))
        yield "error", entry.id, "codes", f"{scheme} {value} is '{shown}', not '{meaning}'"


def _partners(entry: Entry, lists: Terminology) -> Iterator[Finding]:
    values = defaultdict(set)
    for code in entry.codes:
        values[code.key[0]].add(code.key[1])
    for sct in sorted(values["SCT"]):
        expected = lists.partner.get(sct)
        if expected and values["UMLS"] and not expected & values["UMLS"]:
            shown = ", ".join(sorted(expected))
            yield "error", entry.id, "codes", f"SCT {sct} goes with UMLS {shown} in the lists"


def is_compatible(own: str, listed: str) -> bool:
    """Whether two names can mean one thing: the words that carry meaning are shared."""
    first = {word for word in fold(own).split() if word not in _FILLERS}
    second = {word for word in fold(listed).split() if word not in _FILLERS}
    if not first or not second:
        return fold(own) == fold(listed)
    matched = sum(any(_same_word(a, b) for b in second) for a in first)
    return (
        matched / min(len(first), len(second)) >= 0.99
        and matched / max(len(first), len(second)) >= 0.5
    ) or similarity(fold(own).replace(" ", ""), fold(listed).replace(" ", "")) >= 0.85


def _same_word(first: str, second: str) -> bool:
    if first == second or first + "s" == second or second + "s" == first:
        return True
    return min(len(first), len(second)) >= 5 and similarity(first, second) >= 0.8


def check_links(entries: list[Entry]) -> Iterator[Finding]:
    """Links belong to known sites, have their form, and agree with the entry's codes."""
    for entry in entries:
        codes = defaultdict(set)
        for code in entry.codes:
            codes[code.key[0]].add(code.key[1])
        for link in entry.links:
            hit = next(((m, s) for form, s in _SITES if (m := form.match(link))), None)
            if hit is None:
                yield "error", entry.id, "links", f"{link} is no stable address of a known site"
                continue
            match, scheme = hit
            if scheme and codes[scheme] and match.group(1) not in codes[scheme]:
                shown = ", ".join(sorted(codes[scheme]))
                message = f"{link} does not fit the code {scheme} {shown}"
                yield "error", entry.id, "links", message
            if not scheme and (
                not match.group(1)[0].isascii() or " " in unquote(match.group(1)).strip()
            ):
                yield "warning", entry.id, "links", f"{link}: use _ for spaces in the title"
