"""The rows of a review: from the worker's answer, kept in a table node of the scene, as CSV.

One table node for each reviewed segmentation, with references to it and to its image, so that the
review is there again when the scene is loaded. Cells are text: Slicer saves tables as tab-separated
text that knows neither types nor escaping.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import vtk
from slicer.i18n import tr as _

from velcro_engine.errors import ProtocolError

ATTRIBUTE = "VelcroLink.review"
SEGMENTATION_ROLE = "VelcroLink.reviewedSegmentation"
VOLUME_ROLE = "VelcroLink.reviewedVolume"
TABLE_NAME = "VelcroLink review"
SAME = "same"  # as the engine says it


@dataclass(frozen=True)
class ReviewRow:
    """One segment. entry, side: what its name means in the knowledge base. linked, linked_side,
    confidence: the model's answer. dice: of the model's mask with the segment on the slices looked
    at. centre: RAS mm. score: from 1 on it needs a look; reasons: why. flag, note: the user's."""

    segment_id: str
    segment: str
    entry: str = ""
    side: str = ""
    linked: str = ""
    linked_side: str = ""
    confidence: float | None = None
    agreement: str = ""
    dice: float | None = None
    volume_ml: float | None = None
    longest_mm: float | None = None
    perpendicular_mm: float | None = None
    components: int | None = None
    holes: int | None = None
    score: float = 0.0
    reasons: str = ""
    centre_r: float | None = None
    centre_a: float | None = None
    centre_s: float | None = None
    flag: bool = False
    note: str = ""

    @property
    def needsLook(self) -> bool:
        return self.score >= 1.0

    @property
    def centre(self) -> tuple[float, float, float] | None:
        if self.centre_r is None or self.centre_a is None or self.centre_s is None:
            return None
        return self.centre_r, self.centre_a, self.centre_s

    @property
    def agreementTitle(self) -> str:
        """ "same" is not said of a left thalamus that looks like the right one."""
        sided = bool(self.side and self.linked_side)
        if self.agreement == SAME and sided and self.side != self.linked_side:
            return _("other side")
        return self.agreement

    @property
    def linkedTitle(self) -> str:
        """ "Hippocampus, left"."""
        return f"{self.linked}, {self.linked_side}" if self.linked_side else self.linked


COLUMNS = tuple(one.name for one in fields(ReviewRow))
_NUMBERS = {one.name: one.type for one in fields(ReviewRow) if "str" not in str(one.type)}


@dataclass(frozen=True)
class SavedReview:
    """All rows, those that need a look first. notices: one line each. model, knowledgeBase: what
    they were made with."""

    rows: tuple[ReviewRow, ...]
    notices: tuple[str, ...] = ()
    model: str = ""
    knowledgeBase: str = ""

    def withDecisionsOf(self, before: SavedReview | None) -> SavedReview:
        """The user's flags and notes of an earlier review of the same segments."""
        old = {row.segment_id: row for row in before.rows} if before is not None else {}
        rows = (
            replace(row, flag=old[row.segment_id].flag, note=old[row.segment_id].note)
            if row.segment_id in old
            else row
            for row in self.rows
        )
        return replace(self, rows=tuple(rows))


