"""`velcrolink kb ...` as a user calls it."""

from __future__ import annotations

import argparse
import json
from itertools import pairwise

import numpy as np
import pytest

from velcro_engine.commands import knowledge_base as cli
from velcro_engine.errors import VelcroError

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def kb(capsys):
    def call(*arguments):
        parser = argparse.ArgumentParser()
        cli.add_arguments(parser.add_subparsers(required=True))
        args = parser.parse_args(["kb", *map(str, arguments)])
        code = args.run(args)
        return code, capsys.readouterr().out

    return call


def test_check_of_the_bundled_knowledge_base_ends_with_0(kb, monkeypatch):
    monkeypatch.delenv("VELCROLINK_DATA", raising=False)
    code, out = kb("check")
    assert code == 0 and "0 errors, 0 warnings; SNOMED CT and UMLS codes not looked up" in out


def test_check_of_a_faulty_file_lists_the_faults_and_ends_with_1(kb, tmp_path):
    path = tmp_path / "f.json"
    manifest = {"schema_version": 1, "name": "x", "version": "1", "licence": "-", "entries": [{}]}
    path.write_text(json.dumps(manifest))
    code, out = kb("check", path)
    assert code == 1 and "error: f.json: ?: id: is missing" in out
    assert out.count("error:") == 1
    assert kb("check", path, "--alone")[0] == 1


def test_stats_show_and_search(kb):
    code, out = kb("stats")
    assert code == 0 and "velcrolink" in out and "kind: anatomy" in out
    code, out = kb("show", "Ammon's", "horn")
    assert code == 0 and out.startswith("Hippocampus  [hippocampus]") and "SCT 5366008" in out
    code, out = kb("show", "liver", "--json")
    assert json.loads(out)["id"] == "liver"
    code, out = kb("search", "hipocampus", "--limit", "2")
    assert code == 0 and out.split()[1] == "hippocampus" and len(out.splitlines()) == 2
    assert json.loads(kb("show", "IMA", "--json")[1])["abbreviations"]  # a note goes to stderr
    assert "Nothing resembles" in kb("search", "xyzzyqw")[1]
    with pytest.raises(VelcroError, match="the nearest are"):
        kb("show", "hipocampus")


def test_import_export_versions_and_restore(kb, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("name,definition\nMy structure,Words about it.\n", encoding="utf-8")
    assert "would be added" in kb("import", table, "--dry-run")[1]
    assert "no knowledge base of your own" in kb("versions")[1]
    code, out = kb("import", table)
    assert code == 0 and "1 entries are added" in out and "version 1" in out
    assert kb("show", "my structure")[0] == 0
    table.write_text("name,definition,id\nOther,Words.,my_structure\n", encoding="utf-8")
    with pytest.raises(VelcroError, match="is already there"):
        kb("import", table)
    kb("import", table, "--on-conflict", "replace")
    assert "version 2" in kb("versions")[1]
    assert "as version 3" in kb("restore", "1")[1]
    for name in ("all.csv", "all.json", "all.term.json"):
        code, out = kb("export", tmp_path / name)
        assert code == 0 and (tmp_path / name).stat().st_size > 100_000


def test_bad_rows_are_listed_on_stderr(kb, tmp_path, capsys):
    table = tmp_path / "bad.csv"
    table.write_text("name,kind\n,anatomy\nB,animal\n", encoding="utf-8")
    with pytest.raises(VelcroError, match="Nothing was imported"):
        kb("import", table)
    err = capsys.readouterr().err
    assert "bad.csv: line 2:" in err and "bad.csv: line 3:" in err


def test_site_is_written(kb, tmp_path):
    code, out = kb("site", "--out", tmp_path / "atlas")
    assert code == 0 and str(tmp_path / "atlas" / "index.html") in out
    (tmp_path / "file").write_text("x")
    with pytest.raises(VelcroError, match="is a file"):
        kb("site", "--out", tmp_path / "file")


class Tower:
    """Stands in for a model's text tower, which its own tests cover."""

    fingerprint = "tower"

    def embed_text(self, texts):
        rows = np.zeros((len(texts), 64), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for a, b in pairwise(text.partition("[BODY]")[0].lower()):
                row[(ord(a) * 31 + ord(b)) % 64] += 1
        return rows


@pytest.mark.filterwarnings("ignore:Local mode")
def test_entries_are_found_by_their_texts_here_and_on_a_server(kb, tmp_path, monkeypatch):
    pytest.importorskip("qdrant_client", reason="qdrant-client is optional and not installed")
    runtime = pytest.importorskip("velcro_engine.model.opening")
    monkeypatch.setattr(runtime, "open_runtime", lambda model: Tower())
    small = tmp_path / "small.json"
    kb("export", small)
    content = json.loads(small.read_text(encoding="utf-8"))
    kept = [e | {"is_a": [], "part_of": [], "places": []} for e in content["entries"][:40]]
    small.write_text(json.dumps(content | {"entries": kept}), encoding="utf-8")
    first = kept[7]
    out = kb("similar", first["name"], "--kb", small, "--limit", "1")[1]
    assert out.split()[1] == first["id"]
    server = tmp_path / "server"
    with pytest.raises(VelcroError, match="not a server's address"):
        kb("share", "--kb", small, "--server", server)
    assert not server.exists()
    server.mkdir()
    assert "40 entries sent, 40 there now" in kb("share", "--kb", small, "--server", server)[1]
    assert "0 entries sent" in kb("share", "--kb", small, "--server", server)[1]
    out = kb("similar", first["name"], "--server", server, "--limit", "1")[1]
    assert out.split()[1] == first["id"]


@pytest.mark.parametrize(
    "arguments", [("search", ""), ("similar", " "), ("search", "x", "--limit", "0")]
)
def test_a_search_for_nothing_is_refused(kb, arguments):
    with pytest.raises(VelcroError, match="Say what to look for|at least 1"):
        kb(*arguments)


def test_export_into_a_folder_is_refused(kb, tmp_path):
    with pytest.raises(VelcroError, match="is a folder"):
        kb("export", tmp_path)
