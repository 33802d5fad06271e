"""MedTrim's score, mining and loss."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velcro_engine.errors import InputError
from velcro_engine.reports.meta_entities import read_report
from velcro_engine.reports.triplets import (
    MetaEntities,
    MetaTable,
    meta_of_report,
    meta_of_roi,
    mine,
    score_matrix,
    score_pair,
    triplet_batches,
)
from velcro_engine.training.losses.triplets import triplet_loss


def meta(**findings):
    return MetaEntities({k: (frozenset(a), frozenset(d)) for k, (a, d) in findings.items()})


words = st.frozensets(st.sampled_from("abcd"), max_size=3)
metas = st.lists(
    st.dictionaries(st.sampled_from("uvwxyz"), st.tuples(words, words), max_size=4).map(
        MetaEntities
    ),
    max_size=12,
)


def test_published_weights_of_findings_adjectives_and_directions():
    a = meta(effusion=(["small"], ["left"]), edema=([], []))
    assert score_pair(a, a) == pytest.approx(1.0)
    b = meta(effusion=(["large"], ["left"]))
    # one of two findings; adjectives 0 of 2; directions 1 of 2 findings of the anchor
    assert score_pair(a, b) == pytest.approx(0.85 / 2 + 0.05 / 2)
    assert score_pair(b, a) == pytest.approx(0.85 / 2 + 0.05)
    assert score_pair(a, meta(mass=([], []))) == 0


def test_two_reports_without_findings_agree_fully_and_with_nothing_else():
    assert score_pair(meta(), meta()) == pytest.approx(1.0)
    assert score_pair(meta(), meta(mass=([], []))) == 0


@settings(max_examples=200, deadline=None)
@given(metas, metas)
def test_all_at_once_equals_pair_by_pair(anchors, references):
    exact = [[score_pair(a, r) for r in references] for a in anchors]
    got = score_matrix(anchors, references)
    assert got.shape == (len(anchors), len(references))
    np.testing.assert_allclose(got, np.reshape(exact, got.shape), atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(metas, st.randoms())
def test_a_pool_of_a_table_is_scored_in_its_own_order(items, random):
    pool = [random.randrange(len(items)) for _ in range(6)] if items else []
    table = MetaTable(items)
    got = table.scores(np.array(pool, int))
    exact = [[score_pair(items[a], items[r]) for r in pool] for a in pool]
    np.testing.assert_allclose(got, np.reshape(exact, got.shape), atol=1e-6)


SCORES = np.array(
    [
        [1.0, 0.9, 0.55, 0.3, 0.2, 0.0],
        [0.9, 1.0, 0.1, 0.2, 0.1, 0.1],
        [0.5, 0.1, 1.0, 0.9, 0.9, 0.9],
        [0.3, 0.2, 0.9, 1.0, 0.9, 0.9],
        [0.2, 0.1, 0.9, 0.9, 1.0, 0.9],
        [0.0, 0.1, 0.9, 0.9, 0.9, 1.0],
    ]
)


def test_semi_hard_negative_is_the_lowest_score_that_is_still_a_quarter():
    found = mine(SCORES, np.array([0]), np.random.default_rng(0), 1.0)
    assert (found.anchor[0], found.positive[0], found.negative[0]) == (0, 1, 3)


def test_without_a_semi_hard_negative_the_highest_below_is_taken():
    found = mine(SCORES, np.array([1]), np.random.default_rng(0), 1.0)
    assert (found.positive[0], found.negative[0]) == (0, 3)


def test_easy_negative_is_the_lowest_score():
    found = mine(SCORES, np.array([0]), np.random.default_rng(0), 0.0)
    assert found.negative[0] == 5


def test_an_anchor_whose_others_are_all_alike_gives_no_triplet():
    assert len(mine(np.full((4, 4), 0.9), np.arange(4), np.random.default_rng(0))) == 0
    assert len(mine(np.full((4, 4), 0.1), np.arange(4), np.random.default_rng(0))) == 0


@settings(max_examples=60, deadline=None)
@given(metas.filter(lambda m: len(m) > 2), st.integers(0, 99))
def test_mined_triplets_keep_the_published_bounds(items, seed):
    scores = score_matrix(items)
    found = mine(scores, np.arange(len(items)), np.random.default_rng(seed))
    a, p, n = found.anchor, found.positive, found.negative
    assert (a != p).all() and (a != n).all()
    assert (scores[a, n] < 0.6).all()
    assert (scores[a, p] > scores[a, n]).all()
    for i, j in zip(a, p, strict=True):
        assert scores[i, j] >= np.delete(scores[i], i).max() - 1e-5


def test_equal_scores_are_drawn_by_chance():
    scores = np.where(np.arange(20) < 10, 0.9, 0.3) * np.ones((20, 1))
    drawn = {
        int(mine(scores, np.array([0]), np.random.default_rng(s)).negative[0]) for s in range(40)
    }
    assert len(drawn) > 3


def test_batches_hold_at_most_32_anchors_of_the_corpus():
    items = [meta(**{name: ([], [side])}) for name in "abc" for side in ("left", "right")] * 20
    batches = triplet_batches(items, np.random.default_rng(0), pool=64)
    for _ in range(5):
        found = next(batches)
        assert 0 < len(found) <= 32
        for i, j, k in zip(found.anchor, found.positive, found.negative, strict=True):
            assert items[i].findings.keys() == items[j].findings.keys()
            assert items[i].findings.keys() != items[k].findings.keys()


def test_a_corpus_that_gives_no_triplet_is_refused():
    with pytest.raises(InputError, match="three"):
        next(triplet_batches([meta(), meta()], np.random.default_rng(0)))
    with pytest.raises(InputError, match="same entity"):
        next(triplet_batches([meta(a=([], []))] * 5, np.random.default_rng(0)))


def test_meta_entities_of_a_report_and_of_a_roi():
    found = meta_of_report(read_report("Small left pleural effusion."))
    adjectives, directions = found.findings["pleural_effusion"]
    assert "size/small" in adjectives
    assert directions == {"left"}
    attributes = {"zone": "upper posterior", "size": "large", "area_mm2": 3.0, "body_side": "right"}
    roi = meta_of_roi("glioma", attributes=attributes)
    assert roi.findings["glioma"] == ({"upper", "posterior", "large"}, {"right"})
    assert meta_of_roi("glioma", "left", attributes).findings["glioma"][1] == {"left"}
    assert meta_of_roi("trachea").findings["trachea"] == (frozenset(), frozenset())


def test_loss_is_the_mean_of_four_hinges_on_cosine_distance():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, 3, 5, 8)).astype(np.float32)

    def distance(a, b):
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return 1 - (a * b).sum(1) / norms

    terms = [
        np.maximum(distance(a[0], b[1]) - distance(a[0], b[2]) + 0.3, 0).mean()
        for a, b in ((image, image), (image, text), (text, text), (text, image))
    ]
    got = triplet_loss(torch.from_numpy(image), torch.from_numpy(text))
    assert math.isclose(float(got), float(np.mean(terms)), rel_tol=1e-5)


def test_loss_vanishes_when_positives_are_nearer_by_the_margin_and_has_gradients_otherwise():
    torch = pytest.importorskip("torch")
    near, far = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(triplet_loss((near, near, far), (near, near, far))) == 0
    anchor = near.clone().requires_grad_()
    triplet_loss((anchor, far, near), (near, near, far)).backward()
    assert torch.isfinite(anchor.grad).all() and anchor.grad.abs().sum() > 0
