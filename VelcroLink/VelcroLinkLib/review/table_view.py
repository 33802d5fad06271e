"""The rows of a review as a table: filled in portions, sorted, a current row, a box for each flag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

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


class ReviewTableView:
    """Widgets reviewTable and reviewOnlyCheck of the page.

    leaving(): another row is about to be the current one. chosen(): it is now. jump(row): the user
    wants to see this one, also when it was the current one already. flagged(segmentId, flag): a box
    was ticked or cleared. rows: all of them by segment, whether filled in yet or not.
    """

    def __init__(
        self,
        ui: Any,
        leaving: Callable[[], None],
        chosen: Callable[[], None],
        jump: Callable[[ReviewRow], None],
        flagged: Callable[[str, bool], None],
    ) -> None:
        self._table = ui.reviewTable
        self._onlyCheck = ui.reviewOnlyCheck
        self._leaving = leaving
        self._chosen = chosen
        self._jump = jump
        self._flagged = flagged
        self.rows: dict[str, ReviewRow] = {}
        self.currentId = ""
        self._review: SavedReview | None = None  # what the table is about
        self._toFill: list[ReviewRow] = []
        self._fittedTo = 0
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._fillSome)
        self._prepare()
        self._onlyCheck.connect("toggled(bool)", lambda _c: self._hideRows())
        self._table.connect("currentCellChanged(int,int,int,int)", self._onCurrentCell)
        self._table.connect("cellClicked(int,int)", self._onClicked)
        self._table.connect("itemChanged(QTableWidgetItem*)", self._onItemChanged)

    def close(self) -> None:
        self._timer.stop()

    @property
    def currentRow(self) -> ReviewRow | None:
        """The row that the user chose; None while there is none."""
        return self.rows.get(self.currentId)

    @property
    def isFilled(self) -> bool:
        return not self._toFill

    def setVisible(self, visible: bool) -> None:
        for widget in (self._table, self._onlyCheck):
            widget.setVisible(visible)

    def show(self, review: SavedReview | None) -> None:
        """Fill the table anew, unless it holds these rows; the current segment stays current."""
        if review is not None and self._review is not None and review.rows == self._review.rows:
            return
        table = self._table
        self._timer.stop()
        before = [] if self._review is None else [row.segment_id for row in self._review.rows]
        now = [] if review is None else [row.segment_id for row in review.rows]
        if before != now and self.currentId not in now:
            self.currentId = ""
        self._review = review
        self.rows = {} if review is None else {row.segment_id: row for row in review.rows}
        blocked = table.blockSignals(True)
        table.setSortingEnabled(False)
        table.setRowCount(0)
        table.setRowCount(len(self.rows))
        table.blockSignals(blocked)
        self._toFill = list(self.rows.values())
        self._fillSome()

    def change(self, row: ReviewRow, review: SavedReview | None) -> None:
        """Show a row's new flag without filling anew. review: all rows, with the new one."""
        self.rows[row.segment_id] = row
        self._review = review
        self._toFill = [row if one.segment_id == row.segment_id else one for one in self._toFill]
        table = self._table
        blocked = table.blockSignals(True)
        for index in range(len(self.rows)):
            if self._idAt(index) == row.segment_id:
                state = qt.Qt.Checked if row.flag else qt.Qt.Unchecked
                table.item(index, NUMBER).setCheckState(state)
        table.blockSignals(blocked)
        table.viewport().update()

    def fitColumns(self) -> None:
        """The names, and what else there is room for, fill the table's width, also after the dock
        was made wider; the rest is scrolled to. Widths that the user has set stay until then."""
        table = self._table
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

    # --- filling ----------------------------------------------------------------------------------
    def _prepare(self) -> None:
        table = self._table
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

    def _fillSome(self) -> None:
        table = self._table
        blocked = table.blockSignals(True)
        first = len(self.rows) - len(self._toFill)
        for index, row in enumerate(self._toFill[:FILL_ROWS]):
            self._fillRow(first + index, row)
        del self._toFill[:FILL_ROWS]
        table.blockSignals(blocked)
        if self._toFill:
            self._timer.start()
            return
        self._timer.stop()
        if self.rows:
            table.sortByColumn(NUMBER, qt.Qt.AscendingOrder)
            table.setSortingEnabled(True)
        self._hideRows()

    def _fillRow(self, index: int, row: ReviewRow) -> None:
        table = self._table
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
        if row.segment_id == self.currentId:
            table.setCurrentCell(index, SEGMENT)

    def _idAt(self, index: int) -> str:
        item = self._table.item(index, NUMBER)
        return str(item.data(ID_ROLE)) if item is not None else ""

    def _hideRows(self) -> None:
        only = self._onlyCheck.checked
        for index in range(len(self.rows)):
            row = self.rows.get(self._idAt(index))
            self._table.setRowHidden(index, only and row is not None and not row.needsLook)

    # --- what the user does -----------------------------------------------------------------------
    def _onCurrentCell(self, index: int, _column: int, before: int, _columnBefore: int) -> None:
        identifier = self._idAt(index)
        if index < 0 or identifier == self.currentId:
            return
        self._leaving()
        self.currentId = identifier
        self._chosen()
        self._jumpToCurrent()

    def _onClicked(self, index: int, _column: int) -> None:
        if self._idAt(index) == self.currentId:
            self._jumpToCurrent()

    def _jumpToCurrent(self) -> None:
        row = self.currentRow
        if row is not None:
            self._jump(row)

    def _onItemChanged(self, item: Any) -> None:
        if item.column() == NUMBER:
            identifier = str(item.data(ID_ROLE))
            self._flagged(identifier, item.checkState() == qt.Qt.Checked)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
