"""The Review tab: from a segmentation in the scene to rows, jumps, flags, notes and a CSV file."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest
import slicer
from PySide6 import QtCore, QtTest

from heartbeat import Heartbeat
from host.pythonqt import qt
from test_panel_layout import cut_widgets, disabled_without_reason, set_dock_width, value

BALLS = {  # name: (centre RAS mm, radius mm)
    "Left thalamus": ((-24.0, 4.0, 0.0), 9.0),
    "Right thalamus": ((24.0, 4.0, 0.0), 9.0),
    "Left lateral ventricle": ((-14.0, 20.0, 4.0), 7.0),
    "Right lateral ventricle": ((14.0, 20.0, 4.0), 7.0),
    "Left putamen": ((30.0, 10.0, 20.0), 5.0),  # on the wrong side
    "Brain stem": ((0.0, -30.0, -30.0), 10.0),
}


LINKS = {
    "Left thalamus": ["Thalamus", "left", 0.91],
    "Right thalamus": ["Thalamus", "right", 0.93],
    "Left lateral ventricle": ["Lateral ventricle", "left", 0.88],
    "Right lateral ventricle": ["Lateral ventricle", "right", 0.86],
    "Left putamen": ["Putamen", "right", 0.84],
    "Brain stem": ["Pons", "", 0.62],
}


@pytest.fixture
def review(driver):
    """The tab's session and widgets, with a volume and a segmentation of balls."""
    return Review(driver)


class Review:
    def __init__(self, driver):
        self.driver = driver
        self.volume = driver.add_volume()
        driver.wait(0.1)
        self.open()

    @property
    def panel(self):
        return self.driver.module.panel.review

    @property
    def ui(self):
        return self.panel.ui

    @property
    def session(self):
        return self.panel.session

    @property
    def notice(self):
        return self.session.notice.text if self.session.notice else ""

    @property
    def rows(self):
        return {row.segment: row for row in self.session.review.rows}

    def open(self):
        tabs = self.driver.ui.tabs
        tabs.setCurrentIndex([tabs.tabText(n) for n in range(tabs.count)].index("Review"))
        self.driver.app.process_events()

    def choose(self, node):
        self.ui.reviewSelector.setCurrentNode(node)
        self.driver.app.process_events()

    def run(self):
        self.driver.press(self.ui.reviewButton)
        self.driver.wait_until(lambda: not self.session.isRunning, "the review")
        self.wait_filled()

    def wait_filled(self):
        self.driver.wait_until(lambda: self.panel.table.isFilled, "the table")

    def cell(self, row, column):
        return self.ui.reviewTable.item(row, column).text()

    def table_row(self, name):
        table = self.ui.reviewTable
        return next(n for n in range(table.rowCount) if self.cell(n, 1) == name)


def positions(volume):
    """RAS of every voxel, K x J x I x 3."""
    k, j, i = np.indices(slicer.util.arrayFromVolume(volume).shape)
    return np.stack([96 - 2 * i, 96 - 2 * j, 2 * k - 60], axis=-1).astype(float)


