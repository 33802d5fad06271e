"""Three directions correct what a walk along one of them has found."""

from types import SimpleNamespace

import numpy as np
import pytest

from velcro_engine.errors import Cancelled
from velcro_engine.imaging.slice_voxels import labels_to_slice
from velcro_engine.imaging.slices import anatomical_axes, cut_plane
from velcro_engine.imaging.volume import make_volume
from velcro_engine.propagation.views import seen_from_all_sides
from velcro_engine.propagation.walk import Walk

SHAPE = (30, 40, 44)
MATRIX = np.diag([-1.0, -1.0, 1.5, 1.0])


def ball(centre, radius):
    grid = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    apart = [(g - c) * s for g, c, s in zip(grid, centre, (1.5, 1, 1), strict=True)]
    return sum(a**2 for a in apart) <= radius**2


TRUTH = ball((14, 20, 22), 9)


class Work:
    """What a walk over TRUTH would be, were every seventh pixel of each slice misjudged, by the
    decoder and by the names of pixels."""

    plane, share = "axial", 0.2
    layers = Walk.layers

    def __init__(self, says=TRUTH, cancel_at=2.0, named=True):
        self.volume = make_volume(np.full(SHAPE, 100, np.uint8), MATRIX, "MR")
        self.axis = anatomical_axes(self.volume)[2][0]
        self.says, self.cancel_at = says.astype(np.uint8), cancel_at
        self.by_pixels = named
        self.rng = np.random.default_rng(0)
        self.told, self.boxes = [], []

    def progress(self, fraction, message):
        self.told.append(fraction)
        if fraction >= self.cancel_at:
            raise Cancelled("stopped")

    def cut(self, plane, index):
        return cut_plane(self.volume, plane, index=index)

    def judged(self, request):
        cut = SimpleNamespace(pixels=request.pixels, pixel_to_ras=request.pixel_to_ras)
        inside = labels_to_slice(self.says, cut, self.volume) > 0
        wrong = self.rng.random(inside.shape) < 0.15
        return np.where(inside ^ wrong, 2.0, -2.0)

    def encode(self, request):
        return request, None

    def decode(self, request):
        self.boxes.append(request.box)
        return self.judged(request), None, request, None

    def margin(self, request, window, shape):
        assert self.by_pixels
        return self.judged(request)


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (a.sum() + b.sum())


def test_three_directions_correct_a_walk_that_has_drifted():
    work, walked = Work(), ball((14, 22, 23), 8)
    found = seen_from_all_sides(work, walked, kept=[])
    assert dice(found, TRUTH) > 0.87 > 0.83 > dice(walked, TRUTH)
    assert work.told == sorted(work.told) and work.told[0] >= 0.2 and work.told[-1] < 1
    assert found.shape == walked.shape and found.dtype == bool


def test_the_start_and_corrected_layers_stay_as_they_are():
    walked = ball((14, 22, 23), 7)
    found = seen_from_all_sides(Work(), walked, kept=[14, 16])
    assert (found[14] == walked[14]).all() and (found[16] == walked[16]).all()
    assert (found[15] != walked[15]).any()


def test_without_names_the_decoder_decides_alone_and_is_asked_twice():
    named, nameless = Work(), Work(named=False)
    walked = ball((14, 22, 23), 8)
    for work in (named, nameless):
        found = seen_from_all_sides(work, walked, kept=[])
        assert dice(found, TRUTH) > 0.82
        assert work.told == sorted(work.told) and work.told[-1] < 1
    assert len(nameless.boxes) > 1.5 * len(named.boxes) > 0


def test_where_the_model_is_against_it_the_walk_stands():
    walked = ball((14, 20, 22), 5)
    assert (seen_from_all_sides(Work(says=TRUTH & False), walked, []) == walked).all()


def test_a_region_at_the_volumes_border_stays_in_it():
    truth = ball((0, 0, 43), 12)
    found = seen_from_all_sides(Work(says=truth), ball((1, 1, 42), 11), kept=[])
    assert dice(found, truth) > 0.85


def test_it_can_be_cancelled():
    with pytest.raises(Cancelled):
        seen_from_all_sides(Work(cancel_at=0.6), TRUTH, [])
