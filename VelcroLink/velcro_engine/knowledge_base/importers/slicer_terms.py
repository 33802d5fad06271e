"""3D Slicer's terminology files (.term.json) both ways.

Every entry becomes a type under its kind's category. Its code is its SNOMED CT code, or its id
under the private scheme 99VELCROLINK when it has none, as the Slicer panel codes segments. What the
format has no place for is kept in a field "velcrolink", which Slicer passes over; so a knowledge
base comes back identical.
"""

from __future__ import annotations

import colorsys
import json
import zlib
from pathlib import Path
from typing import Any

from ...errors import KnowledgeBaseError
from ...resources import write_atomically
from ..entry import OWN_SCHEME, Entry, code_key, entry_to_dict
from ..rows import ImportResult, Rows, one_line, read_text, root_parent, sentence_case, slug
from ..store import KnowledgeBase
from .json_files import parse

CONTEXT = "Segmentation category and type - VelcroLink"
_SCHEMA = (
    "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#"
)
_CATEGORIES = {
    "anatomy": ("123037004", "Anatomical Structure"),
    "pathology": ("49755003", "Morphologically Altered Structure"),
    "device": ("260787004", "Physical object"),
}
# Categories of other people's files; those not named here hold no structures.
_KIND_OF_CATEGORY = {
    "123037004": "anatomy",
    "85756007": "anatomy",
    "91720002": "anatomy",
    "49755003": "pathology",
    "260787004": "device",
}
_SIDES = (("24028007", "Right", "C0205090"), ("7771000", "Left", "C0205091"))
_GOLDEN_RATIO = 0.618033988749895


def export_terms(kb: KnowledgeBase, path: Path) -> None:
    """Write a type list that Slicer's Terminologies module loads."""
    categories = []
    for kind, (value, meaning) in _CATEGORIES.items():
        types = [_type(entry) for entry in kb.entries if entry.kind == kind]
        if types:
            categories.append(
                {
                    "CodingSchemeDesignator": "SCT",
                    "CodeValue": value,
                    "CodeMeaning": meaning,
                    "showAnatomy": kind != "anatomy",
                    "Type": types,
                }
            )
    content = {
        "SegmentationCategoryTypeContextName": CONTEXT,
        "@schema": _SCHEMA,
        "SegmentationCodes": {"Category": categories},
        "velcrolink": {"version": kb.version, "order": [entry.id for entry in kb.entries]},
    }
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def import_terms(path: Path, kb: KnowledgeBase) -> ImportResult:
    """Entries of a .term.json, our own or another's.

    Of another's file, structures, tissues, altered structures and objects become entries without
    definition; left and right modifiers make them paired.
    """
    content = read_text(path)
    value = parse(path, content)
    try:
        categories = value["SegmentationCodes"]["Category"]
    except (KeyError, TypeError, IndexError):
        categories = None
    if not isinstance(categories, list):
        raise KnowledgeBaseError(
            f"{path.name}: is not a Slicer type list (SegmentationCodes / Category is missing)."
        )
    lines = _Lines(content)
    rows = Rows(path, kb)
    for category in categories:
        if not isinstance(category, dict) or not isinstance(category.get("Type"), list):
            rows.bad("category", "is not an object with a list Type")
            continue
        kind = _KIND_OF_CATEGORY.get(str(category.get("CodeValue")))
        own = any(isinstance(t, dict) and "velcrolink" in t for t in category["Type"])
        if kind is None and not own:
            shown = one_line(str(category.get("CodeMeaning", category.get("CodeValue")))[:60])
            rows.notes.append(f"category '{shown}' left out: it holds no structures")
            continue
        for item in category["Type"]:
            place = lines.of(item)
            record = _record(item, kind or "anatomy", rows)
            if isinstance(record, str):
                rows.bad(place, record)
            else:
                rows.add(place, record)
    _restore_order(rows, value)
    return rows.finish()


