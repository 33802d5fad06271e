"""Regions of interest as 3D Slicer's markups files (.mrk.json) and as numbers on the command line.

Everything comes out in RAS mm; Slicer writes LPS by default.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

MAXIMUM_BYTES = 10_000_000
_TO_RAS = {"LPS": np.array([-1.0, -1.0, 1.0]), "RAS": np.ones(3)}


@dataclass(frozen=True)
class Region:
    """A region of interest in RAS mm: the eight corners of a box (8 x 3), or points (N x 3)."""

    corners: np.ndarray | None = None
    points: np.ndarray | None = None

    @property
    def centre(self) -> np.ndarray:
        """Middle of the corners or points."""
        found = self.corners if self.corners is not None else self.points
        assert found is not None
        return found.mean(axis=0)


def box_between(first: np.ndarray, second: np.ndarray) -> Region:
    """Box aligned with R, A, S between two opposite corners (mm)."""
    return Region(corners=np.array(list(product(*zip(first, second, strict=True)))))


def read_region(path: str | os.PathLike[str]) -> Region:
    """The first ROI (or, without one, the points of the first fiducial list) of a markups file.

    A ROI is its center, size and orientation, so a rotated box keeps its eight corners. Raises
    InputError for a file that is no markups file, holds no region, or is not in mm.
    """
    path = Path(path)
    data = _read_json(path)
    markups = data.get("markups") if isinstance(data, dict) else None
    if not isinstance(markups, list) or not all(isinstance(m, dict) for m in markups):
        raise InputError(f"'{path}' is not a markups file of 3D Slicer; save the ROI as .mrk.json.")
    for kind, read in (("ROI", _read_box), ("Fiducial", _read_points)):
        for markup in markups:
            if markup.get("type") == kind:
                try:
                    return read(markup, _flip(markup, path))
                except (KeyError, TypeError, ValueError) as error:
                    raise InputError(
                        f"'{path}' holds a damaged {kind}; save it again.", repr(error)
                    ) from error
    raise InputError(f"'{path}' holds neither a ROI nor a point list; place one and save it.")


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise InputError(f"'{path}' is too large for a markups file.")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"'{path}' cannot be read as a markups file (.mrk.json); save the ROI again.",
            repr(error),
        ) from error


def _flip(markup: dict[str, Any], path: Path) -> np.ndarray:
    system = str(markup.get("coordinateSystem", "LPS"))
    if system not in _TO_RAS:
        raise InputError(f"'{path}' uses the unknown coordinate system '{system}'; use LPS or RAS.")
    units = markup.get("coordinateUnits", "mm")
    if units not in ("mm", "[mm]"):
        raise InputError(f"'{path}' is not in mm; save the ROI again from 3D Slicer.")
    return _TO_RAS[system]


def _read_box(markup: dict[str, Any], flip: np.ndarray) -> Region:
    centre = _numbers(markup["center"], 3)
    size = np.abs(_numbers(markup["size"], 3))
    axes = _numbers(markup.get("orientation", np.eye(3).ravel()), 9).reshape(3, 3)
    if abs(abs(np.linalg.det(axes)) - 1) > 0.05:
        raise ValueError("orientation is not a rotation")
    offsets = np.array(list(product((-0.5, 0.5), repeat=3))) * size
    return Region(corners=(offsets @ axes.T + centre) * flip)


def _read_points(markup: dict[str, Any], flip: np.ndarray) -> Region:
    points = [
        _numbers(point["position"], 3)
        for point in markup["controlPoints"]
        if point.get("positionStatus", "defined") == "defined"
    ]
    if not points:
        raise ValueError("no defined point")
    return Region(points=np.array(points) * flip)


def _numbers(values: Any, count: int) -> np.ndarray:
    found = np.array([float(v) for v in values])
    if found.shape != (count,) or not np.isfinite(found).all():
        raise ValueError(f"expected {count} finite numbers")
    return found
