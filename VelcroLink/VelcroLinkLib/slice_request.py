"""Slice view + volume + ROI (or point) -> SliceRequest, by the rules of the engine's slices.py."""

from __future__ import annotations

from typing import Any

from velcro_engine.request import SliceRequest


class SliceRequestBuilder:
    """Builds requests on the main thread (MRML is read here and nowhere else).

    Holds a small cache: window and foreground of a volume by its fingerprint, and the last slice,
    so that dragging a ROI on one slice costs no second look at the voxels.
    """

    def fromRoi(
        self,
        sliceNode: Any,
        volumeNode: Any,
        roiNode: Any,
        modality: str | None = None,
        topK: int = 10,
    ) -> SliceRequest:
        """Request for the ROI on the plane of the slice view. Raises GeometryError / InputError
        with one line for the user (no volume, empty volume, ROI outside, zero size, ...)."""
        raise NotImplementedError

    def fromPoint(
        self,
        sliceNode: Any,
        volumeNode: Any,
        ras: Any,
        modality: str | None = None,
        topK: int = 10,
    ) -> SliceRequest:
        """Request for one click at a world RAS position on the plane of the slice view."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop the cache (scene closed)."""
        raise NotImplementedError
