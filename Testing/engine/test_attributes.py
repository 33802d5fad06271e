import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from velcro_engine.imaging.diameters import convex_hull, diameters
from velcro_engine.linking.attributes import measure, place
from velcro_engine.messages.request import Foreground, SliceRequest

FORE = Foreground((0.0, 0.0, 0.0), (60.0, 80.0, 70.0))


def request(spacing=0.5, origin=(0, 0, 0), shape=(80, 100), **changes):
    matrix = np.diag([-spacing, -spacing, 1.0, 1.0])
    matrix[:3, 3] = origin
    values = {"pixel_to_ras": matrix, "foreground": FORE, "box": (1, 1, 50, 50)} | changes
    return SliceRequest(pixels=np.zeros(shape, np.uint8), **values)


def rectangle(height, width, shape=(80, 100)):
    mask = np.zeros(shape, bool)
    mask[20 : 20 + height, 30 : 30 + width] = True
    return mask


def test_a_bar_measures_its_length_and_width():
    found = measure(rectangle(1, 40), request())
    assert found["area_mm2"] == 10.0
    assert found["longest_diameter_mm"] == 20.0 and found["perpendicular_mm"] == 0.5


def test_an_ellipse_measures_its_axes():
    y, x = np.mgrid[:200, :200] - 100
    angle = 0.6
    u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    longest, perpendicular = diameters((u / 70) ** 2 + (v / 30) ** 2 <= 1)
    assert longest == pytest.approx(140, abs=2) and perpendicular == pytest.approx(60, abs=2)


def test_a_single_pixel_measures_one_by_one():
    assert diameters(rectangle(1, 1)) == (1.0, 1.0)


@given(st.integers(0, 10**6), st.floats(0.02, 0.9))
@settings(max_examples=60, deadline=None)
def test_the_longest_diameter_is_the_largest_distance_of_two_pixels(seed, density):
    mask = np.random.default_rng(seed).random((17, 23)) < density
    if mask.sum() < 2:
        return
    longest, perpendicular = diameters(mask)
    rows, columns = np.nonzero(mask)
    assert longest == pytest.approx(pdist(np.stack([columns, rows], 1)).max() + 1)
    assert 1.0 <= perpendicular <= longest + 1e-9


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_the_hull_is_convex_and_holds_every_pixel(seed):
    mask = np.random.default_rng(seed).random((15, 15)) < 0.2
    if not mask.any():
        return
    hull = convex_hull(mask)
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], 1)
    if len(hull) < 3:
        return
    edges = np.roll(hull, -1, axis=0) - hull
    for corner, edge in zip(hull, edges, strict=True):
        cross = edge[0] * (points[:, 1] - corner[1]) - edge[1] * (points[:, 0] - corner[0])
        assert (cross >= -1e-9).all()


def test_size_is_told_against_what_is_usual():
    mask = rectangle(10, 40)  # about 20.6 mm
    assert measure(mask, request(), (30, 50))["size"] == "small"
    assert measure(mask, request(), (15, 30))["size"] == "usual"
    assert measure(mask, request(), (5, 10))["size"] == "large"
    assert "size" not in measure(mask, request())


@pytest.mark.parametrize(
    ("ras", "zone", "side"),
    [
        ((30, 40, 50), "upper anterior", "right"),
        ((-30, -40, -50), "lower posterior", "left"),
        ((1, 0, 0), "middle central", "midline"),
        ((-20, 10, 60), "upper central", "left"),
    ],
)
def test_zone_and_body_side_follow_the_foreground(ras, zone, side):
    assert place(np.array(ras), FORE) == {"zone": zone, "body_side": side}


def test_what_a_one_slice_volume_cannot_know_is_left_out():
    flat = Foreground((0.0, 0.0, 0.0), (60.0, 80.0, 1.0))
    assert place(np.array([30, 40, 0]), flat) == {"zone": "anterior", "body_side": "right"}


def test_an_image_without_position_has_no_millimetres():
    plain = request(pixel_to_ras=None, foreground=None)
    assert measure(rectangle(5, 5), plain) == {}
    assert measure(rectangle(0, 0), request()) == {}
