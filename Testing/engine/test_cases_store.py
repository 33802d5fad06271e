"""What every case library must do, run on SQLite and on Qdrant's local mode alike."""

import numpy as np
import pytest

from velcro_engine.cases import CaseLibrary, Finding, Item, LocationCondition, Place, Query
from velcro_engine.cases.qdrant_library import QdrantCaseLibrary
from velcro_engine.cases.record import closure, location_condition
from velcro_engine.errors import InputError, KnowledgeBaseError
from velcro_engine.knowledge_base import active_paths, load_knowledge_base

D = 16
MODEL = "model-a"


@pytest.fixture(scope="module")
def base():
    return load_knowledge_base(active_paths())


@pytest.fixture(params=["sqlite", "qdrant"])
def store(request, tmp_path):
    if request.param == "sqlite":
        made = CaseLibrary(tmp_path / "library.sqlite3")
    else:
        pytest.importorskip("qdrant_client")
        made = QdrantCaseLibrary(":memory:")
    yield made
    made.close()


def vector(seed):
    found = np.random.default_rng(seed).standard_normal(D)
    return (found / np.linalg.norm(found)).astype(np.float32)


def roi(case, entry, side=None, seed=0, **more):
    more.setdefault("places", (Place(entry, side),))
    return Item(case, "roi", entry, side, vector(seed), MODEL, **more)


def sentence(case, text, place, seed=0, **more):
    return Item(
        case,
        "text",
        embedding=vector(seed),
        model=MODEL,
        places=(Place(place),),
        text=text,
        **more,
    )


def found(store, **query):
    return [hit.item for hit in store.search(Query(model=MODEL, **query))]


def test_an_item_comes_back_as_it_was_added(store, base):
    item = roi(
        "case-1",
        "hippocampus",
        "left",
        3,
        places=(Place("hippocampus", "left", "middle central"),),
        findings=(Finding("hippocampal_atrophy", "left", ("mild",)),),
        attributes={"longest_diameter_mm": 31.5, "zone": "middle central"},
        text="Small left hippocampus.",
        thumbnail=b"\x89PNG\r\n\x1a\nrest",
        plane="coronal",
        modality="MR",
        accepted=True,
    )
    identifier = store.add(item, base)
    back = store.item(identifier)
    assert back.embedding @ vector(3) == pytest.approx(1.0, abs=1e-3)
    for name in ("case", "kind", "entry", "side", "model", "places", "findings", "attributes",
                 "text", "thumbnail", "plane", "modality", "accepted"):  # fmt: skip
        assert getattr(back, name) == getattr(item, name), name
    assert len(store) == 1 and store.cases() == {"case-1": 1}


def test_the_same_content_is_kept_once(store, base):
    first = store.add(roi("case-1", "liver"), base)
    assert store.add(roi("case-1", "liver"), base) == first
    assert store.add(roi("case-2", "liver"), base) != first
    assert len(store) == 2


def test_search_is_exact_and_best_first(store, base):
    store.add_many([roi(f"case-{n}", "liver", seed=n) for n in range(40)], base)
    query = vector(999)
    hits = store.search(Query(embedding=query, model=MODEL, limit=7))
    expected = sorted((float(vector(n) @ query), f"case-{n}") for n in range(40))[::-1][:7]
    assert [h.item.case for h in hits] == [case for _, case in expected]
    assert [h.score for h in hits] == pytest.approx([s for s, _ in expected], abs=2e-3)


def test_a_location_holds_its_parts_and_can_be_narrowed(store, base):
    store.add(roi("whole", "lung", "left"), base)
    store.add(roi("lobe", "lung_upper_lobe", "left", 1), base)
    store.add(roi("other", "liver", None, 2), base)
    place = location_condition(base, "lung")
    assert {i.case for i in found(store, location=place)} == {"whole", "lobe"}
    exact = location_condition(base, "lung", parts=False)
    assert {i.case for i in found(store, location=exact)} == {"whole"}
    assert closure(base, "lung_upper_lobe")["lung"] == 1
    assert found(store, location=location_condition(base, "lung_middle_lobe")) == []


def test_a_location_widens_to_what_it_is_a_part_of(store, base):
    store.add(roi("lobe", "lung_upper_lobe", "left", 1), base)
    narrow = location_condition(base, "lung_lower_lobe", "left")
    assert found(store, location=narrow) == []
    wide = location_condition(base, "lung_lower_lobe", "left", widen=1)
    assert wide.entries == base.by_id["lung_lower_lobe"].part_of
    assert [i.case for i in found(store, location=wide)] == ["lobe"]


def test_side_and_zone_must_hold_for_the_same_place(store, base):
    store.add(
        roi("two", "pneumonia", places=(Place("lung", "left", "upper"), Place("pleura", "right", "lower"))),
        base,
    )  # fmt: skip
    store.add(roi("both", "pneumonia", seed=1, places=(Place("lung", "bilateral", "lower"),)), base)
    store.add(roi("unknown", "pneumonia", seed=2, places=(Place("lung", None, "lower"),)), base)

    def at(**condition):
        return {i.case for i in found(store, location=LocationCondition(("lung",), **condition))}

    assert at(side="left") == {"two", "both"}
    assert at(side="right") == {"both"}
    assert at(side="left", zone="lower") == {"both"}
    assert at(side="right", unknown_side=True) == {"both", "unknown"}
    assert at(zone="upper") == {"two"}