def segmentation_of(volume, balls, name="Segmentation", shared=True):
    """A segmentation node; shared: all segments in one labelmap, as Slicer keeps them."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    ras = positions(volume) if balls else None
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    for title, (centre, radius) in balls.items():
        mask = np.linalg.norm(ras - np.array(centre), axis=-1) <= radius
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(*mask.shape[::-1])
        scalars = numpy_to_vtk(mask.astype(np.uint8).ravel(), deep=True)
        image.GetPointData().SetScalars(scalars)
        image.SetImageToWorldMatrix(matrix)
        identifier = node.GetSegmentation().AddEmptySegment("", title)
        if mask.any():
            logic.SetBinaryLabelmapToSegment(image, node, identifier, logic.MODE_REPLACE)
    if not shared:
        node.GetSegmentation().SeparateSegmentLabelmap(node.GetSegmentation().GetNthSegmentID(0))
    return node


def test_a_segmentation_is_reviewed_and_the_worst_comes_first(review):
    node = segmentation_of(review.volume, BALLS)
    review.choose(node)
    review.driver.script(review_links={"Left thalamus": ["Thalamus", "left", 0.9134]})
    review.run()
    assert set(review.rows) == set(BALLS)
    assert review.rows["Left putamen"].needsLook
    assert "lies" in review.rows["Left putamen"].reasons.lower()
    assert review.cell(0, 0) == "1"
    scores = [row.score for row in review.session.review.rows]
    assert scores == sorted(scores, reverse=True)
    at = review.table_row("Left thalamus")
    assert review.cell(at, 2) == "Thalamus, left"
    assert review.cell(at, 3) == "same"
    assert review.cell(at, 4) == "0.91"
    expected = 4 / 3 * np.pi * 9.0**3 / 1000
    assert float(review.cell(at, 5)) == pytest.approx(expected, rel=0.05)
    assert float(review.cell(at, 6)) == pytest.approx(18.0, abs=2.5)
    assert "of 6 segments need a look" in review.ui.reviewSummary.text
    assert "resampled" not in review.ui.reviewSummary.text


def test_each_segment_is_read_whole_whether_labelmaps_are_shared_or_overlap(review):
    balls = dict(BALLS, Overlapping=((24.0, 8.0, 0.0), 9.0))
    node = segmentation_of(review.volume, balls, shared=False)
    review.choose(node)
    review.run()
    voxels = {}
    for n in range(node.GetSegmentation().GetNumberOfSegments()):
        identifier = node.GetSegmentation().GetNthSegmentID(n)
        array = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, review.volume)
        voxels[node.GetSegmentation().GetSegment(identifier).GetName()] = int(array.sum())
    for name, row in review.rows.items():
        assert row.volume_ml == pytest.approx(voxels[name] * 8 / 1000, abs=1e-3)
    assert "overlaps" in review.rows["Overlapping"].reasons


def test_a_click_and_the_arrow_keys_bring_the_segment_into_the_slice_views(review):
    review.choose(segmentation_of(review.volume, BALLS))
    review.run()
    table = review.ui.reviewTable
    at = review.table_row("Brain stem")
    table.scrollToItem(table.item(at, 1))
    place = table.visualItemRect(table.item(at, 1)).center()
    QtTest.QTest.mouseClick(table.viewport(), QtCore.Qt.LeftButton, QtCore.Qt.NoModifier, place)
    review.driver.app.process_events()
    assert review.driver.view("Red").slice.node.GetSliceOffset() == pytest.approx(-30, abs=1.5)
    assert "Brain stem" in review.ui.reviewDetail.text
    table.setFocus()
    QtTest.QTest.keyClick(table, QtCore.Qt.Key_Home, QtCore.Qt.ControlModifier)
    review.driver.app.process_events()
    first = review.session.review.rows[0]
    offset = review.driver.view("Red").slice.node.GetSliceOffset()
    assert offset == pytest.approx(first.centre[2], abs=1.5)


def test_flag_and_note_are_kept_through_another_review_and_with_the_scene(review, tmp_path):
    node = segmentation_of(review.volume, BALLS)
    review.choose(node)
    review.run()
    review.ui.reviewTable.setCurrentCell(review.table_row("Brain stem"), 1)
    review.driver.press(review.ui.reviewFlagCheck)
    review.driver.type(review.ui.reviewNoteEdit, "cut off below")
    item = review.ui.reviewTable.item(review.table_row("Left putamen"), 0)
    item.setCheckState(QtCore.Qt.Checked)
    review.run()
    assert review.rows["Brain stem"].flag and review.rows["Brain stem"].note == "cut off below"
    assert review.rows["Left putamen"].flag and not review.rows["Right thalamus"].flag

    scene = slicer.mrmlScene
    before = review.session.review
    bundle = tmp_path / "review.mrb"
    assert scene.WriteToMRB(str(bundle))
    review.driver.app.close_scene()
    assert review.session.review is None and review.ui.reviewTable.rowCount == 0
    assert scene.ReadFromMRB(str(bundle))
    review.driver.wait_until(lambda: review.session.review is not None, "the kept review")
    review.wait_filled()
    after = review.session.review
    assert [row.segment for row in after.rows] == [row.segment for row in before.rows]
    assert after == before
    assert review.ui.reviewSelector.currentNode() is review.session.segmentationNode


def test_the_same_structure_of_the_other_side_is_not_called_the_same(review):
    review.driver.script(review_links=LINKS)
    review.choose(segmentation_of(review.volume, BALLS))
    review.run()
    assert review.cell(review.table_row("Left putamen"), 3) == "other side"
    assert review.cell(review.table_row("Left thalamus"), 3) == "same"
    review.ui.reviewTable.setCurrentCell(review.table_row("Left putamen"), 1)
    assert "Putamen, right (0.81), other side" in review.ui.reviewDetail.text


def test_the_csv_file_holds_every_row_with_flag_and_note(review, tmp_path, monkeypatch):
    from VelcroLinkLib.review import panel as review_panel

    review.choose(segmentation_of(review.volume, BALLS))
    assert not review.ui.reviewExportButton.enabled
    review.run()
    review.session.decide(review.rows["Brain stem"].segment_id, flag=True, note="=1+1, Höhe")
    path = tmp_path / "review.csv"
    monkeypatch.setattr(review_panel, "askForFile", lambda *_: str(path))
    review.driver.press(review.ui.reviewExportButton)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = {row["segment"]: row for row in csv.DictReader(stream)}
    assert set(rows) == set(BALLS)
    assert rows["Brain stem"]["flag"] == "yes" and rows["Brain stem"]["note"] == "'=1+1, Höhe"
    monkeypatch.setattr(review_panel, "askForFile", lambda *_: str(tmp_path / "no" / "way.csv"))
    review.driver.press(review.ui.reviewExportButton)
    assert "cannot be written" in review.notice


def test_progress_shows_the_time_left_and_cancel_ends_it_within_a_second(review):
    review.choose(segmentation_of(review.volume, BALLS))
    review.driver.script(review_seconds=20)
    review.driver.press(review.ui.reviewButton)
    review.driver.wait_until(lambda: " s left" in review.ui.reviewProgressLabel.text, "progress")
    assert "Linking segment 3 of 7" in review.ui.reviewProgressLabel.text
    assert review.ui.reviewProgress.isVisible() and not review.ui.reviewButton.enabled
    review.driver.press(review.ui.reviewCancelButton)
    assert review.notice == "Review cancelled." and not review.session.isRunning
    review.driver.script()
    review.driver.wait_until(lambda: review.driver.state == "ready", "readiness", 1.0)
    review.run()
    assert len(review.rows) == len(BALLS)


def test_a_worker_that_dies_is_said_and_the_next_review_works(review):
    review.choose(segmentation_of(review.volume, BALLS))
    review.driver.script(review_exit=True)
    review.driver.press(review.ui.reviewButton)
    review.driver.wait_until(lambda: "restarted" in review.notice, "the notice")
    review.driver.script()
    review.run()
    assert len(review.rows) == len(BALLS)


@pytest.mark.parametrize("moment", ["reading", "asked", "reviewed"])
@pytest.mark.parametrize("what", ["scene", "segmentation", "volume", "panel"])
def test_anything_may_go_at_any_moment(review, moment, what):
    node = segmentation_of(review.volume, BALLS)
    review.choose(node)
    if moment == "asked":
        review.driver.script(review_seconds=20)
    if moment == "reviewed":
        review.run()
    else:
        review.driver.press(review.ui.reviewButton)
        if moment == "asked":
            review.driver.wait_until(
                lambda: review.session.progress[0] > 0, "the worker's progress"
            )
    if what == "scene":
        review.driver.app.close_scene()
        assert review.session.segmentationNode is None
    elif what == "segmentation":
        slicer.mrmlScene.RemoveNode(node)
        assert review.session.segmentationNode is None and "removed" in review.notice
    elif what == "volume":
        slicer.mrmlScene.RemoveNode(review.volume)
        assert not review.ui.reviewButton.enabled and review.ui.reviewButton.toolTip
    else:
        review.driver.module.onReload()
    review.driver.wait(0.1)
    if what != "panel":
        assert not review.session.isRunning


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda volume: segmentation_of(volume, {}), "no segment"),
        (lambda volume: surfaces(volume), "surfaces"),
    ],
    ids=["empty", "surfaces only"],
)
def test_what_cannot_be_reviewed_says_why(review, make, reason):
    review.choose(make(review.volume))
    assert not review.ui.reviewButton.enabled
    assert reason in review.ui.reviewButton.toolTip and reason in review.ui.reviewSummary.text


def surfaces(volume):
    node = segmentation_of(volume, {"Liver": ((0.0, 0.0, 0.0), 12.0)})
    node.CreateClosedSurfaceRepresentation()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.RemoveBinaryLabelmapRepresentation()
    return node


def test_an_image_elsewhere_is_said_in_one_line(review):
    node = segmentation_of(review.volume, BALLS)
    far = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = 5000
    far.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(far.GetID())
    review.choose(node)
    review.driver.press(review.ui.reviewButton)
    review.driver.wait_until(lambda: not review.session.isRunning, "the failure")
    assert "do not overlap" in review.notice


def test_editing_the_segmentation_marks_the_review_as_outdated(review):
    node = segmentation_of(review.volume, BALLS)
    review.choose(node)
    review.run()
    assert "edited" not in review.ui.reviewSummary.text
    segment = node.GetSegmentation().GetNthSegmentID(0)
    node.GetSegmentation().RemoveSegment(segment)
    review.driver.app.process_events()
    assert "edited" in review.ui.reviewSummary.text


def many(volume, count=500):
    """count small cubes next to each other, all in one labelmap."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    labels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint16)
    places = itertools.product(range(2, 58, 6), range(4, 90, 8), range(4, 90, 8))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Many")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for label, (k, j, i) in zip(range(1, count + 1), places, strict=False):
        labels[k : k + 3, j : j + 3, i : i + 3] = label
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*labels.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(labels.ravel(), deep=True))
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    for label in range(1, count + 1):
        segment = slicer.vtkSegment()
        segment.SetName(f"Lymph node {label}")
        segment.AddRepresentation("Binary labelmap", image)
        segment.SetLabelValue(label)
        node.GetSegmentation().AddSegment(segment)
    return node


