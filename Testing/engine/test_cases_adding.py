"""What goes into the library: links, labelled folders, report tables; and what must stay out."""

import csv
import json
import time

import numpy as np
import pytest
import SimpleITK as sitk

from grounding_runtime import GroundingRuntime, grey_of
from test_worker import Client
from velcro_engine.cases import CaseLibrary, Query
from velcro_engine.cases.adding import CSV_FIELD, add_reports, item_of_link, report_items
from velcro_engine.cases.deidentify import check_pseudonym, remove_identifiers
from velcro_engine.cases.places import condition_of_link
from velcro_engine.cases.record import location_condition
from velcro_engine.cases.rescue import rescue
from velcro_engine.commands import cli
from velcro_engine.errors import InputError
from velcro_engine.knowledge_base import active_paths, load_knowledge_base, text
from velcro_engine.knowledge_base.store import KnowledgeBase
from velcro_engine.linking.linker import Linker
from velcro_engine.messages.request import Foreground, SliceRequest

NAMES = ("spleen", "hippocampus", "lung", "liver", "kidney", "pleural_effusion", "consolidation")


@pytest.fixture(scope="module")
def base():
    return load_knowledge_base(active_paths())


@pytest.fixture(scope="module")
def linker(base):
    small = KnowledgeBase(tuple(base.by_id[name] for name in NAMES), base.sources)
    runtime = GroundingRuntime(small.entries)
    return Linker(runtime, small, runtime.embed_text([text(e) for e in small.entries]))


@pytest.fixture
def library(tmp_path):
    with CaseLibrary(tmp_path / "library.sqlite3") as made:
        yield made


def question(linker, entry, position=True):
    pixels = np.full((90, 100), 2, np.uint8)
    pixels[30:60, 60:90] = grey_of(linker.runtime, entry)
    return SliceRequest(
        pixels=pixels,
        pixel_to_ras=np.diag([-1.0, -1, 1, 1]) if position else None,
        foreground=Foreground((-50.0, -45.0, 0.0), (50.0, 45.0, 50.0)) if position else None,
        box=(59, 29, 91, 61),
        plane="axial" if position else None,
        modality="MR",
    )


def test_a_link_is_kept_with_place_measures_and_picture(linker, library):
    request = question(linker, "hippocampus")
    result = linker.link(request)
    item = item_of_link("brain-1", request, result, linker.runtime, linker.knowledge_base)
    kept = library.item(library.add(item, linker.knowledge_base))
    assert kept.entry == "hippocampus" and kept.side == "left" and not kept.accepted
    assert kept.places[0].entry == "hippocampus" and kept.places[0].side == "left"
    assert kept.attributes["longest_diameter_mm"] == pytest.approx(42, abs=2)
    picture = sitk.ReadImage(_written(library.path.parent / "t.png", kept.thumbnail))
    assert picture.GetSize() == (112, 112)


def _written(path, data):
    path.write_bytes(data)
    return str(path)


def test_what_a_person_says_it_is_counts_as_accepted(linker, library):
    request = question(linker, "hippocampus")
    result = linker.link(request)
    item = item_of_link(
        "a", request, result, linker.runtime, linker.knowledge_base, "pleural_effusion", "left",
        "Seen by Dr. Smith on 2020-03-14.",
    )  # fmt: skip
    assert item.accepted and item.findings[0].entry == "pleural_effusion"
    assert "Smith" not in item.text and "2020" not in item.text
    assert {p.entry for p in item.places} == set(
        linker.knowledge_base.by_id["pleural_effusion"].places
    )


def test_a_picture_tells_places_of_the_picture_only(linker):
    request = question(linker, "lung", position=False)
    result = linker.link(request)
    item = item_of_link("a", request, result, linker.runtime, linker.knowledge_base)
    assert item.side is None and item.places[0].zone == "middle, right half of the picture"
    condition = condition_of_link(result, linker.knowledge_base, request)
    assert condition.zone == "" and condition.side is None and condition.unknown_side


