"""Vectors of entry texts: computed once, kept on disk, searched exactly, here or on a server."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from velcro_engine.errors import InputError, ModelError
from velcro_engine.knowledge_base import Entry
from velcro_engine.knowledge_base.embeddings import EmbeddingIndex, model_slug, unit_rows
from velcro_engine.knowledge_base.entry import text
from velcro_engine.knowledge_base.qdrant import QdrantIndex


class Tower:
    """Stands in for a text tower: a fixed random vector for each text, and what it was asked."""

    def __init__(self, dimension=32):
        self.dimension = dimension
        self.asked: list[str] = []

    def __call__(self, texts):
        self.asked += texts
        seeds = [int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "big") for t in texts]
        return np.stack([np.random.default_rng(s).normal(size=self.dimension) for s in seeds])


def entries(count, suffix=""):
    return [Entry(f"e{n}", f"Name {n}", f"Words {n}{suffix}.", "anatomy") for n in range(count)]


def brute_force(ids, matrix, query, limit):
    scores = unit_rows(matrix) @ unit_rows(query[None])[0]
    return [ids[i] for i in np.argsort(-scores, kind="stable")[:limit]]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_search_ranks_as_brute_force_over_the_same_rows(tmp_path, dtype):
    tower = Tower()
    some = entries(300)
    index = EmbeddingIndex.build(some, tower, "m", tmp_path, dtype=dtype)
    assert index.matrix.dtype == dtype
    queries = np.random.default_rng(1).normal(size=(5, 32)).astype(np.float32)
    found = index.search(queries, limit=7)
    for query, ranking in zip(queries, found, strict=True):
        expected = brute_force(index.ids, np.asarray(index.matrix, np.float32), query, 7)
        assert [identifier for identifier, _ in ranking] == expected
        assert [s for _, s in ranking] == sorted((s for _, s in ranking), reverse=True)
    alone = index.search(queries[0], limit=7)[0]
    assert [identifier for identifier, _ in alone] == [identifier for identifier, _ in found[0]]


def test_search_over_many_chunks_and_threads_is_exact():
    rng = np.random.default_rng(0)
    matrix = unit_rows(rng.normal(size=(20_001, 16)))
    ids = [f"e{n}" for n in range(len(matrix))]
    query = rng.normal(size=16)
    for workers in (1, 2, 3):
        ranking = EmbeddingIndex(ids, matrix, workers).search(query, limit=25)[0]
        assert [i for i, _ in ranking] == brute_force(ids, matrix, query, 25)


def test_only_new_texts_are_embedded_and_the_cache_survives_a_restart(tmp_path):
    first = Tower()
    EmbeddingIndex.build(entries(100), first, "m", tmp_path)
    assert len(first.asked) == 100
    again = Tower()
    EmbeddingIndex.build(entries(100), again, "m", tmp_path)
    assert again.asked == []
    changed = entries(101)
    changed[7] = Entry("e7", "Name 7", "Other words.", "anatomy")
    index = EmbeddingIndex.build(changed, again, "m", tmp_path)
    assert sorted(again.asked) == sorted([text(changed[7]), text(changed[100])])
    expected = unit_rows(Tower()([text(entry) for entry in changed]))
    np.testing.assert_allclose(index.matrix, expected, atol=1e-6)


def test_another_model_does_not_take_over_vectors(tmp_path):
    EmbeddingIndex.build(entries(5), Tower(), "model/a", tmp_path)
    other = Tower(16)
    index = EmbeddingIndex.build(entries(5), other, "model_a", tmp_path)
    assert len(other.asked) == 5 and index.dimension == 16
    assert model_slug("model/a") != model_slug("model_a")


def test_a_damaged_cache_file_is_made_anew(tmp_path):
    EmbeddingIndex.build(entries(20), Tower(), "m", tmp_path)
    (path,) = tmp_path.rglob("*.npy")
    for damage in (b"", b"nonsense", path.read_bytes()[:-100]):
        path.write_bytes(damage)
        tower = Tower()
        index = EmbeddingIndex.build(entries(20), tower, "m", tmp_path)
        assert len(tower.asked) == 20
        np.testing.assert_allclose(
            index.matrix, unit_rows(Tower()([text(e) for e in entries(20)])), atol=1e-6
        )
        del index
    assert [p.suffix for p in path.parent.iterdir()] == [".npy"]


def test_old_cache_files_are_dropped(tmp_path):
    for n in range(8):
        EmbeddingIndex.build(entries(3, f" v{n}"), Tower(), "m", tmp_path)
    assert len(list(tmp_path.rglob("*.npy"))) == 4


def test_a_model_that_fails_leaves_no_file(tmp_path):
    def broken(texts):
        return np.full((len(texts), 8), np.nan)

    with pytest.raises(ModelError, match="not finite"):
        EmbeddingIndex.build(entries(3), broken, "m", tmp_path)
    with pytest.raises(ModelError, match="another number"):
        EmbeddingIndex.build(entries(3), lambda texts: np.ones((1, 8)), "m", tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_limits_subsets_and_wrong_vectors(tmp_path):
    index = EmbeddingIndex.build(entries(10), Tower(), "m", tmp_path)
    query = np.ones(32)
    assert len(index.search(query, limit=100)[0]) == 10
    assert index.search(query, limit=0) == [[]]
    found = index.search(query, among=["e3", "e5", "unknown"])[0]
    assert {i for i, _ in found} == {"e3", "e5"}
    assert index.search(query, among=[]) == [[]]
    with pytest.raises(ModelError, match="another model"):
        index.search(np.ones(31))
    with pytest.raises(ModelError, match="not finite"):
        index.search(np.full(32, np.inf))
    with pytest.raises(ModelError, match="does not fit"):
        EmbeddingIndex(["a"], np.ones((2, 3)))


def test_no_entries_make_an_empty_index(tmp_path):
    assert EmbeddingIndex.build([], Tower(), "m", tmp_path).search(np.ones(32)) == [[]]


@pytest.mark.filterwarnings("ignore:Local mode performs exact")
def test_qdrant_local_mode_answers_as_the_exact_index_does(tmp_path):
    pytest.importorskip("qdrant_client", reason="qdrant-client is optional and not installed")
    some, tower = entries(60), Tower()
    here = EmbeddingIndex.build(some, tower, "m", tmp_path)
    there = QdrantIndex(":memory:", "m")
    assert len(there) == 0
    assert there.upload(some, Tower()) == 60
    assert there.upload(some, Tower()) == 0 and len(there) == 60
    queries = np.random.default_rng(3).normal(size=(4, 32))
    for mine, theirs in zip(here.search(queries, 8), there.search(queries, 8), strict=True):
        assert [i for i, _ in mine] == [i for i, _ in theirs]
        np.testing.assert_allclose([s for _, s in mine], [s for _, s in theirs], atol=1e-5)
    chosen = ["e1", "e2", "e3"]
    assert [i for i, _ in there.search(queries[0], among=chosen)[0]] == [
        i for i, _ in here.search(queries[0], among=chosen)[0]
    ]
    some[4] = Entry("e4", "Name 4", "New words.", "anatomy")
    assert there.upload(some, tower) == 1 and len(there) == 60
    there.close()


def test_an_unreachable_qdrant_server_gives_one_line():
    pytest.importorskip("qdrant_client", reason="qdrant-client is optional and not installed")
    index = QdrantIndex("http://127.0.0.1:9", "m")
    with pytest.raises(InputError, match=r"at 'http://127\.0\.0\.1:9' did not do") as caught:
        index.search(np.ones(4))
    assert "\n" not in caught.value.message
    for mistyped in ("ftp://x", "http://[::1", "http://host:port", "https://"):
        with pytest.raises(InputError, match="is not a server's address"):
            QdrantIndex(mistyped, "m")
