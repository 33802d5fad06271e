from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from affines import AFFINES, matrix, rotation, volume_of
from velcro_engine.errors import GeometryError, InputError
from velcro_engine.imaging.slice_voxels import labels_to_slice, mask_to_voxels
from velcro_engine.imaging.slices import (
    anatomical_axes,
    anatomical_slices,
    cut_matrix,
    cut_plane,
    cut_slice,
)
from velcro_engine.imaging.volume import make_volume
from velcro_engine.messages.request import plane_of

PLANES = ("axial", "coronal", "sagittal")
every_affine = pytest.mark.parametrize("name", AFFINES)
every_plane = pytest.mark.parametrize("plane", PLANES)


def layer_mask(volume, plane, index, seed=0):
    """Random voxels of one layer of the volume, K x J x I."""
    axis = anatomical_axes(volume)[{"sagittal": 0, "coronal": 1, "axial": 2}[plane]][0]
    layer = np.zeros(volume.array.shape, dtype=bool)
    where = [slice(None)] * 3
    where[2 - axis] = index
    layer[tuple(where)] = True
    return layer & (np.random.default_rng(seed).random(layer.shape) < 0.4)


@every_plane
@every_affine
def test_mask_returns_to_exactly_the_voxels_it_was_drawn_on(name, plane):
    volume = volume_of(name)
    for index in (0, 3, 10):
        drawn = layer_mask(volume, plane, index, seed=index)
        cut = cut_plane(volume, plane, index=index)
        assert np.array_equal(
            mask_to_voxels(labels_to_slice(drawn, cut, volume), cut, volume), drawn
        )


@every_plane
@every_affine
def test_labels_of_a_layer_come_back_unchanged(name, plane):
    volume = volume_of(name)
    labels = np.random.default_rng(1).integers(0, 60, volume.array.shape).astype(np.uint8)
    cut = cut_plane(volume, plane, index=4)
    on_slice = labels_to_slice(labels, cut, volume)
    for value in range(1, 60):
        voxels = mask_to_voxels(on_slice == value, cut, volume)
        whole_layer = mask_to_voxels(np.ones(on_slice.shape, bool), cut, volume)
        assert np.array_equal(voxels, (labels == value) & whole_layer)


@given(
    angle=st.floats(-180, 180),
    axis=st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 1)),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    order=st.permutations([0, 1, 2]),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    plane=st.sampled_from(PLANES),
    seed=st.integers(0, 9999),
)
@settings(max_examples=150, deadline=None)
def test_round_trip_holds_for_any_grid(
    angle, axis, flips, order, spacing, origin, shape, plane, seed
):
    directions = rotation(angle, axis)[:, order] * flips
    array = np.random.default_rng(seed).random(shape).astype(np.float32)
    volume = make_volume(array, matrix(directions, spacing, origin))
    normal = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    count = int(volume.shape_ijk[anatomical_axes(volume)[normal][0]])
    index = seed % count
    drawn = layer_mask(volume, plane, index, seed)
    cut = cut_plane(volume, plane, index=index)
    assert np.array_equal(mask_to_voxels(labels_to_slice(drawn, cut, volume), cut, volume), drawn)
    assert abs(np.linalg.norm(cut.pixel_to_ras[:3, 2]) - 1) < 1e-9
    lengths = np.linalg.norm(cut.pixel_to_ras[:3, :2], axis=0)
    assert lengths[0] == pytest.approx(lengths[1])


@every_affine
def test_slice_shows_the_values_of_the_voxels_under_its_pixels(name):
    volume = volume_of(name)
    for plane in PLANES:
        cut = cut_plane(volume, plane, index=5)
        xy = np.stack(np.meshgrid(*[np.arange(n) for n in cut.pixels.shape[::-1]]), -1)
        ras = cut.to_ras(xy.reshape(-1, 2))
        ijk = ras @ volume.ras_to_ijk[:3, :3].T + volume.ras_to_ijk[:3, 3]
        reference = ndimage.map_coordinates(
            volume.array.astype(float), ijk[:, ::-1].T, order=1, mode="nearest"
        )
        assert np.allclose(cut.values.ravel(), reference, atol=1e-2)


@every_plane
@every_affine
def test_display_is_radiological(name, plane):
    cut = cut_plane(volume_of(name), plane)
    right, down = cut.pixel_to_ras[:3, 0], cut.pixel_to_ras[:3, 1]
    if plane == "sagittal":
        assert np.argmax(np.abs(right)) == 1 or "45" in name
        assert right[1] < 0  # anterior at the left
    else:
        assert right[0] < 0  # the patient's right at the left
    assert (down[1] if plane == "axial" else down[2]) < 0  # anterior, superior up
    assert cut.pixel_to_ras[{"axial": 2, "coronal": 1, "sagittal": 0}[plane], 2] > 0


