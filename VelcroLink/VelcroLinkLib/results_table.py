"""The table node in the scene that lists what was linked (VelcroLink results).

Columns hold no time of day and no path: the same work gives the same table.
"""

from __future__ import annotations

import json
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


def resultsTable(scene: Any, create: bool = True) -> Any | None:
    """The scene's results table node (vtkMRMLTableNode), made on demand."""
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

    attributes may be a dict and is kept as JSON. Raises KeyError for an unknown column.
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


def _setValue(table: Any, index: int, name: str, value: Any) -> None:
    column = table.GetColumnByName(name)
    if column.IsA("vtkStringArray"):
        if isinstance(value, Mapping):
            value = json.dumps(value, sort_keys=True, default=str)
        column.SetValue(index, "" if value is None else str(value))
    else:
        column.SetValue(index, 0.0 if value is None else float(value))


def results(scene: Any) -> list[dict[str, Any]]:
    """All rows as dicts, attributes parsed; [] when the scene has no table."""
    node = resultsTable(scene, create=False)
    if node is None:
        return []
    table = node.GetTable()
    rows = []
    for index in range(table.GetNumberOfRows()):
        row = {name: table.GetColumnByName(name).GetValue(index) for name in COLUMNS}
        try:
            row["attributes"] = json.loads(row["attributes"] or "{}")
        except ValueError:
            row["attributes"] = {}  # edited by hand
        rows.append(row)
    return rows
