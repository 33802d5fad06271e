import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velcro_engine.errors import GeometryError, InputError, VelcroError
from velcro_engine.messages.request import (
    CT_CURVE_GREY,
    CT_CURVE_HU,
    Foreground,
    IntensityWindow,
    SliceRequest,
    intensity_window,
)

finite = st.floats(-1e4, 1e4)


@st.composite
def requests(draw):
    height, width = draw(st.integers(4, 30)), draw(st.integers(4, 30))
    seed = draw(st.integers(0, 10**6))
    random = np.random.default_rng(seed)
    matrix = None
    if draw(st.booleans()):
        matrix = np.eye(4)
        matrix[:3, :3] = np.linalg.qr(random.standard_normal((3, 3)))[0] * draw(st.floats(0.1, 5))
        matrix[:3, 3] = draw(st.tuples(finite, finite, finite))
    x0, y0 = draw(st.floats(-0.5, width - 2.5)), draw(st.floats(-0.5, height - 2.5))
    box = (x0, y0, x0 + 1.5, y0 + draw(st.floats(1.01, 50)))
    points = tuple(
        (random.uniform(0, width - 1), random.uniform(0, height - 1), 1)
        for _ in range(draw(st.integers(0, 3)))
    )
    return SliceRequest(
        pixels=random.integers(0, 256, (height, width)).astype(np.uint8),
        pixel_to_ras=matrix,
        foreground=draw(st.none() | st.just(Foreground((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))),
        box=draw(st.just(box) | st.none()) if points else box,
        points=points,
        plane=draw(st.sampled_from([None, "axial", "oblique"])),
        modality=draw(st.sampled_from([None, "CT", "MR"])),
    )


@given(requests())
@settings(max_examples=80, deadline=None)
def test_a_request_survives_the_process_boundary(request):
    header, payload = request.to_message()
    again = SliceRequest.from_message(json.loads(json.dumps(header)), payload)
    assert np.array_equal(again.pixels, request.pixels)
    assert (again.pixel_to_ras is None) == (request.pixel_to_ras is None)
    if request.pixel_to_ras is not None:
        assert np.array_equal(again.pixel_to_ras, request.pixel_to_ras)
    for name in ("foreground", "box", "points", "plane", "modality", "top_k", "slice_id"):
        assert getattr(again, name) == getattr(request, name)


@given(requests(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_damaged_message_never_does_more_than_a_velcro_error(request, data):
    header, payload = request.to_message()
    key = data.draw(st.sampled_from(sorted(header)))
    header[key] = data.draw(
        st.none()
        | st.integers()
        | st.text(max_size=3)
        | st.lists(st.integers(), max_size=3)
        | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
    )
    try:
        SliceRequest.from_message(header, payload)
    except VelcroError as error:
        assert "\n" not in str(error)


@given(requests())
@settings(max_examples=30, deadline=None)
def test_the_prompt_does_not_change_the_slice_id_but_the_pixels_do(request):
    assert request.with_prompt(box=(0, 0, 3, 3)).slice_id == request.slice_id
    pixels = request.pixels.copy()
    pixels[0, 0] ^= 1
    other = SliceRequest(
        pixels, request.pixel_to_ras, request.foreground, box=(0, 0, 3, 3), plane=request.plane
    )
    assert other.slice_id != request.slice_id


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"box": (20, 20, 30, 30)}, GeometryError),
        ({"box": (1, 1, 1.5, 8)}, GeometryError),
        ({"box": (1, 1, float("nan"), 8)}, GeometryError),
        ({"box": None}, GeometryError),
        ({"box": None, "points": ((3, 3, 0),)}, GeometryError),
        ({"box": None, "points": ((30, 3, 1),)}, GeometryError),
        ({"points": ((3, 3, 2),)}, GeometryError),
        ({"pixels": np.zeros((3, 3, 3), np.uint8)}, InputError),
        ({"pixels": np.zeros((3, 3), np.float32)}, InputError),
        ({"pixels": np.zeros((0, 3), np.uint8)}, InputError),
        ({"pixel_to_ras": np.zeros((4, 4))}, GeometryError),
        ({"pixel_to_ras": np.full((4, 4), np.inf)}, GeometryError),
        ({"plane": "transversal"}, InputError),
        ({"modality": "PET"}, InputError),
    ],
)
def test_unusable_requests_are_refused(changes, error):
    values = {"pixels": np.zeros((10, 10), np.uint8), "box": (1, 1, 8, 8)} | changes
    with pytest.raises(error):
        SliceRequest(**values)


def test_a_box_beyond_the_edge_is_cut_to_the_image_and_may_be_drawn_backwards():
    request = SliceRequest(np.zeros((10, 12), np.uint8), box=(30, 8, 4, -5))
    assert request.box == (4, -0.5, 11.5, 8)


def test_the_ct_curve_keeps_air_lung_soft_tissue_and_bone_apart():
    window = IntensityWindow("ct", -1000, 1500)
    greys = window.apply(np.array([-1000, -700, -100, 40, 60, 200, 800, 3000]))
    assert (np.diff(greys.astype(int)) >= 0).all()
    assert greys[0] == 0 and greys[-1] == 255 and greys[4] - greys[3] >= 8
    assert np.array_equal(window.apply(np.array(CT_CURVE_HU)), np.rint(CT_CURVE_GREY))


@given(st.lists(st.floats(width=32), min_size=1, max_size=60))
@settings(deadline=None)
def test_any_values_give_a_usable_window(values):
    array = np.array(values, dtype=np.float32)
    window = intensity_window(array)
    with np.errstate(over="ignore", invalid="ignore"):
        assert window.apply(array).shape == array.shape