@every_plane
def test_layer_is_sampled_at_voxel_centres_without_interpolation(plane):
    array = np.arange(6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8)
    volume = make_volume(array, AFFINES["RAS"])
    cut = cut_plane(volume, plane, index=2)
    expected = {
        "axial": array[2][::-1, ::-1],
        "coronal": array[:, 2][::-1, ::-1],
        "sagittal": array[:, :, 2][::-1, ::-1],
    }[plane]
    assert np.array_equal(cut.values, expected)


@pytest.mark.parametrize("name", [n for n in AFFINES if "sheared" not in n])
def test_a_matrix_along_the_voxels_gives_the_same_slice_as_the_plane_name(name):
    volume = volume_of(name)
    for plane in PLANES:
        cut = cut_plane(volume, plane, index=4)
        slice_to_ras = cut.pixel_to_ras.copy()
        slice_to_ras[:3, 1] *= -1  # Slicer's slice matrix points up
        again = cut_matrix(volume, slice_to_ras)
        assert np.allclose(again.pixel_to_ras, cut.pixel_to_ras, atol=1e-6)
        assert again.pixels.shape == cut.pixels.shape
        assert np.allclose(again.values, cut.values, atol=0.1)
        assert again.thickness == pytest.approx(cut.thickness)
        mask = np.random.default_rng(2).random(cut.pixels.shape) < 0.5
        assert np.array_equal(
            mask_to_voxels(mask, again, volume), mask_to_voxels(mask, cut, volume)
        )


@every_affine
@pytest.mark.parametrize("tilt", [7, 31, 60])
def test_oblique_mask_has_neither_holes_nor_double_voxels(name, tilt):
    volume = volume_of(name)
    slice_to_ras = matrix(rotation(tilt, [1, 0.4, 0.3]) @ np.diag([-1, 1, 1]))
    slice_to_ras[:3, 3] = volume.centre_ras
    cut = cut_matrix(volume, slice_to_ras)
    voxels = mask_to_voxels(np.ones(cut.pixels.shape, bool), cut, volume)
    k, j, i = np.nonzero(voxels)
    ras = np.stack([i, j, k], 1) @ volume.ijk_to_ras[:3, :3].T + volume.ijk_to_ras[:3, 3]
    distance = (ras - cut.pixel_to_ras[:3, 3]) @ cut.pixel_to_ras[:3, 2]
    assert np.abs(distance).max() <= cut.thickness / 2 + 1e-4
    slopes = np.abs(cut.pixel_to_ras[:3, 2] @ volume.ijk_to_ras[:3, :3])
    columns = voxels.sum(axis=2 - int(np.argmax(slopes)))
    assert columns.max() == 1
    # a column is empty only where the plane leaves the volume: the covered region is gap-free
    for line in columns:
        filled = np.flatnonzero(line)
        assert len(filled) == 0 or len(filled) == filled[-1] - filled[0] + 1


def test_oblique_slice_interpolates_a_linear_ramp_exactly():
    for name in AFFINES:
        shape = (12, 14, 16)
        kji = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
        affine = AFFINES[name]
        ras = kji[..., ::-1] @ affine[:3, :3].T + affine[:3, 3]
        weights = np.array([1.0, -2.0, 0.5])
        volume = make_volume((ras - affine[:3, 3]) @ weights, affine)
        slice_to_ras = matrix(rotation(25, [1, 1, 0.2]))
        slice_to_ras[:3, 3] = volume.centre_ras
        cut = cut_matrix(volume, slice_to_ras)
        middle = np.array(cut.pixels.shape[::-1]) // 2
        where = cut.to_ras([middle])[0]
        value = cut.values[middle[1], middle[0]]
        assert value == pytest.approx((where - affine[:3, 3]) @ weights, abs=1e-2)


def test_roi_corners_land_on_the_structure_they_were_drawn_around():
    volume = volume_of("oblique, flipped, left-handed", (20, 24, 28))
    target = np.zeros(volume.array.shape, bool)
    target[8:12, 9:15, 10:20] = True
    k, j, i = np.nonzero(target)
    ends = [(a.min() - 0.5, a.max() + 0.5) for a in (i, j, k)]
    corners = np.array(list(product(*ends)))
    ras = corners @ volume.ijk_to_ras[:3, :3].T + volume.ijk_to_ras[:3, 3]
    cut = cut_plane(volume, "axial", through_ras=ras.mean(axis=0))
    x0, y0, x1, y1 = cut.box_around(ras)
    rows, columns = np.nonzero(labels_to_slice(target, cut, volume))
    assert x0 <= columns.min() and columns.max() <= x1
    assert y0 <= rows.min() and rows.max() <= y1
    request = cut.request(corners_ras=ras)
    assert request.slice_id == cut.slice_id
    assert request.pixel_spacing == pytest.approx(cut.spacing)