def test_a_region_is_found_by_its_place(linker, library):
    request = question(linker, "hippocampus")
    result = linker.link(request)
    base = linker.knowledge_base
    library.add(item_of_link("a", request, result, linker.runtime, base), base)
    query = Query(result.embedding, model="standin", location=condition_of_link(result, base))
    assert [h.item.case for h in library.search(query)] == ["a"]


REPORTS = (
    "uid,findings,impression\n"
    '1,"There is a small left pleural effusion. No pneumothorax.",Pleural effusion.\n'
    "2,Lungs are clear.,Normal chest.\n"
    '3,"Patchy consolidation in the right lower lobe.",\n'
)


def test_reports_become_sentences_with_findings_and_places(linker, library, base, tmp_path):
    path = tmp_path / "reports.csv"
    path.write_text(REPORTS, encoding="utf-8")
    added = add_reports(library, path, linker.runtime, base)
    assert added.cases == 2 and not added.left_out and added.items == len(library) >= 2
    assert set(library.cases()) == {"report-1", "report-3"}
    lower = location_condition(base, "lung")
    hits = library.search(Query(model="standin", location=lower, kind="text"))
    assert any("consolidation" in hit.item.text for hit in hits)
    left = [h.item for h in library.search(Query(model="standin", findings=("pleural_effusion",)))]
    assert left and left[0].findings[0].side == "left"
    again = add_reports(library, path, linker.runtime, base)
    assert again.items == added.items == len(library), "the same table adds nothing twice"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_reports_are_read_in_other_encodings(linker, library, base, tmp_path, encoding):
    path = tmp_path / "reports.csv"
    path.write_bytes(REPORTS.replace("Patchy", "Hazy – naïve").encode(encoding))
    add_reports(library, path, linker.runtime, base)
    texts = [h.item.text for h in library.search(Query(cases=("report-3",)))]
    assert any("consolidation" in t for t in texts)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\x01\x02" * 500, b"a,b\n1,2\n", b"\x89PNG\r\n\x1a\n\x00\x00", b"\xff\xfe"],
)
def test_a_file_that_is_no_table_of_reports_is_refused(linker, library, base, tmp_path, content):
    path = tmp_path / "reports.csv"
    path.write_bytes(content)
    with pytest.raises(InputError):
        add_reports(library, path, linker.runtime, base)
    assert len(library) == 0


def test_a_report_of_a_megabyte_is_left_out_and_the_others_kept(linker, library, base, tmp_path):
    path = tmp_path / "reports.csv"
    long = "There is a pleural effusion. " * 40_000
    path.write_text(REPORTS + f'4,"{long}",\n' + "5,Small pneumothorax.,\n", encoding="utf-8")
    added = add_reports(library, path, linker.runtime, base)
    assert len(added.left_out) == 1 and added.left_out[0].startswith("row 5:")
    assert {"report-1", "report-3", "report-5"} == set(library.cases())


def test_reading_reports_leaves_the_limits_of_csv_as_they_were(linker, library, base, tmp_path):
    before = csv.field_size_limit()
    path = tmp_path / "reports.csv"
    path.write_text(REPORTS, encoding="utf-8")
    add_reports(library, path, linker.runtime, base)
    assert csv.field_size_limit() == before
    path.write_text("findings\n" + "x" * (CSV_FIELD + 1), encoding="utf-8")
    with pytest.raises(InputError, match="is not a sound CSV at line"):
        add_reports(library, path, linker.runtime, base)
    assert csv.field_size_limit() == before


def test_hostile_markup_is_kept_as_text_and_runs_nowhere(linker, library, base, tmp_path):
    path = tmp_path / "reports.csv"
    bad = "<script>alert(1)</script><img src=x onerror=alert(2)> Left pleural effusion'); DROP TABLE items;--"
    path.write_text(f'findings\n"{bad}"\n', encoding="utf-8")
    add_reports(library, path, linker.runtime, base)
    library.check()
    from velcro_engine.cases.summary import hit_line, item_summary

    for hit in library.search(Query()):
        json.dumps(item_summary(hit.item, base))
        assert "\n" not in hit_line(hit, base)


