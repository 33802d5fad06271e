"""What the tests of the tabs Find, Cases and Report share."""

from __future__ import annotations

from pathlib import Path

from PySide6 import QtCore

from host.pythonqt import qt
from test_panel_layout import cut_widgets, disabled_without_reason, set_dock_width

HERE = Path(__file__).resolve().parent
SCREENSHOTS = HERE.parents[1] / "Resources" / "Screenshots"
CORNERS = ([20, 20, 0], [52, -10, 0])


def prepare_worker(tmp_path, monkeypatch):
    """The worker that answers the tabs, with a data folder of this test's own."""
    script = tmp_path / "script.json"
    script.write_text("{}", "utf-8")
    monkeypatch.setenv("VELCROLINK_TEST_SCRIPT", str(script))
    monkeypatch.setenv("VELCROLINK_WORKER", str(HERE / "scripted_tabs_worker.py"))
    from VelcroLinkLib.engine import setup as engine_setup

    monkeypatch.setattr(engine_setup, "userDataFolder", lambda: str(tmp_path))
    return script


def show_tab(driver, panel):
    """The panel's tab, shown; returns the tab's panel object."""
    driver.ui.tabs.setCurrentWidget(panel.widget)
    driver.wait(0.02)
    return panel


def linked(driver):
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_linked()


def assert_fits(driver):
    """Nothing is cut at 320 pixels, disabled controls say why, nothing has a style sheet."""
    driver.app.window.resize(1280, 900)
    set_dock_width(driver, 320)
    driver.wait(0.1)
    panel = driver.module.panel.widget
    assert cut_widgets(panel) == []
    assert disabled_without_reason(panel) == []
    assert [w for w in panel.findChildren(qt.QWidget) if w.property("styleSheet")] == []


def reached_by_tab(driver, first, count=60):
    """Names of the controls (and what they lie in) that the Tab key reaches from `first`."""
    from PySide6 import QtTest, QtWidgets

    driver.app.window.activateWindow()
    first.setFocus()
    reached = set()
    for _ in range(count):
        focus = QtWidgets.QApplication.focusWidget()
        while focus is not None:
            reached.add(QtCore.QObject.property(focus, "objectName"))
            focus = QtWidgets.QWidget.parentWidget(focus)
        QtTest.QTest.keyClick(QtWidgets.QApplication.focusWidget(), QtCore.Qt.Key.Key_Tab)
    return reached
