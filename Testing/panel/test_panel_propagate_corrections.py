"""Corrections of a propagated segment: points on any slice, and it is grown again."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import slicer
from PySide6 import QtCore, QtTest

from host.pythonqt import qt
from test_panel_random import SEED, Chaos

ACTIONS = 150
CORNERS = ([20, 20, 0], [52, -10, 0])  # around (36, 5, 0), where the segment's ball lies
WRONG_ABOVE = [36.0, 4.0, 6.0]  # in the ball, on another slice
MISSING_BELOW = [48.0, 4.0, -6.0]  # beside the ball, on a third one


@pytest.fixture
def grown(driver):
    """A propagated segment."""
    driver.volume = driver.add_volume()
    assert not frame(driver).isVisible()
    driver.place_roi(*CORNERS)
    driver.wait_linked()
    propagate(driver)
    assert frame(driver).isVisible()
    return driver


def propagate(driver):
    driver.press(widget(driver, "propagateButton"))
    driver.wait_until(lambda: "Propagated" in driver.notice, "the segment")
    driver.wait(0.02)


def widget(driver, name, kind=qt.QPushButton):
    return driver.module.panel.widget.findChild(kind, name)


def frame(driver):
    return widget(driver, "correctionFrame", qt.QFrame)


def state(driver):
    return widget(driver, "correctionLabel", qt.QLabel).text


def apply_button(driver):
    return widget(driver, "correctApplyButton")


def points(driver):
    return driver.module.panel.corrections.points.points()


def mark(driver, name, *places, view="Red"):
    """Press the button, scroll, click; Esc at the end."""
    driver.press(widget(driver, name))
    for place in places:
        node = driver.view(view).slice.node
        axis = {"Red": 2, "Green": 1, "Yellow": 0}[view]
        node.SetSliceOffset(place[axis])
        driver.app.process_events()
        driver.click_ras(place, view)
        driver.wait(0.02)
    driver.press(widget(driver, name))


def inside(driver, *places, **options):
    mark(driver, "correctInsideButton", *places, **options)


def outside(driver, *places, **options):
    mark(driver, "correctOutsideButton", *places, **options)


def correct(driver):
    driver.session.notify("", "")
    driver.press(apply_button(driver))
    driver.wait_until(lambda: "Corrected" in driver.notice, "the corrected segment")
    driver.wait(0.02)


def segment_id(driver):
    return driver.module.panel.corrections.target.segmentId


def voxels(driver, identifier=None):
    node = driver.segmentation(driver.volume)
    identifier = identifier or segment_id(driver)
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, driver.volume).astype(bool)


def at(driver, ras):
    """The segment's voxel at a position."""
    matrix = slicer.util.arrayFromVTKMatrix(_ijk_to_ras(driver.volume))
    i, j, k = np.rint(np.linalg.inv(matrix) @ [*ras, 1.0])[:3].astype(int)
    return bool(voxels(driver)[k, j, i])


