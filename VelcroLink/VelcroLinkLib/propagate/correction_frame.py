"""The widgets with which a propagated segment is corrected; what they do is `panel`."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from ..frame.tab_widgets import button, setQuietly, wrappingLabel
from .correction_nodes import COLOURS, INSIDE, OUTSIDE

SWATCH_PIXELS = 10


class CorrectionFrame:
    """selector: which segment. insideButton, outsideButton: checked while such points are placed.
    takeBackButton, clearButton, applyButton; label: one or two lines on how things stand."""

    def __init__(self, parent: Any, layout: Any) -> None:
        self._ids: tuple[str, ...] = ()
        self._names: tuple[str, ...] = ()
        self.widget = qt.QFrame(parent)
        self.widget.setObjectName("correctionFrame")
        self.widget.setFrameShape(qt.QFrame.StyledPanel)
        rows = qt.QVBoxLayout(self.widget)
        title = qt.QLabel(_("&Correct:"), self.widget)
        self.selector = qt.QComboBox(self.widget)
        self.selector.setObjectName("correctionSelector")
        self.selector.toolTip = _("The propagated segment to correct.")
        # Names may be long; the panel may be narrow.
        self.selector.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
        title.setBuddy(self.selector)
        self.insideButton = self._placeButton("correctInsideButton", _("Inside"), INSIDE)
        self.outsideButton = self._placeButton("correctOutsideButton", _("Outside"), OUTSIDE)
        self.label = wrappingLabel(self.widget, "correctionLabel")
        self.takeBackButton = button(self.widget, "correctTakeBackButton", _("Take back"))
        self.clearButton = button(self.widget, "correctClearButton", _("Clear"))
        self.applyButton = button(self.widget, "correctApplyButton", _("Propagate a&gain"))
        for widgets in (
            (title, self.selector),
            (self.insideButton, self.outsideButton),
            (self.label,),
            (self.takeBackButton, self.clearButton, self.applyButton),
        ):
            row = qt.QHBoxLayout()
            for one in widgets:
                row.addWidget(one, 0 if one is title else 1)
            rows.addLayout(row)
        layout.addWidget(self.widget)

    def _placeButton(self, name: str, text: str, label: int) -> Any:
        """With the colour that its points have."""
        made = button(self.widget, name, f"{'+' if label == INSIDE else '-'} {text}")
        made.checkable = True
        swatch = qt.QPixmap(SWATCH_PIXELS, SWATCH_PIXELS)
        swatch.fill(qt.QColor(*(round(255 * part) for part in COLOURS[label])))
        made.setIcon(qt.QIcon(swatch))
        return made

    def showSegments(self, names: dict[str, str], chosen: str) -> None:
        """names: {segment id: name}; without any the frame is hidden."""
        self.widget.setVisible(bool(names))
        ids, shown = tuple(names), tuple(names.values())
        if (ids, shown) != (self._ids, self._names):
            self._ids, self._names = ids, shown
            blocked = self.selector.blockSignals(True)
            self.selector.clear()
            for name in shown:
                self.selector.addItem(name)
            self.selector.blockSignals(blocked)
        setQuietly(self.selector, "currentIndex", ids.index(chosen) if chosen in ids else -1)

    def segmentAt(self, index: int) -> str:
        """Id of the segment in a row of the selector, "" for none."""
        return self._ids[index] if 0 <= index < len(self._ids) else ""
