"""Mask voxels equal those under the drawn shape: every view on every kind of volume.

The shape is an ellipse in the region of interest that was drawn in the view. What should be in the
segment is worked out from the definition alone: every voxel of the volume whose centre lies within
half a voxel of the plane and, seen along the normal, inside the ellipse.
"""

from __future__ import annotations

import numpy as np
import pytest

import mrml_scene as ms
from velcro_engine.imaging import slice_voxels, slices
from velcro_engine.imaging.volume import make_volume
from velcro_engine.messages.result import LinkResult
from VelcroLinkLib.scene.mask_voxels import maskToVoxels
from VelcroLinkLib.scene.segmentation_result import segmentationForVolume, showPreview
from VelcroLinkLib.scene.slice_request import SliceRequestBuilder
from VelcroLinkLib.scene.volume_geometry import volumeGeometry

OBLIQUE = ms.rotation("R", 17) @ ms.rotation("A", -11) @ ms.rotation("S", 8)
MOVED = np.eye(4)
MOVED[:3, :3] = ms.rotation("S", 25) @ ms.rotation("R", -14) @ np.diag([1.0, 1.0, 1.15])
MOVED[:3, 3] = [12, -7, 20]
# directions of I, J, K; spacing in mm; parent transform
VOLUMES = {
    "RAS": (np.eye(3), (0.8, 0.8, 0.8), None),
    "LPS": (np.diag([-1.0, -1.0, 1.0]), (0.8, 0.8, 1.0), None),
    "oblique": (OBLIQUE @ np.diag([-1.0, -1.0, 1.0]), (0.8, 0.8, 0.9), None),
    "anisotropic": (np.diag([-1.0, -1.0, 1.0]), (0.5, 0.5, 3.0), None),
    "left-handed": (np.diag([1.0, 1.0, -1.0]), (0.8, 0.9, 1.0), None),
    "transformed": (np.diag([-1.0, -1.0, 1.0]), (0.8, 0.8, 1.0), MOVED),
}
EXTENT_MM = (90.0, 84.0, 78.0)
VIEWS = {
    **{name: ms.viewDirections(name) for name in ms.VIEWS},
    "oblique": ms.rotation("R", 28) @ ms.rotation("A", 19) @ ms.viewDirections("axial"),
    "turned": ms.viewDirections("axial") @ ms.rotation("S", 33),
}
ROI_MM = (52.0, 44.0)


def volumeShape(spacing):
    return tuple(round(mm / step) for mm, step in zip(EXTENT_MM, spacing, strict=True))


def addTestVolume(scene, name):
    directions, spacing, move = VOLUMES[name]
    shape = volumeShape(spacing)
    array = np.zeros(tuple(reversed(shape)), dtype=np.int16)
    array[::2] = 100
    matrix = ms.ijkToRas(directions, spacing, shape)
    node = ms.addVolume(scene, array, matrix)
    if move is not None:
        node.SetAndObserveTransformNodeID(ms.addLinearTransform(scene, move).GetID())
        matrix = move @ matrix
    return node, matrix, shape


def ellipseInBox(shape, box):
    """bool H x W: pixel centres inside the ellipse that fills an XYXY box."""
    y, x = np.indices(shape)
    x0, y0, x1, y1 = box
    u = (x - (x0 + x1) / 2) / ((x1 - x0) / 2)
    v = (y - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return u**2 + v**2 <= 1.0


def ellipseOnView(placed, directions, centre):
    """bool H x W: pixel centres inside the ellipse that was drawn in the view."""
    y, x = np.indices(placed.request.pixels.shape)
    pixels = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=-1)
    onView = ((pixels @ placed.grid.pixelToRas.T)[..., :3] - centre) @ directions
    across, up = onView[..., 0] / (ROI_MM[0] / 2), onView[..., 1] / (ROI_MM[1] / 2)
    return across**2 + up**2 <= 1.0


def voxelsUnderEllipse(shape, ijkToRas, directions, centre):
    """bool K x J x I from the definition, looking at every voxel of the volume."""
    k, j, i = np.indices(tuple(reversed(shape)))
    ijk = np.stack([i.ravel(), j.ravel(), k.ravel()], axis=1)
    ras = ijk @ ijkToRas[:3, :3].T + ijkToRas[:3, 3] - centre
    across, up, along = (ras @ directions).T
    half = np.abs(directions[:, 2] @ ijkToRas[:3, :3]).sum() / 2
    inside = (across / (ROI_MM[0] / 2)) ** 2 + (up / (ROI_MM[1] / 2)) ** 2 <= 1.0
    return ((np.abs(along) < half - 1e-6) & inside).reshape(tuple(reversed(shape)))


