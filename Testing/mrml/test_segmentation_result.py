"""Masks become segments without touching anything else, with terminology, as one undo step."""

from __future__ import annotations

import types

import numpy as np
import pytest
import slicer

import mrml_scene as ms
from velcro_engine.errors import GeometryError, InputError
from velcro_engine.messages.result import LinkedEntry, LinkResult
from VelcroLinkLib.scene.results_table import results, resultsTable
from VelcroLinkLib.scene.segmentation_result import (
    PREVIEW_SEGMENT_ID,
    acceptPreview,
    clearPreview,
    segmentationForVolume,
    showPreview,
    undoAccept,
)
from VelcroLinkLib.scene.slice_request import SliceRequestBuilder

SHAPE = (40, 36, 20)
CENTRE = np.array([3.0, -5.0, 7.0])
HIPPOCAMPUS = {
    "id": "hippocampus",
    "name": "Hippocampus",
    "kind": "anatomy",
    "region": "brain",
    "codes": [{"scheme": "SCT", "value": "5366008", "meaning": "Hippocampus"}],
}
NODULE = {
    "id": "lung_nodule",
    "name": "Lung nodule",
    "kind": "pathology",
    "region": "chest",
    "codes": [],
}
Logic = slicer.vtkSlicerSegmentationsModuleLogic


@pytest.fixture
def volume(scene, rng):
    array = rng.integers(0, 400, tuple(reversed(SHAPE))).astype(np.int16)
    return ms.addVolume(scene, array, ms.ijkToRas(np.diag([-1, -1, 1]), (1, 1, 2), SHAPE), "T1")


@pytest.fixture
def ask(scene, sliceNode, volume):
    """ask(box in pixels, offset in mm) -> (PlacedRequest, LinkResult with that box as its mask)."""
    builder = SliceRequestBuilder()

    def make(box=(8, 8, 18, 16), offset=0.0, entries=("hippocampus",), side="left"):
        through = CENTRE + np.array([0, 0, offset])
        ms.setView(sliceNode, ms.viewDirections("axial"), through)
        placed = builder.fromPoint(sliceNode, volume, through)
        mask = np.zeros(placed.request.pixels.shape, dtype=bool)
        x0, y0, x1, y1 = box
        mask[y0:y1, x0:x1] = True
        linked = tuple(
            LinkedEntry(e, e.capitalize(), side, 0.8 - 0.1 * n) for n, e in enumerate(entries)
        )
        attributes = {"area_mm2": 80.0, "zone": "left"}
        return placed, LinkResult(mask, linked, False, attributes, model="m1", knowledge_base="kb1")

    return make


def voxelsOf(volume, segmentId):
    return ms.segmentArray(segmentationForVolume(volume), segmentId, SHAPE)


def test_preview_is_replaced_and_not_added_to(volume, ask):
    assert showPreview(volume, *ask((8, 8, 18, 16))) == PREVIEW_SEGMENT_ID
    assert voxelsOf(volume, PREVIEW_SEGMENT_ID).sum() == 80
    showPreview(volume, *ask((20, 20, 25, 24), offset=4.0))
    assert voxelsOf(volume, PREVIEW_SEGMENT_ID).sum() == 20
    node = segmentationForVolume(volume)
    assert node.GetSegmentation().GetNumberOfSegments() == 1
    clearPreview(volume)
    assert node.GetSegmentation().GetNumberOfSegments() == 0


def test_empty_mask_clears_the_preview(volume, ask):
    showPreview(volume, *ask())
    assert showPreview(volume, *ask((8, 8, 8, 8))) == ""
    segmentation = segmentationForVolume(volume).GetSegmentation()
    assert segmentation.GetSegment(PREVIEW_SEGMENT_ID) is None


def test_one_segmentation_for_each_volume_with_its_geometry_and_source(scene, volume, ask, rng):
    other = ms.addVolume(scene, rng.integers(0, 9, (5, 6, 7)).astype(np.int16), np.eye(4), "other")
    node = segmentationForVolume(volume)
    assert segmentationForVolume(volume) is node
    assert segmentationForVolume(other) is not node
    role = node.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume
    geometry = node.GetSegmentation().GetConversionParameter("Reference image geometry")
    assert geometry.endswith(f"0;{SHAPE[0] - 1};0;{SHAPE[1] - 1};0;{SHAPE[2] - 1};")


def test_preview_is_shown_with_outline_and_fill(volume, ask):
    showPreview(volume, *ask())
    display = segmentationForVolume(volume).GetDisplayNode()
    assert display.GetVisibility2DOutline() and display.GetVisibility2DFill()
    assert 0 < display.GetSegmentOpacity2DFill(PREVIEW_SEGMENT_ID) < 0.6