def test_plane_through_a_point_takes_the_layer_that_holds_it():
    volume = volume_of("oblique 10", (30, 20, 20))
    for k in (0, 7, 29):
        point = volume.ijk_to_ras @ [3, 17, k + 0.4, 1]
        cut = cut_plane(volume, "axial", through_ras=point[:3])
        found = volume.ras_to_ijk @ cut.pixel_to_ras[:, 3]
        assert found[2] == pytest.approx(k)


def test_position_along_the_axis_is_honoured():
    volume = volume_of("anisotropic axial")
    cut = cut_plane(volume, "axial", at_mm=-9.0)
    assert cut.pixel_to_ras[2, 3] == pytest.approx(-10.0)  # the layer at -10 holds -12.5 .. -7.5


@every_plane
def test_a_plane_beside_the_volume_is_refused_with_its_range(plane):
    with pytest.raises(GeometryError, match="misses the volume, which reaches from"):
        cut_plane(volume_of("LPS"), plane, at_mm=9999)


def test_a_matrix_beside_the_volume_is_refused():
    slice_to_ras = np.eye(4)
    slice_to_ras[2, 3] = 5000
    with pytest.raises(GeometryError, match="misses the volume"):
        cut_matrix(volume_of("RAS"), slice_to_ras)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.eye(3),
        matrix([[1, 1, 0], [0, 1, 0], [0, 0, 1]]),
    ],
)
def test_a_bad_slice_matrix_is_refused(bad):
    with pytest.raises(GeometryError):
        cut_matrix(volume_of("RAS"), bad)


def test_unknown_plane_and_foreign_mask_are_refused():
    volume = volume_of("RAS")
    with pytest.raises(InputError):
        cut_plane(volume, "transversal")
    cut = cut_plane(volume, "axial")
    with pytest.raises(InputError):
        mask_to_voxels(np.ones((3, 3)), cut, volume)
    with pytest.raises(InputError):
        labels_to_slice(np.ones((3, 3, 3)), cut, volume)


def test_roi_outside_or_too_thin_is_refused():
    cut = cut_plane(volume_of("RAS"), "axial")
    with pytest.raises(GeometryError, match="outside"):
        cut.request(box=(50, 50, 60, 60))
    with pytest.raises(GeometryError, match="thinner"):
        cut.request(box=(3, 3, 3.4, 9))
    with pytest.raises(GeometryError):
        cut.request()


def test_one_slice_volume_gives_that_slice_only():
    volume = volume_of("RAS", (1, 20, 30))
    planes = [plane for plane, _ in anatomical_slices(volume)]
    assert planes == ["axial"]
    assert cut_plane(volume, "coronal").pixels.shape == (1, 30)


def test_anatomical_slices_cover_all_three_directions_every_step():
    volume = volume_of("anisotropic axial", (10, 40, 40))
    positions = {plane: [] for plane in PLANES}
    for plane, cut in anatomical_slices(volume, 4.0):
        positions[plane].append(cut.pixel_to_ras[:3, 3])
    assert len(positions["axial"]) == 10  # layers of 5 mm: each once
    assert len(positions["coronal"]) == len(positions["sagittal"]) == 8
    step = np.diff([p[1] for p in positions["coronal"]])
    assert np.allclose(np.abs(step), 4.0, atol=0.81)


def test_picture_is_its_own_slice_without_position():
    picture = np.arange(12 * 9).reshape(1, 12, 9).astype(np.uint8)
    volume = make_volume(picture, np.diag([-1, -1, 1, 1]), has_position=False, is_picture=True)
    cut = cut_slice(volume, "sagittal")
    assert np.array_equal(cut.values, picture[0])
    request = cut.request(box=(1, 1, 5, 5))
    assert request.pixel_to_ras is None and request.foreground is None and request.plane is None
    assert [plane for plane, _ in anatomical_slices(volume)] == [None]
    mask = np.zeros((12, 9), bool)
    mask[2:5, 3:8] = True
    assert np.array_equal(mask_to_voxels(mask, cut, volume)[0], mask)


def test_names_of_planes():
    assert plane_of(np.array([0, 0, 2.0])) == "axial"
    assert plane_of(np.array([0.2, -1, 0.1])) == "coronal"
    assert plane_of(np.array([1.0, 1.0, 0])) == "oblique"


def test_very_fine_and_very_coarse_spacing_stay_within_the_pixel_limit():
    array = np.random.default_rng(0).random((300, 2000, 4)).astype(np.float32)
    volume = make_volume(array, matrix(np.eye(3), (0.01, 0.01, 5)))
    cut = cut_plane(volume, "sagittal")
    assert cut.pixels.size <= 4096 * 4096
