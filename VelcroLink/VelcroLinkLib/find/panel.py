"""The Find tab: type a phrase, see where in the slice it is, or that it is not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from velcro_engine.errors import VelcroError

from ..frame.link_session import LinkSession
from ..frame.tab_question import TabQuestion
from ..frame.tab_widgets import MessageRow, button, column, offer, wrappingLabel
from ..scene.slice_request import PlacedRequest, SliceRequestBuilder
from ..scene.slice_views import suggestedVolume, viewsShowing
from ..scene.volume_geometry import volumeFingerprint
from .overlay import FoundOverlay
from .regions import FoundRegion, FoundRegions

LONGEST_PHRASE = 300  # as in the engine
LIST_HEIGHT = 150


class FindPanel(VTKObservationMixin):
    """`widget` is the page for the panel's tabs.

    What is shown belongs to one slice of one volume; it goes when either changes or goes.
    """

    def __init__(self, session: LinkSession) -> None:
        VTKObservationMixin.__init__(self)
        self._session = session
        self._builder = SliceRequestBuilder(session.heads)
        self._overlay = FoundOverlay()
        self._question = TabQuestion(session.client, self.render, self._onFailed)
        self._placed: PlacedRequest | None = None  # the slice that was asked about last
        self._volumeNode: Any = None  # the one whose regions are shown
        self._found: FoundRegions | None = None
        self._views: list[str] = []
        self._makeWidgets()
        session.changed.connect(self.render)
        self.render()

    def close(self) -> None:
        self._session.changed.disconnect(self.render)
        self._question.drop()
        self._forget()

    def _makeWidgets(self) -> None:
        self.widget = qt.QWidget()
        self.widget.setObjectName("findTab")
        layout = column(self.widget)
        intro = wrappingLabel(
            self.widget, "findIntro", _("Where in the slice is it? Type a phrase of your own.")
        )
        layout.addWidget(intro)
        row = qt.QHBoxLayout()
        self.phraseEdit = qt.QLineEdit(self.widget)
        self.phraseEdit.setObjectName("phraseEdit")
        self.phraseEdit.maxLength = LONGEST_PHRASE
        self.phraseEdit.clearButtonEnabled = True
        self.phraseEdit.placeholderText = _("left hippocampus")
        self.phraseEdit.accessibleName = _("Phrase to find")
        self.findButton = button(self.widget, "findButton", _("Find"))
        row.addWidget(self.phraseEdit, 1)
        row.addWidget(self.findButton)
        layout.addLayout(row)

        row = qt.QHBoxLayout()
        label = qt.QLabel(_("&In view:"), self.widget)
        self.viewBox = qt.QComboBox(self.widget)
        self.viewBox.setObjectName("findViewBox")
        self.viewBox.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        label.setBuddy(self.viewBox)
        row.addWidget(label)
        row.addWidget(self.viewBox, 1)
        layout.addLayout(row)

        self.message = MessageRow(self.widget, "findMessage")
        layout.addWidget(self.message.frame)
        self.summary = wrappingLabel(self.widget, "findSummary")
        layout.addWidget(self.summary)
        self.regionList = qt.QListWidget(self.widget)
        self.regionList.setObjectName("regionList")
        self.regionList.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        self.regionList.accessibleName = _("Regions found, best first")
        self.regionList.toolTip = _("The chosen region is filled; the view goes to its slice.")
        layout.addWidget(self.regionList)
        row = qt.QHBoxLayout()
        self.heatCheck = qt.QCheckBox(_("&Heat map"), self.widget)
        self.heatCheck.setObjectName("heatCheck")
        self.clearButton = button(self.widget, "clearFoundButton", _("Clear"))
        row.addWidget(self.heatCheck, 1)
        row.addWidget(self.clearButton)
        layout.addLayout(row)
        layout.addStretch(1)

        self.phraseEdit.connect("textChanged(QString)", lambda _t: self.render())
        self.phraseEdit.connect("returnPressed()", self.find)
        self.findButton.connect("clicked(bool)", lambda _c: self.find())
        self.regionList.connect("currentRowChanged(int)", self._onRow)
        self.regionList.connect("itemClicked(QListWidgetItem*)", lambda _i: self._goToChosen())
        self.regionList.connect("itemActivated(QListWidgetItem*)", lambda _i: self._goToChosen())
        self.heatCheck.connect("toggled(bool)", lambda _c: self._renderHeat())
        self.clearButton.connect("clicked(bool)", lambda _c: self._onClear())

    # --- drawing --------------------------------------------------------------------------------
    def render(self) -> None:
        session = self._session
        if self._volumeNode is not None and session.volumeNode is not self._volumeNode:
            self._forget()
        if session.parameters is None:
            self._question.drop()
            self._builder.forget()
            self.message.show("", "")
        self._renderViews()
        offer(self.findButton, self._whyNotFind(), _("Search the slice of this view. Key: Return"))
        self.summary.text = self._summaryText()
        self.summary.setVisible(bool(self.summary.text))
        self.regionList.setVisible(bool(self._found and self._found.regions))
        nothing = "" if self._found is not None else _("Nothing was searched yet.")
        offer(self.heatCheck, nothing, _("Show how likely the phrase is at every place."))
        offer(self.clearButton, nothing, _("Take the outlines and the heat map away."))

    def _whyNotFind(self) -> str:
        if self._session.volumeNode is None:
            if suggestedVolume(None) is None:
                return _("Load a volume first.")
            return _("Choose a volume above.")
        if not self._views:
            return _("Show the volume in a slice view first.")
        if not self.phraseEdit.text.strip():
            return _("Type what to find first.")
        return _("The search is under way.") if self._question.isRunning else ""

    def _summaryText(self) -> str:
        found = self._found
        if self._question.isRunning:
            return _("Searching...")
        if found is None:
            return ""
        if not found.present:
            return _("'{phrase}' is not in this slice (best score {score:.2f}).").format(
                phrase=found.phrase, score=found.score
            )
        if len(found.regions) == 1:
            return _("'{phrase}' is in one place of this slice:").format(phrase=found.phrase)
        return _("'{phrase}' is in {number} places of this slice, best first:").format(
            phrase=found.phrase, number=len(found.regions)
        )

    def _renderViews(self) -> None:
        """The views that show the volume, by name; the chosen one stays chosen."""
        nodes = self._viewNodes()
        names = [f"{n.GetLayoutName()} ({n.GetOrientation()})" for n in nodes]
        if names != self._views:
            row = max(self.viewBox.currentIndex, 0)
            self.viewBox.clear()
            for name in names:
                self.viewBox.addItem(name)
            if row < len(names):
                self.viewBox.currentIndex = row
            self._views = names
        reason = "" if names else _("No slice view shows the volume.")
        offer(self.viewBox, reason, _("The slice that is searched is the one this view shows."))

    def _viewNodes(self) -> list[Any]:
        volumeNode = self._session.volumeNode
        nodes = viewsShowing(volumeNode) if volumeNode is not None else []
        return [node for node in nodes if node.IsMappedInLayout()] or nodes

    def _renderHeat(self) -> None:
        if self._found is None or not self.heatCheck.checked:
            self._overlay.hideHeat()
        elif self._volumeNode is not None and self._placed is not None:
            self._overlay.showHeat(self._volumeNode, self._placed.grid, self._found.heat)

    # --- what the user does -----------------------------------------------------------------------
    def find(self) -> None:
        """Search the slice of the chosen view."""
        self.render()  # a view may show another volume by now
        if self._whyNotFind():
            return
        self._forget()
        self.message.show("", "")
        volumeNode = self._session.volumeNode
        sliceNode = self._viewNodes()[max(self.viewBox.currentIndex, 0)]
        try:
            placed = self._builder.fromSlice(sliceNode, volumeNode)
        except VelcroError as error:
            self._onFailed("warning", error.message)
            return
        request, pixels = placed.request.to_message()
        self._question.ask(
            "ground",
            {"request": request, "phrase": self.phraseEdit.text.strip()},
            pixels,
            lambda result, payload: self._onFound(placed, volumeNode, result, payload),
        )

    def _onClear(self) -> None:
        self._forget()
        self.message.show("", "")
        self.render()

    def _onRow(self, row: int) -> None:
        if row >= 0:
            self._overlay.choose(row)

    def _goToChosen(self) -> None:
        """Bring the slice with the chosen region back into its view."""
        row = self.regionList.currentRow
        nodes = self._viewNodes()
        if self._found is None or self._placed is None or not nodes:
            return
        if 0 <= row < len(self._found.regions):
            x, y = self._found.regions[row].centre
            ras = self._placed.grid.pixelToRas @ np.array([x, y, 0.0, 1.0])
            nodes[min(max(self.viewBox.currentIndex, 0), len(nodes) - 1)].JumpSlice(*ras[:3])

    # --- answers ------------------------------------------------------------------------------
    def _onFound(
        self, placed: PlacedRequest, volumeNode: Any, result: dict[str, Any], payload: bytes
    ) -> None:
        if self._session.volumeNode is not volumeNode:
            return
        found = FoundRegions.fromAnswer(result, payload, placed.request.pixels.shape)
        if volumeFingerprint(volumeNode) != placed.fingerprint:
            self._onFailed("information", _("The volume changed while searching. Find it again."))
            return
        try:
            self._overlay.show(
                volumeNode, placed, found, [self._title(found, r) for r in found.regions]
            )
        except VelcroError as error:
            self._overlay.clear()
            self._onFailed("error", error.message)
            return
        self._found, self._placed, self._volumeNode = found, placed, volumeNode
        for event in (
            slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
            slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
        ):
            self.addObserver(volumeNode, event, self._onVolumeChanged)
        blocked = self.regionList.blockSignals(True)
        for number, region in enumerate(found.regions, start=1):
            self.regionList.addItem(self._line(number, region))
        if found.regions:  # as high as what it holds
            needed = len(found.regions) * self.regionList.sizeHintForRow(0) + 4
            self.regionList.setFixedHeight(min(needed, LIST_HEIGHT))
        self.regionList.setCurrentRow(0 if found.regions else -1)
        self.regionList.blockSignals(blocked)
        self._renderHeat()

    def _title(self, found: FoundRegions, region: FoundRegion) -> str:
        side = region.side if region.side and region.side not in found.phrase.lower() else ""
        name = f"{found.phrase}, {side}" if side else found.phrase
        return f"{name} ({region.score:.2f})"

    def _line(self, number: int, region: FoundRegion) -> str:
        parts = [_("score {score:.2f}").format(score=region.score)]
        if region.side:
            parts.append(region.side)
        spacing = self._placed.request.pixel_spacing if self._placed is not None else None
        if spacing:
            area = float(region.mask.sum()) * spacing**2
            parts.append(_("area {area:.0f} mm²").format(area=area))
        return f"{number}.  " + ", ".join(parts)

    def _onVolumeChanged(self, _caller: Any, _event: Any) -> None:
        self._forget()
        self.message.show("information", _("The volume has changed. Find it again."))
        self.render()

    def _onFailed(self, kind: str, text: str) -> None:
        self.message.show(kind, text)

    def _forget(self) -> None:
        """Take away what is shown."""
        self._question.drop()
        self.removeObservers()
        self._overlay.clear()
        self._found = self._placed = self._volumeNode = None
        self.regionList.clear()
