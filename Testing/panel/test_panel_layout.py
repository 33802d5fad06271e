"""How the panel looks and is reached: nothing is cut at 320 pixels, keyboard and tooltips."""

from __future__ import annotations

import pytest
from PySide6 import QtCore, QtTest, QtWidgets

from host.pythonqt import qt

CORNERS = ([20, 20, 0], [52, -10, 0])
DOCK_WIDTH = 320


def value(widget, name):
    """A property, also of the widgets that Qt made itself inside of others."""
    return QtCore.QObject.property(widget, name)


def set_dock_width(driver, width):
    dock = driver.module.dock.dock
    driver.app.window.resizeDocks([dock], [width], QtCore.Qt.Orientation.Horizontal)
    driver.app.process_events()
    assert dock.width == width
    return dock


def cut_widgets(panel):
    """Visible labels, buttons and fields that have less room than they need, or stick out."""
    cut = []
    area = panel.rect
    for widget in panel.findChildren(qt.QWidget):
        if not widget.isVisible() or not isinstance(
            widget, (QtWidgets.QLabel, QtWidgets.QAbstractButton, QtWidgets.QComboBox)
        ):
            continue
        name = f"{type(widget).__name__} {widget.objectName!r}"
        corner = widget.mapTo(panel, QtCore.QPoint(0, 0))
        width = QtWidgets.QWidget.width(widget)
        if corner.x() < 0 or corner.x() + width > area.width():
            cut.append(f"{name} sticks out: {corner.x()} + {width} of {area.width()}")
        if isinstance(widget, QtWidgets.QLabel) and widget.wordWrap:
            needed = QtWidgets.QLabel.heightForWidth(widget, width)
            if needed > QtWidgets.QWidget.height(widget) + 1:
                cut.append(f"{name} is {QtWidgets.QWidget.height(widget)} high, needs {needed}")
            document = qt.QTextDocument()
            document.setDefaultFont(widget.font)
            document.setHtml(widget.text)
            document.setTextWidth(width)
            if document.idealWidth() > width + 1:
                cut.append(f"{name} has a word wider than {width}: {document.idealWidth()}")
        elif isinstance(widget, (QtWidgets.QPushButton, QtWidgets.QRadioButton)):
            needed = widget.fontMetrics().horizontalAdvance(widget.text.replace("&", ""))
            needed += 24 if isinstance(widget, QtWidgets.QRadioButton) else 8
            if needed > width:
                cut.append(f"{name} '{widget.text}' is {width} wide, needs {needed}")
    return cut


def linked(driver):
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_linked()


def searching(driver):
    linked(driver)
    driver.press(driver.ui.rejectButton)
    driver.type(driver.ui.searchEdit, "lateral ventricle")
    driver.wait_until(lambda: driver.ui.searchSide.enabled, "the entry found")


def in_trouble(driver):
    driver.add_volume()
    driver.place_roi([500, 500, 0], [520, 520, 0])
    driver.session.notify("warning", "The region of interest lies outside the image; move it.")
    driver.ui.settingsSection.collapsed = False
    driver.app.process_events()


def not_installed(driver):
    from VelcroLinkLib.engine.client import EngineState

    driver.add_volume()
    driver.client._life.enter(EngineState.NOT_INSTALLED)
    driver.ui.installOfflineLabel.setVisible(True)
    driver.app.process_events()


@pytest.mark.parametrize(
    "situation",
    [lambda driver: None, linked, searching, in_trouble, not_installed],
    ids=["empty", "linked", "searching", "trouble and settings", "not installed"],
)
def test_nothing_is_cut_at_320_pixels(driver, situation):
    driver.app.window.resize(1280, 900)
    dock = set_dock_width(driver, DOCK_WIDTH)
    situation(driver)
    driver.wait(0.1)
    assert dock.width == DOCK_WIDTH
    assert cut_widgets(driver.module.panel.widget) == []


def test_the_dock_follows_slicers_rules(driver):
    dock = driver.module.dock.dock
    assert dock.objectName == "VelcroLinkDockWidget"
    assert dock.parent() is driver.app.window
    button = driver.module.ui.showPanelButton
    dock.close()
    assert not button.checked
    button.click()
    assert dock.isVisible() and button.checked