def linkResult(mask):
    return LinkResult(mask=mask, entries=(), abstained=True)


def drawAndShow(scene, sliceNode, volume, directions, centre):
    """(request, segmentation node) after a RoI was drawn in this view and an ellipse came back."""
    ms.setView(sliceNode, directions, centre, zoom=0.4)
    axes = directions.copy()
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    roi = ms.addRoi(scene, centre, (*ROI_MM, 4.0), axes)
    placed = SliceRequestBuilder().fromRoi(sliceNode, volume, roi)
    return placed, roi


@pytest.mark.parametrize("view", list(VIEWS))
@pytest.mark.parametrize("kind", list(VOLUMES))
def test_mask_voxels_are_those_under_the_drawn_shape(scene, sliceNode, kind, view):
    volume, matrix, shape = addTestVolume(scene, kind)
    directions = VIEWS[view]
    # Through a voxel of the middle layers, as Slicer snaps its views.
    centre = matrix[:3, :3] @ (np.array(shape) // 2) + matrix[:3, 3]
    placed, _ = drawAndShow(scene, sliceNode, volume, directions, centre)
    toPixel = np.linalg.inv(placed.grid.pixelToRas)
    mask = ellipseOnView(placed, directions, centre)
    showPreview(volume, placed, linkResult(mask))
    found = ms.segmentArray(segmentationForVolume(volume), "VelcroLinkPreview", shape)
    expected = voxelsUnderEllipse(shape, matrix, directions, centre)
    assert ms.dice(found, expected) >= 0.99
    # The prompt itself: the middle of the box is the middle of what was drawn.
    middle = toPixel @ [*centre, 1.0]
    x0, y0, x1, y1 = placed.request.box
    np.testing.assert_allclose([(x0 + x1) / 2, (y0 + y1) / 2], middle[:2], atol=0.02)


@pytest.mark.parametrize("kind", list(VOLUMES))
@pytest.mark.parametrize("view", ["axial", "sagittal", "coronal", "oblique"])
def test_box_of_an_unturned_view_is_the_drawn_rectangle(scene, sliceNode, kind, view):
    volume, matrix, shape = addTestVolume(scene, kind)
    centre = matrix[:3, :3] @ (np.array(shape) // 2) + matrix[:3, 3]
    placed, _ = drawAndShow(scene, sliceNode, volume, VIEWS[view], centre)
    x0, y0, x1, y1 = placed.request.box
    pitch = placed.request.pixel_spacing
    size = sorted(((x1 - x0) * pitch, (y1 - y0) * pitch))
    turned = placed.grid.pixelToRas[:3, :2] / pitch
    share = np.abs(turned.T @ VIEWS[view][:, :2])
    expected = sorted(share @ np.array(ROI_MM))
    np.testing.assert_allclose(size, expected, atol=0.05)


@pytest.mark.parametrize("kind", list(VOLUMES))
@pytest.mark.parametrize("view", list(VIEWS))
def test_mask_has_no_holes_in_the_view_it_was_drawn_in(scene, sliceNode, kind, view):
    """Every point of the drawn shape, a pixel and a half inside its edge, lies in a set voxel."""
    volume, matrix, shape = addTestVolume(scene, kind)
    centre = matrix[:3, :3] @ (np.array(shape) // 2) + matrix[:3, 3]
    placed, _ = drawAndShow(scene, sliceNode, volume, VIEWS[view], centre)
    mask = ellipseInBox(placed.request.pixels.shape, placed.request.box)
    found = maskToVoxels(mask, placed.grid, volumeGeometry(volume)).inVolume(shape)
    x0, y0, x1, y1 = placed.request.box
    step = np.abs(matrix[:3, :3]).max() / placed.request.pixel_spacing * 1.5
    inner = ellipseInBox(mask.shape, (x0 + step, y0 + step, x1 - step, y1 - step))
    ys, xs = np.nonzero(inner)
    points = np.stack([xs, ys, np.zeros(len(xs)), np.ones(len(xs))], axis=1)
    points = points @ placed.grid.pixelToRas.T
    i, j, k = np.floor((points @ np.linalg.inv(matrix).T)[:, :3].T + 0.5).astype(int)
    assert found[k, j, i].all()


def test_mask_under_a_bent_transform_lies_where_the_shape_is_shown(scene, sliceNode):
    volume, matrix, shape = addTestVolume(scene, "LPS")
    bent = ms.addBentTransform(scene, 5.0)
    volume.SetAndObserveTransformNodeID(bent.GetID())
    directions, centre = VIEWS["oblique"], np.array([4.0, -6.0, 8.0])
    placed, _ = drawAndShow(scene, sliceNode, volume, directions, centre)
    mask = ellipseInBox(placed.request.pixels.shape, placed.request.box)
    found = maskToVoxels(mask, placed.grid, volumeGeometry(volume)).inVolume(shape)
    k, j, i = np.nonzero(found)
    local = np.stack([i, j, k], axis=1) @ matrix[:3, :3].T + matrix[:3, 3]
    world = np.array([bent.GetTransformToParent().TransformPoint(*p) for p in local])
    offset = np.abs((world - centre) @ directions[:, 2])
    assert offset.max() < np.linalg.norm(matrix[:3, :3] @ [1, 1, 1]) * 0.6
    x, y = (
        (world - placed.grid.pixelToRas[:3, 3]) @ np.linalg.inv(placed.grid.pixelToRas[:3, :3]).T
    )[:, :2].T
    x0, y0, x1, y1 = placed.request.box
    assert x.min() > x0 - 2 and x.max() < x1 + 2 and y.min() > y0 - 2 and y.max() < y1 + 2
    area = mask.sum() * placed.request.pixel_spacing**2
    voxel = abs(np.linalg.det(matrix[:3, :3]))
    assert found.sum() * voxel > 0.8 * area * 0.8


def test_layer_between_two_voxel_layers_is_one_layer(scene, sliceNode):
    volume, matrix, shape = addTestVolume(scene, "RAS")
    centre = matrix[:3, :3] @ (np.array(shape) // 2 + [0, 0, 0.5]) + matrix[:3, 3]
    placed, _ = drawAndShow(scene, sliceNode, volume, VIEWS["axial"], centre)
    mask = ellipseInBox(placed.request.pixels.shape, placed.request.box)
    voxels = maskToVoxels(mask, placed.grid, volumeGeometry(volume))
    assert voxels.array.shape[0] == 1
    assert voxels.array.sum() == mask.sum()


def test_mask_at_the_edge_of_the_volume_stays_inside_it(scene, sliceNode):
    volume, matrix, shape = addTestVolume(scene, "oblique")
    centre = matrix[:3, :3] @ np.array([2, shape[1] // 2, shape[2] // 2]) + matrix[:3, 3]
    placed, _ = drawAndShow(scene, sliceNode, volume, VIEWS["oblique"], centre)
    mask = np.ones(placed.request.pixels.shape, dtype=bool)
    i0, i1, j0, j1, k0, k1 = maskToVoxels(mask, placed.grid, volumeGeometry(volume)).extent
    assert min(i0, j0, k0) >= 0
    assert i1 < shape[0] and j1 < shape[1] and k1 < shape[2]


@pytest.mark.parametrize("kind", list(VOLUMES))
@pytest.mark.parametrize("view", list(VIEWS))
def test_voxels_agree_with_the_engines(scene, sliceNode, kind, view):
    """On a voxel layer both are the same. On an oblique plane the engine takes one voxel in each
    column, which is right for measuring; the segment also holds the others that the plane passes
    through, since without them the view would show holes."""
    volume, matrix, shape = addTestVolume(scene, kind)
    centre = matrix[:3, :3] @ (np.array(shape) // 2) + matrix[:3, 3]
    placed, _ = drawAndShow(scene, sliceNode, volume, VIEWS[view], centre)
    mask = ellipseInBox(placed.request.pixels.shape, placed.request.box)
    ours = maskToVoxels(mask, placed.grid, volumeGeometry(volume)).inVolume(shape)
    held = make_volume(np.zeros(tuple(reversed(shape)), np.int16), matrix)
    grid = placed.grid
    cut = slices.Slice(
        placed.request.pixels,
        placed.request.pixels.astype(np.float32),
        grid.pixelToRas,
        grid.plane,
        grid.thickness,
        True,
        None,
        None,
    )
    theirs = slice_voxels.mask_to_voxels(mask, cut, held)
    if grid.layer is not None:
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert not (theirs & ~ours).any()
        assert theirs.sum() <= ours.sum() <= 2.2 * theirs.sum()
