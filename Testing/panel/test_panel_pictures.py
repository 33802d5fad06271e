"""Pictures of every tab, with the engine's real worker, the bundled model and a real brain.

`pytest Testing/panel/test_panel_pictures.py --screenshots` writes Resources/Screenshots anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer
from PySide6 import QtCore, QtGui

from host.pythonqt import qt
from tab_helpers import SCREENSHOTS, show_tab
from test_panel_layout import cut_widgets
from test_panel_real_worker import RIGHT_THALAMUS, brain, real  # noqa: F401 - fixtures
from test_panel_tabs_real_worker import own_data  # noqa: F401 - fixture

# Corners in RAS mm, on the axial slice at this height; the reviewed segments are grown from these.
REGIONS = {
    "right thalamus": ([3.0, -8.0], [21.0, -31.0], 8.0),
    "left thalamus": ([-3.0, -8.0], [-21.0, -31.0], 8.0),
    "right putamen": ([19.0, 16.0], [33.0, -10.0], 2.0),
    "left lateral ventricle": ([-3.0, 26.0], [-26.0, -34.0], 18.0),
}


@pytest.fixture
def camera(own_data, real, brain, request, tmp_path):  # noqa: F811
    return Camera(real, request, tmp_path)


class Camera:
    """Takes pictures of the window or of the dock alone."""

    def __init__(self, driver, request, tmp_path):
        self.driver = driver
        self.isForGood = request.config.getoption("--screenshots")
        self._folder = SCREENSHOTS if self.isForGood else tmp_path
        self._folder.mkdir(parents=True, exist_ok=True)

    def width(self, pixels):
        dock = self.driver.module.dock.dock
        self.driver.app.window.resizeDocks([dock], [pixels], QtCore.Qt.Orientation.Horizontal)
        self.driver.wait(0.2)
        self.driver.session.changed.emit()
        self.driver.wait(0.1)

    def snap(self, name, widget=None, theme="light"):
        """A picture; nothing may be cut in it and it may not be blank."""
        driver = self.driver
        driver.app.set_theme(theme)
        driver.wait(0.05)
        driver.session.changed.emit()
        driver.move(driver.view(), QtCore.QPoint(4, 4))
        driver.wait(0.3)
        assert cut_widgets(driver.module.panel.widget) == []
        path = self._folder / f"{name}.png"
        # Without the alpha channel, which says nothing and makes the file larger.
        image = (widget or driver.app.window).grab().toImage()
        image.convertToFormat(QtGui.QImage.Format.Format_RGB888).save(str(path))
        driver.app.set_theme("light")
        assert not is_blank(path), f"{name} is blank"

    def both(self, name, widget=None):
        for theme in ("light", "dark"):
            self.snap(f"{name}-{theme}", widget, theme)


def is_blank(path: Path) -> bool:
    image = QtGui.QImage(str(path))
    seen = {image.pixel(x, y) for x in range(0, image.width(), 7) for y in range(0, 300, 7)}
    return len(seen) <= 3


def link(driver, corner, opposite, height):
    driver.view().slice.node.SetSliceOffset(height)
    driver.app.process_events()
    driver.place_roi([*corner, height], [*opposite, height])
    driver.wait_linked(seconds=180)
    driver.press(driver.ui.linkAgainButton)  # the first link still warms the engine up
    driver.wait_linked(seconds=60)
    driver.wait(0.2)


def test_pictures_of_the_link_tab(camera):
    driver, dock = camera.driver, camera.driver.module.dock.dock
    camera.snap("panel-empty", dock)
    driver.place_roi(*RIGHT_THALAMUS)
    driver.wait_linked(seconds=180)
    driver.wait_until(lambda: card_is_shown(driver), "the card's text")
    driver.press(driver.ui.linkAgainButton)  # the first link still warms the engine up
    driver.wait_linked(seconds=60)
    camera.both("link")
    camera.width(320)
    camera.both("panel-320", dock)
    camera.width(620)
    camera.snap("panel-wide", dock)
    camera.width(380)
    driver.press(driver.ui.rejectButton)
    driver.type(driver.ui.searchEdit, "ventricle")
    driver.wait_until(lambda: driver.ui.useEntryButton.enabled, "search results", 60)
    camera.snap("panel-correct", dock)
    driver.press(driver.ui.rejectButton)
    driver.press(driver.ui.acceptButton)
    driver.wait_until(lambda: "Accepted" in driver.notice, "accepting", 60)
    camera.snap("panel-accepted", dock)


def test_picture_of_a_corrected_propagation(camera):
    driver, panel = camera.driver, camera.driver.module.panel
    link(driver, *REGIONS["right putamen"])
    driver.press(panel.propagate.button)
    driver.wait_until(lambda: "Propagated" in driver.notice, "the segment", 180)
    marks = ((1, (26.0, 4.0)), (1, (23.0, 12.0)), (0, (33.5, -14.0)))
    for label, place in marks:
        panel.corrections.points.place(label)
        driver.app.process_events()
        driver.click_ras([*place, 2.0])
        driver.wait(0.05)
    driver.press(panel.corrections.frame.applyButton)
    driver.wait_until(lambda: "Corrected" in driver.notice, "the corrected segment", 180)
    assert "not followed" not in driver.notice
    camera.snap("propagate-corrected")


def test_pictures_of_the_find_tab(camera):
    driver = camera.driver
    find = show_tab(driver, driver.module.panel.find)
    driver.type(find.phraseEdit, "caudate nucleus")
    driver.press(find.findButton)
    driver.wait_until(lambda: not find._question.isRunning, "the search", 180)
    assert find.message.label.text == "" and find._found.regions
    camera.snap("find-light")
    find.heatCheck.click()
    camera.snap("find-heat-dark", theme="dark")


def test_pictures_of_cases_and_report(camera):
    driver = camera.driver
    cases = driver.module.panel.cases
    for number, (height, note) in enumerate(
        ((4.0, "Unremarkable."), (12.0, "No focal lesion, no shift of the midline."))
    ):
        driver.ui.tabs.setCurrentIndex(0)
        link(driver, [3.0, -8.0], [20.0, -30.0], height)
        show_tab(driver, cases)
        driver.wait_until(lambda: cases._cases is not None, "the library", 60)
        cases.pseudonymEdit.text = ""
        driver.type(cases.pseudonymEdit, f"brain-{number + 17:03d}")
        driver.type(cases.noteEdit, note)
        driver.press(cases.addButton)
        driver.wait_until(lambda n=number: len(cases._cases or ()) > n, "the added case", 60)
    driver.ui.tabs.setCurrentIndex(0)
    link(driver, *REGIONS["right thalamus"])
    show_tab(driver, cases)
    driver.wait_until(lambda: cases._asked is driver.session.result, "the search", 60)
    driver.wait_until(lambda: not cases._search.isRunning, "the search", 60)
    cases.pseudonymEdit.text = ""
    cases.widget.setFocus()
    camera.both("cases")
    report = show_tab(driver, driver.module.panel.report)
    driver.press(report.draftButton)
    driver.wait_until(lambda: not report._question.isRunning, "the draft", 60)
    assert report.message.label.text == ""
    report.draftView.setFocus()
    camera.snap("report-light")
    report.model.box.checked = True
    report.model.addressEdit.text = "http://localhost:11434/v1"
    camera.snap("report-dark", theme="dark")


def test_pictures_of_the_review_tab(camera, brain):  # noqa: F811
    driver = camera.driver
    button = driver.module.panel.widget.findChild(qt.QPushButton, "propagateButton")
    # Growing four takes half a minute; one is enough to see that the pictures can be taken.
    for name in REGIONS if camera.isForGood else ["right putamen"]:
        link(driver, *REGIONS[name])
        before = len(driver.segment_names(brain))
        driver.press(button)
        driver.wait_until(lambda n=before: len(driver.segment_names(brain)) > n, "the segment", 180)
    segmentation = as_from_another_program(driver.segmentation(brain), brain)
    driver.session.notify("", "")
    roi = driver.session.promptNode
    roi.GetScene().RemoveNode(roi)
    review = show_tab(driver, driver.module.panel.review)
    review.ui.reviewSelector.setCurrentNode(segmentation)
    driver.app.process_events()
    driver.press(review.ui.reviewButton)
    driver.wait_until(lambda: not review.session.isRunning, "the review", 180)
    driver.wait_until(lambda: review.table.isFilled, "the table")
    row = next(row for row in review.session.review.rows if row.segment == "Left putamen")
    assert row.needsLook and row.linked_side == "right"
    at = next(
        n
        for n in range(review.ui.reviewTable.rowCount)
        if review.ui.reviewTable.item(n, 1).text() == "Left putamen"
    )
    review.ui.reviewTable.setCurrentCell(at, 1)
    review.session.decide(row.segment_id, flag=True, note="Ask who named it")
    camera.both("review")
    camera.width(320)
    camera.both("review-320", driver.module.dock.dock)


def as_from_another_program(node, volume):
    """The segments with their names alone, one of them on the wrong side, as a tired reader does."""
    from VelcroLinkLib.scene.segmentation_result import PREVIEW_SEGMENT_ID

    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Brain structures")
    copy.CreateDefaultDisplayNodes()
    copy.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segments, copies = node.GetSegmentation(), copy.GetSegmentation()
    for n in range(segments.GetNumberOfSegments()):
        segmentId = segments.GetNthSegmentID(n)
        if segmentId == PREVIEW_SEGMENT_ID:
            continue
        copies.CopySegmentFromSegmentation(segments, segmentId)
        segment = copies.GetSegment(segmentId)
        for tag in (segment.GetTerminologyEntryTagName(), "VelcroLink.entry"):
            segment.RemoveTag(tag)
        if segment.GetName() == "Right putamen":
            segment.SetName("Left putamen")
    slicer.mrmlScene.RemoveNode(node)
    return copy


def card_is_shown(driver):
    labels = driver.module.panel.widget.findChildren(qt.QLabel)
    return any(len(label.text) > 200 and label.isVisible() for label in labels)