def _ijk_to_ras(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def results():
    from VelcroLinkLib.scene.results_table import results

    return results(slicer.mrmlScene)


def lists():
    nodes = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    return [node for node in nodes if node.GetAttribute("VelcroLink.correctionLabel")]


def asked(driver, monkeypatch):
    """What is asked of the worker from now on, but for how a head lies, which comes when there is
    time: (message, fields)."""
    found, ask = [], driver.client.ask

    def listening(message, fields=None, *arguments, **options):
        if message != "head":
            found.append((message, dict(fields or {})))
        return ask(message, fields, *arguments, **options)

    monkeypatch.setattr(driver.client, "ask", listening)
    return found


def test_points_on_several_slices_correct_the_same_segment(grown, monkeypatch):
    identifier, before = segment_id(grown), voxels(grown)
    grown.volume.SetName("Renamed")
    segment = grown.segmentation(grown.volume).GetSegmentation().GetSegment(identifier)
    segment.SetName("My thalamus")
    segment.SetColor(0.1, 0.2, 0.3)
    grown.wait(0.02)
    assert not apply_button(grown).enabled and "Click points first" in apply_button(grown).toolTip
    outside(grown, WRONG_ABOVE)
    inside(grown, MISSING_BELOW)
    assert "1 inside, 1 outside; axial slices: 2. Not propagated yet." in state(grown)
    messages = asked(grown, monkeypatch)
    correct(grown)
    (message, fields), *more = messages
    assert message == "propagate" and not more
    assert set(fields["volume"]) == {"id"}  # the worker has the volume; it keeps what it can
    assert [len(item["points_ras"]) for item in fields["corrections"]] == [1, 1]
    assert "My thalamus" in grown.notice and "ml" in grown.notice
    assert segment_id(grown) == identifier
    after = grown.segmentation(grown.volume).GetSegmentation().GetSegment(identifier)
    assert after.GetName() == "My thalamus" and np.allclose(after.GetColor(), (0.1, 0.2, 0.3))
    assert not at(grown, WRONG_ABOVE) and at(grown, MISSING_BELOW)
    assert (voxels(grown) != before).any()
    assert "Propagated." in state(grown) and not apply_button(grown).enabled
    (row,) = results()
    assert row["segment"] == "My thalamus" and row["volume"] == "Renamed"
    assert row["status"] == "propagated"
    assert "corrections=2" in row["attributes"]
    assert grown.segment_names(grown.volume).count("My thalamus") == 1


def test_a_propagation_from_a_point_is_corrected_too(driver):
    driver.volume = driver.add_volume()
    driver.press(driver.ui.placePointButton)
    driver.click_ras([38, 6, 0])
    driver.wait_linked()
    propagate(driver)
    outside(driver, WRONG_ABOVE)
    correct(driver)
    assert at(driver, [36.0, 4.0, 0.0]) and not at(driver, WRONG_ABOVE)


def test_points_that_the_model_did_not_follow_are_told(grown):
    grown.script(propagate_deaf=True)
    outside(grown, WRONG_ABOVE)
    inside(grown, MISSING_BELOW, [36.0, 4.0, 0.0])
    correct(grown)
    assert "Points not followed: 2 of 3" in grown.notice


def test_corrections_add_up_and_can_be_taken_back(grown):
    before = voxels(grown)
    outside(grown, WRONG_ABOVE)
    correct(grown)
    inside(grown, MISSING_BELOW)
    correct(grown)
    assert not at(grown, WRONG_ABOVE) and at(grown, MISSING_BELOW)
    grown.press(widget(grown, "correctTakeBackButton"))  # the last one, of either kind
    grown.wait(0.02)
    assert [point.label for point in points(grown)] == [0]
    correct(grown)
    assert not at(grown, WRONG_ABOVE) and not at(grown, MISSING_BELOW)
    grown.press(widget(grown, "correctClearButton"))
    grown.wait(0.02)
    assert points(grown) == [] and "take the corrections back" in state(grown)
    correct(grown)
    assert (voxels(grown) == before).all()
    (row,) = results()
    assert "corrections" not in row["attributes"]
    for name in ("correctTakeBackButton", "correctClearButton"):
        assert not widget(grown, name).enabled and "no points" in widget(grown, name).toolTip


def test_a_correction_is_one_undo_step(grown):
    from VelcroLinkLib.scene.segmentation_result import undoAccept

    before, rows = voxels(grown), results()
    outside(grown, WRONG_ABOVE)
    correct(grown)
    assert undoAccept(slicer.mrmlScene)
    grown.wait(0.05)
    assert (voxels(grown) == before).all() and results() == rows
    assert "Not propagated yet" in state(grown)
    correct(grown)
    assert not at(grown, WRONG_ABOVE)


def test_the_two_kinds_look_different_and_the_last_click_goes_first(grown):
    inside(grown, MISSING_BELOW)
    outside(grown, WRONG_ABOVE)
    inside(grown, [46.0, 7.0, -6.0])
    plus, minus = sorted(lists(), key=lambda node: node.GetAttribute("VelcroLink.correctionLabel"))[
        ::-1
    ]
    assert plus.GetDisplayNode().GetSelectedColor() != minus.GetDisplayNode().GetSelectedColor()
    assert plus.GetDisplayNode().GetGlyphType() != minus.GetDisplayNode().GetGlyphType()
    assert plus.GetNumberOfControlPoints() == 2 and minus.GetNumberOfControlPoints() == 1
    assert [p.label for p in points(grown)] == [1, 0, 1]
    for left in ([1, 0], [1], []):
        grown.press(widget(grown, "correctTakeBackButton"))
        grown.wait(0.02)
        assert [p.label for p in points(grown)] == left


def test_a_click_in_another_view_counts_for_the_layer_it_lies_on(grown):
    outside(grown, WRONG_ABOVE, [38.0, 4.0, -6.0], view="Green")
    assert "2 outside; axial slices: 2" in state(grown)
    correct(grown)
    assert not at(grown, WRONG_ABOVE) and not at(grown, [38.0, 4.0, -6.0])


def test_escape_another_tool_and_a_second_press_end_placing(grown):
    button = widget(grown, "correctInsideButton")
    grown.press(button)
    assert button.checked and "what belongs to it" in state(grown)
    other = widget(grown, "correctOutsideButton")
    grown.press(other)
    assert other.checked and not button.checked and "does not belong" in state(grown)
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.ViewTransform)  # Esc
    grown.app.process_events()
    assert not other.checked and not interaction.GetPlaceModePersistence()
    grown.press(button)
    grown.press(grown.ui.placeRoiButton)
    assert not button.checked and grown.session.isPlacing
    grown.press(button)
    assert button.checked and not grown.session.isPlacing and not grown.ui.placeRoiButton.checked
    grown.press(button)
    assert not button.checked
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert points(grown) == []


