"""Propagate and Review with the engine's real worker process and the bundled model."""

from __future__ import annotations

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
    from VelcroLinkLib.results_table import results

    return results(slicer.mrmlScene)
