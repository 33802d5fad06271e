"""Points of the user are kept to, whatever the decoder says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velcro_engine.linking.point_rules import held_to, points_to_keep
from velcro_engine.linking.region_mask import region_mask
from velcro_engine.messages.request import SliceRequest
from velcro_engine.model.preprocess import Letterbox, prompt_arrays

HEIGHT, WIDTH = 60, 80
BOX = (19.5, 14.5, 59.5, 44.5)


def two_organs() -> np.ndarray:
    """Two grey levels that meet in column 40."""
    pixels = np.full((HEIGHT, WIDTH), 40, dtype=np.uint8)
    pixels[15:45, 20:40], pixels[15:45, 40:60] = 120, 200
    return pixels


def both_inside() -> np.ndarray:
    """What a decoder says that takes both for one."""
    logits = np.full((HEIGHT, WIDTH), -6.0, dtype=np.float32)
    logits[15:45, 20:60] = 3.0
    return logits


def test_a_point_outside_takes_the_pixels_like_it_away():
    request = SliceRequest(two_organs(), box=BOX, points=((50.0, 30.0, 0),))
    mask = region_mask(both_inside(), request)
    assert not mask[30, 50] and mask[30, 25]
    assert mask[15:45, 20:38].mean() > 0.95  # the darker organ stays
    assert mask[25:35, 45:55].mean() < 0.05


def test_a_point_inside_brings_the_pixels_like_it():
    logits = both_inside()
    logits[15:45, 40:60] = -3.0
    request = SliceRequest(two_organs(), box=BOX, points=((50.0, 30.0, 1),))
    mask = region_mask(logits, request)
    assert mask[30, 50] and mask[25:35, 45:55].mean() > 0.95
    assert not mask[:13].any() and not mask[47:].any()


def test_a_point_inside_beyond_the_box_is_kept_to():
    request = SliceRequest(two_organs(), box=(19.5, 14.5, 39.5, 44.5), points=((55.0, 30.0, 1),))
    logits = both_inside()
    logits[:, 40:] = -6.0
    assert region_mask(logits, request)[30, 55]


points = st.lists(
    st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(0, 1)),
    min_size=1,
    max_size=12,
    unique_by=lambda p: p[:2],
)


@settings(max_examples=60, deadline=None)
@given(points, st.integers(0, 5))
def test_every_point_is_on_its_side_and_nothing_runs_away(given_points, seed):
    odds = np.random.default_rng(seed).normal(0, 3, (HEIGHT, WIDTH)).astype(np.float32)
    bent = held_to(odds, two_organs(), given_points, 900)
    for x, y, label in given_points:
        assert (bent[y, x] > 0) == (label == 1)
    assert np.isfinite(bent).all() and np.abs(bent - odds).max() < 100


def test_points_that_are_kept_to_already_change_nothing():
    odds = both_inside()
    assert held_to(odds, two_organs(), [(30.0, 30.0, 1), (5.0, 5.0, 0)], 900) is odds
    assert held_to(odds, two_organs(), [(500.0, 30.0, 1)], 900) is odds


@pytest.mark.parametrize(
    ("box", "given_points", "asked", "kept"),
    [
        (BOX, ((30.0, 30.0, 1), (50.0, 30.0, 0)), [2, 3], 2),
        (None, ((30.0, 30.0, 1),), [1], 0),
        (None, ((30.0, 30.0, 1), (50.0, 30.0, 0)), [1], 2),
    ],
)
def test_the_decoder_is_asked_what_it_was_trained_on(box, given_points, asked, kept):
    request = SliceRequest(two_organs(), box=box, points=given_points)
    _, labels = prompt_arrays(request, Letterbox(0, 0, 1.0, 80))
    assert [int(v) for v in labels[0] if v >= 0] == asked
    assert len(points_to_keep(box, given_points)) == kept