def test_the_dock_comes_back_where_the_user_left_it(driver):
    window, first = driver.app.window, driver.module.dock.dock
    window.addDockWidget(QtCore.Qt.DockWidgetArea.LeftDockWidgetArea, first)
    driver.app.process_events()
    state = window.saveState()
    driver.module.cleanup()  # as at the end of one session; the next one starts with its state
    window.restoreState(state)
    driver.module.setup()
    driver.module.enter()
    driver.app.process_events()
    again = driver.module.dock.dock
    assert window.dockWidgetArea(again) == QtCore.Qt.DockWidgetArea.LeftDockWidgetArea
    assert again.isVisible()
    # the window is shared with the tests that follow
    window.addDockWidget(QtCore.Qt.DockWidgetArea.RightDockWidgetArea, again)
    set_dock_width(driver, 380)


def test_a_hidden_panel_has_no_shortcuts(driver):
    driver.add_volume()
    driver.module.dock.dock.close()
    driver.view().setFocus()
    QtTest.QTest.keyClick(driver.app.window, QtCore.Qt.Key.Key_R)
    driver.wait(0.05)
    assert driver.session.isPlacing == ""


def disabled_without_reason(panel):
    controls = (QtWidgets.QAbstractButton, QtWidgets.QComboBox, QtWidgets.QLineEdit)
    return [
        value(widget, "objectName")
        for widget in panel.findChildren(qt.QWidget)
        if isinstance(widget, controls)
        and widget.isVisible()
        and not value(widget, "enabled")
        and not value(widget, "toolTip")
        and not value(widget.parent(), "toolTip")  # the box in a node selector
    ]


@pytest.mark.parametrize("situation", [lambda driver: None, linked, searching])
def test_a_disabled_control_says_why(driver, situation):
    situation(driver)
    assert disabled_without_reason(driver.module.panel.widget) == []


def test_the_keyboard_reaches_every_control(driver):
    searching(driver)
    driver.ui.settingsSection.collapsed = False
    driver.app.window.activateWindow()
    panel = driver.module.panel.widget
    reached = set()
    driver.ui.volumeSelector.setFocus()
    for _ in range(60):
        focus = QtWidgets.QApplication.focusWidget()
        while focus is not None and focus is not panel:
            reached.add(value(focus, "objectName"))
            focus = QtWidgets.QWidget.parentWidget(focus)
        QtTest.QTest.keyClick(QtWidgets.QApplication.focusWidget(), QtCore.Qt.Key.Key_Tab)
    wanted = {
        "volumeSelector",
        "placeRoiButton",
        "placePointButton",
        "roiSelector",
        "linkAgainButton",
        "candidate0",
        "searchEdit",
        "searchResults",
        "searchSide",
        "useEntryButton",
        "acceptButton",
        "rejectButton",
        "settingsSection",
        "modelPath",
        "knowledgeBasePath",
        "thresholdSlider",
    }
    assert wanted - reached == set()


def test_controls_are_reached_in_reading_order(driver):
    searching(driver)
    driver.app.window.activateWindow()
    order = ["placeRoiButton", "roiSelector", "candidate0", "searchEdit", "acceptButton"]
    seen = []
    driver.ui.volumeSelector.setFocus()
    for _ in range(40):
        focus = QtWidgets.QApplication.focusWidget()
        while focus is not None:
            name = value(focus, "objectName")
            if name in order and name not in seen:
                seen.append(name)
            focus = QtWidgets.QWidget.parentWidget(focus)
        QtTest.QTest.keyClick(QtWidgets.QApplication.focusWidget(), QtCore.Qt.Key.Key_Tab)
    assert seen == order


def test_arrow_keys_choose_another_candidate(driver):
    linked(driver)
    driver.app.window.activateWindow()
    first = driver.module.panel.widget.findChild(qt.QRadioButton, "candidate0")
    first.setFocus()
    QtTest.QTest.keyClick(first, QtCore.Qt.Key.Key_Down)
    driver.wait(0.2)
    second = driver.module.panel.widget.findChild(qt.QRadioButton, "candidate1")
    assert second.checked and not first.checked
    assert second.text.split(",")[0] in driver.ui.acceptButton.toolTip


def test_there_are_no_style_sheets_and_no_empty_tabs(driver):
    widgets = driver.app.window.findChildren(qt.QWidget)
    assert [w for w in widgets if value(w, "styleSheet")] == []
    assert driver.ui.tabs.count >= 1
    for index in range(driver.ui.tabs.count):
        assert driver.ui.tabs.widget(index).findChildren(qt.QWidget)