def test_all_four_directions_are_one_search(store, base):
    store.add(roi("r1", "liver", seed=1), base)
    store.add(sentence("t1", "Large liver.", "liver", 1), base)
    for query in ({"embedding": vector(1)}, {"text_embedding": vector(1)}):
        for kind, case in (("roi", "r1"), ("text", "t1")):
            hit = store.search(Query(model=MODEL, kind=kind, **query))[0]
            assert hit.item.case == case and hit.score == pytest.approx(1.0, abs=1e-3)


def test_region_and_phrase_together_average(store, base):
    a, b = vector(1), vector(2)
    store.add_many([roi("a", "liver", seed=1), roi("b", "liver", seed=2)], base)
    hits = store.search(Query(embedding=a, text_embedding=b, model=MODEL))
    assert hits[0].score == pytest.approx(float((1 + a @ b) / 2), abs=2e-3)


def test_filters_combine(store, base):
    store.add(roi("a", "liver", seed=1, modality="CT", plane="axial", accepted=True), base)
    store.add(roi("b", "liver", seed=2, modality="MR", plane="axial"), base)
    cyst = (Finding("hepatic_cyst"),)
    store.add(roi("c", "spleen", seed=3, modality="CT", findings=cyst), base)
    names = lambda **q: sorted(i.case for i in found(store, **q))  # noqa: E731
    assert names(modality="CT") == ["a", "c"]
    assert names(modality="CT", entries=("liver",)) == ["a"]
    assert names(plane="axial", without_cases=("a",)) == ["b"]
    assert names(cases=("a", "c")) == ["a", "c"]
    assert names(findings=("hepatic_cyst",)) == ["c"]
    assert names(accepted_only=True) == ["a"]
    assert names(entries=("nothing like it",)) == []
    assert found(store, embedding=vector(1), limit=0) == []


def test_embeddings_of_another_model_are_never_compared(store, base):
    store.add(roi("a", "liver"), base)
    assert store.search(Query(embedding=vector(0), model="model-b")) == []
    with pytest.raises(InputError, match="fingerprint"):
        store.search(Query(embedding=vector(0)))
    with pytest.raises(InputError, match="two different models"):
        store.search(Query(embedding=np.ones(D + 1), model=MODEL))
    with pytest.raises(InputError):
        store.add(Item("b", "roi", "liver", embedding=np.ones(D + 1), model=MODEL))


def test_a_correction_moves_the_item(store, base):
    identifier = store.add(roi("a", "liver"), base)
    assert [i.entry for i in found(store, embedding=vector(0))] == ["liver"]
    changed = store.correct(identifier, "spleen", None, base)
    assert changed.accepted and store.item(identifier).entry == "spleen"
    assert found(store, location=location_condition(base, "liver")) == []
    assert [i.case for i in found(store, location=location_condition(base, "spleen"))] == ["a"]
    with pytest.raises(KnowledgeBaseError):
        store.correct(identifier, "no_such_entry", None, base)
    assert store.add(roi("a", "liver"), base) == identifier, "added again it is still one item"


def test_removed_items_are_not_found_again(store, base):
    first, _, _ = store.add_many(
        [roi("a", "liver"), roi("b", "liver", seed=1), roi("b", "spleen", seed=2)], base
    )
    assert len(found(store, embedding=vector(0))) == 3
    store.remove(first)
    assert store.remove_case("b") == 2
    assert found(store, embedding=vector(0)) == [] and store.cases() == {} and len(store) == 0
    for call in (
        lambda: store.remove(first),
        lambda: store.remove_case("b"),
        lambda: store.item(first),
    ):
        with pytest.raises(InputError, match="has no"):
            call()


def test_what_is_added_later_is_found(store, base):
    store.add(roi("a", "liver"), base)
    assert len(found(store, embedding=vector(0))) == 1
    store.add(roi("b", "liver", seed=1), base)
    assert len(found(store, embedding=vector(0))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"case": ""}, "pseudonym"),
        ({"case": "Doe^John"}, "pseudonym"),
        ({"case": "12345678"}, "looks like"),
        ({"case": "scan 2020-03-14"}, "looks like"),
        ({"case": "Dr. Smith"}, "looks like"),
        ({"case": "1.2.840.113619.2.55"}, "looks like"),
        ({"kind": "image"}, "'roi' or a 'text'"),
        ({"side": "up"}, "Unknown side"),
        ({"embedding": np.full(D, np.nan)}, "finite"),
        ({"embedding": np.zeros(D)}, "not all zero"),
        ({"model": ""}, "fingerprint"),
        ({"thumbnail": b"GIF89a"}, "PNG"),
        ({"thumbnail": b"\x89PNG\r\n\x1a\n" + b"0" * 400_000}, "too large"),
        ({"text": "x" * 1_000_000}, "characters"),
        ({"attributes": {"a": float("nan")}}, "attributes"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_added(store, base, change, message):
    values = {"case": "a", "kind": "roi", "entry": "liver", "embedding": vector(0), "model": MODEL}
    with pytest.raises(InputError, match=message):
        store.add(Item(**(values | change)), base)
    assert len(store) == 0
