"""The cut of mask logits: greatest expected overlap, inside the box, hard logits unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velcro_engine.linking.region_mask import best_threshold, region_mask
from velcro_engine.messages.request import SliceRequest


def asked(**prompt) -> SliceRequest:
    return SliceRequest(np.zeros((40, 50), dtype=np.uint8), **prompt)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_no_other_cut_has_a_greater_expected_overlap(values):
    probability = np.array(values)

    def expected(chosen: np.ndarray) -> float:
        size = chosen.sum() + probability.sum()
        return 2 * probability[chosen].sum() / size if size else 0.0

    threshold = best_threshold(probability)
    best = max(expected(probability >= t) for t in values)
    capped = max(expected(probability >= t) for t in [*values, 0.5] if t <= 0.5 or t == 0.5)
    assert expected(probability >= threshold) >= min(best, capped) - 1e-9


def test_certain_logits_are_cut_at_zero():
    truth = np.zeros((40, 50), dtype=bool)
    truth[10:20, 12:30] = True
    mask = region_mask(np.where(truth, 9.0, -9.0).astype(np.float32), asked(box=(11, 9, 31, 21)))
    assert np.array_equal(mask, truth)


def test_a_faint_region_in_a_box_is_drawn_all_the_same():
    logits = np.full((40, 50), -6.0, dtype=np.float32)
    logits[10:20, 12:30] = -0.8
    mask = region_mask(logits, asked(box=(11, 9, 31, 21)))
    assert mask[10:20, 12:30].all() and mask.sum() == 180


def test_the_mask_stays_in_the_box():
    mask = region_mask(np.full((40, 50), 3.0, dtype=np.float32), asked(box=(10, 10, 20, 20)))
    rows, columns = np.nonzero(mask)
    assert rows.min() >= 8 and rows.max() <= 22 and columns.min() >= 8 and columns.max() <= 22


@pytest.mark.parametrize("prompt", [{"points": [(20.0, 15.0, 1)]}, {"box": (44, 34, 60, 50)}])
def test_hopeless_logits_and_boxes_at_the_edge_do_not_fail(prompt):
    mask = region_mask(np.full((40, 50), -20.0, dtype=np.float32), asked(**prompt))
    assert mask.shape == (40, 50)


def test_a_point_without_any_candidate_gives_an_empty_mask():
    logits = np.full((40, 50), -20.0, dtype=np.float32)
    assert not region_mask(logits, asked(points=[(20.0, 15.0, 1)])).any()
