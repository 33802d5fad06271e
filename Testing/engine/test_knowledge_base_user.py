"""The user's own knowledge base: whole changes only, versions kept, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from velcro_engine.errors import InputError, KnowledgeBaseError
from velcro_engine.knowledge_base import Entry, active_paths, load_knowledge_base
from velcro_engine.knowledge_base.importers import BadRows, ImportResult, import_file
from velcro_engine.knowledge_base.user import (
    add_to_user_knowledge_base,
    restore_user_version,
    save_user_entries,
    user_entries,
    user_path,
    user_versions,
)

pytestmark = pytest.mark.usefixtures("own_home")


def own(identifier, name="Mine", **changes):
    return Entry(identifier, name, "Words.", "anatomy", **{"part_of": ("liver",)} | changes)


def read(*entries, updates=()):
    places = {entry.id: f"line {n}" for n, entry in enumerate(entries, start=2)}
    return ImportResult(entries, (), frozenset(updates), places, "f.csv")


def test_imported_entries_are_active_and_earlier_versions_can_be_brought_back(bundled):
    change = add_to_user_knowledge_base(read(own("a")), bundled)
    assert (change.added, change.version) == (1, 1) and change.path == user_path()
    active = load_knowledge_base(active_paths())
    assert active.by_id["a"].name == "Mine" and len(active) == len(bundled) + 1
    change = add_to_user_knowledge_base(
        read(own("a", "Changed"), own("b", part_of=("a",))), active, on_conflict="replace"
    )
    assert (change.added, change.replaced, change.version) == (1, 1, 2)
    assert user_versions() == [1]
    assert restore_user_version(1, bundled) == 3
    assert user_entries() == (3, [own("a")])
    assert user_versions() == [1, 2]
    with pytest.raises(InputError, match="There is no version 9; there are: 1, 2"):
        restore_user_version(9, bundled)


def test_a_bundled_entry_is_overridden_only_when_asked(bundled):
    mine = own("hippocampus", "My hippocampus")
    with pytest.raises(BadRows, match="line 2: entry 'hippocampus' is already there"):
        add_to_user_knowledge_base(read(mine, own("b")), bundled)
    assert user_entries() == (0, [])
    change = add_to_user_knowledge_base(read(mine, own("b")), bundled, on_conflict="skip")
    assert (change.added, change.skipped) == (1, 1)
    active = load_knowledge_base(active_paths())
    add_to_user_knowledge_base(read(mine), active, on_conflict="replace")
    assert load_knowledge_base(active_paths()).by_id["hippocampus"].name == "My hippocampus"


def test_nothing_is_kept_of_an_import_that_does_not_fit(bundled, tmp_path):
    add_to_user_knowledge_base(read(own("a")), bundled)
    before = user_path().read_bytes()
    active = load_knowledge_base(active_paths())
    for wrong in (own("b", part_of=("nowhere",)), own("liver", "Circle", part_of=("a",))):
        with pytest.raises(KnowledgeBaseError):
            add_to_user_knowledge_base(read(own("c"), wrong), active, on_conflict="replace")
    torn = tmp_path / "torn.csv"
    torn.write_text("id,name,part_of\nd,D,liver\ne,E,nowhere\n")
    with pytest.raises(BadRows):
        import_file(torn, None, active)
    change = add_to_user_knowledge_base(read(own("z")), active, dry_run=True)
    assert change.added == 1 and change.version == 1
    assert user_path().read_bytes() == before and user_versions() == []


def test_a_change_that_changes_nothing_makes_no_version(bundled):
    add_to_user_knowledge_base(read(own("a")), bundled)
    change = add_to_user_knowledge_base(read(own("a")), load_knowledge_base(active_paths()))
    assert (change.added, change.replaced, change.skipped, change.version) == (0, 0, 1, 1)


def test_a_damaged_own_knowledge_base_is_named_and_not_overwritten(bundled):
    save_user_entries([own("a")], bundled)
    user_path().write_text('{"schema_version": 1,')
    with pytest.raises(KnowledgeBaseError, match=r"user\.json: line 1 is not JSON"):
        load_knowledge_base(active_paths())
    with pytest.raises(KnowledgeBaseError):
        add_to_user_knowledge_base(read(own("b")), bundled)
    assert user_path().read_text() == '{"schema_version": 1,'


def test_a_lock_left_by_a_killed_process_goes_stale(bundled):
    lock = user_path().with_name("user.lock")
    lock.parent.mkdir(parents=True)
    lock.touch()
    old = time.time() - 120
    os.utime(lock, (old, old))
    assert save_user_entries([own("a")], bundled) == 1
    assert not lock.exists()


def test_writers_in_several_processes_lose_nothing(bundled):
    code = (
        "import sys\n"
        "from velcro_engine.knowledge_base import Entry, active_paths, load_knowledge_base\n"
        "from velcro_engine.knowledge_base.importers import ImportResult\n"
        "from velcro_engine.knowledge_base.user import add_to_user_knowledge_base\n"
        "kb = load_knowledge_base()\n"
        "for n in range(3):\n"
        "    e = Entry(f'w{sys.argv[1]}_{n}', 'W', 'Words.', 'anatomy', part_of=('liver',))\n"
        "    add_to_user_knowledge_base(ImportResult((e,)), kb)\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(n)]) for n in range(3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    version, entries = user_entries()
    assert version == 9 and len(entries) == 9
    json.loads(user_path().read_text())