def test_segments_that_share_a_labelmap_are_not_touched(volume, ask):
    """Two segments of the user's in one layer; preview and accepted mask lie across both."""
    node = segmentationForVolume(volume)
    segmentation = node.GetSegmentation()
    before = {}
    for name, box in (("a", (5, 5, 12, 18)), ("b", (14, 5, 20, 18))):
        segmentation.AddEmptySegment(name, name)
        placed, result = ask(box)
        from VelcroLinkLib.scene.segmentation_result import _voxels, writeMask

        writeMask(node, name, _voxels(volume, placed, result), volume)
    for name in ("a", "b"):
        before[name] = voxelsOf(volume, name)
        assert before[name].any()
    assert segmentation.GetNumberOfLayers() == 1, "the test needs a shared labelmap"

    showPreview(volume, *ask((8, 8, 18, 16)))
    showPreview(volume, *ask((2, 2, 30, 30)))
    segmentId = acceptPreview(volume, HIPPOCAMPUS, "left", *ask((8, 8, 18, 16)))
    for name, voxels in before.items():
        np.testing.assert_array_equal(voxelsOf(volume, name), voxels)
    assert voxelsOf(volume, segmentId).sum() == 80


def test_accepted_segments_that_overlap_both_keep_their_voxels(volume, ask):
    first = acceptPreview(volume, HIPPOCAMPUS, "left", *ask((8, 8, 18, 16)))
    second = acceptPreview(volume, HIPPOCAMPUS, "left", *ask((12, 8, 22, 16)))
    assert first != second
    assert voxelsOf(volume, first).sum() == 80
    assert voxelsOf(volume, second).sum() == 80
    segmentation = segmentationForVolume(volume).GetSegmentation()
    names = [segmentation.GetSegment(s).GetName() for s in (first, second)]
    assert names == ["Left hippocampus", "Left hippocampus (2)"]


def test_accept_names_codes_and_marks_the_segment(volume, ask):
    showPreview(volume, *ask())
    segmentId = acceptPreview(volume, HIPPOCAMPUS, "left", *ask())
    segmentation = segmentationForVolume(volume).GetSegmentation()
    segment = segmentation.GetSegment(segmentId)
    assert segmentation.GetSegment(PREVIEW_SEGMENT_ID) is None
    assert segment.GetName() == "Left hippocampus"
    assert Logic.GetSegmentStatus(segment) == Logic.InProgress
    entry = slicer.vtkSlicerTerminologyEntry()
    assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(
        segment.GetTerminology(), entry
    )
    assert entry.GetTypeObject().GetCodeValue() == "5366008"
    assert entry.GetTypeModifierObject().GetCodeValue() == "7771000"
    assert entry.GetRegionObject().GetCodeValue() == "12738006"
    assert segment.GetColor() != (0.5, 0.5, 0.5)


def test_colour_comes_from_slicers_terminology_where_it_is_loaded(
    volume, ask, monkeypatch, slicerLists
):
    module = types.SimpleNamespace(logic=lambda: slicerLists)
    monkeypatch.setattr(
        slicer, "modules", types.SimpleNamespace(terminologies=module), raising=False
    )
    kidney = {
        **HIPPOCAMPUS,
        "id": "kidney",
        "name": "Kidney",
        "codes": [{"scheme": "SCT", "value": "64033007"}],
    }
    segmentId = acceptPreview(volume, kidney, "left", *ask())
    segment = segmentationForVolume(volume).GetSegmentation().GetSegment(segmentId)
    assert segment.GetColor() == pytest.approx((185 / 255, 102 / 255, 83 / 255))


def test_accept_adds_a_row_to_the_results_table(scene, volume, ask):
    placed, result = ask(entries=("hippocampus", "amygdala"))
    segmentId = acceptPreview(volume, HIPPOCAMPUS, "left", placed, result)
    acceptPreview(volume, NODULE, "right", placed, result)
    first, second = results(scene)
    assert first["segment_id"] == segmentId and first["volume"] == "T1"
    assert (first["entry_id"], first["side"], first["status"]) == (
        "hippocampus",
        "left",
        "accepted",
    )
    assert first["confidence"] == pytest.approx(0.8)
    assert first["plane"] == "axial"
    assert first["attributes"] == "area_mm2=80.0; zone=left"
    centre = placed.grid.pixelToRas @ [12.5, 11.5, 0, 1]
    found = [first["centre_r"], first["centre_a"], first["centre_s"]]
    np.testing.assert_allclose(found, centre[:3], atol=1e-3)
    assert (second["status"], second["linked_as"]) == ("corrected", "hippocampus")


def test_table_of_an_older_version_gets_its_missing_columns(scene, volume, ask):
    table = resultsTable(scene)
    table.GetTable().RemoveColumnByName("linked_as")
    acceptPreview(volume, HIPPOCAMPUS, "left", *ask())
    assert results(scene)[0]["linked_as"] == "hippocampus"


@pytest.mark.parametrize("undoIsOn", [False, True])
def test_accept_is_one_undo_step(scene, volume, ask, undoIsOn):
    scene.SetUndoFlag(undoIsOn)
    first = acceptPreview(volume, HIPPOCAMPUS, "left", *ask())
    showPreview(volume, *ask((2, 2, 9, 9)))
    acceptPreview(volume, NODULE, None, *ask((2, 2, 9, 9)))
    roi = ms.addRoi(scene, [0, 0, 0], [10, 10, 10])
    assert bool(scene.GetUndoFlag()) == undoIsOn
    assert undoAccept(scene)
    segmentation = segmentationForVolume(volume).GetSegmentation()
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    assert ids == [first, PREVIEW_SEGMENT_ID]
    assert voxelsOf(volume, first).sum() == 80
    assert len(results(scene)) == 1
    assert scene.IsNodePresent(roi) and scene.IsNodePresent(volume)
    assert undoAccept(scene)
    assert results(scene) == []
    assert not undoAccept(scene)