def test_identities_are_removed_from_text():
    given = (
        "Patient: John Doe. MRN: 12345678. Seen on 03/14/2020 and March 14, 2020 by Dr. Smith, call "
        "555-123-4567, a.b@c.org, https://x.org/y. Doe^John. 95-year-old. UID 1.2.840.113619.2.55.3. "
        "The effusion measures 12 x 8 mm, T12 fracture, 3 cm."
    )
    cleaned = remove_identifiers(given)
    for secret in ("Doe", "12345678", "2020", "Smith", "555", "a.b@", "x.org", "95", "113619"):
        assert secret not in cleaned, secret
    assert "12 x 8 mm, T12 fracture, 3 cm." in cleaned


@pytest.mark.parametrize("seed", range(3))
def test_removing_identities_is_linear_in_the_length(seed):
    rng = np.random.default_rng(seed)
    alphabet = list("0123456789./- :@^ABab\n")
    piece = "".join(rng.choice(alphabet, 2000))
    start = time.perf_counter()
    remove_identifiers(piece * 50)
    assert time.perf_counter() - start < 20


def test_pseudonyms():
    assert check_pseudonym("brain-017") == "brain-017"
    for bad in ("", " a", "a\nb", "<b>", "x" * 81, None, "../../etc", "1999-01-02", "A1234567"):
        with pytest.raises(InputError):
            check_pseudonym(bad)


def test_no_folder_or_file_name_is_kept(linker, base, library, tmp_path):
    pytest.importorskip("scipy", reason="reading labelled folders needs the training extras")
    from velcro_engine.training.data.labelled_folder import add_folder

    case = tmp_path / "data" / "set" / "SMITH_JOHN_19500101"
    case.mkdir(parents=True)
    (case.parent / "labels.json").write_text(
        json.dumps({"1": {"name": "liver", "entity": "liver", "side": None}})
    )
    pixels = np.full((120, 120), 5, np.uint8)
    pixels[30:80, 20:70] = grey_of(linker.runtime, "liver")
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(case / "image.png"))
    labels = (pixels > 20).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(case / "labels.png"))
    broken = case.parent / "broken"
    broken.mkdir()
    (broken / "image.png").write_bytes(b"no picture")
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(broken / "labels.png"))
    added = add_folder(library, tmp_path / "data", linker)
    assert added.items == 1 and len(added.left_out) == 1
    hit = library.search(Query())[0].item
    assert hit.entry == "liver" and hit.accepted and hit.case in ("case-1", "case-2")
    library.close()
    stored = b"".join(p.read_bytes() for p in library.path.parent.glob("library*"))
    assert b"SMITH" not in stored


def test_a_damaged_library_is_rescued_into_a_new_one(linker, base, tmp_path):
    path, target = tmp_path / "library.sqlite3", tmp_path / "rescued.sqlite3"
    request = question(linker, "hippocampus")
    item = item_of_link("a", request, linker.link(request), linker.runtime, linker.knowledge_base)
    with CaseLibrary(path) as library:
        library.add_many(
            [item_of_link(f"case-{n}", request, linker.link(request), linker.runtime,
                          linker.knowledge_base) for n in range(20)], base)  # fmt: skip
        library._connection.execute("UPDATE items SET attributes = '{' WHERE id = 3")
        library._connection.execute("CREATE TABLE more (a)")
    with pytest.raises(InputError, match="rescue"):
        CaseLibrary(path)
    before = path.read_bytes()
    assert rescue(path, target, base) == (19, 1)
    assert path.read_bytes() == before
    with CaseLibrary(target) as saved:
        saved.check()
        assert len(saved) == 19 and saved.search(Query())[0].item.entry == item.entry
    with pytest.raises(InputError, match="exists already"):
        rescue(path, target, base)
    (tmp_path / "junk").write_bytes(b"SQLite format 3\x00" + b"\x07" * 5000)
    with pytest.raises(InputError):
        rescue(tmp_path / "junk", tmp_path / "none.sqlite3", base)


