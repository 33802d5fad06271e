"""The docked panel: volume, tabs, state line, settings. Tabs are added by their own files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .cases.panel import CasesPanel
from .engine.setup import EngineSettings
from .find.panel import FindPanel
from .frame.link_session import LinkSession
from .frame.settings_section import SettingsSection
from .frame.state_line import InstallBox, StateLine
from .link.decisions import Decisions
from .link.panel import LinkPanel, makeShortcuts
from .propagate.action import PropagateAction
from .propagate.panel import PropagateCorrections
from .report.panel import ReportPanel
from .review.panel import ReviewPanel
from .review.session import ReviewSession

DOCK_NAME = "VelcroLinkDockWidget"  # the main window restores docks by this name
FIRST_WIDTH = 380  # pixels; the user can make it as narrow as 320


class VelcroLinkPanel:
    """All widgets of the panel and what keeps them up to date.

    resourcePath: the module's function that finds files in Resources. `widget` is the panel itself,
    to be put into a dock or, without a main window, into the module's own panel.
    """

    def __init__(
        self, resourcePath: Callable[[str], str], session: LinkSession, decisions: Decisions
    ) -> None:
        self.widget = slicer.util.loadUI(resourcePath("UI/VelcroLinkPanel.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._session = session
        self.link = LinkPanel(self.ui, session, decisions)
        self.propagate = PropagateAction(self.ui.linkTab, self.ui.linkTab.layout(), session)
        self.corrections = PropagateCorrections(
            self.ui.linkTab, self.ui.linkTab.layout(), session, self.propagate
        )
        self.review = ReviewPanel(resourcePath, ReviewSession(session))
        self.ui.tabs.addTab(self.review.widget, _("Review"))
        self.find = FindPanel(session)
        self.ui.tabs.addTab(self.find.widget, _("Find"))
        self.cases = CasesPanel(session)
        self.ui.tabs.addTab(self.cases.widget, _("Cases"))
        # What belongs to a link is looked up when its tab is looked at.
        self.ui.tabs.connect("currentChanged(int)", lambda _index: self.render())
        self.report = ReportPanel(session)
        self.ui.tabs.addTab(self.report.widget, _("Report"))
        self._parts = [
            self.link,
            self.corrections,
            self.propagate,
            self.review,
            self.find,
            self.cases,
            self.report,
            StateLine(self.ui, session),
            InstallBox(self.ui, session, resourcePath("requirements.txt")),
            SettingsSection(self.ui, session.client, self._onSettings),
        ]
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.render()

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def render(self) -> None:
        self._session.changed.emit()

    def _onSettings(self, settings: EngineSettings) -> None:
        self._session.client.load(settings.loadOptions())


class PanelDock:
    """Where the panel lives: a dock at the right of the main window, made when it is first shown.

    visibilityChanged(visible) keeps the module's button right when the user closes the dock.
    """

    def __init__(self, panel: VelcroLinkPanel, visibilityChanged: Callable[[bool], None]) -> None:
        self._panel = panel
        self._visibilityChanged = visibilityChanged
        mainWindow = slicer.util.mainWindow()
        _removeStaleDock(mainWindow)
        self.dock = qt.QDockWidget(_("VelcroLink"), mainWindow)
        self.dock.setObjectName(DOCK_NAME)
        self.dock.setAllowedAreas(qt.Qt.LeftDockWidgetArea | qt.Qt.RightDockWidgetArea)
        self.dock.setWidget(panel.widget)
        self.shortcuts = makeShortcuts(panel.link, mainWindow)
        if not mainWindow.restoreDockWidget(self.dock):  # where the user left it in another session
            mainWindow.addDockWidget(qt.Qt.RightDockWidgetArea, self.dock)
            mainWindow.resizeDocks([self.dock], [FIRST_WIDTH], qt.Qt.Horizontal)
        self.dock.connect("visibilityChanged(bool)", self._onVisibility)

    def setVisible(self, visible: bool) -> None:
        self.dock.setVisible(visible)
        if visible:
            self.dock.raise_()

    def close(self) -> None:
        """Remove the dock and its shortcuts; the main window forgets about them at once."""
        self.dock.disconnect("visibilityChanged(bool)", self._onVisibility)
        for shortcut in self.shortcuts:
            shortcut.enabled = False
            shortcut.setParent(None)
            shortcut.deleteLater()
        self.shortcuts.clear()
        self.dock.hide()
        mainWindow = slicer.util.mainWindow()
        if mainWindow is not None:
            mainWindow.removeDockWidget(self.dock)
        self.dock.setParent(None)
        self.dock.deleteLater()

    def _onVisibility(self, _visible: bool) -> None:
        # The signal also says False when the dock is merely behind another one in a tab.
        shown = not self.dock.isHidden()
        for shortcut in self.shortcuts:
            shortcut.enabled = shown
        self._visibilityChanged(shown)


def _removeStaleDock(mainWindow: Any) -> None:
    """A dock that a failed reload left behind would restore into a second one."""
    for child in mainWindow.findChildren(qt.QDockWidget):
        if child.objectName == DOCK_NAME:
            mainWindow.removeDockWidget(child)
            child.setParent(None)
            child.deleteLater()
