"""The library's file: private, whole after a kill, and never believed when damaged."""

import os
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from test_cases_store import MODEL, roi, vector
from velcro_engine.cases import CaseLibrary, Query, library_path
from velcro_engine.cases.schema import SCHEMA_VERSION
from velcro_engine.errors import InputError

HERE = Path(__file__).parent
ENGINE = HERE.parent.parent / "VelcroLink"

WRITER = """
import sys
from test_cases_store import roi
from velcro_engine.cases import CaseLibrary
with CaseLibrary(sys.argv[1]) as library:
    for n in range(100_000):
        library.add(roi(f"case-{n}", "liver", seed=n))
        print(n, flush=True)
"""


@pytest.fixture
def filled(tmp_path):
    path = tmp_path / "library.sqlite3"
    with CaseLibrary(path) as library:
        items = [
            roi(f"case-{n}", "liver", seed=n, text="x" * 200, thumbnail=b"\x89PNG\r\n\x1a\n")
            for n in range(60)
        ]
        library.add_many(items, batch=60)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no owner-only mode bits")
def test_only_the_owner_may_read_the_library_and_its_helper_files(tmp_path):
    path = tmp_path / "cases" / "library.sqlite3"
    old = os.umask(0)
    try:
        with CaseLibrary(path) as library:
            library.add(roi("a", "liver"))
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert set(modes.values()) == {0o600} and f"{path.name}-wal" in modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    CaseLibrary(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_users_library_lies_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VELCROLINK_HOME", str(tmp_path / "home"))
    with CaseLibrary() as library:
        assert library.path == library_path() == tmp_path / "home" / "cases" / "library.sqlite3"


@pytest.mark.parametrize("after", [3, 10, 25])
def test_a_killed_writer_loses_at_most_the_item_it_was_writing(tmp_path, after):
    path = tmp_path / "library.sqlite3"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ENGINE), str(HERE)])},
    )
    told = -1
    for line in writer.stdout:
        told = int(line)
        if told >= after:
            break
    time.sleep(0.003 * after)
    writer.kill()
    told = max([told, *(int(line) for line in writer.stdout if line.endswith(b"\n"))])
    writer.wait()
    with CaseLibrary(path) as library:
        library.check()
        assert told + 1 <= len(library) <= told + 2
        assert len(library.search(Query(embedding=vector(0), model=MODEL, limit=10**6))) >= told + 1
        library.add(roi("afterwards", "liver"))


def test_two_programs_may_use_one_library(tmp_path):
    path = tmp_path / "library.sqlite3"
    with CaseLibrary(path) as first, CaseLibrary(path) as second:
        identifier = first.add(roi("a", "liver"))
        assert len(second.search(Query(embedding=vector(0), model=MODEL))) == 1
        second.add(roi("b", "liver", seed=1))
        assert len(first.search(Query(embedding=vector(0), model=MODEL))) == 2
        first.remove(identifier)
        assert [h.item.case for h in second.search(Query(embedding=vector(0), model=MODEL))] == [
            "b"
        ]


@pytest.mark.parametrize("content", [b"not a database", b"SQLite format 3\x00", b"\x00" * 4096])
def test_a_file_that_is_no_library_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "library.sqlite3"
    path.write_bytes(content)
    with pytest.raises(InputError):
        CaseLibrary(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path):
    path = tmp_path / "library.sqlite3"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    with pytest.raises(InputError, match="another program"):
        CaseLibrary(path)


def test_a_library_of_a_newer_version_is_refused(filled):
    with sqlite3.connect(filled) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    other.close()
    with pytest.raises(InputError, match="newer VelcroLink"):
        CaseLibrary(filled)


def test_a_folder_in_its_place_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        CaseLibrary(tmp_path)


def test_a_half_made_library_is_made_whole(tmp_path):
    path = tmp_path / "library.sqlite3"
    path.write_bytes(b"")
    with CaseLibrary(path) as library:
        library.add(roi("a", "liver"))
    with CaseLibrary(path) as library:
        assert len(library) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER evil AFTER INSERT ON items BEGIN DELETE FROM items; END",
        "CREATE VIEW evil AS SELECT * FROM items",
        "CREATE TABLE more (a)",
        "DROP TABLE thumbnails",
        "ALTER TABLE items ADD COLUMN name TEXT",
    ],
)
def test_a_library_with_foreign_tables_or_triggers_is_refused(filled, statement):
    with sqlite3.connect(filled) as other:
        other.execute(statement)
    other.close()
    with pytest.raises(InputError, match="damaged"):
        CaseLibrary(filled)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE items SET attributes = '{'",
        "UPDATE items SET attributes = '[1]'",
        f"UPDATE items SET attributes = '{'[' * 50_000}'",
        "UPDATE items SET text = X'FF00'",
        "UPDATE items SET kind = 'image'",
        "UPDATE items SET side = 'up'",
        "UPDATE cases SET pseudonym = id || '^'",
        "UPDATE embeddings SET vector = X'00'",
        "UPDATE embeddings SET vector = zeroblob(32)",
        "UPDATE embeddings SET vector = 'text of a kind'",
        "UPDATE models SET dimension = 'many'",
        "UPDATE thumbnails SET png = 'x'",
        "UPDATE thumbnails SET png = X'3C736372697074'",
        "INSERT INTO findings SELECT id, 'x', NULL, '{' FROM items",
        "UPDATE closure SET distance = 'far'",
        "UPDATE places SET side = 5",
    ],
)
def test_rows_of_another_kind_end_in_a_clear_error(filled, statement):
    with sqlite3.connect(filled) as other:
        assert other.execute(statement).rowcount
    other.close()
    with pytest.raises(InputError, match="damaged"), CaseLibrary(filled) as library:
        library.search(Query(embedding=vector(0), model=MODEL))
        library.check()


def test_fuzzed_files_end_in_a_clear_error_or_in_sound_answers(filled, tmp_path):
    whole = filled.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for n in range(250):
        data = bytearray(whole)
        if n % 5 == 0:
            data = data[: int(rng.integers(1, len(data)))]
        for _ in range(int(rng.integers(1, 60))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        path = tmp_path / f"fuzzed-{n}.sqlite3"
        path.write_bytes(bytes(data))
        try:
            with CaseLibrary(path) as library:
                library.check()
                hits = library.search(Query(embedding=vector(3), model=MODEL, limit=100))
                assert all(-1.01 <= hit.score <= 1.01 for hit in hits)
        except InputError as error:
            refused += 1
            assert "\n" not in error.message
        assert path.exists()
    assert refused > 25


def test_a_removed_case_leaves_no_trace_in_the_file(tmp_path):
    path = tmp_path / "library.sqlite3"
    with CaseLibrary(path) as library:
        library.add(roi("a", "liver", text="a very telling sentence"))
        library.remove_case("a")
    files = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"very telling" not in files
