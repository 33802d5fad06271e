"""What a user does in Slicer, for tests: mouse in the slice views, buttons, waiting."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from PySide6 import QtCore, QtTest

from host.application import Application

LEFT = QtCore.Qt.MouseButton.LeftButton
NO_KEYS = QtCore.Qt.KeyboardModifier.NoModifier
MODULE = Path(__file__).resolve().parents[2] / "VelcroLink" / "VelcroLink.py"


class Driver:
    """The host with the module loaded, and hands to use it with."""

    def __init__(self, application: Application, script: Path, slot_errors: list) -> None:
        self.app = application
        self._slot_errors = slot_errors
        self._script = script
        self.script()
        self.app.load_module(MODULE)

    # --- the module's parts -------------------------------------------------------------------
    @property
    def module(self) -> Any:
        return self.app.panel("VelcroLink")

    @property
    def ui(self) -> Any:
        return self.module.panel.ui

    @property
    def session(self) -> Any:
        return self.module.logic.session

    @property
    def client(self) -> Any:
        return self.module.logic.client

    @property
    def state(self) -> str:
        return self.client.state.value

    @property
    def candidates(self) -> list[str]:
        outcome = self.session.outcome
        return [c.title for c in outcome.candidates] if outcome else []

    @property
    def notice(self) -> str:
        return self.session.notice.text if self.session.notice else ""

    def script(self, **behaviour: Any) -> None:
        """How the scripted worker behaves from now on."""
        written = self._script.with_suffix(".new")
        written.write_text(json.dumps(behaviour), "utf-8")
        os.replace(written, self._script)  # the worker may be reading it

    # --- data ---------------------------------------------------------------------------------
    def add_volume(self, name: str = "Head", seed: int = 1, show: bool = True) -> Any:
        """A head of 2 mm voxels: grey brain, dark ventricles, bright structures left and right."""
        node = slicer.util.addVolumeFromArray(head(seed), np.diag([-2.0, -2.0, 2.0, 1.0]), name)
        matrix = slicer.util.vtkMatrixFromArray(
            np.array([[-2.0, 0, 0, 96], [0, -2.0, 0, 96], [0, 0, 2.0, -60], [0, 0, 0, 1]])
        )
        node.SetIJKToRASMatrix(matrix)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevel(1000, 500)
        if show:
            self.app.show_volume(node)
        return node

    # --- mouse --------------------------------------------------------------------------------
    def view(self, name: str = "Red") -> Any:
        return self.app.layout_manager.sliceWidget(name)

    def move(self, widget: Any, point: QtCore.QPoint) -> None:
        QtTest.QTest.mouseMove(widget, point)
        self.app.process_events()

    def click(self, widget: Any, point: QtCore.QPoint) -> None:
        self.move(widget, point)
        QtTest.QTest.mouseClick(widget, LEFT, NO_KEYS, point)
        self.app.process_events()

    def click_ras(self, ras: Any, view: str = "Red") -> None:
        self.click(self.view(view), self.view(view).position_of(ras))

    def place_roi(self, corner: Any, opposite: Any, view: str = "Red") -> None:
        """The button, then two clicks on opposite corners (RAS, mm)."""
        QtTest.QTest.mouseClick(self.ui.placeRoiButton, LEFT)
        self.app.process_events()
        self.click_ras(corner, view)
        self.click_ras(opposite, view)

    def drag(self, start: Any, end: Any, view: str = "Red", steps: int = 8) -> None:
        """Press at one position (RAS, mm), move to another, release."""
        widget = self.view(view)
        self.move(widget, widget.position_of(start))
        QtTest.QTest.mousePress(widget, LEFT, NO_KEYS, widget.position_of(start))
        for fraction in np.linspace(0, 1, steps + 1)[1:]:
            between = np.asarray(start) * (1 - fraction) + np.asarray(end) * fraction
            self.move(widget, widget.position_of(between))
            self.wait(0.02)
        QtTest.QTest.mouseRelease(widget, LEFT, NO_KEYS, widget.position_of(end))
        self.app.process_events()

    def press(self, button: Any) -> None:
        assert button.enabled, f"{button.objectName} is disabled: {button.toolTip}"
        QtTest.QTest.mouseClick(button, LEFT)
        self.app.process_events()

    def type(self, widget: Any, text: str) -> None:
        QtTest.QTest.keyClicks(widget, text)
        self.app.process_events()

    # --- time ---------------------------------------------------------------------------------
    def wait(self, seconds: float) -> None:
        self.app.process_events(seconds)

    def wait_until(self, condition: Callable[[], bool], what: str = "", seconds: float = 90.0):
        end = time.monotonic() + seconds
        while not condition():
            if self._slot_errors or time.monotonic() > end:
                raise AssertionError(
                    f"timed out waiting for {what or condition}: state {self.state}, "
                    f"'{self.client.message}', notice '{self.notice}'\n{self.client.log[-2000:]}"
                )
            self.wait(0.01)

    def wait_linked(self, seconds: float = 90.0) -> None:
        self.wait_until(
            lambda: self.session.result is not None and self.state == "ready", "a link", seconds
        )
        self.wait(0.05)  # the card's text comes with a second answer

    # --- results ------------------------------------------------------------------------------
    def segmentation(self, volume: Any) -> Any:
        from VelcroLinkLib.scene.segmentation_result import segmentationForVolume

        return segmentationForVolume(volume, create=False)

    def segment_names(self, volume: Any) -> list[str]:
        node = self.segmentation(volume)
        if node is None:
            return []
        segmentation = node.GetSegmentation()
        return [
            segmentation.GetNthSegment(n).GetName()
            for n in range(segmentation.GetNumberOfSegments())
        ]


@lru_cache(maxsize=2)
def head(seed: int = 1) -> np.ndarray:
    """(K, J, I) = (60, 96, 96) int16 voxels of 2 mm, values 0 to 1000; not to be changed."""
    k, j, i = np.mgrid[:60, :96, :96].astype(np.float32)
    x, y, z = (i - 47.5) / 40, (j - 47.5) / 44, (k - 29.5) / 28
    noise = np.random.default_rng(seed).normal(0, 12, k.shape)
    radius = x**2 + y**2 + z**2
    values = np.zeros(k.shape, np.float32)
    values[radius < 1.0] = 850  # skull and scalp
    values[radius < 0.88] = 120
    values[radius < 0.80] = 470  # grey matter
    values[radius < 0.55] = 640  # white matter
    for sign in (-1, 1):
        ventricle = ((x - sign * 0.18) / 0.10) ** 2 + ((y + 0.05) / 0.42) ** 2 + (z / 0.3) ** 2
        values[ventricle < 1] = 90
        nucleus = ((x - sign * 0.33) / 0.10) ** 2 + ((y - 0.08) / 0.2) ** 2 + (z / 0.3) ** 2
        values[nucleus < 1] = 540
    return (values + noise).clip(0, 1000).astype(np.int16)


def assert_gone(pid):
    """The worker's process must be gone once the module has ended; a busy machine takes a while."""
    if pid is None:
        return
    end = time.monotonic() + 30.0
    while time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"worker process {pid} is still there")
