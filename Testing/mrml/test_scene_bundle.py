"""Everything the user made is there again after saving and loading an .mrb."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

import mrml_scene as ms
from velcro_engine.messages.result import LinkedEntry, LinkResult
from VelcroLinkLib.frame.state import savedFrom, savedLink, saveLink
from VelcroLinkLib.scene.results_table import results
from VelcroLinkLib.scene.roi_geometry import roiCornersRas
from VelcroLinkLib.scene.segmentation_result import (
    PREVIEW_SEGMENT_ID,
    acceptPreview,
    segmentationForVolume,
    showPreview,
)
from VelcroLinkLib.scene.slice_request import SliceRequestBuilder

SHAPE = (40, 36, 20)
ENTRY = {"id": "hippocampus", "name": "Hippocampus", "kind": "anatomy", "region": "brain"}
TILT = ms.rotation("R", 20) @ ms.rotation("A", -12)


@pytest.fixture
def linked(scene, sliceNode, rng):
    """(volume, placed request, result) of a link on an oblique slice of an oblique volume."""
    array = rng.integers(0, 400, tuple(reversed(SHAPE))).astype(np.int16)
    matrix = ms.ijkToRas(TILT @ np.diag([-1.0, -1.0, 1.0]), (1, 1, 2), SHAPE)
    volume = ms.addVolume(scene, array, matrix, "T1")
    centre = [3, -5, 7]
    ms.setView(sliceNode, ms.viewDirections("coronal"), centre)
    roi = ms.addRoi(scene, centre, [14, 4, 12])
    placed = SliceRequestBuilder().fromRoi(sliceNode, volume, roi)
    mask = np.zeros(placed.request.pixels.shape, dtype=bool)
    x0, y0, x1, y1 = (round(v) for v in placed.request.box)
    mask[y0:y1, x0:x1] = True
    entries = (
        LinkedEntry("hippocampus", "Hippocampus", "left", 0.83),
        LinkedEntry("amygdala", "Amygdala", None, 0.1),
    )
    attributes = {"area_mm2": 168.0, "zone": "left", "note": 'a "quoted"\tword'}
    result = LinkResult(mask, entries, False, attributes, model="m1", knowledge_base="kb1")
    return volume, placed, result


def saveAndLoad(scene, folder):
    """A new scene, read from the .mrb that the old one was written to."""
    path = str(folder / "with spaces äöü.mrb")
    assert scene.WriteToMRB(path)
    made = ms.makeScene()
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    assert made.logics[0].OpenSlicerDataBundle(path, str(unpacked))
    slicer.mrmlScene = made.scene
    return made


def test_segments_terminology_table_roi_and_link_survive(scene, linked, tmp_path):
    volume, placed, result = linked
    parameters = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "VelcroLink")
    parameters.SetModuleName("VelcroLink")
    saveLink(parameters, volume, savedFrom(placed, result))
    accepted = acceptPreview(volume, ENTRY, "left", placed, result)
    showPreview(volume, placed, result)
    before = {
        s: ms.segmentArray(segmentationForVolume(volume), s, SHAPE)
        for s in (accepted, PREVIEW_SEGMENT_ID)
    }
    segment = segmentationForVolume(volume).GetSegmentation().GetSegment(accepted)
    tag, colour = segment.GetTerminology(), segment.GetColor()
    rows = results(scene)
    corners = roiCornersRas(scene.GetFirstNodeByName("RoI"))

    made = saveAndLoad(scene, tmp_path)
    loaded = made.scene
    volume = loaded.GetFirstNodeByName("T1")
    node = segmentationForVolume(volume, create=False)
    assert node is not None, "the segmentation is found again for its volume"
    for segmentId, voxels in before.items():
        np.testing.assert_array_equal(ms.segmentArray(node, segmentId, SHAPE), voxels)
    segment = node.GetSegmentation().GetSegment(accepted)
    assert segment.GetName() == "Left hippocampus"
    assert segment.GetTerminology() == tag
    np.testing.assert_allclose(segment.GetColor(), colour, atol=0.01)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.GetSegmentStatus(segment) == logic.InProgress
    assert results(loaded) == rows
    np.testing.assert_allclose(roiCornersRas(loaded.GetFirstNodeByName("RoI")), corners, atol=1e-6)
    parameters = loaded.GetFirstNodeByClass("vtkMRMLScriptedModuleNode")
    assert savedLink(parameters, volume) == savedFrom(placed, result)
    made.close()


def test_work_goes_on_in_the_loaded_scene(scene, sliceNode, linked, tmp_path):
    volume, placed, result = linked
    acceptPreview(volume, ENTRY, "left", placed, result)
    made = saveAndLoad(scene, tmp_path)
    volume = made.scene.GetFirstNodeByName("T1")
    ms.setView(sliceNode, ms.viewDirections("coronal"), [3, -5, 7])
    roi = made.scene.GetFirstNodeByName("RoI")
    again = SliceRequestBuilder().fromRoi(sliceNode, volume, roi)
    # The file keeps the position of an oblique volume to a few digits less.
    np.testing.assert_allclose(again.grid.pixelToRas, placed.grid.pixelToRas, atol=1e-4)
    assert np.abs(again.request.pixels.astype(int) - placed.request.pixels).max() <= 1
    acceptPreview(volume, ENTRY, "right", again, result)
    assert made.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    assert made.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1
    assert [row["side"] for row in results(made.scene)] == ["left", "right"]
    made.close()


class TestSavedLink:
    @pytest.fixture
    def parameters(self, scene):
        return scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "VelcroLink")

    def test_each_volume_has_its_own(self, scene, linked, parameters):
        volume, placed, result = linked
        other = ms.addVolume(scene, np.zeros((2, 3, 4), np.int16), np.eye(4), "other")
        saveLink(parameters, volume, savedFrom(placed, result))
        assert savedLink(parameters, other) is None
        assert savedLink(parameters, volume).entries[0].id == "hippocampus"
        assert savedLink(parameters, None) is None

    def test_can_be_forgotten(self, linked, parameters):
        volume, placed, result = linked
        saveLink(parameters, volume, savedFrom(placed, result))
        saveLink(parameters, volume, None)
        assert savedLink(parameters, volume) is None

    def test_of_a_deleted_volume_makes_room(self, scene, linked, parameters):
        volume, placed, result = linked
        saveLink(parameters, volume, savedFrom(placed, result))
        scene.RemoveNode(volume)
        other = ms.addVolume(scene, np.zeros((2, 3, 4), np.int16), np.eye(4), "other")
        saveLink(parameters, other, savedFrom(placed, result))
        kept = [n for n in parameters.GetParameterNames() if n.startswith("VelcroLink.savedLink")]
        assert len(kept) == 1

    def test_damaged_is_none(self, linked, parameters):
        volume, placed, result = linked
        saveLink(parameters, volume, savedFrom(placed, result))
        name = next(n for n in parameters.GetParameterNames() if n.startswith("VelcroLink.saved"))
        parameters.SetParameter(name, '{"entries": 7}')
        assert savedLink(parameters, volume) is None
