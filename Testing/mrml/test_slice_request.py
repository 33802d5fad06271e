"""A slice cut out of MRML nodes asks the same question as the same slice cut by the engine."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

import mrml_scene as ms
from velcro_engine.errors import GeometryError, InputError
from velcro_engine.imaging import slices
from velcro_engine.imaging.volume import make_volume
from VelcroLinkLib.scene.slice_grid import canonicalDirections
from VelcroLinkLib.scene.slice_request import SliceRequestBuilder, gridCorners
from VelcroLinkLib.scene.volume_geometry import volumeFingerprint, volumeModality

SHAPE = (48, 40, 30)  # I, J, K
TILT = ms.rotation("R", 20) @ ms.rotation("A", -12)
VOLUMES = {
    "RAS": (np.eye(3), (1.0, 1.0, 1.0)),
    "LPS": (np.diag([-1.0, -1.0, 1.0]), (0.9, 0.9, 0.9)),
    "sagittal acquisition": (np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]).T, (0.8, 0.8, 1.5)),
    "oblique": (TILT @ np.diag([-1.0, -1.0, 1.0]), (1.0, 1.0, 1.2)),
    "anisotropic": (np.diag([-1.0, -1.0, 1.0]), (0.6, 0.9, 3.0)),
    "left-handed": (np.diag([-1.0, 1.0, 1.0]), (1.0, 1.1, 1.3)),
}


def makeArray(rng, shape=SHAPE, dtype=np.int16):
    """Noise over a bright ball, so that window, foreground and every pixel matter."""
    k, j, i = np.indices(tuple(reversed(shape)))
    middle = (np.array(shape) - 1) / 2
    ball = ((i - middle[0]) ** 2 + (j - middle[1]) ** 2 + (k - middle[2]) ** 2) < 12**2
    return (ball * 300 + rng.integers(0, 200, ball.shape)).astype(dtype)


@pytest.fixture(params=list(VOLUMES))
def pair(request, scene, rng):
    """(volume node, the same volume as the engine holds it)."""
    directions, spacing = VOLUMES[request.param]
    array = makeArray(rng)
    matrix = ms.ijkToRas(directions, spacing, SHAPE)
    return ms.addVolume(scene, array, matrix), make_volume(array, matrix)


def assertSameQuestion(placed, cut):
    assert placed.request.pixels.shape == cut.pixels.shape
    np.testing.assert_allclose(placed.grid.pixelToRas, cut.pixel_to_ras, atol=1e-9)
    assert placed.request.plane == cut.plane
    assert placed.request.modality == cut.modality
    assert placed.grid.thickness == pytest.approx(cut.thickness)
    np.testing.assert_allclose(placed.request.foreground.centre, cut.foreground.centre, atol=1e-9)
    np.testing.assert_allclose(
        placed.request.foreground.half_extent, cut.foreground.half_extent, atol=1e-9
    )


def engineCut(volume, placed, normal, through):
    """The engine's slice of the same plane."""
    if placed.grid.layer is not None:
        return slices.cut_plane(volume, placed.grid.plane, through_ras=through)
    right, up = canonicalDirections(normal)
    view = np.eye(4)
    view[:3] = np.stack([right, up, normal, through], axis=1)
    return slices.cut_matrix(volume, view)


@pytest.mark.parametrize("plane", list(ms.VIEWS))
def test_view_along_voxel_layers_gives_the_engines_very_slice(pair, sliceNode, plane):
    node, volume = pair
    # The view turned to the volume's own axes (Slicer's "rotate to volume plane").
    normal = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    axis, sign = slices.anatomical_axes(volume)[normal]
    layer = np.delete(volume.ijk_to_ras[:3, :3], axis, axis=1)
    up = np.cross(layer[:, 0], layer[:, 1])
    up *= np.sign(up @ volume.ijk_to_ras[:3, axis]) * sign / np.linalg.norm(up)
    right, above = canonicalDirections(up)
    through = volume.centre_ras + up * 3.3
    ms.setView(sliceNode, np.stack([right, above, up], axis=1), through)
    placed = SliceRequestBuilder().fromPoint(sliceNode, node, through)
    cut = slices.cut_plane(volume, plane, through_ras=through)
    assertSameQuestion(placed, cut)
    np.testing.assert_array_equal(placed.request.pixels, cut.pixels)
    assert placed.request.slice_id == cut.slice_id