def reviewFromAnswer(result: Mapping[str, Any]) -> SavedReview:
    """The worker's "result". Raises ProtocolError when it is not a review."""
    try:
        rows = [_rowFromAnswer(row) for row in result["rows"]]
        rows.sort(key=lambda row: (-row.score, row.segment))
        return SavedReview(
            tuple(rows),
            tuple(str(line) for line in result.get("notices") or ()),
            str(result.get("model") or ""),
            str(result.get("kb") or ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError("The engine's review is damaged; try again.", repr(error)) from error


def _rowFromAnswer(row: Mapping[str, Any]) -> ReviewRow:
    best = (row.get("linked") or [{}])[0]
    centre = row.get("centre") or (None, None, None)
    findings = [str(finding["text"]) for finding in row.get("findings") or ()]
    return ReviewRow(
        segment_id=str(row["id"]),
        segment=_cell(row["name"]),
        entry=_cell(row.get("own_name") or ""),
        side=_cell(row.get("own_side") or ""),
        linked=_cell(best.get("name") or ""),
        linked_side=_cell(row.get("linked_side") or ""),
        confidence=_number(best.get("confidence")),
        agreement=_cell(row.get("agreement") or ""),
        dice=_number(row.get("dice")),
        volume_ml=_number(row.get("volume_ml")),
        longest_mm=_number(row.get("longest_diameter_mm")),
        perpendicular_mm=_number(row.get("perpendicular_mm")),
        components=int(row.get("components") or 0),
        holes=int(row.get("holes") or 0),
        score=_number(row.get("score")) or 0.0,
        reasons=_cell(" ".join(findings)),
        centre_r=_number(centre[0]),
        centre_a=_number(centre[1]),
        centre_s=_number(centre[2]),
    )


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = round(float(value), 4)
    return number if math.isfinite(number) else None


def _cell(text: Any) -> str:
    """Without what the tab-separated file cannot hold."""
    return " ".join(str(text).replace('"', "'").split())


def reviewTable(scene: Any, segmentationNode: Any, create: bool = True) -> Any | None:
    """The table node of a segmentation's review; None when there is none and create is False."""
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLTableNode")):
        node = scene.GetNthNodeByClass(n, "vtkMRMLTableNode")
        if (
            node.GetAttribute(ATTRIBUTE)
            and node.GetNodeReference(SEGMENTATION_ROLE) is segmentationNode
        ):
            return node
    if not create:
        return None
    name = scene.GenerateUniqueName(f"{TABLE_NAME} {segmentationNode.GetName() or ''}".strip())
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetNodeReferenceID(SEGMENTATION_ROLE, segmentationNode.GetID())
    node.SetAttribute(ATTRIBUTE, "{}")
    return node


def saveReview(node: Any, review: SavedReview, volumeNode: Any) -> None:
    """Replace what the table node holds."""
    about = {key: value for key, value in asdict(review).items() if key != "rows"}
    wasModifying = node.StartModify()
    try:
        node.SetAttribute(ATTRIBUTE, json.dumps(about))
        node.SetNodeReferenceID(VOLUME_ROLE, volumeNode.GetID() if volumeNode else None)
        table = node.GetTable()
        table.Initialize()
        for name in COLUMNS:
            column = vtk.vtkStringArray()
            column.SetName(name)
            column.SetNumberOfValues(len(review.rows))
            for index, row in enumerate(review.rows):
                column.SetValue(index, _text(getattr(row, name)))
            table.AddColumn(column)
        node.Modified()
    finally:
        node.EndModify(wasModifying)


def saveDecision(node: Any, row: ReviewRow) -> bool:
    """Write the flag and the note of one row; False when the table has no such row any more."""
    table = node.GetTable()
    ids, flags, notes = (table.GetColumnByName(n) for n in ("segment_id", "flag", "note"))
    if ids is None or flags is None or notes is None:
        return False
    for index in range(table.GetNumberOfRows()):
        if table.GetValueByName(index, "segment_id").ToString() == row.segment_id:
            for column, value in (("flag", row.flag), ("note", row.note)):
                table.SetValueByName(index, column, vtk.vtkVariant(_text(value)))
            node.Modified()
            return True
    return False


def savedReview(node: Any) -> SavedReview | None:
    """What a table node holds; None when it is damaged."""
    table = node.GetTable()
    try:
        about = json.loads(node.GetAttribute(ATTRIBUTE) or "{}")
        rows = [
            ReviewRow(
                **{
                    name: _value(name, table.GetValueByName(index, name).ToString())
                    for name in COLUMNS
                    if table.GetColumnByName(name) is not None
                }
            )
            for index in range(table.GetNumberOfRows())
        ]
        return SavedReview(
            tuple(rows),
            tuple(about.get("notices") or ()),
            str(about.get("model") or ""),
            str(about.get("knowledgeBase") or ""),
        )
    except (ValueError, TypeError, AttributeError):
        return None


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    return _cell(f"{value:g}" if isinstance(value, float) else value)


def _value(name: str, text: str) -> Any:
    if name not in _NUMBERS:
        return text
    if name == "flag":
        return text == "yes"
    if text == "":
        return 0.0 if name == "score" else None
    return int(float(text)) if name in ("components", "holes") else float(text)


def writeCsv(path: Path, rows: Sequence[ReviewRow]) -> None:
    """All columns, UTF-8 with the mark by which spreadsheets know it. Raises OSError."""
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([_plain(getattr(row, name)) for name in COLUMNS])


def _plain(value: Any) -> str:
    """Text that a spreadsheet would take for a formula is marked as text."""
    text = _text(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") else text