def test_a_point_outside_the_volume_is_refused_and_one_dragged_out_is_told(grown):
    outside(grown, WRONG_ABOVE)
    view = grown.view("Red")
    field = list(view.slice.node.GetFieldOfView())
    view.slice.node.SetFieldOfView(field[0] * 2, field[1] * 2, field[2])
    grown.app.process_events()
    inside(grown, [180.0, 4.0, 6.0])
    assert "outside the volume" in grown.notice
    assert [point.label for point in points(grown)] == [0]
    lists()[0].SetNthControlPointPositionWorld(0, 36.0, 4.0, 400.0)
    before = voxels(grown)
    grown.press(apply_button(grown))
    assert "outside the volume" in grown.notice and "drag it" in grown.notice
    assert grown.state == "ready" and (voxels(grown) == before).all()


@pytest.mark.parametrize("how", ["cancel", "error", "crash"])
def test_the_segment_stays_as_it_was_until_the_answer(grown, how):
    before, rows = voxels(grown), results()
    outside(grown, WRONG_ABOVE)
    script = {
        "cancel": {"propagate_seconds": 20},
        "error": {"propagate_error": {"kind": "geometry", "message": "It went wrong; say so."}},
        "crash": {"propagate_exit": True},
    }[how]
    grown.script(**script)
    grown.session.notify("", "")
    grown.press(apply_button(grown))
    if how == "cancel":
        label = widget(grown, "propagateLabel", qt.QLabel)
        grown.wait_until(lambda: "s left" in label.text, "progress")
        assert not apply_button(grown).enabled and "under way" in apply_button(grown).toolTip
        assert "Cancel" in widget(grown, "propagateButton").text
        grown.press(widget(grown, "propagateButton"))
        assert "cancelled" in grown.notice
    else:
        expected = {"error": "It went wrong", "crash": "restarted"}[how]
        grown.wait_until(lambda: expected in grown.notice, "the message")
    assert (voxels(grown) == before).all() and results() == rows
    assert "Not propagated yet" in state(grown)
    grown.script()
    correct(grown)  # the worker that came after a crash gets the voxels again
    assert not at(grown, WRONG_ABOVE)


