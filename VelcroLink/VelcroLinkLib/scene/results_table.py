"""The table node in the scene that lists what was linked (VelcroLink results).

Columns hold no time of day and no path: the same work gives the same table. Slicer saves tables as
tab-separated text that knows no escaping, so cells hold no tabs, line ends or double quotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import vtk

COLUMNS = (
    "volume",
    "segment",
    "segment_id",
    "entry_id",
    "name",
    "side",
    "confidence",
    "plane",
    "centre_r",
    "centre_a",
    "centre_s",
    "attributes",
    "status",
    "linked_as",
)
_NUMBERS = ("confidence", "centre_r", "centre_a", "centre_s")
ATTRIBUTE = "VelcroLink.results"
TABLE_NAME = "VelcroLink results"


def resultsTable(scene: Any, create: bool = True) -> Any:
    """The scene's results table node (vtkMRMLTableNode), made on demand; None when there is none
    and create is False."""
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLTableNode")):
        node = scene.GetNthNodeByClass(n, "vtkMRMLTableNode")
        if node.GetAttribute(ATTRIBUTE):
            _addMissingColumns(node)
            return node
    if not create:
        return None
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(TABLE_NAME))
    node.SetAttribute(ATTRIBUTE, "1")
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetUndoEnabled(True)
    _addMissingColumns(node)
    return node


def _addMissingColumns(node: Any) -> None:
    """Also for a table of an older version, or one whose column the user has deleted."""
    table = node.GetTable()
    for name in COLUMNS:
        if table.GetColumnByName(name) is not None:
            continue
        column = vtk.vtkDoubleArray() if name in _NUMBERS else vtk.vtkStringArray()
        column.SetName(name)
        column.SetNumberOfValues(table.GetNumberOfRows())
        if name in _NUMBERS:
            column.Fill(0.0)
        table.AddColumn(column)


def addResult(scene: Any, row: Mapping[str, Any]) -> int:
    """Append a row (keys of COLUMNS; missing ones stay empty); returns its index.

    attributes may be a dict and is kept as readable text, see `attributesText`. Raises KeyError for
    an unknown column.
    """
    unknown = set(row) - set(COLUMNS)
    if unknown:
        raise KeyError(f"no such column: {', '.join(sorted(unknown))}")
    node = resultsTable(scene)
    table = node.GetTable()
    index = table.InsertNextBlankRow()
    for name in COLUMNS:
        _setValue(table, index, name, row.get(name))
    node.Modified()
    return index


def updateResult(scene: Any, volume: str, segmentId: str, changes: Mapping[str, Any]) -> bool:
    """Change columns of the newest row about a segment; False when there is none (the user may have
    deleted it, or the table). Raises KeyError for an unknown column."""
    node = resultsTable(scene, create=False)
    table = node.GetTable() if node is not None else None
    for index in reversed(range(table.GetNumberOfRows() if table is not None else 0)):
        names = [table.GetColumnByName(name).GetValue(index) for name in ("volume", "segment_id")]
        if names != [_cell(volume), _cell(segmentId)]:
            continue
        for name, value in changes.items():
            if name not in COLUMNS:
                raise KeyError(f"no such column: {name}")
            _setValue(table, index, name, value)
        node.Modified()
        return True
    return False


def _setValue(table: Any, index: int, name: str, value: Any) -> None:
    column = table.GetColumnByName(name)
    if not column.IsA("vtkStringArray"):
        # As many digits as the file keeps, so that a table reads the same before and after saving.
        column.SetValue(index, 0.0 if value is None else round(float(value), 3))
        return
    if isinstance(value, Mapping):
        value = attributesText(value)
    column.SetValue(index, "" if value is None else _cell(str(value)))


def _cell(text: str) -> str:
    return " ".join(text.replace('"', "'").split())


def attributesText(attributes: Mapping[str, Any]) -> str:
    """{"area_mm2": 80.04, "zone": "left"} -> "area_mm2=80.0; zone=left", sorted by name."""
    parts = []
    for name in sorted(attributes):
        value = attributes[name]
        parts.append(f"{name}={value:.1f}" if isinstance(value, float) else f"{name}={value}")
    return "; ".join(parts)


def results(scene: Any) -> list[dict[str, Any]]:
    """All rows as dicts; [] when the scene has no table."""
    node = resultsTable(scene, create=False)
    if node is None:
        return []
    table = node.GetTable()
    return [
        {name: table.GetColumnByName(name).GetValue(index) for name in COLUMNS}
        for index in range(table.GetNumberOfRows())
    ]
