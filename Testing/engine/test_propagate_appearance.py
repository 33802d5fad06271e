"""What a region looks like is learnt on one slice and found again on another."""

import numpy as np
import pytest

from velcro_engine.model.onnx_runtime import EncodedSlice
from velcro_engine.model.preprocess import Letterbox
from velcro_engine.propagation.appearance import LIMIT, Appearance

SIDE = 96
WINDOW = Letterbox(0.0, 0.0, 224 / SIDE, 224)


def slice_with_disc(centre, seed=0):
    """(encoded slice, uint8 pixels, bool disc): three of six feature maps know the disc."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= 12**2
    near = np.rint((np.arange(112) + 0.5) * SIDE / 112 - 0.5).astype(int).clip(0, SIDE - 1)
    on_grid = disc[np.ix_(near, near)]
    maps = rng.normal(size=(1, 6, 112, 112)).astype(np.float32)
    maps[0, :3] += 2.5 * on_grid
    pixels = rng.integers(80, 120, (SIDE, SIDE)).astype(np.uint8)
    return EncodedSlice({"pixels": maps}), pixels, disc


def test_it_is_found_where_it_has_moved_to():
    appearance = Appearance()
    encoded, pixels, disc = slice_with_disc((40, 40))
    appearance.learn(encoded, disc, WINDOW, pixels)
    assert appearance.learnt and appearance.usual > 1
    encoded, pixels, moved = slice_with_disc((50, 55), seed=1)
    odds = appearance.odds(encoded, WINDOW, pixels)
    assert odds.shape == (SIDE, SIDE) and np.abs(odds).max() <= LIMIT
    found = odds > 0
    assert 2 * (found & moved).sum() / (found.sum() + moved.sum()) > 0.85


def test_grey_levels_alone_tell_it_too():
    appearance = Appearance()
    encoded, pixels, disc = slice_with_disc((40, 40))
    encoded.maps["pixels"][:] = np.random.default_rng(3).normal(size=(1, 6, 112, 112))
    pixels[disc] = 200
    appearance.learn(encoded, disc, WINDOW, pixels)
    odds = appearance.odds(encoded, WINDOW, pixels)
    assert odds[disc].mean() > 1 > 0 > odds[~disc].mean()


@pytest.mark.parametrize("kind", ["no maps", "empty mask", "whole slice"])
def test_what_cannot_be_learnt_from_teaches_nothing(kind):
    encoded, pixels, disc = slice_with_disc((40, 40))
    if kind == "no maps":
        encoded = EncodedSlice({})
    mask = {"empty mask": disc & False, "whole slice": disc | True}.get(kind, disc)
    appearance = Appearance()
    appearance.learn(encoded, mask, WINDOW, pixels)
    assert not appearance.learnt
    assert appearance.odds(encoded, WINDOW, pixels) is None