def test_oblique_view_gives_the_engines_slice(pair, sliceNode):
    node, volume = pair
    normal = ms.rotation("R", 33) @ ms.rotation("A", 21) @ [0, 0, 1.0]
    right, up = canonicalDirections(normal)
    through = volume.centre_ras + normal * 2.1
    view = ms.setView(sliceNode, np.stack([right, up, normal], axis=1), through)
    placed = SliceRequestBuilder().fromPoint(sliceNode, node, through)
    cut = slices.cut_matrix(volume, view)
    assertSameQuestion(placed, cut)
    difference = np.abs(placed.request.pixels.astype(int) - cut.pixels)
    assert difference.max() <= 1, "only rounding may differ between VTK and numpy"
    assert (difference > 0).mean() < 0.005


def test_turning_and_zooming_the_view_asks_the_same_question(pair, sliceNode):
    node, volume = pair
    builder, questions = SliceRequestBuilder(), []
    for degrees, zoom, flip in ((0, 1.0, 1), (37, 0.2, 1), (180, 3.0, 1), (90, 1.0, -1)):
        turn = ms.rotation("S", degrees) @ np.diag([flip, 1, 1])
        directions = TILT @ ms.viewDirections("axial") @ turn
        through = volume.centre_ras + directions @ [5.0, -3.0, 0.0]
        ms.setView(sliceNode, directions, through, zoom)
        questions.append(builder.fromPoint(sliceNode, node, volume.centre_ras))
    assert len({q.request.slice_id for q in questions}) == 1
    np.testing.assert_allclose(questions[0].request.points, questions[-1].request.points, atol=1e-6)


def test_pixels_cover_the_volume_and_not_the_zoomed_view(pair, sliceNode):
    node, volume = pair
    ms.setView(sliceNode, ms.viewDirections("axial"), volume.centre_ras, zoom=0.01)
    placed = SliceRequestBuilder().fromPoint(sliceNode, node, volume.centre_ras)
    corners = gridCorners(placed.grid)
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    reach = np.ptp(corners, axis=0)[:2] / (bounds[1::2] - bounds[::2])[:2]
    assert (reach > 0.7).all()


def test_volume_under_a_linear_transform_is_where_it_is_shown(scene, sliceNode, rng):
    array, matrix = makeArray(rng), ms.ijkToRas(np.diag([-1, -1, 1]), (1, 1, 1.5), SHAPE)
    node = ms.addVolume(scene, array, matrix)
    move = np.eye(4)
    move[:3, :3] = TILT
    move[:3, 3] = [10, 20, 30]
    node.SetAndObserveTransformNodeID(ms.addLinearTransform(scene, move).GetID())
    volume = make_volume(array, move @ matrix)
    ms.setView(sliceNode, ms.viewDirections("coronal"), volume.centre_ras)
    placed = SliceRequestBuilder().fromPoint(sliceNode, node, volume.centre_ras)
    cut = engineCut(volume, placed, np.array([0, 1.0, 0]), volume.centre_ras)
    assertSameQuestion(placed, cut)
    assert np.abs(placed.request.pixels.astype(int) - cut.pixels).max() <= 1


def test_volume_under_a_bent_transform_shows_the_bent_anatomy(scene, sliceNode):
    """A bright voxel is found where the transform carries it."""
    array = np.zeros((30, 40, 40), dtype=np.float32)
    array[15, 20:22, 20:22] = array[14, 20:22, 20:22] = 1000
    matrix = ms.ijkToRas(np.eye(3), (1, 1, 1), (40, 40, 30))
    matrix[:3, 3] = [-20.5, -20.5, -14.5]
    node = ms.addVolume(scene, array, matrix)
    bent = ms.addBentTransform(scene, 5.0)
    node.SetAndObserveTransformNodeID(bent.GetID())
    expected = np.array(bent.GetTransformToParent().TransformPoint(0, 0, 0))
    ms.setView(sliceNode, ms.viewDirections("axial"), expected)
    placed = SliceRequestBuilder().fromPoint(sliceNode, node, expected)
    ys, xs = np.nonzero(placed.request.pixels > 100)
    found = placed.grid.pixelToRas @ [xs.mean(), ys.mean(), 0, 1]
    np.testing.assert_allclose(found[:3], expected, atol=0.6)


def test_colour_volume_becomes_luminance(scene, sliceNode, rng):
    colour = rng.integers(0, 255, (12, 20, 24, 3)).astype(np.uint8)
    matrix = ms.ijkToRas(np.diag([-1, -1, 1]), (1, 1, 1), (24, 20, 12))
    node = ms.addVolume(scene, colour, matrix)
    volume = make_volume(colour.astype(np.float32) @ [0.299, 0.587, 0.114], matrix)
    for directions in (ms.viewDirections("axial"), TILT):
        ms.setView(sliceNode, directions, volume.centre_ras)
        placed = SliceRequestBuilder().fromPoint(sliceNode, node, volume.centre_ras)
        cut = engineCut(volume, placed, directions[:, 2], volume.centre_ras)
        assert np.abs(placed.request.pixels.astype(int) - cut.pixels).max() <= 1


