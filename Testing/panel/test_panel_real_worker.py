"""The panel with the engine's real worker process and the bundled model.

Another model than the bundled one: set VELCROLINK_TEST_MODEL to its folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import slicer
from PySide6 import QtCore

from sample_brain import load_brain

ROOT = Path(__file__).resolve().parents[2]
# Corners (RAS, mm) around structures of the MNI152 brain.
RIGHT_THALAMUS = ([2.0, -6.0, 8.0], [22.0, -32.0, 8.0])
LEFT_VENTRICLE = ([-4.0, 26.0, 18.0], [-26.0, -10.0, 18.0])


@pytest.fixture
def real(application, slot_errors, tmp_path, monkeypatch):
    """The module with the real worker and a model."""
    from driver import Driver, assert_gone
    from velcro_engine.errors import VelcroError
    from velcro_engine.model.folder import bundled_model_path

    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = os.environ.get("VELCROLINK_TEST_MODEL", "")
    if not model:
        try:
            bundled_model_path()
        except VelcroError:
            pytest.skip("there is no bundled model in Resources/Models")
    monkeypatch.delenv("VELCROLINK_WORKER", raising=False)
    slicer.mrmlScene = application.scene
    QtCore.QSettings().clear()
    QtCore.QSettings().setValue("VelcroLink/Model", model)
    application.close_scene()
    application.reset_views()
    driver = Driver(application, tmp_path / "unused.json", slot_errors)
    yield driver
    application.set_theme("light")
    pid = driver.client.processId
    application.unload_module("VelcroLink")
    application.close_scene()
    QtCore.QSettings().clear()
    assert_gone(pid)


@pytest.fixture
def brain(real):
    node = load_brain()
    if node is None:
        pytest.skip("nilearn, whose wheel holds the MNI152 brain, is not installed")
    real.app.window.resize(1280, 800)
    real.app.show_volume(node)
    for view, offset in (("Red", 8.0), ("Yellow", 12.0), ("Green", -18.0)):
        real.view(view).slice.node.SetSliceOffset(offset)
    real.app.process_events()
    return node


def test_a_roi_on_a_real_brain_gives_mask_entries_and_cards(real, brain):
    real.place_roi(*RIGHT_THALAMUS)
    real.wait_linked(seconds=180)
    assert len(real.candidates) >= 3
    assert real.segment_names(brain) == ["VelcroLink preview"]
    from VelcroLinkLib.scene.segmentation_result import PREVIEW_SEGMENT_ID

    mask = slicer.util.arrayFromSegmentBinaryLabelmap(
        real.segmentation(brain), PREVIEW_SEGMENT_ID, brain
    ).astype(bool)
    roi = real.session.promptNode
    inside = np.argwhere(mask)
    assert len(inside) > 20
    centre = np.array(roi.GetCenter())
    ras = _ras(brain, inside)
    assert (np.abs(ras - centre).max(axis=0) <= np.array(roi.GetSize()) / 2 + 6).all()
    real.wait_until(lambda: "card" not in real.notice and _card_text(real), "the card's text")


def test_the_head_of_a_turned_brain_is_found_and_heeded(real, brain):
    from velcro_engine.head.turns import turn_matrix, turn_vector
    from VelcroLinkLib.scene.volume_geometry import volumeFingerprint

    turn = np.eye(4)
    turn[:3, :3] = turn_matrix(np.deg2rad([0.0, 0.0, 20.0]))
    brain.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(turn @ _ijk_to_ras(brain)))
    real.app.show_volume(brain)
    real.view("Red").slice.node.SetSliceOffset(8.0)
    middle = (turn @ [*np.mean(RIGHT_THALAMUS, axis=0), 1.0])[:3]
    real.place_roi(middle + [-11, 13, 0], middle + [11, -13, 0])
    fingerprint = volumeFingerprint(brain)
    heads = real.session.heads
    real.wait_until(lambda: heads.of(fingerprint) is not None, "the head", 180)
    found = np.rad2deg(turn_vector(np.array(heads.of(fingerprint).axes)))
    assert found[2] == pytest.approx(-20, abs=4) and np.abs(found[:2]).max() < 6
    real.wait_linked()
    real.press(real.ui.linkAgainButton)
    real.wait_linked()
    assert real.session.placed.request.foreground.is_head
    assert real.candidates[0] == "Thalamus, right"


def test_accepting_and_searching_with_the_real_knowledge_base(real, brain):
    real.place_roi(*RIGHT_THALAMUS)
    real.wait_linked(seconds=180)
    real.press(real.ui.rejectButton)
    real.type(real.ui.searchEdit, "thalam")

    def shown():
        return [real.ui.searchResults.item(n).text() for n in range(real.ui.searchResults.count)]

    real.wait_until(lambda: "Thalamus" in shown(), "search results", 120)
    real.ui.searchResults.setCurrentRow(shown().index("Thalamus"))
    real.wait_until(lambda: real.ui.searchSide.enabled, "the entry", 60)
    real.ui.searchSide.currentIndex = 2
    real.press(real.ui.useEntryButton)
    real.wait_until(lambda: "Accepted" in real.notice, "accepting", 60)
    assert real.segment_names(brain) == ["Right thalamus"]


def test_a_missing_model_folder_is_named_in_the_state_line(real, brain):
    real.ui.modelPath.currentPath = "/nowhere/model"
    real.place_roi(*RIGHT_THALAMUS)
    real.wait_until(lambda: real.state == "failed", "the failure", 120)
    assert "model" in real.ui.stateLabel.text.lower() or "nowhere" in real.ui.stateLabel.text
    real.ui.modelPath.currentPath = os.environ.get("VELCROLINK_TEST_MODEL", "")
    real.wait_until(lambda: real.state == "ready", "loading the other one", 180)
    real.press(real.ui.linkAgainButton)
    real.wait_linked(seconds=120)


def _ijk_to_ras(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _ras(volume, kji):
    array = _ijk_to_ras(volume)
    return kji[:, ::-1] @ array[:3, :3].T + array[:3, 3]


def _card_text(driver):
    from host.pythonqt import qt

    labels = driver.module.panel.widget.findChildren(qt.QLabel)
    return any(len(label.text) > 200 and label.isVisible() for label in labels)