def test_a_worker_that_was_restarted_gets_the_start_and_all_corrections(grown, monkeypatch):
    outside(grown, WRONG_ABOVE)
    correct(grown)
    os.kill(grown.client.processId, signal.SIGKILL)
    grown.wait_until(lambda: grown.state == "ready" and "restarted" in grown.client.message)
    inside(grown, MISSING_BELOW)
    messages = asked(grown, monkeypatch)
    correct(grown)
    assert ["shape" in fields["volume"] for _message, fields in messages] == [False, True]
    assert all(len(fields["corrections"]) == 2 for _message, fields in messages)
    assert not at(grown, WRONG_ABOVE) and at(grown, MISSING_BELOW)


def test_points_belong_to_their_segment(grown):
    first = segment_id(grown)
    outside(grown, WRONG_ABOVE)
    grown.view("Red").slice.node.SetSliceOffset(0.0)
    grown.place_roi([-52, 20, 0], [-20, -10, 0])
    grown.wait_linked()
    propagate(grown)
    assert segment_id(grown) != first and points(grown) == []
    assert [node.GetDisplayVisibility() for node in lists()] == [0]
    selector = widget(grown, "correctionSelector", qt.QComboBox)
    assert selector.count == 2
    selector.setCurrentIndex(0)
    grown.wait(0.02)
    assert segment_id(grown) == first and len(points(grown)) == 1
    assert [node.GetDisplayVisibility() for node in lists()] == [1]
    other = next(i for i in selector_ids(grown) if i != first)
    before = voxels(grown, other)
    correct(grown)
    assert (voxels(grown, other) == before).all()


def selector_ids(driver):
    return list(driver.module.panel.corrections.target.names)


@pytest.mark.parametrize("what", ["segment", "segmentation", "volume", "scene", "panel"])
@pytest.mark.parametrize("when", ["placing", "running"])
def test_anything_may_go_at_any_time(grown, what, when):
    outside(grown, WRONG_ABOVE)
    if when == "running":
        grown.script(propagate_seconds=20)
        grown.press(apply_button(grown))
        label = widget(grown, "propagateLabel", qt.QLabel)
        grown.wait_until(lambda: "s left" in label.text, "progress")
    else:
        grown.press(widget(grown, "correctInsideButton"))
        grown.move(grown.view(), grown.view().position_of([30, 0, 8]))
    node = grown.segmentation(grown.volume)
    if what == "segment":
        node.GetSegmentation().RemoveSegment(segment_id(grown))
    elif what == "segmentation":
        slicer.mrmlScene.RemoveNode(node)
    elif what == "volume":
        slicer.mrmlScene.RemoveNode(grown.volume)
    elif what == "scene":
        grown.app.close_scene()
    else:
        grown.module.onReload()
    grown.wait(0.1)
    run = grown.module.panel.propagate.run
    assert not run.isRunning and not run.progress
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    if what == "panel":
        assert len(points(grown)) == 1 and "Not propagated yet" in state(grown)
        return
    assert not frame(grown).isVisible() and lists() == []
    if when == "running" and what in ("segment", "segmentation"):
        assert "segment was removed" in grown.notice


def test_another_volume_hides_the_points_and_the_first_one_brings_them_back(grown):
    outside(grown, WRONG_ABOVE)
    other = grown.add_volume("Other", seed=2)
    grown.ui.volumeSelector.setCurrentNode(other)
    grown.wait(0.05)
    assert not frame(grown).isVisible()
    assert [node.GetDisplayVisibility() for node in lists()] == [0]
    grown.ui.volumeSelector.setCurrentNode(grown.volume)
    grown.wait(0.05)
    assert frame(grown).isVisible() and len(points(grown)) == 1
    assert [node.GetDisplayVisibility() for node in lists()] == [1]


