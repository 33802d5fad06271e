"""Two parts of one structure, and pieces apart from a segment."""

import numpy as np
import pytest

from velcro_engine.review.flags import Evidence, judge
from velcro_engine.review.order import separated_parts, touch
from velcro_engine.segmentations.shapes import Shape

NAMES = ["Anterior hippocampus", "Posterior hippocampus", "Amygdala"]


def block(start, size=(3, 4, 5)):
    return Shape(np.ones(size, bool), start, int(np.prod(size)))


@pytest.mark.parametrize(
    ("start", "together"),
    [((3, 0, 0), True), ((3, 4, 5), True), ((4, 0, 0), False), ((1, 1, 1), True)],
)
def test_shapes_touch_across_faces_and_corners_but_not_across_a_voxel(start, together):
    assert touch(block((0, 0, 0)), block(start)) is together
    assert touch(block(start), block((0, 0, 0))) is together


def test_parts_that_lie_apart_are_both_told_and_nothing_else():
    shapes = [block((0, 0, 0)), block((9, 0, 0)), block((20, 0, 0))]
    found = separated_parts(NAMES, shapes, [False] * 3)
    assert set(found) == {0, 1} and "do not touch" in found[0]
    assert separated_parts(NAMES, shapes, [True, True, False]) == {}
    shapes[1] = block((3, 0, 0))
    assert separated_parts(NAMES, shapes, [False] * 3) == {}


def test_a_large_piece_near_by_needs_a_look_and_a_speck_does_not():
    near = {"ml": 3.0, "stray": (0.4, 2.0), "stray_share": 0.15}
    assert judge(Evidence(**near)).flagged
    assert judge(Evidence(**near, confirmed=True)).flagged
    assert not judge(Evidence(**near, scattered=True)).flagged
    assert not judge(Evidence(ml=3.0, stray=(0.05, 2.0), stray_share=0.02)).flagged
    assert not judge(Evidence(ml=3.0, stray=(0.4, 0.0), stray_share=0.15)).flagged
