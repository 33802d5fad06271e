"""Finding entries by what people type."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velcro_engine.knowledge_base import Entry, load_knowledge_base
from velcro_engine.knowledge_base.search import SearchIndex
from velcro_engine.knowledge_base.spelling import fold, similarity, typing_distance
from velcro_engine.knowledge_base.store import KnowledgeBase

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def index():
    return SearchIndex(load_knowledge_base())


def plain_distance(first: str, second: str) -> int:
    rows = [[max(i, j) if not i or not j else 0 for j in range(len(second) + 1)]
            for i in range(len(first) + 1)]  # fmt: skip
    for i in range(1, len(first) + 1):
        for j in range(1, len(second) + 1):
            differs = first[i - 1] != second[j - 1]
            best = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + differs)
            if i > 1 and j > 1 and first[i - 1] == second[j - 2] and first[i - 2] == second[j - 1]:
                best = min(best, rows[i - 2][j - 2] + 1)
            rows[i][j] = best
    return rows[-1][-1]


words = st.text(alphabet="abcd", max_size=9)


@given(words, words)
@settings(max_examples=400, deadline=None)
def test_typing_distance_is_that_of_the_plain_table(first, second):
    assert typing_distance(first, second) == plain_distance(first, second)


def test_typing_distance_beyond_64_letters():
    long = string.ascii_lowercase * 4
    assert typing_distance(long, long[:50] + long[51:]) == 1
    assert similarity(long, long) == 1.0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Oedema", "edema"),
        ("Haemorrhage", "hemorrhage"),
        ("Tumour", "TUMOR"),
        ("Heschl's gyrus", "heschl gyrus"),
        ("grey-matter", "gray matter"),
        ("Cæcum", "caecum"),
        ("Sjögren", "sjogren"),
        ("cranial nerve V", "cranial nerve 5"),
    ],
)
def test_spelling_variants_fold_together(first, second):
    assert fold(first) == fold(second)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("hippocampus", "hippocampus"),
        ("left hippocampus", "hippocampus"),
        ("hipocampus", "hippocampus"),
        ("lnug", "lung"),
        ("gall bladder", "gallbladder"),
        ("hepar", "liver"),
        ("IVC", "inferior_vena_cava"),
        ("temporal superior gyrus", "superior_temporal_gyrus"),
        ("left atrium", "left_atrium"),
        ("C0023884", "liver"),
        ("oedema around tumour", "peritumoral_edema"),
    ],
)
def test_best_hit(index, query, expected):
    assert index.search(query)[0].entry.id == expected


@pytest.mark.parametrize("query", ["", "   ", "???", "🙂", "xyzzyqw", "q" * 100_000, "\x00"])
def test_nothing_and_nonsense_find_nothing_and_do_not_fail(index, query):
    assert index.search(query) == []


def test_hits_are_limited_ranked_and_filtered_by_kind(index):
    hits = index.search("gyrus", limit=5)
    assert len(hits) == 5
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    found = index.search("pleural", limit=20, kinds=["pathology"])
    assert found and {hit.entry.kind for hit in found} == {"pathology"}


@pytest.mark.parametrize(
    ("name", "least", "share"),
    [
        ("kb_queries.json", 200, 0.95),
        ("kb_queries_second.json", 200, 0.95),
        ("kb_queries_in_context.json", 100, 0.88),
    ],
)
def test_queries_find_their_entry_within_the_first_three(index, name, least, share):
    queries = json.loads((DATA / name).read_text(encoding="utf-8"))["queries"]
    assert len({query["text"] for query in queries}) == len(queries) >= least
    missed = [
        (query["text"], query["id"])
        for query in queries
        if query["id"] not in [hit.entry.id for hit in index.search(query["text"], 3)]
    ]
    assert len(missed) <= (1 - share) * len(queries), missed


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("GCT of bone", "giant_cell_tumour_of_bone"),
        ("broken wrist", "distal_radius_fracture"),
        ("torn ACL", "acl_tear"),
        ("hepatic cyst", "hepatic_cyst"),
        ("popcorn calcification", "pulmonary_hamartoma"),
    ],
)
def test_a_query_is_also_tried_in_other_words(index, query, expected):
    assert expected in [hit.entry.id for hit in index.search(query, 3)]


def test_words_of_a_definition_are_found_when_no_name_fits():
    kb = KnowledgeBase(
        (
            Entry("a", "Alpha", "Looks like a staghorn in the renal pelvis.", "pathology"),
            Entry("b", "Beta", "Nothing of the sort.", "pathology"),
        ),
        (),
    )
    assert [hit.entry.id for hit in SearchIndex(kb).search("renal staghorn")] == ["a"]


def test_words_side_by_side_in_a_definition_come_before_half_a_name():
    kb = KnowledgeBase(
        (
            Entry("a", "Calcification", "Calcium in tissue.", "pathology"),
            Entry("b", "Hamartoma", "Fat and popcorn calcification in a nodule.", "pathology"),
            Entry("c", "Granuloma", "Calcification like a popcorn or not.", "pathology"),
        ),
        (),
    )
    found = [hit.entry.id for hit in SearchIndex(kb).search("popcorn calcification")]
    assert found[0] == "b"


def test_an_empty_knowledge_base_can_be_searched():
    assert SearchIndex(KnowledgeBase((), ())).search("lung") == []