def test_500_segments_keep_the_panel_responsive(review, capsys):
    node = many(review.volume)
    review.choose(node)
    review.driver.script(review_plain=True)  # the engine's own checks have their tests
    review.driver.client.start()
    review.driver.wait_until(lambda: review.driver.state == "ready", "the engine")
    beat = Heartbeat()
    beat.start()
    review.driver.press(review.ui.reviewButton)
    review.driver.wait_until(lambda: not review.session.isRunning, "the review")
    review.wait_filled()
    beat.stop("review")
    beat.start()
    review.ui.reviewTable.setCurrentCell(250, 1)
    review.session.decide(review.session.review.rows[250].segment_id, flag=True)
    review.driver.wait(0.05)
    beat.stop("flag")
    assert review.ui.reviewTable.rowCount == 500
    assert {row.volume_ml for row in review.session.review.rows} == {27 * 8 / 1000}
    with capsys.disabled():
        print("\n ", {name: f"{work:.0f} ms" for name, (_wall, work) in beat.marks.items()})
    for name, (_wall, work) in beat.marks.items():
        assert work < 100.0, f"{name}: blocked for {work:.0f} ms"


def test_only_what_needs_a_look_can_be_shown(review):
    review.choose(segmentation_of(review.volume, BALLS))
    review.run()
    review.driver.press(review.ui.reviewOnlyCheck)
    table = review.ui.reviewTable
    shown = [n for n in range(table.rowCount) if not table.isRowHidden(n)]
    assert {review.cell(n, 1) for n in shown} == {
        name for name, row in review.rows.items() if row.needsLook
    }


@pytest.mark.parametrize("reviewed", [False, True])
def test_the_tab_fits_320_pixels_says_why_and_follows_the_keyboard(review, reviewed):
    review.driver.app.window.resize(1280, 900)
    dock = set_dock_width(review.driver, 320)
    if reviewed:
        review.choose(segmentation_of(review.volume, BALLS))
        review.run()
        review.ui.reviewTable.setCurrentCell(0, 1)
    review.driver.wait(0.1)
    panel = review.driver.module.panel.widget
    assert dock.width == 320
    assert cut_widgets(panel) == []
    assert disabled_without_reason(panel) == []
    widgets = review.panel.widget.findChildren(qt.QWidget)
    assert [w for w in widgets if value(w, "styleSheet")] == []