def test_result_lies_in_the_study_of_the_volume(scene, volume, ask):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "MR of the head")
    hierarchy.CreateItem(study, volume)
    acceptPreview(volume, HIPPOCAMPUS, "left", *ask())
    item = hierarchy.GetItemByDataNode(segmentationForVolume(volume))
    assert item and hierarchy.GetItemParent(item) == study


def test_segmentation_follows_the_transform_of_its_volume(scene, sliceNode, volume):
    move = np.eye(4)
    move[:3, :3] = ms.rotation("S", 90)
    move[:3, 3] = [5, 6, 7]
    volume.SetAndObserveTransformNodeID(ms.addLinearTransform(scene, move).GetID())
    centre = move[:3, :3] @ CENTRE + move[:3, 3]
    ms.setView(sliceNode, ms.viewDirections("axial"), centre)
    placed = SliceRequestBuilder().fromPoint(sliceNode, volume, centre)
    mask = np.zeros(placed.request.pixels.shape, dtype=bool)
    mask[10:14, 12:20] = True
    showPreview(volume, placed, LinkResult(mask, (), True))
    node = segmentationForVolume(volume)
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()
    expected = placed.grid.pixelToRas @ [15.5, 11.5, 0, 1]
    found = node.GetSegmentCenterRAS(PREVIEW_SEGMENT_ID)
    np.testing.assert_allclose(found, expected[:3], atol=1.01)


def test_result_of_a_volume_that_changed_is_not_accepted(scene, volume, ask):
    placed, result = ask()
    volume.GetImageData().Modified()
    with pytest.raises(InputError, match="changed"):
        acceptPreview(volume, HIPPOCAMPUS, "left", placed, result)
    assert segmentationForVolume(volume, create=False) is None
    assert results(scene) == []


def test_volume_whose_geometry_changed_gets_its_masks_at_the_new_place(
    scene, sliceNode, volume, ask
):
    showPreview(volume, *ask())
    kept = acceptPreview(volume, HIPPOCAMPUS, "left", *ask())
    volume.SetOrigin(50.0, 60.0, 70.0)
    volume.SetSpacing(2.0, 1.0, 1.5)
    matrix = np.eye(4)
    ijk = slicer.util.arrayFromVTKMatrix(_ijkToRas(volume))
    matrix[:] = ijk
    through = matrix[:3, :3] @ [20, 18, 10] + matrix[:3, 3]
    ms.setView(sliceNode, ms.viewDirections("axial"), through)
    placed = SliceRequestBuilder().fromPoint(sliceNode, volume, through)
    mask = np.zeros(placed.request.pixels.shape, dtype=bool)
    x, y, _ = np.floor(np.linalg.inv(placed.grid.pixelToRas) @ [*through, 1])[:3].astype(int)
    mask[y - 4 : y + 5, x - 4 : x + 5] = True
    showPreview(volume, placed, LinkResult(mask, (), True))
    node = segmentationForVolume(volume)
    np.testing.assert_allclose(node.GetSegmentCenterRAS(PREVIEW_SEGMENT_ID), through, atol=2.0)
    segmentId = acceptPreview(volume, NODULE, None, placed, LinkResult(mask, (), True))
    np.testing.assert_allclose(node.GetSegmentCenterRAS(segmentId), through, atol=2.0)
    assert node.GetSegmentation().GetSegment(kept) is not None


def _ijkToRas(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def test_reference_geometry_follows_the_volume(volume, ask):
    showPreview(volume, *ask())
    volume.SetSpacing(1.0, 1.0, 3.0)
    node = segmentationForVolume(volume)
    geometry = node.GetSegmentation().GetConversionParameter("Reference image geometry")
    assert ";3;" in geometry.replace("-3;", "3;")


def test_segmentation_whose_source_became_a_surface_still_takes_masks(volume, ask):
    first = acceptPreview(volume, HIPPOCAMPUS, "left", *ask())
    node = segmentationForVolume(volume)
    assert node.CreateClosedSurfaceRepresentation()
    node.SetSourceRepresentationToClosedSurface()
    second = acceptPreview(volume, NODULE, None, *ask((20, 20, 25, 24), offset=4.0))
    assert voxelsOf(volume, second).sum() == 20
    assert voxelsOf(volume, first).sum() > 0


def test_empty_mask_is_not_accepted(volume, ask):
    with pytest.raises(GeometryError, match="no voxel"):
        acceptPreview(volume, HIPPOCAMPUS, "left", *ask((8, 8, 8, 8)))


def test_clearing_without_volume_or_segmentation_is_safe(scene, volume):
    clearPreview(None)
    clearPreview(volume)
    scene.RemoveNode(volume)
    clearPreview(volume)
