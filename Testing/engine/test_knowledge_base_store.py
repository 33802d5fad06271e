"""Reading knowledge bases: what is accepted, what is refused and how the refusal reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from velcro_engine.errors import InputError, KnowledgeBaseError
from velcro_engine.knowledge_base import Entry, entry_to_dict, load_knowledge_base, text
from velcro_engine.knowledge_base.entry import FIELDS, entry_from_dict
from velcro_engine.resources import (
    atomic_path,
    resource_path,
    user_data_folder,
    write_atomically,
)


def entry(identifier="a", **changes):
    record = {
        "id": identifier,
        "name": identifier.upper(),
        "definition": "Words.",
        "kind": "anatomy",
    }
    return record | changes


def write_kb(folder, entries, name="kb", file="kb.json", **changes):
    manifest = {"schema_version": 1, "name": name, "version": "1", "licence": "CC0"}
    path = folder / file
    path.write_text(json.dumps(manifest | {"entries": entries} | changes), encoding="utf-8")
    return path


def test_every_entry_of_the_bundled_knowledge_base_survives_a_round_trip_through_its_dict():
    kb = load_knowledge_base()
    for one in kb.entries:
        assert entry_from_dict(json.loads(json.dumps(entry_to_dict(one)))) == one
        assert tuple(entry_to_dict(one)) != () and set(entry_to_dict(one)) == set(FIELDS)


def test_text_for_the_tower_has_title_and_body():
    one = Entry("a", "Liver", "A large organ.", "anatomy")
    assert text(one) == "[TITLE]Liver[BODY]A large organ."


def test_graph_questions(tmp_path):
    path = write_kb(
        tmp_path,
        [
            entry("brain"),
            entry("lobe", part_of=["brain"]),
            entry("gyrus", part_of=["lobe"]),
            entry("small_gyrus", is_a=["gyrus"], codes=[{"scheme": "UBERON", "value": "0000001"}]),
        ],
    )
    kb = load_knowledge_base([path])
    assert kb.ancestors("small_gyrus") == ("gyrus", "lobe", "brain")
    assert kb.descendants("brain") == ("lobe", "gyrus", "small_gyrus")
    assert kb.parts("brain") == ("lobe", "gyrus")
    assert kb.children("lobe") == ("gyrus",)
    assert [e.id for e in kb.find_code("uberon", "UBERON:0000001")] == ["small_gyrus"]
    assert kb.find_code("SCT", "1") == ()
    with pytest.raises(KnowledgeBaseError, match="no entry 'nobody'"):
        kb.ancestors("nobody")


def test_entries_files_of_a_manifest_are_read_in_order(tmp_path):
    (tmp_path / "entries").mkdir()
    for name in "ab":
        content = json.dumps({"entries": [entry(name)]})
        (tmp_path / "entries" / f"{name}.json").write_text(content, encoding="utf-8")
    path = write_kb(tmp_path, [])
    manifest = json.loads(path.read_text())
    del manifest["entries"]
    manifest["files"] = ["entries/b.json", "entries/a.json"]
    path.write_text(json.dumps(manifest))
    assert [e.id for e in load_knowledge_base([path]).entries] == ["b", "a"]


def test_several_knowledge_bases_merge_and_the_users_own_overrides(tmp_path):
    first = write_kb(tmp_path, [entry("a"), entry("b", part_of=["a"])], "first", "first.json")
    second = write_kb(tmp_path, [entry("c", part_of=["b"])], "second", "second.json")
    own = write_kb(
        tmp_path, [entry("a", name="Mine")], "mine", "user.json", overrides=True, version="7"
    )
    kb = load_knowledge_base([first, second, own])
    assert [e.id for e in kb.entries] == ["a", "b", "c"]
    assert kb.by_id["a"].name == "Mine"
    assert kb.version == "first 1 + second 1 + mine 7"
    assert kb.source_of["a"].name == "mine"
    assert kb.content_hash != load_knowledge_base([first, second]).content_hash
    clash = write_kb(tmp_path, [entry("a")], "clash", "clash.json")
    with pytest.raises(
        KnowledgeBaseError, match=r"clash\.json: entry 'a' is already in first\.json"
    ):
        load_knowledge_base([first, clash])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "Not Snake"}, "field id: 'Not Snake' is not lower snake case"),
        ({"name": ""}, "field name: is empty"),
        ({"name": 3}, "field name: must be text"),
        ({"name": "a\x00b"}, "field name: holds a control character"),
        ({"kind": "animal"}, "field kind: 'animal' is none of"),
        ({"kind": ["anatomy"]}, "field kind"),
        ({"laterality": "both"}, "field laterality"),
        ({"region": "toe"}, "field region"),
        ({"modalities": ["MRI"]}, "field modalities: 'MRI' is none of"),
        ({"modalities": "MR"}, "field modalities: must be a list"),
        ({"synonyms": ["x", "x"]}, "field synonyms: names the same thing twice"),
        ({"is_a": ["x y"]}, "field is_a: 'x y' is not an id"),
        ({"is_a": ["a"]}, "field is_a: names the entry itself"),
        ({"part_of": ["nowhere"]}, "field part_of: there is no entry 'nowhere'"),
        ({"size_mm": [5, 2]}, "field size_mm"),
        ({"size_mm": [float("nan"), 2]}, "field size_mm"),
        ({"size_mm": [True, 2]}, "field size_mm"),
        ({"codes": [{"scheme": "SCT"}]}, "field codes: each code needs scheme and value"),
        ({"codes": [{"scheme": "S T", "value": "1"}]}, "field codes: 'S T' is not a coding"),
        ({"links": ["javascript:alert(1)"]}, "field links: 'javascript:alert"),
        ({"links": ['https://a.b/"onclick="x']}, "field links"),
        ({"colour": "red"}, "field colour: is not a field of an entry"),
    ],
)
def test_a_wrong_field_is_refused_with_file_entry_and_field(tmp_path, changes, message):
    path = write_kb(tmp_path, [entry() | changes])
    with pytest.raises(KnowledgeBaseError) as caught:
        load_knowledge_base([path])
    assert message in caught.value.message
    assert caught.value.message.startswith("kb.json: entry '")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1 is not JSON"),
        (b'{"schema_version": 1,\n"name": }', "line 2 is not JSON"),
        (b"\xff\xfe{}", "is not UTF-8 text"),
        (b"[]", "is not a JSON object"),
        (b"{}", "schema_version is missing"),
        (b'{"schema_version": 2}', "schema_version is 2; this VelcroLink reads 1"),
        (b'{"schema_version": 1, "name": "x"}', "the manifest needs a text 'version'"),
        (b'{"schema_version": 1, "schema_version": 1}', "'schema_version' stands twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"schema_version": ' + b"1" * 5000 + b"}", "number that is too long"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "kb.json"
    path.write_bytes(content)
    with pytest.raises(KnowledgeBaseError) as caught:
        load_knowledge_base([path])
    assert message in caught.value.message and "kb.json" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["../outside.json", "/etc/passwd", "C:/x.json", "a\\b.json"])
def test_a_manifest_cannot_reach_outside_its_folder(tmp_path, name):
    path = tmp_path / "kb.json"
    manifest = {"schema_version": 1, "name": "x", "version": "1", "licence": "-", "files": [name]}
    path.write_text(json.dumps(manifest))
    with pytest.raises(KnowledgeBaseError, match="must lie beside the manifest"):
        load_knowledge_base([path])


def test_cycles_duplicates_and_missing_files_are_refused(tmp_path):
    cycle = [
        entry("a", part_of=["c"]),
        entry("b", part_of=["a"]),
        entry("c", is_a=["b"]),
    ]
    with pytest.raises(KnowledgeBaseError, match="its own ancestor: a > c > b > a"):
        load_knowledge_base([write_kb(tmp_path, cycle)])
    with pytest.raises(KnowledgeBaseError, match="entry 'a' stands there twice"):
        load_knowledge_base([write_kb(tmp_path, [entry(), entry()])])
    with pytest.raises(KnowledgeBaseError, match="there is no such file"):
        load_knowledge_base([tmp_path / "none.json"])


def test_importing_the_knowledge_base_imports_nothing_heavy():
    code = (
        "import sys, velcro_engine.knowledge_base, velcro_engine.knowledge_base.card; "
        "print([m for m in ('numpy', 'SimpleITK', 'torch', 'qdrant_client') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_resources_are_taken_from_the_named_folder_and_missing_ones_say_so(tmp_path, monkeypatch):
    monkeypatch.setenv("VELCROLINK_RESOURCES", str(tmp_path))
    (tmp_path / "x.txt").write_text("x")
    assert resource_path("x.txt") == tmp_path / "x.txt"
    with pytest.raises(InputError, match="correct the environment variable"):
        resource_path("KnowledgeBase/velcrolink.json")


def test_user_data_folder_is_the_named_one_and_private(tmp_path, monkeypatch):
    monkeypatch.setenv("VELCROLINK_HOME", str(tmp_path / "deep" / "home"))
    folder = user_data_folder()
    assert folder.is_dir() and folder == tmp_path / "deep" / "home"
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0


def test_atomic_write_leaves_the_old_file_when_the_new_one_fails(tmp_path):
    path = tmp_path / "file.json"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]