def test_volume_of_several_frames_shows_the_current_one(scene, sliceNode, rng):
    """Diffusion and multi-volumes hold frames as components; that is not colour."""
    frames = rng.integers(0, 900, (12, 20, 24, 5)).astype(np.int16)
    matrix = ms.ijkToRas(np.diag([-1, -1, 1]), (1, 1, 1), (24, 20, 12))
    node = ms.addVolume(scene, frames, matrix, cls="vtkMRMLDiffusionWeightedVolumeNode")
    node.SetNumberOfGradients(5)
    node.CreateDefaultDisplayNodes()
    seen = []
    for frame in (0, 3):
        node.GetDisplayNode().SetDiffusionComponent(frame)
        volume = make_volume(frames[..., frame], matrix)
        ms.setView(sliceNode, ms.viewDirections("axial"), [3, -5, 7])
        placed = SliceRequestBuilder().fromPoint(sliceNode, node, [3, -5, 7])
        cut = slices.cut_plane(volume, "axial", through_ras=[3, -5, 7])
        np.testing.assert_array_equal(placed.request.pixels, cut.pixels)
        seen.append(placed.fingerprint)
    assert seen[0] != seen[1]


def test_picture_without_position_asks_without_position(scene, sliceNode, rng):
    array = rng.integers(0, 255, (1, 60, 50)).astype(np.uint8)
    node = ms.addVolume(scene, array, np.diag([-1.0, -1.0, 1.0, 1.0]))
    ms.setView(sliceNode, ms.viewDirections("sagittal"), [0, 0, 0])
    placed = SliceRequestBuilder().fromPoint(sliceNode, node, [-20, -30, 0])
    assert placed.request.pixel_to_ras is None and placed.request.foreground is None
    assert placed.request.plane is None
    assert placed.request.points == ((20.0, 30.0, 1),)
    cut = slices.cut_picture(
        make_volume(array, np.diag([-1.0, -1.0, 1.0, 1.0]), has_position=False, is_picture=True)
    )
    np.testing.assert_array_equal(placed.request.pixels, cut.pixels)


def test_nan_and_infinite_voxels_do_not_spread(scene, sliceNode, rng):
    array = makeArray(rng, dtype=np.float32)
    array[::3, ::4, ::5] = np.nan
    array[1::7, 2::9, 3::8] = np.inf
    matrix = ms.ijkToRas(np.diag([-1, -1, 1]), (1, 1, 1.2), SHAPE)
    node, volume = ms.addVolume(scene, array, matrix), make_volume(array, matrix)
    for directions in (ms.viewDirections("axial"), TILT):
        ms.setView(sliceNode, directions, volume.centre_ras)
        placed = SliceRequestBuilder().fromPoint(sliceNode, node, volume.centre_ras)
        cut = engineCut(volume, placed, directions[:, 2], volume.centre_ras)
        assert np.abs(placed.request.pixels.astype(int) - cut.pixels).max() <= 1


def test_current_image_of_a_sequence_is_sent(scene, sliceNode, rng):
    """The proxy volume of a sequence browser: same node, another image."""
    matrix = ms.ijkToRas(np.eye(3), (1, 1, 1), SHAPE)
    frames = [makeArray(rng) for _ in range(2)]
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    for number, frame in enumerate(frames):
        item = ms.addVolume(scene, frame, matrix, f"frame{number}")
        sequence.SetDataNodeAtValue(item, str(number))
        scene.RemoveNode(item)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    logic.UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)
    builder, seen = SliceRequestBuilder(), []
    ms.setView(sliceNode, ms.viewDirections("axial"), [3, -5, 7])
    for number, frame in enumerate(frames):
        browser.SetSelectedItemNumber(number)
        logic.UpdateProxyNodesFromSequences(browser)
        placed = builder.fromPoint(sliceNode, proxy, [3, -5, 7])
        cut = slices.cut_plane(make_volume(frame, matrix), "axial", through_ras=[3, -5, 7])
        np.testing.assert_array_equal(placed.request.pixels, cut.pixels)
        seen.append(placed.fingerprint)
    assert seen[0] != seen[1]
    logic.SetMRMLScene(None)


