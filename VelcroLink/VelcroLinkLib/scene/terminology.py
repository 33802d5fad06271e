"""Knowledge-base entry + side -> Slicer terminology entry, segment name and colour.

A terminology tag is seven parts joined by "~": name of the type list, category, type, type
modifier, name of the region list, region, region modifier; each coded part is scheme^value^meaning.
The side is a modifier, never another concept: of the type for anatomy, of the region for findings
and devices (a mass has no left and right kind, its place has). Entries without a SNOMED CT code go
under the private scheme 99VELCROLINK with their id. The fixed codes are data: terminology.json.
"""

from __future__ import annotations

import colorsys
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_CODES_FILE = Path(__file__).resolve().parents[2] / "Resources" / "terminology.json"
_GOLDEN_RATIO = 0.618033988749895
_NO_COLOUR = (127, 127, 127)  # what Slicer gives a type whose list states no colour


@dataclass(frozen=True)
class Code:
    """One coded concept; the empty code leaves its place in the tag empty."""

    scheme: str = ""
    value: str = ""
    meaning: str = ""

    def __str__(self) -> str:
        # "~" and "^" are the separators; Slicer has no way to quote them.
        return "^".join(
            str(part).replace("~", " ").replace("^", " ")
            for part in (self.scheme, self.value, self.meaning)
        )


@dataclass(frozen=True)
class TypeInSlicer:
    """Where Slicer's loaded type lists hold a concept, and how it is coloured there (RGB 0..1):
    paired structures have their colour under "left" and "right", others under ""."""

    context: str
    category: Code
    type: Code
    colours: Mapping[str, tuple[float, float, float]]


@lru_cache(maxsize=1)
def fixedCodes() -> dict[str, Any]:
    """terminology.json: names of lists, codes of categories, sides and regions."""
    return json.loads(_CODES_FILE.read_text(encoding="utf-8"))


def typeCode(entry: Mapping[str, Any]) -> Code:
    """The entry's SNOMED CT code, or its id under 99VELCROLINK."""
    for code in entry.get("codes") or ():
        if code.get("scheme") == "SCT" and code.get("value"):
            return Code("SCT", str(code["value"]), str(code.get("meaning") or entry["name"]))
    return Code(fixedCodes()["own_scheme"], str(entry["id"]), str(entry["name"]))


def isOwnCode(code: Code) -> bool:
    return code.scheme == fixedCodes()["own_scheme"]


def categoryCode(entry: Mapping[str, Any]) -> Code:
    """Category of Slicer's lists for the entry's kind."""
    categories = fixedCodes()["categories"]
    return Code(**categories.get(entry.get("kind"), categories["anatomy"]))


def terminologyTag(
    entry: Mapping[str, Any], side: str | None, terminologiesLogic: Any | None = None
) -> str:
    """Serialised terminology entry of a segment.

    entry: a knowledge-base entry (id, name, kind, region, codes). side: "left", "right" or None.
    terminologiesLogic: Slicer's Terminologies logic; when its lists hold the type, its list name,
    category and wording are used, so that the segment can be edited in Slicer's own selector.
    """
    codes = fixedCodes()
    kind = entry.get("kind", "anatomy")
    code = typeCode(entry)
    known = findTypeInSlicer(code, terminologiesLogic)
    if known is not None:
        context, category, code = known.context, known.category, known.type
    else:
        context = codes["own_type_context"] if isOwnCode(code) else codes["type_context"]
        category = categoryCode(entry)
    region = Code(**codes["regions"].get(str(entry.get("region")), {}))
    laterality = Code(**codes["laterality"].get(str(side), {}))
    ofType, ofRegion = (laterality, Code()) if kind == "anatomy" else (Code(), laterality)
    regionContext = codes["region_context"] if region.value else ""
    parts = (context, category, code, ofType, regionContext, region, ofRegion)
    return "~".join(str(part) for part in parts)


def findTypeInSlicer(code: Code, terminologiesLogic: Any | None) -> TypeInSlicer | None:
    """Looks a type up in the lists that Slicer has loaded; None without logic or when not found."""
    if terminologiesLogic is None:
        return None
    import vtk

    names = vtk.vtkStringArray()
    terminologiesLogic.GetLoadedTerminologyNames(names)
    for n in range(names.GetNumberOfValues()):
        for known in typesInSlicer(terminologiesLogic, names.GetValue(n), code):
            return known
    return None


def typesInSlicer(
    terminologiesLogic: Any, context: str, only: Code | None = None
) -> Iterator[TypeInSlicer]:
    """The types of one loaded list (none when it is not loaded), or only those with this code."""
    import slicer

    if not terminologiesLogic.IsTerminologyContextLoaded(context):
        return
    category, found = slicer.vtkSlicerTerminologyCategory(), slicer.vtkSlicerTerminologyType()
    for i in range(terminologiesLogic.GetNumberOfCategoriesInTerminology(context)):
        terminologiesLogic.GetNthCategoryInTerminology(context, i, category)
        for j in range(terminologiesLogic.GetNumberOfTypesInTerminologyCategory(context, category)):
            terminologiesLogic.GetNthTypeInTerminologyCategory(context, category, j, found)
            code = _codeOf(found)
            if only is not None and (code.scheme, code.value) != (only.scheme, only.value):
                continue
            colours = _coloursOf(terminologiesLogic, context, category, found)
            yield TypeInSlicer(context, _codeOf(category), code, colours)


def _codeOf(concept: Any) -> Code:
    return Code(
        concept.GetCodingSchemeDesignator(), concept.GetCodeValue(), concept.GetCodeMeaning()
    )


def _coloursOf(
    logic: Any, context: str, category: Any, found: Any
) -> dict[str, tuple[float, float, float]]:
    import slicer

    rgbs = {"": found.GetRecommendedDisplayRGBValue()}
    modifier = slicer.vtkSlicerTerminologyType()
    count = 0
    if found.GetHasModifiers():  # asking for those of another type is an error in Slicer's log
        count = logic.GetNumberOfTypeModifiersInTerminologyType(context, category, found)
    for n in range(count):
        logic.GetNthTypeModifierInTerminologyType(context, category, found, n, modifier)
        rgbs[modifier.GetCodeMeaning().lower()] = modifier.GetRecommendedDisplayRGBValue()
    return {
        side: (rgb[0] / 255, rgb[1] / 255, rgb[2] / 255)
        for side, rgb in rgbs.items()
        if tuple(rgb) != _NO_COLOUR
    }


def entryColour(
    entry: Mapping[str, Any], side: str | None = None, terminologiesLogic: Any | None = None
) -> tuple[float, float, float]:
    """RGB (0..1) of Slicer's terminology; else one made from the id, always the same, bright enough
    for a grey image and far from its neighbours' hues."""
    known = findTypeInSlicer(typeCode(entry), terminologiesLogic)
    colours = known.colours if known is not None else {}
    for key in (side or "", ""):
        if key in colours:
            return colours[key]
    hue = (zlib.crc32(str(entry["id"]).encode("utf-8")) * _GOLDEN_RATIO) % 1.0
    return colorsys.hsv_to_rgb(hue, 0.65, 0.95)


def segmentName(entry: Mapping[str, Any], side: str | None) -> str:
    """ "Left hippocampus"; the name alone when there is no side."""
    name = str(entry["name"])
    if side not in ("left", "right"):
        return name
    isAbbreviation = len(name) > 1 and name[1].isupper()
    return f"{side.capitalize()} {name if isAbbreviation else name[0].lower() + name[1:]}"
