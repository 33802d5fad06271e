"""A markups ROI, however it is turned and transformed, gives the right corners and the right box."""

from __future__ import annotations

import numpy as np
import pytest

import mrml_scene as ms
from velcro_engine.errors import GeometryError
from VelcroLinkLib.scene.roi_geometry import (
    alignRoiWithSlice,
    clampRoiDepth,
    pointOnPlane,
    roiBoxOnPlane,
    roiCornersRas,
    roiIsPlaced,
)

TILT = ms.rotation("R", 25) @ ms.rotation("A", 15)


def planeMatrix(directions, origin, pitch=0.5):
    matrix = np.eye(4)
    matrix[:3, :3] = directions * [pitch, pitch, 1.0]
    matrix[:3, 3] = origin
    return matrix


def cornersOf(centre, size, directions):
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    return centre + (signs * size) @ np.asarray(directions).T


def assertSamePoints(found, expected):
    order = [np.linalg.norm(found - point, axis=1).argmin() for point in expected]
    assert sorted(order) == list(range(len(expected)))
    np.testing.assert_allclose(found[order], expected, atol=1e-9)


def test_corners_of_a_turned_roi(scene):
    roi = ms.addRoi(scene, [10, -4, 3], [20, 30, 8], TILT)
    assertSamePoints(roiCornersRas(roi), cornersOf([10, -4, 3], [20, 30, 8], TILT))


def test_corners_follow_a_linear_parent_transform_with_scale(scene):
    move = np.eye(4)
    move[:3, :3] = TILT @ np.diag([2.0, 1.0, 0.5])
    move[:3, 3] = [5, 6, 7]
    roi = ms.addRoi(scene, [1, 2, 3], [20, 30, 8], parent=ms.addLinearTransform(scene, move))
    expected = cornersOf(np.array([1, 2, 3]), [20, 30, 8], np.eye(3)) @ move[:3, :3].T + [5, 6, 7]
    assertSamePoints(roiCornersRas(roi), expected)


def test_corners_follow_a_bent_parent_transform_one_by_one(scene):
    bent = ms.addBentTransform(scene)
    roi = ms.addRoi(scene, [10, 5, 0], [20, 30, 8], parent=bent)
    plain = cornersOf(np.array([10, 5, 0]), [20, 30, 8], np.eye(3))
    general = bent.GetTransformToParent()
    expected = np.array([general.TransformPoint(*p) for p in plain])
    assert np.abs(expected - plain).max() > 0.5
    assertSamePoints(roiCornersRas(roi), expected)


def test_box_of_a_roi_parallel_to_the_plane_is_its_rectangle(scene):
    roi = ms.addRoi(scene, [0, 0, 0], [20, 30, 8], TILT)
    box = roiBoxOnPlane(roi, planeMatrix(TILT, TILT @ [-15.0, -20.0, 1.0]), 1.0)
    np.testing.assert_allclose(box, [10, 10, 50, 70], atol=0.01)


def test_box_of_a_roi_askew_to_the_plane_is_its_cross_section(scene):
    roi = ms.addRoi(scene, [0, 0, 0], [20, 20, 200], ms.rotation("R", 30))
    box = roiBoxOnPlane(roi, planeMatrix(np.eye(3), [-50.0, -50.0, 0.0], 1.0), 1.0)
    # A long bar tilted by 30 degrees about R is cut over 20 / cos(30) mm along A.
    half = 10 / np.cos(np.deg2rad(30))
    np.testing.assert_allclose(box, [40, 50 - half, 60, 50 + half], atol=0.01)


def test_a_flat_roi_beside_the_plane_counts_within_the_slice_and_not_beyond(scene):
    roi = ms.addRoi(scene, [0, 0, 0.4], [20, 20, 0.0])
    plane = planeMatrix(np.eye(3), [-50.0, -50.0, 0.0], 1.0)
    np.testing.assert_allclose(roiBoxOnPlane(roi, plane, 1.0), [40, 40, 60, 60], atol=0.01)
    with pytest.raises(GeometryError, match="scroll"):
        roiBoxOnPlane(roi, plane, 0.5)


def test_box_of_a_roi_under_a_bent_transform_follows_its_bent_edges(scene):
    roi = ms.addRoi(scene, [0, 0, 0], [30, 30, 8], parent=ms.addBentTransform(scene, 6.0))
    box = np.array(roiBoxOnPlane(roi, planeMatrix(np.eye(3), [-50.0, -50.0, 0.0], 1.0), 1.0))
    # The middle moves by (+6, -6): so do, less, the edges around it.
    assert box[0] > 35.5 and box[2] > 65.5 and box[1] < 34.5 and box[3] < 64.5