def test_fingerprint_changes_with_voxels_place_and_transform_only(scene, rng):
    node = ms.addVolume(scene, makeArray(rng), np.eye(4))
    first = volumeFingerprint(node)
    node.SetName("renamed")
    assert volumeFingerprint(node) == first
    seen = {first}
    node.GetImageData().GetPointData().GetScalars().Modified()
    seen.add(volumeFingerprint(node))
    node.SetSpacing(1, 1, 2)
    seen.add(volumeFingerprint(node))
    move = ms.addLinearTransform(scene, np.eye(4))
    node.SetAndObserveTransformNodeID(move.GetID())
    seen.add(volumeFingerprint(node))
    move.SetMatrixTransformToParent(ms.toVtk(np.diag([1.0, 1, 2, 1])))
    seen.add(volumeFingerprint(node))
    assert len(seen) == 5
    assert volumeFingerprint(None) == ""


def test_dragging_on_one_slice_reads_the_voxels_once(scene, sliceNode, rng, monkeypatch):
    node = ms.addVolume(scene, makeArray(rng), ms.ijkToRas(np.eye(3), (1, 1, 1), SHAPE))
    ms.setView(sliceNode, ms.viewDirections("axial"), [3, -5, 7])
    from VelcroLinkLib.scene import slice_request

    reads = []
    original = slice_request.sliceValues
    monkeypatch.setattr(slice_request, "sliceValues", lambda *a: reads.append(1) or original(*a))
    builder = SliceRequestBuilder()
    for shift in range(5):
        builder.fromRoi(sliceNode, node, ms.addRoi(scene, [3 + shift, -5, 7], [10, 12, 2]))
    assert len(reads) == 1
    node.GetImageData().Modified()
    builder.fromRoi(sliceNode, node, ms.addRoi(scene, [3, -5, 7], [10, 12, 2]))
    assert len(reads) == 2


def test_hounsfield_units_of_the_node_make_it_ct(scene, sliceNode, rng):
    node = ms.addVolume(scene, makeArray(rng), ms.ijkToRas(np.eye(3), (1, 1, 1), SHAPE))
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueUnits(units)
    assert volumeModality(node) == "CT"
    ms.setView(sliceNode, ms.viewDirections("axial"), [3, -5, 7])
    assert SliceRequestBuilder().fromPoint(sliceNode, node, [3, -5, 7]).request.modality == "CT"


def test_dicom_modality_of_the_study_is_used(scene, rng):
    node = ms.addVolume(scene, makeArray(rng), np.eye(4))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    assert volumeModality(node) is None
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "DX")
    assert volumeModality(node) == "XR"


class TestBadInput:
    def test_no_volume(self, sliceNode):
        with pytest.raises(InputError, match="choose the volume"):
            SliceRequestBuilder().fromPoint(sliceNode, None, [0, 0, 0])

    def test_volume_without_image(self, scene, sliceNode):
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        with pytest.raises(InputError, match="no image"):
            SliceRequestBuilder().fromPoint(sliceNode, node, [0, 0, 0])

    def test_no_view(self, scene, rng):
        node = ms.addVolume(scene, makeArray(rng), np.eye(4))
        with pytest.raises(GeometryError, match="layout"):
            SliceRequestBuilder().fromPoint(None, node, [0, 0, 0])

    def test_singular_transform(self, scene, sliceNode, rng):
        node = ms.addVolume(scene, makeArray(rng), np.eye(4))
        flat = ms.addLinearTransform(scene, np.diag([1.0, 1.0, 0.0, 1.0]))
        node.SetAndObserveTransformNodeID(flat.GetID())
        with pytest.raises(GeometryError, match="transform"):
            SliceRequestBuilder().fromPoint(sliceNode, node, [0, 0, 0])

    @pytest.mark.parametrize("directions", [ms.viewDirections("axial"), TILT])
    def test_slice_outside_the_volume(self, scene, sliceNode, rng, directions):
        node = ms.addVolume(scene, makeArray(rng), np.eye(4))
        ms.setView(sliceNode, directions, [0, 0, 500])
        with pytest.raises(GeometryError, match="scroll"):
            SliceRequestBuilder().fromPoint(sliceNode, node, [0, 0, 500])

    def test_roi_and_point_outside_the_image(self, scene, sliceNode, rng):
        node = ms.addVolume(scene, makeArray(rng), ms.ijkToRas(np.eye(3), (1, 1, 1), SHAPE))
        ms.setView(sliceNode, ms.viewDirections("axial"), [3, -5, 7])
        builder = SliceRequestBuilder()
        with pytest.raises(GeometryError, match="outside the image"):
            builder.fromRoi(sliceNode, node, ms.addRoi(scene, [300, -5, 7], [10, 12, 2]))
        with pytest.raises(GeometryError, match="outside the image"):
            builder.fromPoint(sliceNode, node, [300, -5, 7])
