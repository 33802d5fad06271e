"""Things that go wrong: the panel says what to do, stays usable, and nothing is lost."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import slicer
from PySide6 import QtCore

CORNERS = ([20, 20, 0], [52, -10, 0])


def links_again(driver, volume=None):
    """The panel is usable: place a RoI on a good volume and see an entry."""
    volume = volume or driver.add_volume("Good")
    driver.script()
    driver.ui.volumeSelector.setCurrentNode(volume)
    driver.app.show_volume(volume)
    driver.place_roi(*CORNERS)
    driver.wait_linked()
    return bool(driver.candidates)


def test_without_a_volume_the_panel_says_where_to_get_one(driver):
    assert "No image yet" in driver.ui.emptyLabel.text
    assert not driver.ui.placeRoiButton.enabled
    assert driver.ui.placeRoiButton.toolTip == "Load a volume first."
    assert links_again(driver)


def test_volume_deleted_while_linking(driver):
    volume = driver.add_volume()
    driver.script(link_seconds=0.5)
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: driver.state == "linking", "linking")
    slicer.mrmlScene.RemoveNode(volume)
    driver.wait(0.8)
    assert driver.candidates == [] and driver.session.volumeNode is None
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == [] or all(
        "preview" not in name for name in driver.segment_names(volume)
    )
    assert links_again(driver)


def test_scene_closed_while_linking(driver):
    driver.add_volume()
    driver.script(link_seconds=0.5)
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: driver.state == "linking", "linking")
    driver.app.close_scene()
    driver.wait(0.8)
    assert driver.candidates == []
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert links_again(driver)


def test_scene_closed_while_placing(driver):
    driver.add_volume()
    driver.press(driver.ui.placeRoiButton)
    driver.app.close_scene()
    assert driver.session.isPlacing == "" and not driver.ui.placeRoiButton.checked
    assert links_again(driver)


@pytest.mark.parametrize(
    ("centre", "size", "words"),
    [
        ((36, 5, 0), (0, 0, 0), "size"),
        ((900, 900, 0), (30, 30, 10), "outside"),
        ((36, 5, 0), (0.2, 30, 10), "thinner"),
    ],
    ids=["zero size", "outside", "thinner than a pixel"],
)
def test_a_roi_that_cannot_be_linked(driver, centre, size, words):
    volume = driver.add_volume()
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "bad")
    roi.CreateDefaultDisplayNodes()
    roi.SetCenter(*centre)
    roi.SetSize(*size)
    driver.move(driver.view("Red"), QtCore.QPoint(9, 9))
    driver.ui.roiSelector.setCurrentNode(roi)
    driver.wait_until(lambda: driver.notice, "a notice")
    assert words in driver.notice, driver.notice
    assert driver.ui.noticeFrame.isVisible() and driver.ui.noticeLabel.text == driver.notice
    assert links_again(driver, volume)


def test_dragging_the_roi_out_of_the_image_and_back(driver):
    volume = driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_linked()
    driver.session.promptNode.SetCenter(500, 500, 0)
    driver.wait_until(lambda: driver.notice, "a notice")
    assert driver.candidates == [] and driver.segment_names(volume) == []
    driver.session.promptNode.SetCenter(36, 5, 0)
    driver.wait_linked()
    assert driver.candidates and driver.notice == ""


def test_a_colour_volume_is_linked_by_its_luminance(driver):
    grey = np.clip(np.mgrid[:40, :60, :60][2] * 4, 0, 255).astype(np.uint8)
    colour = np.stack([grey, grey, grey], axis=-1)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Colour")
    slicer.util.updateVolumeFromArray(node, colour)
    node.CreateDefaultDisplayNodes()
    driver.app.show_volume(node)
    driver.ui.volumeSelector.setCurrentNode(node)
    driver.place_roi([10, 10, 20], [40, 40, 20])
    driver.wait_until(lambda: driver.candidates or driver.notice, "an answer")
    assert driver.candidates, driver.notice
    assert links_again(driver)


def test_an_image_that_changes_while_linking_drops_the_answer(driver):
    volume = driver.add_volume()
    driver.script(link_seconds=0.4)
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: driver.state == "linking", "linking")
    slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume)[::-1].copy())
    driver.wait_until(lambda: driver.state == "ready", "the answer")
    assert driver.candidates == [] and "Link again" in driver.notice
    assert driver.segment_names(volume) == []
    driver.press(driver.ui.linkAgainButton)
    driver.wait_linked()
    assert driver.candidates


def test_an_image_that_changes_after_linking_takes_the_mask_away(driver):
    """A sequence browser that moves on gives its proxy volume the next image."""
    volume = driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_linked()
    slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume)[::-1].copy())
    driver.wait(0.05)
    assert driver.segment_names(volume) == [] and driver.candidates == []
    assert "changed" in driver.notice


def test_a_killed_worker_is_restarted_and_the_question_asked_again(driver):
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_linked()
    driver.script(link_seconds=0.6)
    driver.press(driver.ui.linkAgainButton)
    driver.wait_until(lambda: driver.state == "linking", "linking")
    pid = driver.client.processId
    os.kill(pid, signal.SIGKILL)
    driver.wait_until(lambda: driver.state == "restarting", "the restart")
    assert driver.ui.stateLabel.text.startswith("Restarting")
    driver.wait_linked()
    assert driver.candidates and driver.client.processId != pid


def test_a_worker_that_keeps_dying_is_reported_with_a_way_out(driver):
    driver.add_volume()
    driver.script(link_exit=True)
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: driver.state == "failed", "the failure")
    assert driver.ui.cancelButton.text == "Restart" and driver.ui.cancelButton.enabled
    driver.script()
    driver.press(driver.ui.cancelButton)
    driver.wait_until(lambda: driver.state == "ready", "the restart")
    assert driver.ui.stateLabel.text == "Ready; the engine was restarted"
    driver.press(driver.ui.linkAgainButton)
    driver.wait_linked()
    assert driver.candidates and "linked in" in driver.ui.stateLabel.text


@pytest.mark.parametrize("kind", ["model", "knowledge_base"])
def test_missing_model_or_broken_entries_say_so_and_a_restart_mends_it(driver, kind):
    message = f"The {kind} cannot be read; choose another one in the settings."
    driver.script(load_error={"kind": kind, "message": message})
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: driver.state == "failed", "the failure")
    assert driver.ui.stateLabel.text == message
    driver.script()
    driver.press(driver.ui.cancelButton)
    driver.wait_until(lambda: driver.state == "ready", "the restart")
    driver.press(driver.ui.linkAgainButton)
    driver.wait_linked()
    assert driver.candidates


def test_a_broken_knowledge_base_file_is_named(driver, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{ this is not JSON", "utf-8")
    driver.ui.knowledgeBasePath.currentPath = str(broken)
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: driver.state == "failed", "the failure")
    assert "broken.json" in driver.ui.stateLabel.text
    driver.ui.knowledgeBasePath.currentPath = ""
    driver.wait_until(lambda: driver.state == "ready", "loading without it")
    driver.press(driver.ui.linkAgainButton)
    driver.wait_linked()
    assert driver.candidates


def test_an_error_while_linking_is_shown_inline(driver):
    driver.add_volume()
    driver.script(link_error={"kind": "geometry", "message": "The region is odd; move it."})
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: driver.notice, "a notice")
    assert driver.notice == "The region is odd; move it."
    driver.script()
    driver.press(driver.ui.linkAgainButton)
    driver.wait_linked()
    assert driver.notice == "" and driver.candidates


@pytest.mark.parametrize("deaf", [False, True], ids=["listening worker", "deaf worker"])
def test_cancel_ends_a_link_that_would_last_an_hour(driver, deaf):
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_linked()
    driver.script(link_seconds=3600, deaf=deaf)
    driver.press(driver.ui.linkAgainButton)
    driver.wait_until(lambda: driver.state == "linking", "linking")
    driver.wait(0.1)
    driver.script()
    driver.press(driver.ui.cancelButton)
    driver.wait_until(lambda: driver.state in ("ready", "restarting"), "the end")
    driver.wait_until(lambda: driver.state == "ready", "being ready")
    said = "Ready; the engine was restarted" if deaf else "Cancelled"
    assert driver.ui.stateLabel.text == said
    driver.press(driver.ui.linkAgainButton)
    driver.wait_linked()
    assert driver.candidates


def test_a_missing_package_is_offered_by_one_inline_button(driver, monkeypatch):
    import VelcroLinkLib.engine.install_check as install_check
    from host import packaging

    real = install_check.importlib.metadata.version
    there = {"onnxruntime": False}

    def version(name):
        if name == "onnxruntime" and not there["onnxruntime"]:
            raise install_check.importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(install_check.importlib.metadata, "version", version)
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: driver.state == "notInstalled", "the check")
    assert driver.ui.installFrame.isVisible()
    assert "onnxruntime" in driver.ui.installButton.text and "MB" in driver.ui.installButton.text
    packaging.fails = True
    driver.press(driver.ui.installButton)
    driver.wait_until(lambda: driver.notice, "the failure")
    assert driver.ui.installOfflineLabel.isVisible() and "wheels" in driver.notice
    assert "pip download" in driver.ui.installOfflineLabel.text
    packaging.fails = False
    there["onnxruntime"] = True
    driver.press(driver.ui.installButton)
    driver.wait_linked()
    assert not driver.ui.installFrame.isVisible() and driver.candidates


def test_module_reloaded_while_linking_leaves_one_dock_and_no_process(driver):
    from host.pythonqt import qt

    driver.add_volume()
    driver.script(link_seconds=5)
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: driver.state == "linking", "linking")
    pid, old = driver.client.processId, driver.module
    old.onReload()
    driver.wait(0.3)
    assert driver.module is not old
    docks = [
        dock
        for dock in driver.app.window.findChildren(qt.QDockWidget)
        if dock.objectName == "VelcroLinkDockWidget"
    ]
    assert len(docks) == 1
    from driver import assert_gone

    assert_gone(pid)
    driver.script()
    driver.wait_linked()  # the RoI is in the scene still and is linked anew
    assert driver.candidates
