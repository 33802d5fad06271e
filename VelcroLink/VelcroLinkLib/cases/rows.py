"""The list of similar cases: thumbnail, finding, similarity, location and excerpt of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ..frame.tab_widgets import pixmapFromPng, wrappingLabel
from .similar_cases import SimilarCase

PICTURE = 72  # pixels


class CaseRows:
    """Rows in a scroll area; they are made as they are needed and filled anew."""

    def __init__(self, parent: Any) -> None:
        self.area = qt.QScrollArea(parent)
        self.area.setObjectName("caseRows")
        self.area.setFrameShape(qt.QFrame.NoFrame)
        self.area.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        self.area.widgetResizable = True
        self.area.accessibleName = _("Similar cases, most similar first")
        self._contents = qt.QWidget()
        self._layout = qt.QVBoxLayout(self._contents)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(4)
        self._layout.addStretch(1)
        self.area.setWidget(self._contents)
        self._rows: list[_Row] = []

    def show(self, cases: Sequence[SimilarCase]) -> None:
        while len(self._rows) < len(cases):
            row = _Row(self._contents, len(self._rows))
            self._layout.insertWidget(len(self._rows), row.frame)
            self._rows.append(row)
        for number, row in enumerate(self._rows):
            row.fill(cases[number] if number < len(cases) else None)


class _Row:
    def __init__(self, parent: Any, number: int) -> None:
        self.frame = qt.QFrame(parent)
        self.frame.setObjectName(f"case{number}")
        self.frame.setFrameShape(qt.QFrame.StyledPanel)
        row = qt.QHBoxLayout(self.frame)
        row.setContentsMargins(6, 4, 6, 4)
        self._picture = qt.QLabel(self.frame)
        self._picture.setFixedSize(PICTURE, PICTURE)
        self._picture.setAlignment(qt.Qt.AlignCenter)
        row.addWidget(self._picture, 0, qt.Qt.AlignTop)
        texts = qt.QVBoxLayout()
        texts.setSpacing(2)
        self._finding = wrappingLabel(self.frame, f"case{number}Finding")
        font = self._finding.font
        font.setBold(True)
        self._finding.font = font
        self._about = wrappingLabel(self.frame, f"case{number}About")
        self._excerpt = wrappingLabel(self.frame, f"case{number}Excerpt")
        for label in (self._finding, self._about, self._excerpt):
            texts.addWidget(label)
        texts.addStretch(1)
        row.addLayout(texts, 1)

    def fill(self, case: SimilarCase | None) -> None:
        self.frame.setVisible(case is not None)
        if case is None:
            return
        pixmap = pixmapFromPng(case.thumbnail)
        if pixmap is None:
            self._picture.clear()
            self._picture.setVisible(False)
        else:
            size = qt.QSize(PICTURE, PICTURE)
            self._picture.setPixmap(
                pixmap.scaled(size, qt.Qt.KeepAspectRatio, qt.Qt.SmoothTransformation)
            )
            self._picture.setVisible(True)
            self._picture.toolTip = _("The region in case {case}.").format(case=case.case)
        self._finding.text = case.finding
        about = [case.similarity, case.location, _("case {case}").format(case=case.case)]
        if case.accepted:
            about.append(_("accepted by a person"))
        self._about.text = "; ".join(part for part in about if part)
        self._excerpt.text = f"“{case.excerpt}”" if case.excerpt else ""
        self._excerpt.setVisible(bool(case.excerpt))
