"""`kb check`: the bundled knowledge base passes, and planted faults are found."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from velcro_engine.errors import KnowledgeBaseError
from velcro_engine.knowledge_base import Code, Entry, entry_to_dict, load_knowledge_base
from velcro_engine.knowledge_base.check import check
from velcro_engine.knowledge_base.check_codes import (
    Terminology,
    check_codes,
    has_valid_check_digit,
    is_compatible,
)
from velcro_engine.knowledge_base.check_text import check_templates, sentences
from velcro_engine.knowledge_base.entry import EntryError, entry_from_dict
from velcro_engine.resources import resource_path

TERMINOLOGY = Path(os.environ.get("VELCROLINK_DATA", "")) / "terminology"
needs_lists = pytest.mark.skipif(
    not os.environ.get("VELCROLINK_DATA") or not TERMINOLOGY.is_dir(),
    reason="the DICOM code lists are not here (VELCROLINK_DATA/terminology)",
)
TEXT = (
    "A small organ that lies between two larger ones behind the stomach and is rarely seen at all. "
    "On CT it looks like soft tissue of even density, and on MR it is dark on every sequence. "
)


def record(identifier, **changes):
    base = {
        "id": identifier,
        "name": f"Thing {identifier}",
        "definition": f"{TEXT}It is confused with the {identifier} beside it.",
        "kind": "anatomy",
        "modalities": ["CT"],
        "part_of": ["body"],
    }
    return base | changes


def root(identifier, kind):
    return record(
        identifier,
        name=identifier,
        definition="Top of all " + {"anatomy": "structures.", "pathology": "findings."}[kind],
        kind=kind,
        part_of=[],
    )


def problems(tmp_path, *records, ambiguous=(), terminology=None):
    roots = [root("body", "anatomy"), root("imaging_finding", "pathology")]
    manifest = {
        "schema_version": 1,
        "name": "test",
        "version": "1",
        "licence": "-",
        "ambiguous": list(ambiguous),
        "entries": [*roots, *records],
    }
    path = tmp_path / "kb.json"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return check([path], terminology)


def test_the_bundled_knowledge_base_has_no_fault():
    assert [str(problem) for problem in check()] == []
    assert len(load_knowledge_base()) >= 600


def test_every_entity_of_the_benchmark_has_an_entry():
    kb = load_knowledge_base()
    for name in ("hippocampus", "glioma_enhancing_tumor", "vertebral_body", "fetal_head", "lung"):
        assert name in kb.by_id


@needs_lists
def test_every_bundled_sct_and_umls_code_stands_in_the_dicom_lists_with_its_meaning():
    assert [str(problem) for problem in check(None, TERMINOLOGY)] == []


@needs_lists
def test_every_entity_of_the_data_has_an_entry():
    kb = load_knowledge_base()
    folder = Path(os.environ["VELCROLINK_DATA"])
    entities = {
        label["entity"]
        for path in folder.glob("*/labels.json")
        for label in json.loads(path.read_text(encoding="utf-8")).values()
        if isinstance(label, dict) and label.get("entity")
    }
    assert len(entities) > 100 and sorted(entities - set(kb.by_id)) == []


@needs_lists
def test_codes_given_to_the_wrong_entry_are_found():
    kb, lists = load_knowledge_base(), Terminology.read(TERMINOLOGY)
    coded = [e for e in kb.entries if any(c.scheme == "SCT" for c in e.codes)]
    shuffled = list(coded)
    random.Random(5).shuffle(shuffled)
    wrong = [
        replace(own, codes=other.codes)
        for own, other in zip(coded, shuffled, strict=True)
        if own is not other
    ]
    found = {entry for _, entry, _, message in check_codes(wrong, lists) if " means " in message}
    assert len(found) >= 0.97 * len(wrong)


def test_sound_entries_have_no_fault(tmp_path):
    assert problems(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"part_of": ["nowhere"]}, "part_of", "there is no entry 'nowhere'"),
        ({"part_of": []}, "part_of", "is an orphan"),
        ({"kind": "animal"}, "kind", "is none of"),
        ({"is_a": ["imaging_finding"]}, "is_a", "is of another kind"),
        ({"synonyms": ["thing X"]}, "synonyms", "stands twice"),
        ({"synonyms": ["left thing"], "laterality": "paired"}, "synonyms", "names a side"),
        ({"places": ["body"]}, "places", "anatomy has no usual places"),
        ({"modalities": []}, "modalities", "name at least one"),
        ({"codes": [{"scheme": "SCT", "value": "5366009"}]}, "codes", "wrong check digit"),
        ({"codes": [{"scheme": "UMLS", "value": "C1"}]}, "codes", "has not the form"),
        ({"codes": [{"scheme": "ICD", "value": "1"}]}, "codes", "is not one of"),
        ({"links": ["https://example.org/x"]}, "links", "no stable address of a known site"),
        ({"links": ["https://en.wikipedia.org/wiki/A?x=1"]}, "links", "no stable address"),
        (
            {
                "links": ["http://purl.obolibrary.org/obo/UBERON_0000001"],
                "codes": [{"scheme": "UBERON", "value": "0000002"}],
            },
            "links",
            "does not fit the code UBERON 0000002",
        ),
        ({"definition": ""}, "definition", "is empty"),
        ({"definition": TEXT + "No end"}, "definition", "does not end with a full stop"),
        ({"definition": TEXT + "Two  spaces."}, "definition", "two spaces"),
        ({"definition": "Too short."}, "definition", "has 2 words"),
        ({"definition": TEXT * 3 + "X."}, "definition", "sentences"),
        ({"definition": TEXT + "It is blurrred."}, "definition", "unknown words"),
        ({"definition": TEXT + "word " * 60 + "."}, "definition", "split it"),
    ],
)
def test_one_planted_fault_is_found(tmp_path, changes, field, message):
    found = problems(tmp_path, record("x", **changes))
    assert any(p.entry == "x" and p.field == field and message in p.message for p in found), found


def test_findings_name_their_places_and_are_not_paired(tmp_path):
    changes = {"kind": "pathology", "part_of": [], "is_a": ["imaging_finding"]}
    found = problems(tmp_path, record("x", **changes, laterality="paired"))
    assert {p.field for p in found} == {"places", "laterality"}


def test_a_shared_name_must_be_declared(tmp_path):
    pair = [
        record("one", abbreviations=["AB"], definition=TEXT + "First of the two."),
        record("two", synonyms=["ab"], definition="Not the same words. " * 9 + "Second."),
    ]
    found = [p for p in problems(tmp_path, *pair) if "is also a name of" in p.message]
    assert {p.entry for p in found} == {"one", "two"}
    found = problems(tmp_path, *pair, ambiguous=["AB"])
    assert not [p for p in found if "also a name" in p.message or p.field == "ambiguous"]
    found = problems(tmp_path, *pair, ambiguous=["AB", "never used"])
    assert [p.message for p in found if p.field == "ambiguous"] == [
        "'never used' is not shared by two entries"
    ]


def test_moulded_sentences_and_copies_are_found(tmp_path):
    found = problems(
        tmp_path,
        record("one", definition="Thing one lies 3 mm from the wall. " + TEXT.strip()),
        record("two", definition="Thing two lies 12 mm from the wall. Other words follow here."),
    )
    assert any(p.entry == "two" and "shares a sentence with one" in p.message for p in found)
    found = problems(
        tmp_path,
        record("one", definition=TEXT.strip().replace("dark", "black")),
        record("two", definition=TEXT.strip()),
    )
    assert any("% the text of one" in p.message for p in found)


def test_all_faults_of_all_entries_are_listed_at_once(tmp_path):
    found = problems(
        tmp_path,
        {"id": "Bad Id"},
        record("a", part_of=["b"]),
        record("b", part_of=["a"]),
        record("a"),
        "not an object",
    )
    messages = " ".join(map(str, found))
    for part in ("name: is missing", "own ancestor", "also stands in", "is not an object"):
        assert part in messages
    assert {p.severity for p in found} >= {"error"}
    assert found == sorted(found, key=lambda p: (p.severity, p.file, p.entry, p.field))


def test_a_folder_without_lists_is_refused(tmp_path):
    with pytest.raises(KnowledgeBaseError, match="holds no DICOM code lists"):
        problems(tmp_path, terminology=tmp_path / "none")


def test_check_digits_of_known_concepts():
    assert all(map(has_valid_check_digit, ["5366008", "24028007", "7771000", "123037004"]))
    assert not has_valid_check_digit("5366007") and not has_valid_check_digit("24028070")


@pytest.mark.parametrize(
    ("own", "listed", "expected"),
    [
        ("Hippocampus", "Hippocampus structure", True),
        ("Cerebral white matter", "White matter of cerebrum", False),
        ("Haemorrhage", "Hemorrhage", True),
        ("Rib", "Ribs", True),
        ("Liver", "Spleen", False),
        ("Superior temporal gyrus", "Middle temporal gyrus", False),
        ("Left atrium", "Right atrium", False),
    ],
)
def test_meanings_are_compared_by_their_words(own, listed, expected):
    assert is_compatible(own, listed) is expected


def test_sentences_end_where_a_reader_says():
    text = "It is 3.5 mm wide, e.g. here. Seen on T2. (Rarely) both. About 5-10 HU."
    assert sentences(text) == [
        "It is 3.5 mm wide, e.g. here.",
        "Seen on T2.",
        "(Rarely) both.",
        "About 5-10 HU.",
    ]


def mutations():
    good = entry_to_dict(load_knowledge_base().by_id["hippocampus"])
    yield good, True
    yield {k: good[k] for k in ("id", "name", "definition", "kind")}, True
    yield good | {"size_mm": None, "codes": [], "links": []}, True
    for key in ("id", "name", "definition", "kind"):
        yield {k: v for k, v in good.items() if k != key}, False
    for changes in (
        {"id": "A b"},
        {"name": ""},
        {"name": "x" * 201},
        {"kind": "thing"},
        {"region": "toe"},
        {"laterality": None},
        {"modalities": ["MRI"]},
        {"synonyms": "x"},
        {"synonyms": ["x", "x"]},
        {"latin": [1]},
        {"size_mm": [1]},
        {"size_mm": [0, 1]},
        {"size_mm": ["1", "2"]},
        {"codes": [{"scheme": "SCT"}]},
        {"codes": [{"scheme": "S T", "value": "1"}]},
        {"codes": [{"scheme": "SCT", "value": "1", "x": 1}]},
        {"links": ["javascript:alert(1)"]},
        {"is_a": ["Not An Id"]},
        {"unknown": 1},
    ):
        yield good | changes, False


def test_schema_and_loader_accept_and_refuse_the_same_entries():
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads(resource_path("KnowledgeBase/schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    manifest = {"schema_version": 1, "name": "x", "version": "1", "licence": "-"}
    for candidate, expected in mutations():
        try:
            entry_from_dict(candidate)
            loads = True
        except EntryError:
            loads = False
        assert loads is expected, candidate
        assert validator.is_valid(manifest | {"entries": [candidate]}) is expected, candidate
    every = [entry_to_dict(entry) for entry in load_knowledge_base().entries]
    assert validator.is_valid(manifest | {"entries": every})
    bundled = json.loads(resource_path("KnowledgeBase/velcrolink.json").read_text("utf-8"))
    assert validator.is_valid(bundled) and not validator.is_valid(bundled | {"entries": []})


def test_codes_compare_without_a_repeated_scheme():
    assert Code("UBERON", "UBERON:0002421").key == Code("uberon", "0002421").key


def test_an_opening_or_ending_of_more_than_one_definition_in_a_hundred_is_named():
    def entry(number, definition):
        return Entry(f"e{number}", f"Thing {number}", definition, "anatomy")

    texts = [f"W{n} x{n} y{n} z{n} ends q{n} p{n}." for n in range(400)]
    texts[:5] = [f"Alike again y{n} z{n} ends q{n} p{n}." for n in range(5)]
    texts[10:15] = [f"W{n} x{n} y{n} z{n} closes all alike." for n in range(5)]
    entries = [entry(number, text) for number, text in enumerate(texts)]
    found = [m for _, _, _, m in check_templates(entries) if m.startswith("5 definitions")]
    assert [m.split(":")[0] for m in found] == [
        "5 definitions open with 'alike again'",
        "5 definitions close with 'all alike'",
    ]
    assert not [m for *_, m in check_templates(entries[:200]) if m.startswith("5 definitions")]
