import numpy as np
import SimpleITK as sitk

from velcro_engine.imaging.overlay import BOX_COLOUR, enlargement, png_bytes, render_overlay
from velcro_engine.messages.request import SliceRequest
from velcro_engine.pages.link import direction_letter


def test_a_png_comes_back_from_another_reader(tmp_path):
    random = np.random.default_rng(0)
    for shape in ((13, 7), (9, 11, 3)):
        picture = random.integers(0, 256, shape).astype(np.uint8)
        (tmp_path / "p.png").write_bytes(png_bytes(picture))
        assert np.array_equal(
            sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "p.png"))), picture
        )


def test_the_mask_is_tinted_and_outlined_and_nothing_else_changes():
    pixels = np.full((40, 50), 100, np.uint8)
    mask = np.zeros((40, 50), bool)
    mask[10:20, 15:30] = True
    request = SliceRequest(pixels, box=(12, 8, 33, 22))
    picture = render_overlay(request, mask, (1.0, 0.0, 0.0))
    assert picture.shape == (40, 50, 3)
    assert tuple(picture[15, 20]) == (154, 65, 65)  # filled: 35 % of the colour
    assert tuple(picture[10, 15]) == (255, 0, 0)  # outline
    assert tuple(picture[8, 20]) == BOX_COLOUR  # the box's edge lies on row 8
    outside = np.ones((40, 50), bool)
    outside[8:23, 12:34] = False
    assert (picture[outside] == 100).all()


def test_a_small_slice_is_enlarged_by_a_whole_factor():
    assert enlargement((100, 80)) == 7 and enlargement((2000, 10)) == 1
    pixels = np.random.default_rng(1).integers(0, 256, (30, 20)).astype(np.uint8)
    request = SliceRequest(pixels, points=((5, 5, 1), (9, 9, 0)))
    picture = render_overlay(request, np.zeros((30, 20), bool), (0, 1, 0), 5)
    assert picture.shape == (150, 100, 3)


def test_a_mask_at_the_edge_of_the_image_keeps_its_outline_there():
    mask = np.ones((10, 10), bool)
    request = SliceRequest(np.zeros((10, 10), np.uint8), points=((5, 5, 1),))
    picture = render_overlay(request, mask, (0, 0, 1.0), 1)
    assert tuple(picture[0, 0]) == (0, 0, 255)


def test_directions_are_named_by_the_closest_axis():
    assert direction_letter(np.array([-0.9, 0.3, 0])) == "L"
    assert direction_letter(np.array([0, 0.2, 0.9])) == "S"
    assert direction_letter(np.array([0.1, -1, 0.2])) == "P"