def _type(entry: Entry) -> dict[str, Any]:
    codes = {code.key[0]: code.key[1] for code in reversed(entry.codes)}
    meaning = next((c.meaning for c in entry.codes if c.key[0] == "SCT" and c.meaning), entry.name)
    own = "SCT" not in codes
    item: dict[str, Any] = {
        "CodingSchemeDesignator": OWN_SCHEME if own else "SCT",
        "CodeValue": entry.id if own else codes["SCT"],
        "CodeMeaning": entry.name if own else meaning,
        "3dSlicerLabel": entry.id,
        "recommendedDisplayRGBValue": colour(entry),
    }
    if "UMLS" in codes:
        item["UMLSConceptUID"] = codes["UMLS"]
    if not own:
        item["SNOMEDCTConceptID"] = codes["SCT"]
    if entry.kind == "anatomy" and entry.laterality in ("paired", "any"):
        item["Modifier"] = [
            {
                "CodingSchemeDesignator": "SCT",
                "CodeValue": value,
                "CodeMeaning": side,
                "UMLSConceptUID": cui,
                "SNOMEDCTConceptID": value,
                "cid": "244",
                "contextGroupName": "Laterality",
                "recommendedDisplayRGBValue": colour(entry),
                "3dSlicerLabel": f"{side.lower()} {entry.id}",
            }
            for value, side, cui in _SIDES
        ]
    item["velcrolink"] = entry_to_dict(entry)
    return item


def colour(entry: Entry) -> list[int]:
    """RGB 0..255 made from the id: always the same, and the one the Slicer panel gives."""
    hue = (zlib.crc32(entry.id.encode("utf-8")) * _GOLDEN_RATIO) % 1.0
    return [round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.65, 0.95)]


def _record(item: Any, kind: str, rows: Rows) -> dict[str, Any] | str:
    """Entry record of a type, or what is wrong with it."""
    if not isinstance(item, dict):
        return "a type is not an object"
    if "velcrolink" in item:
        return item["velcrolink"]
    for key in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning"):
        if not isinstance(item.get(key), str) or not item[key].strip():
            return f"a type needs a text '{key}'"
    name = sentence_case(" ".join(item["CodeMeaning"].split()))
    codes = [
        {"scheme": item["CodingSchemeDesignator"], "value": item["CodeValue"], "meaning": name}
    ]
    if isinstance(item.get("UMLSConceptUID"), str) and item["UMLSConceptUID"].strip():
        codes.append({"scheme": "UMLS", "value": item["UMLSConceptUID"], "meaning": name})
    modifiers = item.get("Modifier")
    sides = {
        str(modifier.get("CodeValue"))
        for modifier in (modifiers if isinstance(modifiers, list) else [])
        if isinstance(modifier, dict)
    }
    taken = {*rows.entries, *rows.kb.by_id}
    known = rows.kb.find_code(*code_key(codes[0]["scheme"], codes[0]["value"]))
    return {
        "id": known[0].id if known and known[0].id not in rows.entries else slug(name, taken),
        "name": name,
        "definition": "",
        "kind": kind,
        "laterality": "paired" if sides & {value for value, _, _ in _SIDES} else "any",
        "is_a": root_parent(kind, rows.kb),
        "codes": codes,
    }


def _restore_order(rows: Rows, value: dict[str, Any]) -> None:
    own = value.get("velcrolink")
    order = own.get("order") if isinstance(own, dict) else None
    if not isinstance(order, list) or not all(isinstance(one, str) for one in order):
        return
    if set(order) == set(rows.entries):
        rows.entries = {identifier: rows.entries[identifier] for identifier in order}


class _Lines:
    """Line of each type, found by its code value, in order."""

    def __init__(self, content: str) -> None:
        self.content = content
        self.position = 0

    def of(self, item: Any) -> str:
        value = item.get("CodeValue") if isinstance(item, dict) else None
        if isinstance(value, str):
            found = self.content.find(json.dumps(value, ensure_ascii=False), self.position)
            if found >= 0:
                self.position = found
                return f"line {self.content.count(chr(10), 0, found) + 1}"
        return f"after line {self.content.count(chr(10), 0, self.position) + 1}"
