"""Segments carry codes that Slicer's own Terminologies logic reads and knows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import slicer

from VelcroLinkLib.scene.own_terminology import registerOwnType
from VelcroLinkLib.scene.terminology import (
    Code,
    entryColour,
    findTypeInSlicer,
    segmentName,
    terminologyTag,
    typeCode,
)

ROOT = Path(__file__).resolve().parents[2]
KIDNEY = {
    "id": "kidney",
    "name": "Kidney",
    "kind": "anatomy",
    "region": "abdomen",
    "codes": [
        {"scheme": "UMLS", "value": "C0022646", "meaning": "Kidney"},
        {"scheme": "SCT", "value": "64033007", "meaning": "Kidney"},
    ],
}
OWN = {"id": "odd^one~out", "name": "Odd^one~out", "kind": "anatomy", "region": "brain"}
MASS = {"id": "lung_mass", "name": "Lung mass", "kind": "pathology", "region": "chest"}


def parsed(tag):
    entry = slicer.vtkSlicerTerminologyEntry()
    logic = slicer.vtkSlicerTerminologiesModuleLogic
    assert logic.DeserializeTerminologyEntry(tag, entry)
    assert logic.SerializeTerminologyEntry(entry) == tag, "Slicer writes it the same way"
    return entry


def test_tag_has_type_side_and_region():
    entry = parsed(terminologyTag(KIDNEY, "right"))
    assert entry.GetTypeObject().GetCodingSchemeDesignator() == "SCT"
    assert entry.GetTypeObject().GetCodeValue() == "64033007"
    assert entry.GetTypeModifierObject().GetCodeValue() == "24028007"
    assert entry.GetCategoryObject().GetCodeValue() == "123037004"
    assert entry.GetRegionObject().GetCodeMeaning() == "Abdomen"


def test_side_of_a_finding_is_the_side_of_its_place():
    entry = parsed(terminologyTag(MASS, "left"))
    assert entry.GetCategoryObject().GetCodeMeaning() == "Morphologically Altered Structure"
    assert entry.GetTypeModifierObject().GetCodeValue() in (None, "")
    assert entry.GetRegionModifierObject().GetCodeValue() == "7771000"


@pytest.mark.parametrize("side", [None, "midline", ""])
def test_without_side_there_is_no_modifier(side):
    entry = parsed(terminologyTag(KIDNEY, side))
    assert entry.GetTypeModifierObject().GetCodeValue() in (None, "")


def test_entry_without_code_goes_under_the_private_scheme_and_cannot_break_the_tag():
    tag = terminologyTag(OWN, "left")
    assert tag.count("~") == 6
    entry = parsed(tag)
    assert entry.GetTypeObject().GetCodingSchemeDesignator() == "99VELCROLINK"
    assert entry.GetTypeObject().GetCodeValue() == "odd one out"


def test_every_code_we_add_is_in_slicers_lists(slicerLists):
    codes = json.loads((ROOT / "VelcroLink/Resources/terminology.json").read_text(encoding="utf-8"))
    context, found = codes["type_context"], slicer.vtkSlicerTerminologyCategory()
    categories = set()
    for n in range(slicerLists.GetNumberOfCategoriesInTerminology(context)):
        slicerLists.GetNthCategoryInTerminology(context, n, found)
        categories.add(triple(found))
    assert {tuple(code.values()) for code in codes["categories"].values()} <= categories
    context, found = codes["region_context"], slicer.vtkSlicerTerminologyType()
    regions = set()
    for n in range(slicerLists.GetNumberOfRegionsInRegionContext(context)):
        slicerLists.GetNthRegionInRegionContext(context, n, found)
        regions.add(triple(found))
    ours = [code for code in codes["regions"].values() if not code["scheme"].startswith("99")]
    assert {tuple(code.values()) for code in ours} <= regions


def triple(concept):
    return (
        concept.GetCodingSchemeDesignator(),
        concept.GetCodeValue(),
        concept.GetCodeMeaning(),
    )


def test_type_known_to_slicer_takes_its_category_wording_and_colour(slicerLists):
    known = findTypeInSlicer(typeCode(KIDNEY), slicerLists)
    assert known.category.meaning == "Anatomical Structure"
    assert known.type.meaning == "Kidney"
    assert entryColour(KIDNEY, "left", slicerLists) == (185 / 255, 102 / 255, 83 / 255)
    fat = {
        "id": "fat",
        "name": "Fat",
        "kind": "anatomy",
        "region": "body",
        "codes": [{"scheme": "SCT", "value": "248300009", "meaning": "Fat"}],
    }
    entry = parsed(terminologyTag(fat, None, slicerLists))
    assert entry.GetCategoryObject().GetCodeMeaning() == "Tissue"
    assert entry.GetTypeObject().GetCodeMeaning() == "Body fat"
    assert entryColour(fat, None, slicerLists) == (230 / 255, 220 / 255, 70 / 255)


def test_own_types_become_known_to_slicer_one_after_the_other():
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    assert not registerOwnType(KIDNEY, logic), "has a code of its own already"
    assert registerOwnType(OWN, logic) and registerOwnType(MASS, logic)
    assert not registerOwnType(OWN, logic), "is there already"
    for entry in (OWN, MASS):
        tag = terminologyTag(entry, "left", logic)
        known = findTypeInSlicer(typeCode(entry), logic)
        assert known is not None and known.context == tag.split("~")[0]
        np.testing.assert_allclose(
            entryColour(entry, "left", logic), entryColour(entry), atol=0.5 / 255
        )
    read = parsed(terminologyTag(MASS, "left", logic))
    assert read.GetCategoryObject().GetCodeMeaning() == "Morphologically Altered Structure"


def test_type_unknown_to_slicer_is_no_type():
    assert findTypeInSlicer(Code("SCT", "0", "Nothing"), None) is None


def test_every_entry_of_the_knowledge_base_gives_a_readable_tag(slicerLists):
    files = sorted((ROOT / "Resources/KnowledgeBase/entries").glob("*.json"))
    entries = [
        entry for file in files for entry in json.loads(file.read_text(encoding="utf-8"))["entries"]
    ]
    assert len(entries) > 100
    for entry in entries:
        tag = terminologyTag(entry, "left" if entry["laterality"] == "paired" else None)
        assert parsed(tag).GetTypeObject().GetCodeMeaning()
        assert all(0 <= part <= 1 for part in entryColour(entry))


def test_names_read_like_a_radiologist_writes_them():
    assert segmentName(KIDNEY, "left") == "Left kidney"
    assert segmentName(KIDNEY, None) == "Kidney"
    assert segmentName({"name": "MCA territory"}, "right") == "Right MCA territory"


def test_colours_are_stable_and_apart():
    a, b = entryColour(OWN), entryColour(MASS)
    assert a == entryColour(dict(OWN)) and a != b
