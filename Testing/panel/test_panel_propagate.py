"""Propagate: from a linked region to a three-dimensional segment."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from host.pythonqt import qt

CORNERS = ([20, 20, 0], [52, -10, 0])


@pytest.fixture
def linked(driver):
    driver.volume = driver.add_volume()
    assert not button(driver).enabled and "Link a region" in button(driver).toolTip
    driver.place_roi(*CORNERS)
    driver.wait_linked()
    return driver


def button(driver):
    return driver.module.panel.widget.findChild(qt.QPushButton, "propagateButton")


def line(driver):
    return driver.module.panel.widget.findChild(qt.QLabel, "propagateLabel").text


def test_a_linked_region_becomes_a_segment_in_the_right_place(linked):
    linked.press(button(linked))
    linked.wait_until(lambda: "Propagated" in linked.notice, "the segment")
    assert "Right thalamus" in linked.notice and "ml" in linked.notice
    node = linked.segmentation(linked.volume)
    assert "Right thalamus" in linked.segment_names(linked.volume)
    segmentation = node.GetSegmentation()
    identifier = segmentation.GetSegmentIdBySegmentName("Right thalamus")
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, linked.volume)
    filled = np.argwhere(array)
    ras = [96 - 2 * filled[:, 2], 96 - 2 * filled[:, 1], 2 * filled[:, 0] - 60]
    assert np.allclose([part.mean() for part in ras], [36, 5, 0], atol=2.0)
    assert len(filled) == 257  # voxels of a ball of radius 4
    from VelcroLinkLib.scene.results_table import results

    (row,) = results(slicer.mrmlScene)
    assert row["status"] == "propagated" and "volume_ml" in row["attributes"]
    assert button(linked).text == "&Propagate" and not line(linked)


def test_progress_is_shown_and_cancel_leaves_the_scene_as_it_was(linked):
    before = linked.segment_names(linked.volume)
    linked.script(propagate_seconds=20)
    linked.press(button(linked))
    linked.wait_until(lambda: "s left" in line(linked), "progress")
    assert "Axial slice" in line(linked)
    linked.press(button(linked))
    assert "cancelled" in linked.notice and not line(linked)
    linked.wait_until(lambda: linked.state == "ready", "readiness", 2.0)
    assert linked.segment_names(linked.volume) == before
    linked.script()
    linked.press(button(linked))
    linked.wait_until(lambda: "Propagated" in linked.notice, "the segment")


@pytest.mark.parametrize("what", ["scene", "volume", "panel"])
def test_anything_may_go_while_propagating(linked, what):
    linked.script(propagate_seconds=20)
    linked.press(button(linked))
    linked.wait_until(lambda: "s left" in line(linked), "progress")
    if what == "scene":
        linked.app.close_scene()
    elif what == "volume":
        slicer.mrmlScene.RemoveNode(linked.volume)
    else:
        linked.module.onReload()
    linked.wait(0.1)
    assert not line(linked)
