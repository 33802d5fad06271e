"""What the tabs Find, Cases and Report are made of: plain Qt widgets, set up the same way."""

from __future__ import annotations

import base64
from typing import Any

import qt

_ICONS = {
    "information": qt.QStyle.SP_MessageBoxInformation,
    "warning": qt.QStyle.SP_MessageBoxWarning,
    "error": qt.QStyle.SP_MessageBoxCritical,
}


class MessageRow:
    """One line of message with its icon, inline in a tab; hidden while there is none."""

    def __init__(self, parent: Any, name: str) -> None:
        self.frame = qt.QFrame(parent)
        self.frame.setObjectName(f"{name}Frame")
        row = qt.QHBoxLayout(self.frame)
        row.setContentsMargins(0, 2, 0, 2)
        self._icon = qt.QLabel(self.frame)
        self._icon.setAlignment(qt.Qt.AlignTop | qt.Qt.AlignLeft)
        self._icon.setSizePolicy(qt.QSizePolicy.Fixed, qt.QSizePolicy.Preferred)
        self.label = wrappingLabel(self.frame, f"{name}Label")
        row.addWidget(self._icon)
        row.addWidget(self.label, 1)
        self.show("", "")

    def show(self, kind: str, text: str) -> None:
        """kind: "information", "warning" or "error"; no text takes the line away."""
        self.frame.setVisible(bool(text))
        self.label.text = text
        if text:
            icon = self.frame.style().standardIcon(_ICONS[kind])
            self._icon.setPixmap(icon.pixmap(16, 16))
            self._icon.accessibleName = kind


def column(widget: Any) -> Any:
    """The vertical layout of a tab's page."""
    layout = qt.QVBoxLayout(widget)
    layout.setContentsMargins(0, 6, 0, 0)
    return layout


def wrappingLabel(parent: Any, name: str, text: str = "") -> Any:
    """Plain text that wraps and can be selected. Plain: what comes from reports is never HTML."""
    label = qt.QLabel(parent)
    label.setObjectName(name)
    # First: a policy set later would forget that the height follows from the width.
    label.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Preferred)
    label.textFormat = qt.Qt.PlainText
    label.wordWrap = True
    label.text = text
    label.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)
    return label


def button(parent: Any, name: str, text: str) -> Any:
    """A push button; `offer` says when and why it is disabled."""
    made = qt.QPushButton(parent)
    made.setObjectName(name)
    made.text = text
    made.autoDefault = False
    return made


def offer(widget: Any, whyNot: str, tip: str) -> None:
    """Enable a control with its tooltip, or disable it with the reason as tooltip."""
    widget.enabled = not whyNot
    widget.toolTip = whyNot or tip


def setQuietly(widget: Any, name: str, value: Any) -> None:
    """Set a property without telling the widget's own slots, which would act on it."""
    if getattr(widget, name) != value:
        blocked = widget.blockSignals(True)
        setattr(widget, name, value)
        widget.blockSignals(blocked)


def pixmapFromPng(encoded: Any) -> Any | None:
    """The picture in Base64 text of a PNG; None when there is none or it cannot be read."""
    if not isinstance(encoded, str) or not encoded:
        return None
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    pixmap = qt.QPixmap()
    pixmap.loadFromData(qt.QByteArray(data))
    return None if pixmap.isNull() else pixmap


def titledEdit(parent: Any, grid: Any, row: int, title: str, name: str) -> Any:
    """A line to type in, with its title before it, in a row of a grid."""
    label = qt.QLabel(title, parent)
    edit = qt.QLineEdit(parent)
    edit.setObjectName(name)
    label.setBuddy(edit)
    grid.addWidget(label, row, 0)
    grid.addWidget(edit, row, 1)
    return edit