def test_the_worker_adds_finds_corrects_and_removes(linker, tmp_path):
    client = Client(tmp_path, "standin_worker.py")
    client.next("hello")
    client.send({"type": "load", "id": 1, "data": str(tmp_path / "data")})
    assert client.answer(1)[0]["type"] == "ready"
    pixels = np.full((90, 100), 40, np.uint8)
    pixels[30:60, 20:70] = 200
    request = SliceRequest(pixels, np.diag([-1.0, -1, 1, 1]), box=(19, 29, 71, 61), plane="axial")
    header, payload = request.to_message()
    client.send({"type": "link", "id": 2, "request": header}, payload)
    answer, linked = client.answer(2)
    add = {"type": "cases", "action": "add", "case": "brain-1", "request": header,
           "linked": answer["result"], "split": len(payload)}  # fmt: skip
    client.send({**add, "id": 3}, payload + linked)
    kept = client.answer(3)[0]["result"]["id"]
    search = {"type": "cases", "action": "search", "linked": answer["result"]}
    client.send({**search, "id": 4, "location": "linked"}, linked)
    found = client.answer(4)[0]["result"]
    assert [h["id"] for h in found["hits"]] == [kept] and found["hits"][0]["score"] > 0.99
    assert found["location"]["entries"] and found["hits"][0]["thumbnail_png"]
    client.send({"type": "draft", "id": 5, "linked": answer["result"]}, linked)
    draft = client.answer(5)[0]["result"]
    assert draft["sentences"] and draft["notice"].startswith("DRAFT")
    client.send({"type": "correct", "id": 6, "item": kept, "entry_id": "no_such"})
    assert client.answer(6)[0]["type"] == "error"
    client.send(
        {"type": "correct", "id": 7, "item": kept, "entry_id": "hippocampus", "side": "left"}
    )
    assert client.answer(7)[0]["result"]["entry"] == "hippocampus"
    client.send({"type": "cases", "id": 8, "action": "list"})
    assert client.answer(8)[0]["result"]["cases"] == {"brain-1": 1}
    client.send({"type": "cases", "id": 9, "action": "remove", "case": "brain-1"})
    assert client.answer(9)[0]["result"]["removed"] == 1
    bad = [{"action": "sell"}, {"action": "add"}, {"action": "search", "limit": "x"},
           {"action": "search", "location": 5}, {"action": "search", "location": "linked"},
           {"action": "remove", "item": "x"}, {"action": "search", "text": 5}]  # fmt: skip
    for number, message in enumerate(bad, start=20):
        client.send({"type": "cases", "id": number, **message})
        assert client.answer(number)[0]["kind"] == "input"
    assert (tmp_path / "data" / "cases" / "library.sqlite3").exists()
    client.close()


def test_the_command_lists_shows_checks_and_removes(linker, base, tmp_path, capsys):
    path = tmp_path / "library.sqlite3"
    request = question(linker, "hippocampus")
    with CaseLibrary(path) as library:
        item = item_of_link("a", request, linker.link(request), linker.runtime,
                            linker.knowledge_base)  # fmt: skip
        library.add(item, base)

    def run(*arguments):
        code = cli.main(["cases", *arguments, "--library", str(path)])
        return code, capsys.readouterr()

    assert "1 items of 1 cases" in run("list")[1].out
    assert json.loads(run("show", "1")[1].out)["entry"] == "hippocampus"
    assert "sound" in run("check")[1].out
    code, said = run("show", "99")
    assert code == 2 and said.err.count("\n") == 1
    assert run("search")[0] == 2
    assert run("import", str(tmp_path / "nothing"))[0] == 2
    assert run("remove", "--case", "a")[0] == 0
    assert "0 items" in run("list")[1].out
    assert run("remove", "--item", "1")[0] == 2


def test_a_sentence_that_denies_everything_is_not_kept(base):
    assert report_items("a", {"findings": "No pleural effusion. No pneumothorax."}, base) == []
