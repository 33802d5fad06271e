"""The table node in the scene that lists what was linked (VelcroLink results)."""

from __future__ import annotations

from typing import Any

COLUMNS = (
    "segment", "entry_id", "name", "side", "confidence", "plane", "centre_r", "centre_a",
    "centre_s", "attributes", "status",
)  # fmt: skip


def resultsTable(create: bool = True) -> Any | None:
    """The scene's results table node (vtkMRMLTableNode), made on demand."""
    raise NotImplementedError


def addResult(row: dict[str, Any]) -> int:
    """Append a row (keys of COLUMNS; missing ones stay empty); returns its index."""
    raise NotImplementedError
