"""The Review tab: choose a segmentation, see what needs a look, go there, flag and note it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .session import ReviewSession
from .table import ReviewRow, SavedReview

FILL_ROWS = 40  # put into the table before Slicer has its turn again
ID_ROLE = qt.Qt.UserRole
NUMBER, SEGMENT, LINKED, AGREEMENT, DICE, VOLUME, DIAMETER, WHY = range(8)
WIDTHS = {  # pixels; the two names share what the dock's width leaves
    NUMBER: 46,
    SEGMENT: 120,
    LINKED: 110,
    AGREEMENT: 82,
    DICE: 44,
    VOLUME: 56,
    DIAMETER: 48,
    WHY: 320,
}
NARROWEST_NAME, WIDEST_NAME = 100, 200
ROW_HEIGHT = 24
_ICONS = {
    "information": qt.QStyle.SP_MessageBoxInformation,
    "warning": qt.QStyle.SP_MessageBoxWarning,
    "error": qt.QStyle.SP_MessageBoxCritical,
}


class ReviewPanel:
    """Shows a ReviewSession in Resources/UI/VelcroLinkReview.ui.

    `widget` is the page for the panel's tabs. The table is filled when there is another review, in
    portions; everything else is set for every change.
    """

    def __init__(self, resourcePath: Callable[[str], str], session: ReviewSession) -> None:
        self.widget = slicer.util.loadUI(resourcePath("UI/VelcroLinkReview.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.session = session
        self._review: SavedReview | None = None  # what the table is about
        self._rows: dict[str, ReviewRow] = {}
        self._toFill: list[ReviewRow] = []
        self._currentId = ""
        self._fittedTo = 0
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._fillSome)
        self._prepareTable()
        ui = self.ui
        ui.reviewSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onChosen)
        ui.reviewButton.connect("clicked(bool)", lambda _c: session.start())
        ui.reviewCancelButton.connect("clicked(bool)", lambda _c: session.cancel())
        ui.reviewExportButton.connect("clicked(bool)", self._onExport)
        ui.reviewOnlyCheck.connect("toggled(bool)", lambda _c: self._hideRows())
        ui.reviewTable.connect("currentCellChanged(int,int,int,int)", self._onCurrentCell)
        ui.reviewTable.connect("cellClicked(int,int)", self._onClicked)
        ui.reviewTable.connect("itemChanged(QTableWidgetItem*)", self._onItemChanged)
        ui.reviewFlagCheck.connect("toggled(bool)", self._onFlag)
        ui.reviewNoteEdit.connect("textEdited(QString)", self._onNote)
        session.changed.connect(self.render)
        session.rowChanged.connect(self._onRowChanged)
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.render()

    def close(self) -> None:
        self._timer.stop()
        self.session.changed.disconnect(self.render)
        self.session.rowChanged.disconnect(self._onRowChanged)
        self.session.close()

    # --- drawing --------------------------------------------------------------------------------
    def render(self) -> None:
        ui, session = self.ui, self.session
        _quietly(ui.reviewSelector, lambda w: w.setCurrentNode(session.segmentationNode))
        ui.reviewSelector.enabled = session.isAttached and not session.isRunning
        reason = session.whyNot()
        ui.reviewButton.enabled = not reason
        ui.reviewButton.toolTip = reason or _(
            "Link every segment on its largest slices and check name, side, place and shape."
        )
        ui.reviewCancelButton.setVisible(session.isRunning)
        ui.reviewCancelButton.toolTip = _("Stop this review; the one before is kept.")
        hasRows = session.review is not None and bool(session.review.rows)
        ui.reviewExportButton.enabled = hasRows
        ui.reviewExportButton.toolTip = (
            _("Save all rows, with flags and notes, as a table of comma-separated values.")
            if hasRows
            else _("Nothing was reviewed yet.")
        )
        self._renderProgress()
        self._renderNotice()
        self._renderSummary(reason)
        if session.review is None or session.review.rows != self._shownRows():
            self._showReview(session.review)
        self._fitColumns()
        self._renderDetail()

    def _shownRows(self) -> tuple[ReviewRow, ...] | None:
        return None if self._review is None else self._review.rows

    def _renderProgress(self) -> None:
        ui, session = self.ui, self.session
        ui.reviewProgress.setVisible(session.isRunning)
        ui.reviewProgressLabel.setVisible(session.isRunning)
        fraction, message, remaining = session.progress
        ui.reviewProgress.setRange(0, 100 if fraction > 0 else 0)
        if fraction > 0:
            ui.reviewProgress.value = round(100 * fraction)
        text = message[:1].upper() + message[1:]
        if remaining is not None and remaining >= 1:
            text = _("{message}, {time} left").format(message=text, time=_duration(remaining))
        ui.reviewProgressLabel.text = text

    def _renderNotice(self) -> None:
        ui, notice = self.ui, self.session.notice
        ui.reviewNoticeFrame.setVisible(notice is not None)
        if notice is None:
            return
        ui.reviewNoticeLabel.text = notice.text
        icon = ui.reviewNoticeFrame.style().standardIcon(_ICONS[notice.kind])
        ui.reviewNoticeIcon.setPixmap(icon.pixmap(16, 16))
        ui.reviewNoticeIcon.accessibleName = notice.kind

    def _renderSummary(self, reason: str) -> None:
        ui, session = self.ui, self.session
        review = session.review
        for widget in (ui.reviewTable, ui.reviewOnlyCheck):
            widget.setVisible(review is not None and bool(review.rows))
        if review is None:
            ui.reviewSummary.text = (
                ""
                if session.isRunning
                else reason
                or _(
                    "Press Review: every segment is linked and measured, and what needs a look "
                    "comes first."
                )
            )
        else:
            count = sum(row.needsLook for row in review.rows)
            lines = [
                _("{count} of {all} segments need a look.").format(
                    count=count, all=len(review.rows)
                )
            ]
            if session.isOutdated:
                lines.append(_("The segmentation was edited since; press Review again."))
            lines += review.notices
            ui.reviewSummary.text = "\n".join(lines)
        ui.reviewSummary.setVisible(bool(ui.reviewSummary.text))

    def _renderDetail(self) -> None:
        ui = self.ui
        row = self._rows.get(self._currentId)
        hasReview = bool(self._rows)
        ui.reviewDetail.text = detailText(row) if row is not None else ""
        ui.reviewDetail.setVisible(row is not None)
        for widget in (ui.reviewFlagCheck, ui.reviewNoteEdit):
            widget.setVisible(hasReview)
            widget.enabled = row is not None
        why = "" if row is not None else _("Choose a segment in the table first.")
        ui.reviewFlagCheck.toolTip = why or _("Mark this segment for a later look.")
        ui.reviewNoteEdit.toolTip = why or _("Kept with the scene and in the CSV file.")
        _quietly(ui.reviewFlagCheck, lambda w: setattr(w, "checked", row is not None and row.flag))
        note = row.note if row is not None else ""
        if ui.reviewNoteEdit.text != note and not ui.reviewNoteEdit.hasFocus():
            ui.reviewNoteEdit.text = note

    # --- table ----------------------------------------------------------------------------------
    def _prepareTable(self) -> None:
        table = self.ui.reviewTable
        titles = {
            NUMBER: (_("Flag"), _("Order in which the segments need a look; the box flags one")),
            SEGMENT: (_("Segment"), _("Own name")),
            LINKED: (_("Linked as"), _("What the model calls it")),
            AGREEMENT: (_("Agreement"), _("Own name and linked entry")),
            DICE: (_("Dice"), _("Overlap of the model's mask with the segment")),
            VOLUME: (_("ml"), _("Volume")),
            DIAMETER: (_("mm"), _("Longest axial diameter")),
            WHY: (_("Why"), _("What was found")),
        }
        table.setColumnCount(len(titles))
        for column, (title, tip) in titles.items():
            item = qt.QTableWidgetItem(title)
            item.setToolTip(tip)
            table.setHorizontalHeaderItem(column, item)
        for column, width in WIDTHS.items():
            table.setColumnWidth(column, width)
        table.horizontalHeader().setStretchLastSection(True)
        table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)

    def _fitColumns(self) -> None:
        """The names, and what else there is room for, fill the table's width, also after the dock
        was made wider; the rest is scrolled to. Widths that the user has set stay until then."""
        table = self.ui.reviewTable
        room = table.width - 2 * table.frameWidth
        if room == self._fittedTo or not table.isVisible():
            return
        self._fittedTo = room
        left = room - WIDTHS[NUMBER] - WIDTHS[AGREEMENT]
        numbers = WIDTHS[DICE] + WIDTHS[VOLUME] + WIDTHS[DIAMETER]
        if left - numbers >= WIDTHS[SEGMENT] + WIDTHS[LINKED]:
            left -= numbers
        if left // 2 < NARROWEST_NAME:
            left += WIDTHS[AGREEMENT]
        each = min(left // 2, WIDEST_NAME)
        for column in (SEGMENT, LINKED):
            table.setColumnWidth(column, each)

    def _showReview(self, review: SavedReview | None) -> None:
        """Fill the table anew; the current segment stays the current one."""
        table = self.ui.reviewTable
        self._timer.stop()
        before = [] if self._review is None else [row.segment_id for row in self._review.rows]
        now = [] if review is None else [row.segment_id for row in review.rows]
        if before != now and self._currentId not in now:
            self._currentId = ""
        self._review = review
        self._rows = {} if review is None else {row.segment_id: row for row in review.rows}
        blocked = table.blockSignals(True)
        table.setSortingEnabled(False)
        table.setRowCount(0)
        table.setRowCount(len(self._rows))
        table.blockSignals(blocked)
        self._toFill = list(self._rows.values())
        self._fillSome()

    def _fillSome(self) -> None:
        table = self.ui.reviewTable
        blocked = table.blockSignals(True)
        first = len(self._rows) - len(self._toFill)
        for index, row in enumerate(self._toFill[:FILL_ROWS]):
            self._fillRow(first + index, row)
        del self._toFill[:FILL_ROWS]
        table.blockSignals(blocked)
        if self._toFill:
            self._timer.start()
            return
        self._timer.stop()
        if self._rows:
            table.sortByColumn(NUMBER, qt.Qt.AscendingOrder)
            table.setSortingEnabled(True)
        self._hideRows()

    def _fillRow(self, index: int, row: ReviewRow) -> None:
        table = self.ui.reviewTable
        values = {
            NUMBER: index + 1,
            SEGMENT: row.segment,
            LINKED: row.linkedTitle,
            AGREEMENT: row.agreementTitle,
            DICE: _rounded(row.dice, 2),
            VOLUME: _rounded(row.volume_ml, 2),
            DIAMETER: _rounded(row.longest_mm, 1),
            WHY: row.reasons,
        }
        for column, value in values.items():
            item = qt.QTableWidgetItem()
            if value is not None:
                item.setData(qt.Qt.DisplayRole, value)
            flags = qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled
            if column == NUMBER:
                flags = flags | qt.Qt.ItemIsUserCheckable
                item.setCheckState(qt.Qt.Checked if row.flag else qt.Qt.Unchecked)
                item.setData(ID_ROLE, row.segment_id)
            if column == SEGMENT and row.needsLook:
                item.setIcon(table.style().standardIcon(qt.QStyle.SP_MessageBoxWarning))
            if column in (SEGMENT, LINKED, WHY) and value:
                item.setToolTip(str(value))
            item.setFlags(flags)
            table.setItem(index, column, item)
        if row.segment_id == self._currentId:
            table.setCurrentCell(index, SEGMENT)

    def _idAt(self, index: int) -> str:
        item = self.ui.reviewTable.item(index, NUMBER)
        return str(item.data(ID_ROLE)) if item is not None else ""

    def _hideRows(self) -> None:
        only = self.ui.reviewOnlyCheck.checked
        table = self.ui.reviewTable
        for index in range(len(self._rows)):
            row = self._rows.get(self._idAt(index))
            table.setRowHidden(index, only and row is not None and not row.needsLook)

    # --- what the user does -----------------------------------------------------------------------
    def _onChosen(self, node: Any) -> None:
        self.session.choose(node)

    def _onCurrentCell(self, index: int, _column: int, before: int, _columnBefore: int) -> None:
        identifier = self._idAt(index)
        if index < 0 or identifier == self._currentId:
            return
        self.ui.reviewNoteEdit.clearFocus()
        self._currentId = identifier
        self._renderDetail()
        self._jump()

    def _onClicked(self, index: int, _column: int) -> None:
        if self._idAt(index) == self._currentId:
            self._jump()

    def _jump(self) -> None:
        row = self._rows.get(self._currentId)
        if row is not None:
            self.session.jump(row)

    def _onItemChanged(self, item: Any) -> None:
        if item.column() == NUMBER:
            identifier = str(item.data(ID_ROLE))
            self.session.decide(identifier, flag=item.checkState() == qt.Qt.Checked)

    def _onFlag(self, checked: bool) -> None:
        self.session.decide(self._currentId, flag=checked)

    def _onNote(self, text: str) -> None:
        self.session.decide(self._currentId, note=text)

    def _onRowChanged(self, row: ReviewRow) -> None:
        self._rows[row.segment_id] = row
        self._review = self.session.review
        self._toFill = [row if one.segment_id == row.segment_id else one for one in self._toFill]
        table = self.ui.reviewTable
        blocked = table.blockSignals(True)
        for index in range(len(self._rows)):
            if self._idAt(index) == row.segment_id:
                state = qt.Qt.Checked if row.flag else qt.Qt.Unchecked
                table.item(index, NUMBER).setCheckState(state)
        table.blockSignals(blocked)
        table.viewport().update()
        self._renderDetail()

    def _onExport(self, _checked: bool) -> None:
        name = self.session.segmentationNode.GetName() or "segmentation"
        path = askForFile(self.widget, _("Save the review"), f"{name} review.csv")
        if path:
            self.session.exportCsv(Path(path))


def askForFile(parent: Any, title: str, suggestion: str) -> str:
    """Path chosen by the user, "" when the dialog was cancelled."""
    answer = qt.QFileDialog.getSaveFileName(parent, title, suggestion, "CSV (*.csv)")
    return answer[0] if isinstance(answer, tuple) else answer


def detailText(row: ReviewRow) -> str:
    """All about one segment, for the lines below the table."""
    measured = []
    if row.volume_ml is not None:
        measured.append(_("{ml:.2f} ml").format(ml=row.volume_ml))
    if row.longest_mm is not None and row.perpendicular_mm is not None:
        measured.append(f"{row.longest_mm:.1f} x {row.perpendicular_mm:.1f} mm")
    if (row.components or 0) > 1:
        measured.append(_("{count} pieces").format(count=row.components))
    if row.holes:
        measured.append(_("{count} holes").format(count=row.holes))
    linked = ""
    if row.linked:
        confidence = f" ({row.confidence:.2f})" if row.confidence is not None else ""
        linked = _("linked as {entry}{confidence}, {agreement}").format(
            entry=row.linkedTitle, confidence=confidence, agreement=row.agreementTitle
        )
    first = ": ".join(part for part in (row.segment, linked) if part)
    return "\n".join(part for part in (first, ", ".join(measured), row.reasons) if part)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _quietly(widget: Any, change: Callable[[Any], Any]) -> None:
    """Change a widget without its telling the slots that would act on it."""
    blocked = widget.blockSignals(True)
    change(widget)
    widget.blockSignals(blocked)