def test_a_deleted_list_takes_its_points_along(grown):
    outside(grown, WRONG_ABOVE)
    inside(grown, MISSING_BELOW)
    grown.press(widget(grown, "correctOutsideButton"))
    minus = next(n for n in lists() if n.GetAttribute("VelcroLink.correctionLabel") == "0")
    slicer.mrmlScene.RemoveNode(minus)
    grown.wait(0.05)
    assert [point.label for point in points(grown)] == [1]
    assert not widget(grown, "correctOutsideButton").checked
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    outside(grown, WRONG_ABOVE)  # a new list
    assert [point.label for point in points(grown)] == [1, 0]
    correct(grown)


def test_a_changed_volume_asks_for_a_new_propagation(grown):
    outside(grown, WRONG_ABOVE)
    slicer.util.updateVolumeFromArray(grown.volume, slicer.util.arrayFromVolume(grown.volume) + 1)
    grown.wait(0.05)
    assert "volume has changed" in state(grown)
    for name in ("correctInsideButton", "correctOutsideButton", "correctApplyButton"):
        assert "volume has changed" in widget(grown, name).toolTip
        assert not widget(grown, name).enabled


def test_under_a_transform_points_mean_where_they_are_seen(driver):
    driver.volume = driver.add_volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = slicer.util.vtkMatrixFromArray(
        np.array([[1.0, 0, 0, 10], [0, 1, 0, -6], [0, 0, 1, 4], [0, 0, 0, 1]])
    )
    transform.SetMatrixTransformToParent(matrix)
    driver.volume.SetAndObserveTransformNodeID(transform.GetID())
    driver.app.show_volume(driver.volume)
    driver.view().slice.node.SetSliceOffset(4.0)
    driver.app.process_events()
    driver.place_roi([30, 14, 4], [62, -16, 4])
    driver.wait_linked()
    propagate(driver)
    outside(driver, [46.0, -2.0, 10.0])
    correct(driver)
    assert not at(driver, WRONG_ABOVE)  # the same place, in the volume's own coordinates
    assert at(driver, [36.0, 5.0, 0.0])


def test_a_saved_scene_can_be_corrected_further(grown, tmp_path):
    outside(grown, WRONG_ABOVE)
    correct(grown)
    inside(grown, MISSING_BELOW)
    grown.app.save_scene(tmp_path / "scene.mrb")
    grown.app.load_scene(tmp_path / "scene.mrb")
    grown.wait(0.1)
    grown.volume = slicer.util.getNode("Head")
    assert [point.label for point in points(grown)] == [0, 1]
    assert "Not propagated yet" in state(grown)
    correct(grown)
    assert not at(grown, WRONG_ABOVE) and at(grown, MISSING_BELOW)
    assert len(results()) == 1


def test_it_fits_and_says_why_and_the_keyboard_reaches_it(grown):
    from tab_helpers import assert_fits, reached_by_tab

    assert_fits(grown)
    outside(grown, WRONG_ABOVE)
    assert_fits(grown)
    reached = reached_by_tab(grown, widget(grown, "propagateButton"), 12)
    assert {
        "correctionSelector",
        "correctInsideButton",
        "correctOutsideButton",
        "correctTakeBackButton",
        "correctClearButton",
        "correctApplyButton",
    } <= reached
    QtTest.QTest.keyClick(widget(grown, "correctInsideButton"), QtCore.Qt.Key.Key_Space)
    assert widget(grown, "correctInsideButton").checked


