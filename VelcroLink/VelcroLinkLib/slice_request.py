"""Slice view + volume + ROI (or point) -> SliceRequest, by the rules of the engine's slices.py."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from velcro_engine.errors import GeometryError
from velcro_engine.request import MODALITIES, SliceRequest

from .roi_geometry import matrixFromVtk, pointOnPlane, roiBoxOnPlane
from .slice_grid import SliceGrid, gridForView
from .slice_pixels import sliceValues
from .volume_geometry import (
    VolumeGeometry,
    VolumeStatistics,
    volumeFingerprint,
    volumeGeometry,
    volumeModality,
    volumeStatistics,
)

STATISTICS_KEPT = 8
SLICES_KEPT = 6  # three views, and the slice before each


@dataclass(frozen=True, eq=False)
class PlacedRequest:
    """A request together with what is needed to bring its answer home. Equal only to itself.

    grid: where the pixels lie (the request itself knows no position for a picture).
    volumeId: MRML id of the volume node; fingerprint: of the volume when it was cut.
    """

    request: SliceRequest
    grid: SliceGrid
    volumeId: str
    fingerprint: str


class SliceRequestBuilder:
    """Builds requests on the main thread (MRML is read here and nowhere else).

    Holds a small cache: window and foreground of a volume by its fingerprint, and the last slices,
    so that dragging a ROI on one slice costs no second look at the voxels.
    """

    def __init__(self) -> None:
        self._statistics: OrderedDict[tuple, VolumeStatistics] = OrderedDict()
        self._slices: OrderedDict[tuple, PlacedRequest] = OrderedDict()

    def fromRoi(
        self,
        sliceNode: Any,
        volumeNode: Any,
        roiNode: Any,
        modality: str | None = None,
        topK: int = 10,
    ) -> PlacedRequest:
        """Request for the ROI on the plane of the slice view. Raises GeometryError / InputError
        with one line for the user (no volume, empty volume, ROI outside, zero size, ...)."""
        placed = self._slice(sliceNode, volumeNode, modality, topK)
        box = roiBoxOnPlane(roiNode, placed.grid.pixelToRas, placed.grid.thickness)
        return _withPrompt(placed, box=box)

    def fromPoint(
        self,
        sliceNode: Any,
        volumeNode: Any,
        ras: Any,
        modality: str | None = None,
        topK: int = 10,
    ) -> PlacedRequest:
        """Request for one click at a world RAS position on the plane of the slice view.

        Raises GeometryError / InputError like `fromRoi`."""
        placed = self._slice(sliceNode, volumeNode, modality, topK)
        x, y = pointOnPlane(ras, placed.grid.pixelToRas)
        return _withPrompt(placed, points=((x, y, 1),))

    def fromSlice(
        self, sliceNode: Any, volumeNode: Any, modality: str | None = None
    ) -> PlacedRequest:
        """Request about the whole plane of the slice view (its prompt is a mere placeholder).

        Raises GeometryError / InputError like `fromRoi`."""
        return self._slice(sliceNode, volumeNode, modality, 10)

    def forget(self) -> None:
        """Drop the cache (scene closed)."""
        self._statistics.clear()
        self._slices.clear()

    def _slice(
        self, sliceNode: Any, volumeNode: Any, modality: str | None, topK: int
    ) -> PlacedRequest:
        """The slice of the view with a placeholder prompt, from the cache when nothing changed."""
        geometry = volumeGeometry(volumeNode)
        if sliceNode is None:
            raise GeometryError("No slice view is shown; choose a layout with slice views.")
        modality = modality or volumeModality(volumeNode)
        modality = modality if modality in MODALITIES else None
        fingerprint = volumeFingerprint(volumeNode)
        sliceToRas = matrixFromVtk(sliceNode.GetSliceToRAS())
        isPicture = _isPicture(geometry, modality)
        grid = gridForView(geometry, sliceToRas, isPicture)
        key = (fingerprint, modality, topK, grid.pixelToRas.tobytes(), grid.height, grid.width)
        if key in self._slices:
            self._slices.move_to_end(key)
            return self._slices[key]
        statistics = self._volumeStatistics(volumeNode, geometry, modality, fingerprint)
        pixels = statistics.window.apply(sliceValues(volumeNode, geometry, grid, statistics.window))
        request = SliceRequest(
            pixels=pixels,
            pixel_to_ras=None if isPicture else grid.pixelToRas,
            foreground=None if isPicture else statistics.foreground,
            points=((0.0, 0.0, 1),),
            plane=grid.plane,
            modality=statistics.modality,
            top_k=topK,
        )
        placed = PlacedRequest(request, grid, volumeNode.GetID() or "", fingerprint)
        _remember(self._slices, key, placed, SLICES_KEPT)
        return placed

    def _volumeStatistics(
        self, volumeNode: Any, geometry: VolumeGeometry, modality: str | None, fingerprint: str
    ) -> VolumeStatistics:
        key = (fingerprint, modality)
        if key not in self._statistics:
            statistics = volumeStatistics(volumeNode, geometry, modality)
            _remember(self._statistics, key, statistics, STATISTICS_KEPT)
        return self._statistics[key]


def _isPicture(geometry: VolumeGeometry, modality: str | None) -> bool:
    """True for a two-dimensional image that has no place in the patient.

    Slicer gives every image a position. A single layer is a picture when it is a projection or an
    ultrasound frame, or when it lies at the very origin, where Slicer puts what has no position.
    """
    if geometry.shapeIjk[2] != 1:
        return False
    return modality in ("XR", "US") or not geometry.ijkToLocal[:3, 3].any()


def _withPrompt(placed: PlacedRequest, **prompt: Any) -> PlacedRequest:
    request = placed.request.with_prompt(**prompt)
    return PlacedRequest(request, placed.grid, placed.volumeId, placed.fingerprint)


def _remember(cache: OrderedDict, key: Any, value: Any, kept: int) -> None:
    cache[key] = value
    while len(cache) > kept:
        cache.popitem(last=False)


def gridCorners(grid: SliceGrid) -> np.ndarray:
    """4 x 3 world RAS corners of the pixels' outer edges, for showing where the slice lies."""
    x, y = grid.width - 0.5, grid.height - 0.5
    corners = np.array([[-0.5, -0.5, 0], [x, -0.5, 0], [x, y, 0], [-0.5, y, 0]])
    return corners @ grid.pixelToRas[:3, :3].T + grid.pixelToRas[:3, 3]
