"""Makes VelcroLink's own codes known to Slicer, so that its terminology selector can show them.

Most entries have no SNOMED CT code in Slicer's lists and are kept under 99VELCROLINK. Slicer shows a
code by its type list; a segment whose list is not loaded looks uncoded in the selector. The list is
made from what was accepted, since a user's own knowledge base may hold entries nobody could ship.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from .terminology import (
    Code,
    categoryCode,
    entryColour,
    fixedCodes,
    isOwnCode,
    typeCode,
    typesInSlicer,
)

SCHEMA = (
    "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#"
)


def registerOwnType(entry: Mapping[str, Any], terminologiesLogic: Any | None) -> bool:
    """Add an entry with an own code to the list that Slicer has loaded; True when it was added.

    Nothing happens for entries with a code of Slicer's, or when it is there already.
    """
    code = typeCode(entry)
    if terminologiesLogic is None or not isOwnCode(code):
        return False
    context = fixedCodes()["own_type_context"]
    categories: dict[Code, list[dict[str, Any]]] = {}
    for known in typesInSlicer(terminologiesLogic, context):
        if known.type.value == code.value:
            return False
        categories.setdefault(known.category, []).append(
            _type(known.type, next(iter(known.colours.values()), None))
        )
    types = categories.setdefault(categoryCode(entry), [])
    types.append(_type(code, entryColour(entry)))
    return _load(_context(context, categories), terminologiesLogic)


def _coded(code: Code) -> dict[str, str]:
    return {
        "CodingSchemeDesignator": code.scheme,
        "CodeValue": code.value,
        "CodeMeaning": code.meaning,
    }


def _type(code: Code, colour: tuple[float, float, float] | None) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if colour is not None:
        shown["recommendedDisplayRGBValue"] = [round(255 * part) for part in colour]
    sides = [{**_coded(Code(**side)), **shown} for side in fixedCodes()["laterality"].values()]
    return {**_coded(code), **shown, "Modifier": sides}


def _context(name: str, categories: Mapping[Code, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "SegmentationCategoryTypeContextName": name,
        "@schema": SCHEMA,
        "SegmentationCodes": {
            "Category": [
                {**_coded(category), "showAnatomy": "true", "Type": types}
                for category, types in categories.items()
            ]
        },
    }


def _load(context: Mapping[str, Any], terminologiesLogic: Any) -> bool:
    """Slicer reads lists from files only, and at once, so a passing file will do."""
    handle, path = tempfile.mkstemp(suffix=".term.json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(context, stream)
        return bool(terminologiesLogic.LoadTerminologyFromFile(path))
    finally:
        os.unlink(path)
