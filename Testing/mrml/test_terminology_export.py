"""3D Slicer's own terminology logic loads what `kb export FILE.term.json` writes."""

from __future__ import annotations

import json

import pytest

from velcro_engine.knowledge_base import entry_to_dict, load_knowledge_base
from velcro_engine.knowledge_base.importers import export_file
from velcro_engine.knowledge_base.importers.slicer_terms import CONTEXT, OWN_SCHEME, colour

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")


@pytest.fixture(scope="module")
def kb():
    return load_knowledge_base()


@pytest.fixture(scope="module")
def logic(kb, tmp_path_factory):
    path = tmp_path_factory.mktemp("terms") / "velcrolink.term.json"
    export_file(kb, path)
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    assert logic.LoadTerminologyFromFile(str(path)) == CONTEXT
    return logic


def types(logic):
    category = slicer.vtkSlicerTerminologyCategory()
    for n in range(logic.GetNumberOfCategoriesInTerminology(CONTEXT)):
        assert logic.GetNthCategoryInTerminology(CONTEXT, n, category)
        for m in range(logic.GetNumberOfTypesInTerminologyCategory(CONTEXT, category)):
            found = slicer.vtkSlicerTerminologyType()
            assert logic.GetNthTypeInTerminologyCategory(CONTEXT, category, m, found)
            yield category.GetCodeMeaning(), found


def test_every_entry_is_a_type_of_its_kinds_category(logic, kb):
    loaded = {
        found.GetSlicerLabel(): (category, found.GetCodingSchemeDesignator(), found.GetCodeValue())
        for category, found in types(logic)
    }
    assert len(loaded) == len(kb)
    categories = {
        "anatomy": "Anatomical Structure",
        "pathology": "Morphologically Altered Structure",
        "device": "Physical object",
    }
    for entry in kb.entries:
        category, scheme, value = loaded[entry.id]
        assert category == categories[entry.kind]
        sct = [code.value for code in entry.codes if code.scheme == "SCT"]
        assert (scheme, value) == (("SCT", sct[0]) if sct else (OWN_SCHEME, entry.id))
    assert OWN_SCHEME.startswith("99")


def test_paired_anatomy_has_a_left_and_a_right(logic):
    sides = {}
    category = slicer.vtkSlicerTerminologyCategory()
    modifier = slicer.vtkSlicerTerminologyType()
    logic.GetNthCategoryInTerminology(CONTEXT, 0, category)
    for _, found in types(logic):
        if found.GetSlicerLabel() in ("hippocampus", "spleen"):
            names = []
            for n in range(
                logic.GetNumberOfTypeModifiersInTerminologyType(CONTEXT, category, found)
            ):
                logic.GetNthTypeModifierInTerminologyType(CONTEXT, category, found, n, modifier)
                names.append((modifier.GetCodeMeaning(), modifier.GetCodeValue()))
            sides[found.GetSlicerLabel()] = sorted(names)
    assert sides == {"hippocampus": [("Left", "7771000"), ("Right", "24028007")], "spleen": []}


def test_the_panels_terminology_of_a_segment_is_found_in_the_exported_list(logic, kb):
    terminology = pytest.importorskip(
        "VelcroLinkLib.scene.terminology", reason="the Slicer side is not on the path"
    )
    for identifier in ("hippocampus", "ground_glass_opacity", "nasogastric_tube"):
        record = entry_to_dict(kb.by_id[identifier])
        code = terminology.typeCode(record)
        found = terminology.findTypeInSlicer(code, logic)
        assert found is not None and found.context == CONTEXT
        assert str(found.type).split("^")[:2] == [code.scheme, code.value]
        own = [round(255 * part) for part in terminology.entryColour(record)]
        assert own == colour(kb.by_id[identifier])


def test_unknown_fields_do_not_disturb_slicer(tmp_path, kb):
    path = tmp_path / "a.term.json"
    export_file(kb, path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["velcrolink"]["version"] == kb.version
    first = content["SegmentationCodes"]["Category"][0]["Type"][0]
    assert set(first["velcrolink"]) == set(entry_to_dict(kb.entries[0]))
