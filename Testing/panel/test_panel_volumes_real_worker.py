"""Propagate and Review with the engine's real worker process and the bundled model."""

from __future__ import annotations

import numpy as np
import slicer

from host.pythonqt import qt
from tab_helpers import show_tab
from test_panel_real_worker import real  # noqa: F401 - fixture

RIGHT_NUCLEUS = ([16.0, 20.0, 0.0], [36.0, -12.0, 0.0])


def test_a_region_is_propagated_and_the_segment_that_came_out_is_reviewed(real):  # noqa: F811
    volume = real.add_volume()
    real.place_roi(*RIGHT_NUCLEUS)
    real.wait_linked(seconds=120)
    button = real.module.panel.widget.findChild(qt.QPushButton, "propagateButton")
    real.press(button)
    real.wait_until(lambda: "Propagated" in real.notice, "the segment", 120)
    (row,) = results_of_scene()
    assert row["status"] == "propagated"
    assert "volume_ml" in row["attributes"]
    assert row["segment"] in real.segment_names(volume)

    review = show_tab(real, real.module.panel.review)
    review.ui.reviewSelector.setCurrentNode(real.segmentation(volume))
    real.app.process_events()
    real.press(review.ui.reviewButton)
    real.wait_until(lambda: not review.session.isRunning, "the review", 120)
    rows = {r.segment: r for r in review.session.review.rows}
    assert row["segment"] in rows
    assert real.state == "ready"


def results_of_scene():
    from VelcroLinkLib.scene.results_table import results

    return results(slicer.mrmlScene)


def test_corrections_on_two_slices_change_the_segment_there(real):  # noqa: F811
    """A slice that the segment reaches too far on, and one that it does not reach at all."""
    volume = real.add_volume()
    real.place_roi(*RIGHT_NUCLEUS)
    real.wait_linked(seconds=120)
    panel = real.module.panel
    real.press(panel.propagate.button)
    real.wait_until(lambda: "Propagated" in real.notice, "the segment", 120)
    corrections = panel.corrections
    identifier, names = corrections.target.segmentId, real.segment_names(volume)
    before = voxels_of(real, volume, identifier)
    rim = np.argwhere(before[28])  # on a slice near the start
    rim = rim[rim[:, 1] == rim[:, 1].min()]  # the voxels farthest to the patient's right
    outside = rim[len(rim) // 2]
    beyond = int(np.flatnonzero(before.any(axis=(1, 2))).max()) + 2
    inside = np.rint(np.argwhere(before[beyond - 3]).mean(axis=0)).astype(int)
    marks = {0: (28, *outside), 1: (beyond, *inside)}
    for label, (k, j, i) in marks.items():
        corrections.points.place(label)
        real.view().slice.node.SetSliceOffset(2.0 * k - 60.0)
        real.app.process_events()
        real.click_ras([96.0 - 2 * i, 96.0 - 2 * j, 2.0 * k - 60.0])
        real.wait(0.05)
    real.press(corrections.frame.applyButton)
    real.wait_until(lambda: "Corrected" in real.notice, "the corrected segment", 120)
    after = voxels_of(real, volume, identifier)
    assert before[marks[0]] and not before[marks[1]]
    assert after[marks[1]] and not after[marks[0]]
    assert "not followed" not in real.notice
    assert (before[28] != after[28]).any() and not before[beyond].any()
    assert real.segment_names(volume) == names
    (row,) = results_of_scene()
    assert row["segment_id"] == identifier and "corrections=2" in row["attributes"]


def voxels_of(driver, volume, identifier):
    """bool K x J x I of a segment."""
    node = driver.segmentation(volume)
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume).astype(bool)