def test_new_roi_takes_the_rotation_of_the_view_and_keeps_it_when_placed(scene, sliceNode):
    directions = TILT @ ms.viewDirections("axial")
    ms.setView(sliceNode, directions, [3, 4, 5])
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    alignRoiWithSlice(roi, sliceNode)
    a = np.array([3, 4, 5.0])
    b = a + directions[:, 0] * 30 + directions[:, 1] * 20
    for point in (a, b):
        roi.AddControlPoint(*point)
    clampRoiDepth(roi, sliceNode, 2.0)
    box = roiBoxOnPlane(roi, planeMatrix(directions, a - directions @ [10, 10, 0], 1.0), 1.0)
    np.testing.assert_allclose(box, [10, 10, 40, 30], atol=1e-3)
    axes = np.array([roi.GetObjectToWorldMatrix().GetElement(i, 2) for i in range(3)])
    assert abs(abs(axes @ directions[:, 2]) - 1) < 1e-6
    matrix = [[roi.GetObjectToWorldMatrix().GetElement(i, j) for j in range(3)] for i in range(3)]
    assert np.linalg.det(matrix) > 0


def test_new_roi_under_a_rotated_parent_is_straight_in_the_view(scene, sliceNode):
    ms.setView(sliceNode, TILT, [0, 0, 0])
    move = np.eye(4)
    move[:3, :3] = ms.rotation("S", 40)
    roi = ms.addRoi(scene, [0, 0, 0], [10, 20, 4], parent=ms.addLinearTransform(scene, move))
    alignRoiWithSlice(roi, sliceNode)
    corners = roiCornersRas(roi) @ TILT
    np.testing.assert_allclose(np.ptp(corners, axis=0), [10, 20, 4], atol=1e-9)


@pytest.mark.parametrize("depth", [0.0, 7e-15])
def test_depth_left_over_from_placing_is_clamped_along_the_normal_only(scene, sliceNode, depth):
    ms.setView(sliceNode, TILT, [0, 0, 0])
    roi = ms.addRoi(scene, [0, 0, 0], [10, 20, depth], TILT)
    assert clampRoiDepth(roi, sliceNode, 2.5)
    np.testing.assert_allclose(roi.GetSize(), [10, 20, 2.5])
    assert not clampRoiDepth(roi, sliceNode, 2.5)


def test_depth_is_clamped_in_millimetres_of_the_world(scene, sliceNode):
    ms.setView(sliceNode, np.eye(3), [0, 0, 0])
    scale = np.diag([1.0, 1.0, 4.0, 1.0])
    roi = ms.addRoi(scene, [0, 0, 0], [10, 20, 0], parent=ms.addLinearTransform(scene, scale))
    clampRoiDepth(roi, sliceNode, 2.0)
    assert np.ptp(roiCornersRas(roi)[:, 2]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("size", "words"),
    [((0, 0, 0), "no size"), ((10, 0, 0), "no size"), ((np.nan, 10, 10), "finite")],
)
def test_unusable_rois_say_what_to_do(scene, size, words):
    roi = ms.addRoi(scene, [0, 0, 0], size)
    with pytest.raises(GeometryError, match=words):
        roiCornersRas(roi)


def test_roi_thinner_than_a_pixel_on_the_slice_is_reported(scene):
    roi = ms.addRoi(scene, [0, 0, 0], [20, 0.4, 8])
    with pytest.raises(GeometryError, match="thinner"):
        roiBoxOnPlane(roi, planeMatrix(np.eye(3), [-50.0, -50.0, 0.0], 1.0), 1.0)


def test_no_roi_is_reported():
    with pytest.raises(GeometryError, match="Place"):
        roiCornersRas(None)


def test_a_roi_is_placed_after_the_second_click(scene):
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    assert not roiIsPlaced(roi)
    roi.AddControlPoint(0, 0, 0)
    assert not roiIsPlaced(roi)
    roi.AddControlPoint(10, 20, 0)
    assert roiIsPlaced(roi)


def test_point_is_projected_onto_the_plane_and_must_be_finite():
    plane = planeMatrix(TILT, [1.0, 2.0, 3.0])
    ras = plane @ [12.0, 7.0, 4.0, 1.0]
    np.testing.assert_allclose(pointOnPlane(ras[:3], plane), [12, 7])
    with pytest.raises(GeometryError, match="finite"):
        pointOnPlane([0, np.nan, 0], plane)
