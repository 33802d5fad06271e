"""Drawing a RoI with the mouse in a slice view, and what the panel makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from PySide6 import QtCore, QtTest

from host.pythonqt import qt

PREVIEW = "VelcroLink preview"
RIGHT_WHITE_MATTER = ([20, 20, 0], [52, -10, 0])  # corners in RAS, mm


def preview_voxels(driver, volume):
    from VelcroLinkLib.scene.segmentation_result import PREVIEW_SEGMENT_ID

    return slicer.util.arrayFromSegmentBinaryLabelmap(
        driver.segmentation(volume), PREVIEW_SEGMENT_ID, volume
    ).astype(bool)


def ellipse_voxels(volume, roi):
    """The voxels under the ellipse inscribed in an axial RoI, on the slice at its centre."""
    kji = np.argwhere(slicer.util.arrayFromVolume(volume) > -(10**6))
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    ras = kji[:, ::-1] @ slicer.util.arrayFromVTKMatrix(matrix)[:3, :3].T
    ras += slicer.util.arrayFromVTKMatrix(matrix)[:3, 3]
    centre, size = np.array(roi.GetCenter()), np.array(roi.GetSize())
    inside = (((ras[:, :2] - centre[:2]) / (size[:2] / 2)) ** 2).sum(axis=1) <= 1
    layers = np.abs(ras[:, 2] - centre[2])
    inside &= layers == layers.min()
    return inside.reshape(slicer.util.arrayFromVolume(volume).shape)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_two_clicks_around_a_structure_show_its_mask_and_entry(driver):
    volume = driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    assert driver.candidates[0] == "Hippocampus, right"
    assert driver.segment_names(volume) == [PREVIEW]
    expected = ellipse_voxels(volume, driver.session.promptNode)
    assert dice(preview_voxels(driver, volume), expected) > 0.99
    assert driver.ui.acceptButton.enabled
    radios = driver.module.panel.widget.findChildren(qt.QRadioButton)
    assert radios[0].text == "Hippocampus, right" and radios[0].checked


def test_the_mask_is_drawn_over_the_slice_with_outline_and_fill(driver):
    volume = driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    centre = driver.view().position_of(driver.session.promptNode.GetCenter())
    beside = QtCore.QPoint(centre.x() + 14, centre.y() + 12)  # the centre has a handle on it
    with_mask = driver.view().slice.picture()[beside.y(), beside.x(), :3].astype(int)
    driver.segmentation(volume).GetDisplayNode().SetVisibility(False)
    without = driver.view().slice.picture()[beside.y(), beside.x(), :3].astype(int)
    assert np.ptp(without) <= 2  # grey
    assert with_mask[0] - with_mask[2] > 20  # yellow over grey


def test_dragging_a_handle_updates_mask_and_entry_while_dragging(driver):
    volume = driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    before = preview_voxels(driver, volume)
    answers = []
    driver.client.linked.connect(lambda result, placed: answers.append(placed.request.box))
    driver.drag([36, 5, 0], [14, 5, 0], steps=12)  # the middle handle moves the whole RoI
    while_dragging = len(answers)
    driver.wait_linked()
    after = preview_voxels(driver, volume)
    assert while_dragging >= 3
    assert len({tuple(box) for box in answers}) >= 3
    moved = np.argwhere(after)[:, 2].mean() - np.argwhere(before)[:, 2].mean()
    assert moved == pytest.approx(22 / 2, abs=1.5)  # 22 mm to the left, voxels of 2 mm
    expected = ellipse_voxels(volume, driver.session.promptNode)
    assert dice(after, expected) > 0.99


def test_one_click_on_a_structure_links_the_point(driver):
    driver.add_volume()
    driver.press(driver.ui.placePointButton)
    driver.click_ras([-15, 0, 0])
    driver.wait_linked()
    assert driver.candidates[0] == "Lateral ventricle, left"
    assert driver.session.promptNode.GetClassName() == "vtkMRMLMarkupsFiducialNode"
    assert not driver.ui.placePointButton.checked


def test_placing_again_replaces_the_panels_own_roi_and_no_other(driver):
    driver.add_volume()
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "mine")
    own.SetSize(20, 20, 20)
    for _ in range(2):
        driver.place_roi(*RIGHT_WHITE_MATTER)
        driver.wait_linked()
    names = {n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")}
    assert len(names) == 2 and "mine" in names


def test_placing_again_and_again_leaves_one_roi_of_the_same_name_with_one_display_node(driver):
    driver.add_volume()
    for shift in (0, 2, 4):
        driver.place_roi([20 + shift, 20, 0], [52, -10, 0])
        driver.wait_linked()
    (roi,) = slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
    (display,) = slicer.util.getNodesByClass("vtkMRMLMarkupsROIDisplayNode")
    assert roi.GetName() == "RoI" and roi.GetDisplayNode() is display


def test_accept_names_the_segment_with_terminology_colour_and_status(driver):
    volume = driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    driver.press(driver.ui.acceptButton)
    driver.wait_until(lambda: "Accepted" in driver.notice, "accepting")
    assert driver.segment_names(volume) == ["Right hippocampus"]
    segment = driver.segmentation(volume).GetSegmentation().GetNthSegment(0)
    tag = segment.GetTerminology()
    assert "SCT^5366008^Hippocampus" in tag
    assert "SCT^24028007^Right" in tag
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.GetSegmentStatus(segment) == logic.InProgress
    table = slicer.util.getNodesByClass("vtkMRMLTableNode")[0]
    assert table.GetNumberOfRows() == 1
    assert not driver.ui.acceptButton.enabled and "already" in driver.ui.acceptButton.toolTip


def test_save_and_reload_brings_everything_back(driver, tmp_path):
    volume = driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    driver.press(driver.ui.acceptButton)
    driver.wait_until(lambda: "Accepted" in driver.notice, "accepting")
    driver.place_roi([-15, 20, 0], [-45, -10, 0])
    driver.wait_linked()
    before = driver.candidates
    tag = driver.segmentation(volume).GetSegmentation().GetNthSegment(0).GetTerminology()
    driver.ui.thresholdSlider.value = 0.25
    bundle = tmp_path / "scene.mrb"
    driver.app.save_scene(bundle)
    driver.app.close_scene()
    assert driver.session.volumeNode is None and driver.candidates == []
    driver.app.load_scene(bundle)
    driver.wait(0.3)
    assert driver.session.volumeNode.GetName() == "Head"
    assert driver.candidates == before
    assert not driver.session.outcome.live
    assert "Link again" in driver.ui.acceptButton.toolTip and not driver.ui.acceptButton.enabled
    loaded = driver.session.volumeNode
    assert driver.segment_names(loaded) == ["Right hippocampus", PREVIEW]
    segment = driver.segmentation(loaded).GetSegmentation().GetNthSegment(0)
    assert segment.GetTerminology() == tag
    assert driver.module._parameterNode.threshold == pytest.approx(0.25)
    assert slicer.util.getNodesByClass("vtkMRMLTableNode")[0].GetNumberOfRows() == 1
    driver.app.show_volume(loaded)
    driver.press(driver.ui.linkAgainButton)
    driver.wait_linked()
    assert driver.candidates == before and driver.ui.acceptButton.enabled


def test_not_this_one_takes_the_entry_from_the_search_and_remembers_it(driver):
    volume = driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    driver.press(driver.ui.rejectButton)
    assert not driver.ui.useEntryButton.enabled
    driver.type(driver.ui.searchEdit, "putam")
    results = driver.ui.searchResults
    driver.wait_until(lambda: results.count > 0, "search results")
    assert results.item(0).text() == "Putamen"
    driver.wait_until(lambda: driver.ui.searchSide.enabled, "the entry")
    assert driver.ui.searchSide.currentText == "right"
    QtTest.QTest.keyClick(driver.ui.searchEdit, QtCore.Qt.Key.Key_Return)
    driver.wait_until(lambda: "Accepted" in driver.notice, "accepting")
    assert driver.segment_names(volume) == ["Right putamen"]
    from VelcroLinkLib.engine.setup import userDataFolder

    lines = (Path(userDataFolder()) / "corrections.jsonl").read_text("utf-8").splitlines()
    last = json.loads(lines[-1])
    assert last["rightEntryId"] == "putamen" and last["linkedEntryId"] == "hippocampus"


def test_the_cards_fold_while_the_right_entry_is_searched(driver):
    driver.add_volume()
    driver.place_roi([20, 20, 0], [52, -10, 0])
    driver.wait_linked()
    details = driver.module.panel.link._cards._cards[0].details
    assert details.isVisible()
    driver.press(driver.ui.rejectButton)
    assert not details.isVisible() and driver.ui.searchEdit.hasFocus()
    driver.press(driver.ui.rejectButton)
    assert details.isVisible()


@pytest.mark.parametrize(
    "percent, text", [(99.7, "> 99 %"), (99.0, "99 %"), (42.4, "42 %"), (0.2, "< 1 %")]
)
def test_no_confidence_is_told_as_certain(driver, percent, text):
    from VelcroLinkLib.link.cards import percentText

    assert percentText(percent) == text


def test_letters_typed_into_the_search_box_start_no_placing(driver):
    driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    driver.press(driver.ui.rejectButton)
    driver.ui.searchEdit.setFocus()
    driver.type(driver.ui.searchEdit, "rp")
    assert driver.ui.searchEdit.text == "rp" and driver.session.isPlacing == ""


def test_shortcuts_r_and_p_start_and_end_placing(driver):
    driver.add_volume()
    driver.app.window.activateWindow()
    driver.view().setFocus()
    QtTest.QTest.keyClick(driver.app.window, QtCore.Qt.Key.Key_R)
    driver.wait(0.05)
    assert driver.session.isPlacing == "vtkMRMLMarkupsROINode" and driver.ui.placeRoiButton.checked
    QtTest.QTest.keyClick(driver.app.window, QtCore.Qt.Key.Key_P)
    driver.wait(0.05)
    assert driver.session.isPlacing == "vtkMRMLMarkupsFiducialNode"
    QtTest.QTest.keyClick(driver.app.window, QtCore.Qt.Key.Key_P)
    driver.wait(0.05)
    assert driver.session.isPlacing == ""
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode") == []


def test_leaving_place_mode_without_a_click_leaves_no_node(driver):
    driver.add_volume()
    driver.press(driver.ui.placeRoiButton)
    interaction = driver.app.application_logic.GetInteractionNode()
    interaction.SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.ViewTransform)
    driver.wait(0.05)
    assert driver.session.isPlacing == "" and not driver.ui.placeRoiButton.checked
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsROINode") == []


def test_a_roi_drawn_in_an_oblique_view_has_its_orientation(driver):
    volume = driver.add_volume()
    node = driver.view().slice.node
    turn = vtk.vtkTransform()
    turn.RotateX(25)
    turn.RotateZ(15)
    matrix = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Multiply4x4(turn.GetMatrix(), node.GetSliceToRAS(), matrix)
    node.GetSliceToRAS().DeepCopy(matrix)
    node.UpdateMatrices()
    driver.app.process_events()
    corners = [driver.view().ras_of(QtCore.QPoint(x, y)) for x, y in ((150, 260), (260, 400))]
    driver.place_roi(*corners)
    driver.wait_linked()
    axes = slicer.util.arrayFromVTKMatrix(driver.session.promptNode.GetObjectToWorldMatrix())
    normal = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, 2]
    assert max(abs(axes[:3, :3].T @ normal)) == pytest.approx(1, abs=1e-6)
    cut = driver.session.placed.grid.pixelToRas[:3, 2]
    assert abs(cut @ normal) == pytest.approx(1, abs=1e-6)
    assert preview_voxels(driver, volume).sum() > 100
    assert min(driver.session.promptNode.GetSize()) >= 1.0


def test_a_roi_drawn_in_another_view_is_linked_in_that_plane(driver):
    driver.add_volume()
    driver.place_roi([20, 0, 20], [50, 0, -10], view="Green")
    driver.wait_linked()
    assert driver.session.placed.request.plane == "coronal"


def test_picking_an_existing_roi_goes_to_it_and_links_it(driver):
    driver.add_volume()
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "mine")
    roi.CreateDefaultDisplayNodes()
    roi.SetSize(30, 30, 10)
    roi.SetCenter(36, 5, 22)
    driver.move(driver.view("Red"), QtCore.QPoint(9, 9))  # the active view
    driver.ui.roiSelector.setCurrentNode(roi)
    driver.wait_linked()
    assert driver.view().slice.node.GetSliceOffset() == pytest.approx(22, abs=1)
    assert driver.session.promptNode is roi and driver.candidates


def test_the_volume_of_the_view_under_the_mouse_is_preselected(driver):
    first = driver.add_volume("First")
    driver.wait(0.05)
    assert driver.session.volumeNode is first
    second = driver.add_volume("Second", seed=2, show=False)
    green = driver.view("Green")
    green.slice.logic.GetSliceCompositeNode().SetBackgroundVolumeID(second.GetID())
    driver.place_roi([20, 0, 20], [50, 0, -10], view="Green")
    driver.wait_linked()
    assert driver.session.volumeNode is second  # drawn on what is seen there
    assert driver.ui.volumeSelector.currentNode() is second


def test_nothing_similar_enough_names_the_nearest_as_such(driver):
    driver.add_volume()
    driver.script(abstain=True)
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    assert "No entry matches" in driver.ui.emptyLabel.text
    assert not driver.ui.acceptButton.enabled
    assert "Choose" in driver.ui.acceptButton.toolTip
    radios = driver.module.panel.widget.findChildren(qt.QRadioButton)
    radios[1].click()
    assert driver.ui.acceptButton.enabled


def test_the_threshold_turns_a_weak_match_into_no_match_at_once(driver):
    driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    assert "No entry" not in driver.ui.emptyLabel.text
    driver.ui.thresholdSlider.value = 0.9
    assert "No entry matches" in driver.ui.emptyLabel.text
    driver.ui.thresholdSlider.value = 0.5
    assert "No entry" not in driver.ui.emptyLabel.text


def test_links_open_on_click_through_the_desktop_only(driver, monkeypatch):
    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    label = next(
        one
        for one in driver.module.panel.widget.findChildren(qt.QLabel)
        if "UBERON" in one.text and one.isVisible()
    )
    assert opened == [] and label.openExternalLinks is False
    label.linkActivated.emit("http://purl.obolibrary.org/obo/UBERON_0002421")
    assert opened == ["http://purl.obolibrary.org/obo/UBERON_0002421"]
    label.linkActivated.emit("file:///etc/passwd")
    assert len(opened) == 1


def shown_results(driver):
    results = driver.ui.searchResults
    return [results.item(n).text() for n in range(results.count)]


def test_an_answer_to_what_was_typed_before_is_not_chosen(driver):
    driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    driver.wait_linked()
    driver.press(driver.ui.rejectButton)
    driver.type(driver.ui.searchEdit, "tha")
    search, decisions = driver.module.panel.link._search, driver.module.logic.decisions
    search._timer.stop()
    search._search()  # asked; the answer is on its way
    driver.type(driver.ui.searchEdit, "xyzzy")
    search._timer.stop()
    got = []
    decisions.search("putamen", got.append)  # answered in order: the first answer has come, too
    driver.wait_until(lambda: got, "the later answer")
    assert "Thalamus" not in shown_results(driver)
    assert not driver.ui.useEntryButton.enabled


def test_text_of_an_own_knowledge_base_is_shown_as_text(driver, tmp_path):
    entry = {
        "id": "bold_thing",
        "name": "<b>Bold</b> & <img src=x> thing",
        "synonyms": ["<script>alert(1)</script>"],
        "latin": [],
        "abbreviations": [],
        "definition": "Looks like <a href='file:///etc'>markup</a> and is text.",
        "kind": "anatomy",
        "modalities": ["MR"],
        "laterality": "midline",
        "region": "brain",
        "is_a": ["anatomical_structure"],
        "part_of": [],
        "places": [],
        "size_mm": None,
        "codes": [],
        "links": [],
    }
    base = {"schema_version": 1, "name": "Mine", "version": "1", "licence": "CC0-1.0"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**base, "language": "en", "entries": [entry]}), "utf-8")
    driver.ui.knowledgeBasePath.currentPath = str(path)
    driver.add_volume()
    driver.place_roi(*RIGHT_WHITE_MATTER)
    # the path counts once it is no longer being typed, which may be after the first link
    driver.wait_until(lambda: "Mine" in driver.ui.engineLabel.text, "the own knowledge base")
    driver.wait_linked()
    driver.press(driver.ui.rejectButton)
    driver.type(driver.ui.searchEdit, "bold thing")
    driver.wait_until(lambda: shown_results(driver)[:1] == [entry["name"]], "the entry")
    got = []
    driver.module.logic.decisions.card("bold_thing", got.append)
    driver.wait_until(lambda: got, "the card")
    for markup in ("<script", "<img", "<a href='file"):
        assert markup not in got[0].html