class CorrectionChaos(Chaos):
    """The random actions of the panel, with those of Propagate and its corrections."""

    def press_if_enabled(self, name):
        button = widget(self.driver, name)
        pressed = button.enabled and button.isVisible()
        if pressed:
            button.click()
        return pressed

    def do_propagate(self, weight=12):
        self.press_if_enabled("propagateButton")

    def do_inside(self, weight=10):
        self.press_if_enabled("correctInsideButton")

    def do_outside(self, weight=10):
        self.press_if_enabled("correctOutsideButton")

    def do_take_back_points(self, weight=4):
        self.press_if_enabled("correctTakeBackButton")

    def do_clear(self, weight=2):
        self.press_if_enabled("correctClearButton")

    def do_correct(self, weight=12):
        self.press_if_enabled("correctApplyButton")

    def do_choose(self, weight=3):
        selector = widget(self.driver, "correctionSelector", qt.QComboBox)
        if selector.count:
            selector.setCurrentIndex(self.random.randrange(selector.count))

    def do_delete_list(self, weight=2):
        if lists():
            slicer.mrmlScene.RemoveNode(self.random.choice(lists()))

    def do_delete_segment(self, weight=2):
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            segmentation = node.GetSegmentation()
            if segmentation.GetNumberOfSegments():
                segmentation.RemoveSegment(segmentation.GetNthSegmentID(0))

    def do_slow_or_fast(self, weight=3):
        self.driver.script(propagate_seconds=self.random.choice((0.0, 0.0, 0.3)))

    def do_grow(self, weight=8):
        """A region, a segment, a mark in it: what most of the other actions need."""
        driver = self.driver
        if driver.session.volumeNode is None or not driver.ui.placeRoiButton.enabled:
            driver.ui.volumeSelector.setCurrentNode(driver.add_volume("Again"))
        driver.app.show_volume(driver.session.volumeNode)
        driver.view().slice.node.SetSliceOffset(0.0)
        driver.app.process_events()
        if not selector_ids(driver):
            driver.place_roi(*CORNERS)
            driver.wait(0.3)
            self.press_if_enabled("propagateButton")
            driver.wait(0.3)
        button = widget(driver, self.random.choice(("correctInsideButton", "correctOutsideButton")))
        if button.isVisible() and button.enabled and not button.checked:
            button.click()
            driver.click_ras([self.random.uniform(20, 50), self.random.uniform(-10, 20), 0.0])
        driver.wait(self.random.choice((0.0, 0.1)))
        self.asked += self.press_if_enabled("correctApplyButton")
        driver.wait(self.random.choice((0.0, 0.3)))

    asked = 0

    # Rarer than in the panel's own test, so that there is something to correct in between.
    def do_close_scene(self, weight=1):
        super().do_close_scene()

    def do_delete_segmentation(self, weight=1):
        super().do_delete_segmentation()

    def do_change_voxels(self, weight=1):
        super().do_change_voxels()

    def do_switch_volume(self, weight=2):
        super().do_switch_volume()


def test_random_actions_leave_working_corrections(grown, slot_errors, caplog):
    chaos = CorrectionChaos(grown, SEED)
    for _ in range(ACTIONS):
        chaos.act()
        assert not slot_errors, f"after {chaos.log[-5:]}: {slot_errors[0][1]!r}"
        assert "failed" not in caplog.text, f"after {chaos.log[-5:]}: {caplog.text}"
    assert chaos.asked > 2
    grown.script()
    grown.session.cancel()
    grown.wait_until(lambda: grown.state in ("ready", "stopped", "failed", "cancelled"), "rest")
    if grown.state == "failed":
        grown.client.restart()
    grown.app.close_scene()
    grown.app.reset_views()
    assert lists() == []
    grown.volume = grown.add_volume("Last")
    grown.wait(0.1)
    grown.ui.volumeSelector.setCurrentNode(grown.volume)
    grown.place_roi(*CORNERS)
    grown.wait_linked()
    propagate(grown)
    outside(grown, WRONG_ABOVE)
    correct(grown)
    assert not at(grown, WRONG_ABOVE)
    corrections = grown.module.panel.corrections
    grown.press(widget(grown, "correctInsideButton"))
    grown.module.cleanup()
    assert corrections.target.Observations == [] and corrections.points.Observations == []
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
