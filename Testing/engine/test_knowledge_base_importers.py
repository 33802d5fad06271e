"""Knowledge bases from and to other formats: round trips, and all rows or none."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from velcro_engine.errors import InputError, KnowledgeBaseError
from velcro_engine.knowledge_base import Code, Entry, load_knowledge_base
from velcro_engine.knowledge_base.entry import entry_to_dict
from velcro_engine.knowledge_base.importers import BadRows, export_file, import_file
from velcro_engine.knowledge_base.importers.open_anatomy import annotate_atlas
from velcro_engine.knowledge_base.store import KnowledgeBase

EMPTY = KnowledgeBase((), ())
FORMATS = ["csv", "json", "term.json"]


@pytest.fixture(scope="module")
def bundled():
    return load_knowledge_base()


@pytest.mark.parametrize("ending", FORMATS)
def test_the_bundled_knowledge_base_comes_back_identical(tmp_path, bundled, ending):
    path = tmp_path / f"kb.{ending}"
    export_file(bundled, path)
    assert import_file(path, None, EMPTY).entries == bundled.entries


def test_an_exported_json_is_a_knowledge_base_file(tmp_path, bundled):
    export_file(bundled, tmp_path / "kb.json")
    again = load_knowledge_base([tmp_path / "kb.json"])
    assert again.content_hash == bundled.content_hash and again.ambiguous == bundled.ambiguous


names = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\x7f"),
    min_size=1,
    max_size=12,
).map(str.strip)
term = st.one_of(
    names.filter(bool), st.sampled_from(["=1+1", "a|b", "a\\|b^c", "'quoted", '"', "\\"])
)
terms = st.lists(term, max_size=3, unique=True).map(tuple)
codes = st.lists(
    st.builds(Code, st.sampled_from(["SCT", "UMLS", "99X"]), term, st.one_of(st.just(""), term)),
    max_size=3,
    unique_by=lambda code: code.key,
).map(tuple)
definitions = st.one_of(
    st.just(""),
    names,
    st.sampled_from(
        ["One.\nTwo.", "One.\r\nTwo.\rThree.", 'A, "b"; c\td', "=cmd", "-1", "@x", "'="]
    ),
)
entry_strategy = st.builds(
    Entry,
    id=st.just("x"),
    name=term,
    definition=definitions,
    kind=st.sampled_from(["anatomy", "pathology", "device"]),
    synonyms=terms,
    latin=terms,
    abbreviations=terms,
    modalities=st.sampled_from([(), ("MR",), ("CT", "MR")]),
    laterality=st.sampled_from(["paired", "midline", "unpaired", "any"]),
    region=st.sampled_from(["brain", "body", "limb"]),
    size_mm=st.sampled_from([None, (1.0, 2.0), (0.1, 0.30000000000000004), (30.0, 30.0)]),
    codes=codes,
    links=st.sampled_from([(), ("https://en.wikipedia.org/wiki/Crohn's_disease_(a)",)]),
)


@pytest.mark.parametrize("ending", FORMATS)
@given(entry=entry_strategy)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_entry_comes_back_identical(tmp_path, ending, entry):
    path = tmp_path / f"kb.{ending}"
    export_file(KnowledgeBase((entry,), ()), path)
    assert import_file(path, None, EMPTY).entries == (entry,)


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def test_a_spreadsheet_with_a_few_columns_becomes_entries_under_the_root(tmp_path, bundled):
    path = write(
        tmp_path,
        "mine.csv",
        "\ufeffName;Definition;Synonyms\r\nMy own structure;Something; mine | my own \r\n\r\n",
    )
    (entry,) = import_file(path, None, bundled).entries
    assert entry.id == "my_own_structure" and entry.synonyms == ("mine", "my own")
    assert entry.kind == "anatomy" and entry.is_a == ("anatomical_structure",)


def test_every_bad_row_of_a_csv_is_listed_with_its_line(tmp_path, bundled):
    path = write(
        tmp_path,
        "bad.csv",
        "id,name,kind,definition,part_of,size_mm,codes\n"
        'good,Good,anatomy,"Two\nlines",liver,1|2,SCT^1\n'
        "Bad Id,Bad,anatomy,,liver,,\n"
        "x1,,anatomy,,liver,,\n"
        "x2,X,animal,,liver,,\n"
        "x3,X,anatomy,,nowhere,,\n"
        "x4,X,anatomy,,liver,wide,\n"
        "x5,X,anatomy,,liver,,SCT\n"
        "x6,X\n"
        "good,Again,anatomy,,liver,,\n",
    )
    with pytest.raises(BadRows) as caught:
        import_file(path, None, bundled)
    lines = [row.split(":")[1].strip() for row in caught.value.rows]
    assert sorted(lines) == sorted(f"line {n}" for n in (4, 5, 6, 7, 8, 9, 10, 11))
    assert "\n" not in caught.value.message and "Nothing was imported" in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "line 1 must name each column"),
        ("a.csv", "id,colour\nx,red\n", "line 1: 'colour' is no column"),
        ("a.csv", 'name,definition\nA,"open\n', "is not CSV"),
        ("a.csv", b"name\nCaf\xe9\n", "line 2 is not UTF-8 text"),
        ("a.csv", "name,name\na,b\n", "must name each column once"),
        ("a.csv", "name\n", "holds no entries"),
        ("a.json", '{"entries": [\n{"id": }]}', "line 2 is not JSON"),
        ("a.json", '{"files": ["x.json"]}', "needs a list of entries"),
        ("a.json", '[\n{"id": "a", "name": "A", "definition": "", "kind": "x"}]', "line 2"),
        ("a.json", "[1]", "entry 1"),
        ("a.term.json", "{}", "is not a Slicer type list"),
        ("a.term.json", "[", "line 1 is not JSON"),
        ("a.term.json", '{"SegmentationCodes": {"Category": [{"Type": [{}]}]}}', "a.term.json"),
        ("a.obo", "[Term]\nid: A:1\nname: a\nnonsense\n", "line 4"),
        ("a.obo", "[Term]\nid: A:1\n", "line 1: a term without name"),
        ("a.obo", "[Term]\nid: A:1\nname: a\ndef: no quotes\n", "line 4: def: needs a text"),
        ("a.obo", "hello\n", "holds no entries"),
        ("MRCONSO.RRF", "C0000001|ENG\n", "line 1: has not the 18 columns"),
        ("MRCONSO.RRF", "", "holds no entries"),
        ("a.json", "null", "needs a list of entries"),
        ("x.unknown", "", "cannot be told from its name"),
    ],
)
def test_a_corrupt_file_of_each_format_gives_one_clear_line(
    tmp_path, bundled, name, content, message
):
    with pytest.raises((KnowledgeBaseError, InputError)) as caught:
        import_file(write(tmp_path, name, content), None, bundled)
    assert message in caught.value.message and "\n" not in caught.value.message


def test_a_corrupt_atlas_gives_one_clear_line(tmp_path, bundled):
    for content, message in (
        ("{}", "is not an OpenAnatomy atlas"),
        ('[{"@type": "Structure"}]', "object 1: a Structure without annotation.name"),
        (
            '[{"@type": "Structure", "annotation": {"name": "Liver", "xref": [3]}}]',
            "object 1: xref '3' is not PREFIX:CODE",
        ),
    ):
        with pytest.raises(KnowledgeBaseError) as caught:
            import_file(write(tmp_path, "atlas.json", content), "openanatomy", bundled)
        assert message in caught.value.message


def _with_each_part_replaced(value, junk):
    """Copies of a JSON value in which one part after the other is something else."""
    yield junk
    if isinstance(value, dict):
        for key, part in value.items():
            yield {name: other for name, other in value.items() if name != key}
            for changed in _with_each_part_replaced(part, junk):
                yield value | {key: changed}
    elif isinstance(value, list):
        for place, part in enumerate(value):
            for changed in _with_each_part_replaced(part, junk):
                yield [*value[:place], changed, *value[place + 1 :]]


FOREIGN_TYPES = {
    "SegmentationCodes": {
        "Category": [
            {
                "CodeValue": "123037004",
                "Type": [
                    {
                        "CodingSchemeDesignator": "99X",
                        "CodeValue": "q1",
                        "CodeMeaning": "Foo bar",
                        "Modifier": [{"CodeValue": "7771000"}],
                    }
                ],
            }
        ]
    },
    "velcrolink": {"order": ["foo_bar"]},
}
ATLAS = [
    {"@id": "#1", "@type": ["Structure"], "annotation": {"name": "Left liver", "xref": ["A:1"]}},
    {"@id": "#2", "@type": "Group", "annotation": {"name": "Lungs"}, "member": ["#1"]},
]


@pytest.mark.parametrize("junk", [None, 1, [], {}, [[]], [{}], "a\nb\x1b[31m\u202e", "x" * 3000])
@pytest.mark.parametrize(
    ("name", "form"), [("a.json", "json"), ("a.term.json", "term"), ("atlas.json", "openanatomy")]
)
def test_any_part_of_another_type_is_read_or_refused_in_one_line(
    tmp_path, bundled, name, form, junk
):
    small = KnowledgeBase(bundled.entries[:80], ())
    whole = {
        "json": {"entries": [entry_to_dict(bundled.by_id["vagus_nerve"])]},
        "term": FOREIGN_TYPES,
        "openanatomy": ATLAS,
    }[form]
    for value in _with_each_part_replaced(whole, junk):
        path = write(tmp_path, name, json.dumps(value))
        try:
            import_file(path, form, small)
            if form == "openanatomy":
                annotate_atlas(path, bundled, tmp_path / "out.json")
        except KnowledgeBaseError as error:
            assert error.message.isprintable(), error.message


def test_parents_that_make_a_circle_are_refused(tmp_path):
    path = write(tmp_path, "c.csv", "id,name,is_a\na,A,b\nb,B,a\n")
    with pytest.raises(BadRows, match="would be its own ancestor"):
        import_file(path, None, EMPTY)


OBO = r"""format-version: 1.4
ontology: test

