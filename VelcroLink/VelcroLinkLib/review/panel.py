"""The Review tab: choose a segmentation, see what needs a look, go there, flag and note it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .session import ReviewSession
from .table import ReviewRow
from .table_view import ReviewTableView

_ICONS = {
    "information": qt.QStyle.SP_MessageBoxInformation,
    "warning": qt.QStyle.SP_MessageBoxWarning,
    "error": qt.QStyle.SP_MessageBoxCritical,
}


class ReviewPanel:
    """Shows a ReviewSession in Resources/UI/VelcroLinkReview.ui.

    `widget` is the page for the panel's tabs. The table is filled when there is another review;
    everything else is set for every change.
    """

    def __init__(self, resourcePath: Callable[[str], str], session: ReviewSession) -> None:
        self.widget = slicer.util.loadUI(resourcePath("UI/VelcroLinkReview.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.session = session
        self.table = ReviewTableView(
            self.ui,
            # While the row before is still the current one: its note may take what was typed last.
            leaving=lambda: self.ui.reviewNoteEdit.clearFocus(),
            chosen=self._renderDetail,
            jump=session.jump,
            flagged=lambda segmentId, flag: session.decide(segmentId, flag=flag),
        )
        ui = self.ui
        ui.reviewSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onChosen)
        ui.reviewButton.connect("clicked(bool)", lambda _c: session.start())
        ui.reviewCancelButton.connect("clicked(bool)", lambda _c: session.cancel())
        ui.reviewExportButton.connect("clicked(bool)", self._onExport)
        ui.reviewFlagCheck.connect("toggled(bool)", self._onFlag)
        ui.reviewNoteEdit.connect("textEdited(QString)", self._onNote)
        session.changed.connect(self.render)
        session.rowChanged.connect(self._onRowChanged)
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.render()

    def close(self) -> None:
        self.table.close()
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
        self.table.show(session.review)
        self.table.fitColumns()
        self._renderDetail()

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
        self.table.setVisible(review is not None and bool(review.rows))
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
        row = self.table.currentRow
        hasReview = bool(self.table.rows)
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

    # --- what the user does -----------------------------------------------------------------------
    def _onChosen(self, node: Any) -> None:
        self.session.choose(node)

    def _onFlag(self, checked: bool) -> None:
        self.session.decide(self.table.currentId, flag=checked)

    def _onNote(self, text: str) -> None:
        self.session.decide(self.table.currentId, note=text)

    def _onRowChanged(self, row: ReviewRow) -> None:
        self.table.change(row, self.session.review)
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


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _quietly(widget: Any, change: Callable[[Any], Any]) -> None:
    """Change a widget without its telling the slots that would act on it."""
    blocked = widget.blockSignals(True)
    change(widget)
    widget.blockSignals(blocked)
