"""What the pixels under a user's clicks say: it names the region, and nothing else changes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from velcro_engine.linking.clicked_pixels import ClickedPixels, shares_at
from velcro_engine.linking.linker import Linker
from velcro_engine.messages.request import SliceRequest
from velcro_engine.model.preprocess import Letterbox, letterbox_of
from velcro_engine.training.measuring.link_evaluation import LinkerAnswers

NAMES = ("thalamus", "putamen", "unheard_of")
SIZE, GRID = 32, 16
WINDOW = Letterbox(0.0, 0.0, 1.0, SIZE)  # the slice itself


def entry(name):
    return SimpleNamespace(id=name)


BASE = SimpleNamespace(entries=tuple(entry(n) for n in ("own", "putamen", "thalamus", "liver")))
OWN, PUTAMEN, THALAMUS, LIVER = range(4)


def encoded():
    """The left half of the picture says thalamus, the right half putamen; "nothing" is last."""
    posterior = np.full((1, len(NAMES) + 1, GRID, GRID), 0.05, dtype=np.float32)
    posterior[0, 0, :, : GRID // 2] = 0.85
    posterior[0, 1, :, GRID // 2 :] = 0.85
    return SimpleNamespace(maps={"posterior": posterior})


def request(**changes):
    values = {
        "pixels": np.full((SIZE, SIZE), 90, np.uint8),
        "pixel_to_ras": np.eye(4),
        "points": ((4.0, 15.0, 1),),
    }
    return SliceRequest(**(values | changes))


def heed(asked, maps=None):
    probability = np.array([0.1, 0.4, 0.3, 0.2])
    mask = np.zeros((SIZE, SIZE), np.float32)
    got = ClickedPixels(NAMES, BASE).heed(maps or encoded(), asked, WINDOW, probability, mask)
    return (*got, probability, mask)


def test_the_pixel_under_the_click_names_the_region():
    probability, _, before, _ = heed(request())
    assert probability.argmax() == THALAMUS and before.argmax() == PUTAMEN
    assert heed(request(points=((28.0, 15.0, 1),)))[0].argmax() == PUTAMEN


def test_entries_that_pixels_cannot_name_keep_their_share():
    probability, _, before, _ = heed(request())
    assert probability[OWN] == before[OWN] and probability[LIVER] == before[LIVER]
    assert probability.sum() == pytest.approx(1.0)


def test_the_mask_grows_towards_pixels_of_that_name_and_leaves_the_others():
    _, mask, _, _ = heed(request())
    assert (mask[:, : SIZE // 2] > 0).all() and (mask[:, SIZE // 2 :] < 0).all()


def test_several_clicks_are_one_question():
    many = ((4.0, 15.0, 1), (5.0, 20.0, 1), (6.0, 10.0, 1))
    once, often = heed(request())[0], heed(request(points=many))[0]
    assert often == pytest.approx(once, abs=1e-6)
    beside = ((4.0, 15.0, 1), (28.0, 15.0, 0))  # a point outside asks nothing
    assert heed(request(points=beside))[0] == pytest.approx(once)


@pytest.mark.parametrize(
    ("changes", "maps"),
    [
        ({"box": (2.0, 2.0, 9.0, 20.0)}, None),
        ({"box": (2.0, 2.0, 9.0, 20.0), "points": ()}, None),
        ({"pixel_to_ras": None}, None),
        ({}, SimpleNamespace(maps={})),
        ({}, SimpleNamespace()),
    ],
    ids=["box and point", "box", "picture", "no names of pixels", "tokens only"],
)
def test_everything_else_is_left_as_it_was(changes, maps):
    probability, mask, before, old = heed(request(**changes), maps)
    assert probability is before and mask is old


def test_a_knowledge_base_without_these_entities_is_left_alone():
    before, old = np.array([1.0]), np.zeros((SIZE, SIZE))
    base = SimpleNamespace(entries=(entry("own"),))
    got = ClickedPixels(NAMES, base).heed(encoded(), request(), WINDOW, before, old)
    assert got[0] is before and got[1] is old


def test_shares_between_pixels_are_interpolated_and_end_at_the_edge():
    maps = np.arange(GRID, dtype=float)[None, None, :].repeat(GRID, 1)  # 1 x h x w, value = column
    at = shares_at(maps, WINDOW, np.array([[0.5, 3.0], [1.5, 3.0], [2.5, 3.0], [-9.0, 99.0]]))
    assert at[0] == pytest.approx([0.0, 0.5, 1.0, 0.0])
    assert shares_at(maps, WINDOW, np.array([[99.0, 0.0]]))[0] == pytest.approx([GRID - 1])


@pytest.mark.usefixtures("own_home")
def test_the_benchmark_measures_what_the_user_gets(bundled):
    from velcro_engine.model.opening import open_runtime

    linker = Linker(open_runtime(), bundled)
    rng = np.random.default_rng(5)
    pixels = np.zeros((120, 100), np.uint8)
    pixels[15:105, 15:85] = rng.integers(60, 200, (90, 70))
    matrix = np.diag([-1.5, -1.5, 1.0, 1.0])
    asked = SliceRequest(pixels, matrix, points=((40.0, 50.0, 1),), plane="axial")
    result = linker.link(asked)
    answerer, window = LinkerAnswers(linker), letterbox_of(asked, linker.runtime.size)
    answer = answerer.answer(answerer.encode(asked, window), [asked], window)
    best = int(answer.probability[0].argmax())
    assert bundled.entries[best].id == result.entries[0].id
    assert answer.probability[0, best] == pytest.approx(result.entries[0].confidence, abs=1e-6)
