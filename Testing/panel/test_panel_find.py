"""The Find tab: a phrase, its regions over the slice, the heat map, and "not in this slice"."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from PySide6 import QtCore, QtTest

from tab_helpers import assert_fits, prepare_worker, reached_by_tab, show_tab


@pytest.fixture
def worker_script(tmp_path, monkeypatch):
    return prepare_worker(tmp_path, monkeypatch)


@pytest.fixture
def find(driver):
    return show_tab(driver, driver.module.panel.find)


def search(driver, find, phrase="thalamus"):
    find.phraseEdit.text = ""
    driver.type(find.phraseEdit, phrase)
    QtTest.QTest.keyClick(find.phraseEdit, QtCore.Qt.Key.Key_Return)
    driver.wait_until(lambda: not find._question.isRunning, "the search")
    driver.wait(0.02)


def found_nodes():
    names = ("vtkMRMLSegmentationNode", "vtkMRMLScalarVolumeNode")
    nodes = [n for name in names for n in slicer.util.getNodesByClass(name)]
    return [n for n in nodes if not n.GetSaveWithScene()]


def lines(find):
    return [find.regionList.item(row).text() for row in range(find.regionList.count)]


def test_regions_are_outlined_and_listed_with_scores(driver, find):
    volume = driver.add_volume()
    search(driver, find)
    assert lines(find)[0].startswith("1.  score 0.82, right, area ")
    assert len(lines(find)) == 2 and "0.41, left" in lines(find)[1]
    assert "'thalamus' is in 2 places" in find.summary.text
    (node,) = found_nodes()
    first = node.GetSegmentation().GetNthSegmentID(0)
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, first, volume)
    k, j, i = np.nonzero(voxels)
    assert len(set(k.tolist())) == 1  # on the searched slice and no other
    assert voxels.shape[2] * 0.35 == pytest.approx(i.mean(), abs=1)
    assert node.GetSegmentation().GetNthSegment(0).GetName() == "thalamus, right (0.82)"
    assert driver.segment_names(volume) == []  # nothing of the Link tab's is touched


def test_a_phrase_with_a_side_finds_that_side_only(driver, find):
    driver.add_volume()
    search(driver, find, "left thalamus")
    assert len(lines(find)) == 1 and "left" in lines(find)[0]


def test_a_phrase_that_is_not_there_is_said_and_nothing_is_drawn(driver, find):
    driver.add_volume()
    driver.script(present=False)
    search(driver, find, "thalamus")
    assert find.summary.text == "'thalamus' is not in this slice (best score 0.05)."
    assert not find.regionList.isVisible() and found_nodes() == []


def test_the_heat_map_is_laid_over_and_what_was_there_comes_back(driver, find):
    driver.add_volume()
    other = driver.add_volume("Other", seed=2, show=False)
    composite = driver.view().sliceLogic().GetSliceCompositeNode()
    composite.SetForegroundVolumeID(other.GetID())
    composite.SetForegroundOpacity(0.3)
    search(driver, find)
    before = driver.view().slice.picture().astype(int)
    find.heatCheck.click()
    heat = slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID())
    assert heat.GetHideFromEditors() and not heat.GetSaveWithScene()
    values = slicer.util.arrayFromVolume(heat)
    assert values.max() == pytest.approx(0.82, abs=0.02)
    driver.wait(0.05)
    changed = np.abs(driver.view().slice.picture().astype(int) - before)[..., :3].sum(-1) > 30
    assert 0.005 < changed.mean() < 0.6  # warm around the regions, nothing elsewhere
    find.heatCheck.click()
    assert composite.GetForegroundVolumeID() == other.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.3)
    assert not slicer.mrmlScene.IsNodePresent(heat)


def test_choosing_a_region_brings_its_slice_back(driver, find):
    driver.add_volume()
    search(driver, find)
    node = driver.view().mrmlSliceNode()
    offset = node.GetSliceOffset()
    node.SetSliceOffset(offset + 20)
    item = find.regionList.item(1)
    find.regionList.setCurrentRow(1)
    find.regionList.itemActivated.emit(item)
    assert node.GetSliceOffset() == pytest.approx(offset, abs=1.1)
    display = found_nodes()[0].GetDisplayNode()
    fills = [display.GetSegmentOpacity2DFill(f"VelcroLinkFound{n}") for n in (0, 1)]
    assert fills[1] > fills[0]


def test_another_view_searches_its_own_slice(driver, find):
    driver.add_volume()
    find.phraseEdit.text = "thalamus"
    names = [find.viewBox.itemText(n) for n in range(find.viewBox.count)]
    assert len(names) == 3
    find.viewBox.currentIndex = 2
    search(driver, find)
    assert find._placed.grid.plane != "axial"
    assert names[2].lower().endswith(f"({find._placed.grid.plane})")


def test_a_new_search_replaces_the_old_one_and_clear_takes_all_away(driver, find):
    driver.add_volume()
    search(driver, find)
    find.heatCheck.click()
    search(driver, find, "left thalamus")
    assert len(found_nodes()) == 2  # one segmentation, one heat map
    driver.press(find.clearButton)
    assert found_nodes() == [] and find.summary.text == ""
    assert not find.clearButton.enabled


@pytest.mark.parametrize("end", ["volume", "scene", "voxels", "nodes"])
def test_nothing_stays_when_the_image_goes(driver, find, end):
    volume = driver.add_volume()
    search(driver, find)
    find.heatCheck.click()
    if end == "volume":
        slicer.mrmlScene.RemoveNode(volume)
    elif end == "scene":
        driver.app.close_scene()
    elif end == "voxels":
        slicer.util.arrayFromVolume(volume)[:] = 3
        slicer.util.arrayFromVolumeModified(volume)
        volume.GetImageData().Modified()
        volume.InvokeEvent(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent)
        assert "changed" in find.message.label.text
    else:
        for node in found_nodes():
            slicer.mrmlScene.RemoveNode(node)
        driver.press(find.clearButton)
    driver.wait(0.05)
    assert found_nodes() == [] and find._found is None
    assert not find.heatCheck.enabled and find.heatCheck.toolTip


def test_the_volume_going_during_a_search_shows_nothing(driver, find):
    volume = driver.add_volume()
    driver.script(ground_seconds=0.3)
    driver.type(find.phraseEdit, "thalamus")
    driver.press(find.findButton)
    driver.wait_until(lambda: driver.state == "ready", "the engine")
    slicer.mrmlScene.RemoveNode(volume)
    driver.wait(0.6)
    assert found_nodes() == [] and find._found is None


def test_a_dead_worker_is_said_and_the_next_search_works(driver, find):
    driver.add_volume()
    driver.script(ground_exit=True)
    search(driver, find)
    assert "restarted" in find.message.label.text and find._found is None
    driver.script()
    search(driver, find)
    assert len(lines(find)) == 2 and find.message.label.text == ""


def test_errors_and_damaged_answers_are_one_line(driver, find):
    driver.add_volume()
    driver.script(ground_error={"kind": "input", "message": "Type what to find."})
    search(driver, find)
    assert find.message.label.text == "Type what to find."
    driver.script(ground_damaged=True)
    search(driver, find)
    assert "damaged" in find.message.label.text and found_nodes() == []


def test_a_search_says_what_it_needs(driver, find):
    assert find.findButton.toolTip == "Load a volume first."
    driver.add_volume()
    driver.wait(0.05)
    assert find.findButton.toolTip == "Type what to find first."
    find.phraseEdit.text = "x" * 500
    assert len(find.phraseEdit.text) == 300 and find.findButton.enabled


def test_find_fits_and_the_keyboard_reaches_it(driver, find):
    assert_fits(driver)
    driver.add_volume()
    search(driver, find, "thalamus")
    find.heatCheck.click()
    assert_fits(driver)
    wanted = {"phraseEdit", "findButton", "findViewBox", "regionList", "heatCheck"}
    assert wanted - reached_by_tab(driver, find.phraseEdit) == set()
