"""Slice view + volume + ROI (or point) -> SliceRequest, by the rules of the engine's slices.py."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from velcro_engine.errors import GeometryError, VelcroError
from velcro_engine.messages.request import MODALITIES, SliceRequest

from .roi_geometry import matrixFromVtk, pointOnPlane, roiBoxOnPlane
from .slice_grid import SliceGrid, gridForView, gridThrough
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

    def __init__(self, heads: Any = None) -> None:
        """heads: the `HeadFrames` that know how the heads of volumes lie, None when nobody does."""
        self._heads = heads
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

    def lookForHead(self, volumeNode: Any, modality: str | None = None) -> None:
        """Let the engine find out how the head of this volume lies, unless that is known.

        Nothing happens for a picture, or a volume that cannot be read."""
        if self._heads is None or volumeNode is None:
            return
        try:
            geometry = volumeGeometry(volumeNode)
            known = self._statisticsOf(volumeNode, geometry, modality)
        except VelcroError:
            return
        if not _isPicture(geometry, known.modality):
            self._heads.look(volumeNode, known.foreground, known.modality, self._cutAt)

    def _cutAt(self, volumeNode: Any, plane: str, ras: tuple[float, float, float]) -> SliceRequest:
        """The layer of the volume through a point, not kept. Raises GeometryError."""
        geometry = volumeGeometry(volumeNode)
        known = self._statisticsOf(volumeNode, geometry, None)
        grid = gridThrough(geometry, plane, ras)
        return self._request(volumeNode, geometry, grid, known, False, 1)

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
        modality = _knownModality(volumeNode, modality)
        fingerprint = volumeFingerprint(volumeNode)
        sliceToRas = matrixFromVtk(sliceNode.GetSliceToRAS())
        isPicture = _isPicture(geometry, modality)
        grid = gridForView(geometry, sliceToRas, isPicture)
        head = None if self._heads is None else self._heads.of(fingerprint)
        place = (grid.pixelToRas.tobytes(), grid.height, grid.width)
        key = (fingerprint, modality, topK, head, *place)
        if key in self._slices:
            self._slices.move_to_end(key)
            return self._slices[key]
        known = self._statisticsOf(volumeNode, geometry, modality)
        if head is not None:
            known = replace(known, foreground=head)
        request = self._request(volumeNode, geometry, grid, known, isPicture, topK)
        placed = PlacedRequest(request, grid, volumeNode.GetID() or "", fingerprint)
        _remember(self._slices, key, placed, SLICES_KEPT)
        return placed

    @staticmethod
    def _request(
        volumeNode: Any,
        geometry: VolumeGeometry,
        grid: SliceGrid,
        known: VolumeStatistics,
        isPicture: bool,
        topK: int,
    ) -> SliceRequest:
        values = sliceValues(volumeNode, geometry, grid, known.window)
        return SliceRequest(
            pixels=known.window.apply(values),
            pixel_to_ras=None if isPicture else grid.pixelToRas,
            foreground=None if isPicture else known.foreground,
            points=((0.0, 0.0, 1),),
            plane=grid.plane,
            modality=known.modality,
            top_k=topK,
        )

    def _statisticsOf(
        self, volumeNode: Any, geometry: VolumeGeometry, modality: str | None
    ) -> VolumeStatistics:
        modality = _knownModality(volumeNode, modality)
        key = (volumeFingerprint(volumeNode), modality)
        if key not in self._statistics:
            statistics = volumeStatistics(volumeNode, geometry, modality)
            _remember(self._statistics, key, statistics, STATISTICS_KEPT)
        return self._statistics[key]


def _knownModality(volumeNode: Any, modality: str | None) -> str | None:
    modality = modality or volumeModality(volumeNode)
    return modality if modality in MODALITIES else None


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
