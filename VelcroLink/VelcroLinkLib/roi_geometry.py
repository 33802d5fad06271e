"""The region of interest as Slicer draws it: markups ROI nodes and slice views in RAS (mm)."""

from __future__ import annotations

from typing import Any

import numpy as np


def alignRoiWithSlice(roiNode: Any, sliceNode: Any) -> None:
    """Give a *new* ROI the rotation of the slice view, before its first point is placed.

    Slicer aligns a new ROI with RAS, so that it looks tilted on an oblique slice; placing keeps
    the rotation set here. A linear parent transform of the ROI is taken into account.
    """
    raise NotImplementedError


def clampRoiDepth(roiNode: Any, sliceNode: Any, minimumDepthMm: float) -> bool:
    """Make the ROI at least `minimumDepthMm` thick along the slice normal; True if it was thinner."""
    raise NotImplementedError


def roiCornersRas(roiNode: Any) -> np.ndarray:
    """8 x 3 corners in world RAS (mm), linear and non-linear parent transforms honoured.

    Raises GeometryError for a ROI that is not placed yet, has zero size or is not finite.
    """
    raise NotImplementedError


def roiBoxOnPlane(roiNode: Any, pixelToRas: np.ndarray, slabMm: float) -> tuple[float, ...]:
    """XYXY box (pixel edges) of the ROI's cut with a plane given by its 4 x 4 pixel-to-RAS matrix.

    slabMm: a ROI that only touches the slab of this thickness around the plane still counts.
    Raises GeometryError when the ROI does not reach the plane or is thinner than a pixel.
    """
    raise NotImplementedError


def pointOnPlane(ras: Any, pixelToRas: np.ndarray) -> tuple[float, float]:
    """(x, y) pixel of a world RAS point projected onto the plane. Raises GeometryError if not
    finite."""
    raise NotImplementedError
