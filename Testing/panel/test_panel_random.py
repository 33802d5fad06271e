"""200 random actions in a row end with a working panel, and nothing of it is left afterwards."""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import slicer
from PySide6 import QtCore

ACTIONS = 200
SEED = 20260101


class Chaos:
    """Random actions on a driver; each may be impossible at the moment and then does nothing."""

    def __init__(self, driver, seed: int) -> None:
        self.driver = driver
        self.random = random.Random(seed)
        self.pids: set[int] = set()
        self.log: list[str] = []

    def act(self) -> None:
        names = [name for name in dir(self) if name.startswith("do_")]
        weights = [getattr(self, name).__defaults__[0] for name in names]
        name = self.random.choices(names, weights)[0]
        self.log.append(name[3:])
        getattr(self, name)()
        self.driver.wait(self.random.choice((0, 0, 0.01, 0.05)))
        if self.driver.client.processId:
            self.pids.add(self.driver.client.processId)

    def somewhere(self):
        widget = self.driver.view(self.random.choice(("Red", "Yellow", "Green")))
        size = widget.slice.window.GetSize()
        x, y = (self.random.randrange(10, n - 10) for n in size)
        return widget, QtCore.QPoint(x, y)

    def do_place(self, weight=6):
        if self.driver.ui.placeRoiButton.enabled:
            self.driver.ui.placeRoiButton.click()

    def do_point(self, weight=3):
        if self.driver.ui.placePointButton.enabled:
            self.driver.ui.placePointButton.click()

    def do_click(self, weight=14):
        self.driver.click(*self.somewhere())

    def do_drag(self, weight=6):
        node = self.driver.session.promptNode
        if node is None or not self.driver.app.window.isVisible():
            return
        centre = np.array(
            node.GetCenter() if hasattr(node, "GetCenter") else (0, 0, 0), dtype=float
        )
        offset = np.array([self.random.uniform(-30, 30) for _ in range(3)])
        self.driver.drag(centre, centre + offset, view="Red", steps=3)

    def do_scroll(self, weight=6):
        widget, _point = self.somewhere()
        widget.slice.node.SetSliceOffset(self.random.uniform(-50, 50))

    def do_add_volume(self, weight=2):
        self.driver.add_volume(f"Volume {len(self.log)}", seed=len(self.log))

    def do_switch_volume(self, weight=4):
        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        self.driver.ui.volumeSelector.setCurrentNode(self.random.choice([*nodes, None]))

    def do_delete_volume(self, weight=2):
        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if nodes:
            slicer.mrmlScene.RemoveNode(self.random.choice(nodes))

    def do_delete_roi(self, weight=2):
        nodes = slicer.util.getNodesByClass("vtkMRMLMarkupsNode")
        if nodes:
            slicer.mrmlScene.RemoveNode(self.random.choice(nodes))

    def do_delete_segmentation(self, weight=2):
        nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if nodes:
            slicer.mrmlScene.RemoveNode(self.random.choice(nodes))

    def do_change_voxels(self, weight=2):
        node = self.driver.session.volumeNode
        if node is not None:
            voxels = slicer.util.arrayFromVolume(node)[::-1].copy()
            slicer.util.updateVolumeFromArray(node, voxels)

    def do_accept(self, weight=4):
        if self.driver.ui.acceptButton.enabled:
            self.driver.ui.acceptButton.click()

    def do_reject(self, weight=3):
        if self.driver.ui.rejectButton.enabled:
            self.driver.ui.rejectButton.click()
            self.driver.ui.searchEdit.text = self.random.choice(("", "thal", "zzzz", "<b>"))

    def do_use(self, weight=2):
        if self.driver.ui.useEntryButton.enabled:
            self.driver.ui.useEntryButton.click()

    def do_link_again(self, weight=3):
        if self.driver.ui.linkAgainButton.enabled:
            self.driver.ui.linkAgainButton.click()

    def do_cancel(self, weight=5):
        if self.driver.ui.cancelButton.enabled:
            self.driver.ui.cancelButton.click()

    def do_close_scene(self, weight=2):
        self.driver.app.close_scene()

    def do_reload(self, weight=2):
        self.driver.module.onReload()

    def do_hide_and_show(self, weight=2):
        self.driver.module.ui.showPanelButton.click()
        self.driver.wait(0.02)
        if not self.driver.module.ui.showPanelButton.checked:
            self.driver.module.ui.showPanelButton.click()

    def do_kill_worker(self, weight=2):
        pid = self.driver.client.processId
        if pid:
            os.kill(pid, signal.SIGKILL)

    def do_slow_or_fast(self, weight=3):
        self.driver.script(link_seconds=self.random.choice((0.0, 0.0, 0.2)))

    def do_undo(self, weight=2):
        slicer.mrmlScene.Undo()

    def do_other_module(self, weight=2):
        self.driver.app.leave("VelcroLink")
        self.driver.app.enter("VelcroLink")


def test_200_random_actions_leave_a_working_panel_and_nothing_behind(driver, slot_errors):
    from driver import assert_gone
    from host.pythonqt import qt

    driver.add_volume()
    chaos = Chaos(driver, SEED)
    for _ in range(ACTIONS):
        chaos.act()
        assert not slot_errors, f"after {chaos.log[-5:]}: {slot_errors[0][1]!r}"

    driver.script()
    driver.session.cancel()
    driver.wait_until(lambda: driver.state in ("ready", "stopped", "failed", "cancelled"), "rest")
    if driver.state == "failed":
        driver.client.restart()
    driver.app.close_scene()
    driver.app.reset_views()
    volume = driver.add_volume("Last")
    driver.wait(0.1)
    driver.ui.volumeSelector.setCurrentNode(volume)
    driver.place_roi([20, 20, 0], [52, -10, 0])
    driver.wait_linked()
    assert driver.candidates[0] == "Hippocampus, right"
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")) == 1
    assert len(slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")) == 1
    docks = driver.app.window.findChildren(qt.QDockWidget)
    assert [d.objectName for d in docks].count("VelcroLinkDockWidget") == 1
    for pid in chaos.pids - {driver.client.processId}:
        assert_gone(pid)
    driver.module.cleanup()
    session = driver.session
    assert session.changed.observerCount == 0
    region = session._region
    assert region.Observations == [] and region._watch.Observations == []
    assert driver.module.Observations == []
    for signal_of_client in (driver.client.linked, driver.client.loaded, driver.client.progressed):
        assert signal_of_client.observerCount == 0
    assert_gone(driver.client.processId)