[Term]
id: UBERON:9990001
name: made-up lobule
def: "A lobule that \"nobody\" has; it serves this test." [XYZ:1, XYZ:2]
synonym: "lobulus fictus" EXACT LATIN []
synonym: "fictional lobule" EXACT []
synonym: "something wider" BROAD []
synonym: "MUL" EXACT ABBREVIATION [XYZ:3]
xref: FMA:999999 {source="test"}
is_a: UBERON:9990002 ! made-up gyrus
relationship: part_of UBERON:0002107 ! liver
relationship: adjacent_to UBERON:9990002

[Term]
id: UBERON:9990002 ! comment
name: made-up gyrus
is_a: UBERON:0000000 ! nowhere

[Term]
id: UBERON:9990003
name: old thing
is_obsolete: true

[Typedef]
id: part_of
"""


def test_obo_terms_become_entries_with_parents_synonyms_and_codes(tmp_path, bundled):
    read = import_file(write(tmp_path, "some.obo", OBO), None, bundled)
    lobule, gyrus = read.entries
    assert lobule.id == "made_up_lobule" and lobule.name == "Made-up lobule"
    assert lobule.definition == 'A lobule that "nobody" has; it serves this test.'
    assert lobule.synonyms == ("fictional lobule",)
    assert lobule.latin == ("lobulus fictus",) and lobule.abbreviations == ("MUL",)
    assert lobule.is_a == ("made_up_gyrus",) and lobule.part_of == ("liver",)
    assert [code.key for code in lobule.codes] == [("UBERON", "9990001"), ("FMA", "999999")]
    assert lobule.links == ("http://purl.obolibrary.org/obo/UBERON_9990001",)
    assert gyrus.is_a == ("anatomical_structure",)
    assert any("1 obsolete" in note for note in read.notes)
    assert any("1 parents left out" in note for note in read.notes)


def conso(cui, name, *, lang="ENG", ts="P", stt="PF", pref="Y", sab="MTH", tty="PN", code="NOCODE",
          suppress="N"):  # fmt: skip
    cells = [cui, lang, ts, "L1", stt, "S1", pref, "A1", "", "", "", sab, tty, code, name, "0"]
    return "|".join([*cells, suppress, "", ""]) + "\n"


def test_umls_files_give_names_codes_definitions_and_kinds(tmp_path, bundled):
    write(
        tmp_path,
        "MRCONSO.RRF",
        conso("C9000001", "Fictional tumour", pref="N")
        + conso("C9000001", "fictional tumor")
        + conso("C9000001", "Tumor, fictional", sab="SNOMEDCT_US", tty="PT", code="123456789")
        + conso("C9000001", "FT", tty="AB")
        + conso("C9000001", "Tumeur fictive", lang="FRE")
        + conso("C9000001", "gone", suppress="O")
        + conso("C9000002", "Some drug")
        + conso("C9000003", "Made-up bone", sab="FMA", code="424242"),
    )
    write(tmp_path, "MRDEF.RRF", "C9000001|A1|AT1||MSH|A tumour|N||\nC1|A|B||X|no|N||\n")
    write(
        tmp_path,
        "MRSTY.RRF",
        "C9000001|T191|B2|Neoplastic Process|AT1||\nC9000002|T121|A1|Drug|AT2||\n"
        "C9000003|T023|A1|Body Part|AT3||\n",
    )
    read = import_file(tmp_path, None, bundled)
    tumour, bone = read.entries
    assert tumour.name == "Fictional tumor" and tumour.kind == "pathology"
    assert tumour.synonyms == ("Fictional tumour", "Tumor, fictional")
    assert tumour.abbreviations == ("FT",) and tumour.definition == "A tumour"
    assert [code.key for code in tumour.codes] == [("UMLS", "C9000001"), ("SCT", "123456789")]
    assert tumour.is_a == ("imaging_finding",)
    assert bone.kind == "anatomy" and bone.codes[1].key == ("FMA", "424242")
    assert any("1 concepts left out" in note for note in read.notes)
    wanted = write(tmp_path, "cuis.txt", "C9000003\nC9999999\n")
    read = import_file(tmp_path / "MRCONSO.RRF", None, bundled, cuis=wanted)
    assert [entry.id for entry in read.entries] == ["made_up_bone"]
    assert any("1 wanted concepts have no" in note for note in read.notes)


def test_a_type_list_of_somebody_else_becomes_entries(tmp_path, bundled):
    sides = [{"CodeValue": "7771000", "CodeMeaning": "Left", "CodingSchemeDesignator": "SCT"}]
    content = {
        "SegmentationCategoryTypeContextName": "theirs",
        "SegmentationCodes": {
            "Category": [
                {
                    "CodeValue": "123037004",
                    "CodeMeaning": "Anatomical Structure",
                    "CodingSchemeDesignator": "SCT",
                    "Type": [
                        {
                            "CodingSchemeDesignator": "99LAB",
                            "CodeValue": "17",
                            "CodeMeaning": "fictional ganglion",
                            "UMLSConceptUID": "C9000009",
                            "Modifier": sides,
                        }
                    ],
                },
                {"CodeValue": "246464006", "CodeMeaning": "Function", "Type": [{}]},
            ]
        },
    }
    read = import_file(write(tmp_path, "t.term.json", json.dumps(content)), None, bundled)
    (entry,) = read.entries
    assert entry.name == "Fictional ganglion" and entry.laterality == "paired"
    assert [code.key for code in entry.codes] == [("99LAB", "17"), ("UMLS", "C9000009")]
    assert read.notes == ("category 'Function' left out: it holds no structures",)


def atlas(*structures):
    return json.dumps(
        [
            {"@type": "Header", "title": "test"},
            *structures,
            {
                "@type": "Group",
                "@id": "#brain",
                "annotation": {"name": "brain"},
                "member": ["#new"],
            },
        ]
    )


def test_an_atlas_adds_codes_to_entries_and_new_structures(tmp_path, bundled):
    content = atlas(
        {
            "@type": "Structure",
            "@id": "#h",
            "annotation": {"name": "left hippocampus", "xref": ["RADLEX:RID9999999"]},
        },
        {"@type": "Structure", "@id": "#new", "annotation": {"name": "right fictional nucleus"}},
        {"@type": "Structure", "@id": "#l", "annotation": {"name": "left fictional nucleus"}},
    )
    read = import_file(write(tmp_path, "atlas.json", content), "openanatomy", bundled)
    hippocampus, new = read.entries
    assert read.updates == {"hippocampus"}
    assert hippocampus.codes == (
        *bundled.by_id["hippocampus"].codes,
        Code("RADLEX", "RID9999999", ""),
    )
    assert new.id == "fictional_nucleus" and new.laterality == "paired"
    assert new.part_of == ("brain",)


def test_an_annotated_atlas_carries_the_codes_of_the_knowledge_base(tmp_path, bundled):
    source = write(
        tmp_path,
        "atlas.json",
        atlas(
            {"@type": "Structure", "annotation": {"name": "Left hippocampus", "xref": ["X:1"]}},
            {"@type": "Structure", "annotation": {"name": "nobody knows this"}},
        ),
    )
    target = tmp_path / "coded.json"
    assert annotate_atlas(source, bundled, target) == (1, 2)
    written = json.loads(target.read_text())[1]["annotation"]["xref"]
    assert written[0] == "X:1"
    assert "SCT:5366008" in written
    again = import_file(target, "openanatomy", bundled)
    assert [e.id for e in again.entries] == ["hippocampus", "nobody_knows_this"]
