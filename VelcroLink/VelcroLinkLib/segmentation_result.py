"""LinkResult -> segments: one segmentation node for each volume, preview and accepted segments."""

from __future__ import annotations

from typing import Any

from velcro_engine.request import SliceRequest
from velcro_engine.result import LinkResult

PREVIEW_SEGMENT_ID = "VelcroLinkPreview"


def segmentationForVolume(volumeNode: Any, create: bool = True) -> Any | None:
    """The segmentation node VelcroLink keeps for this volume (found by reference, made on demand)."""
    raise NotImplementedError


def showPreview(volumeNode: Any, request: SliceRequest, result: LinkResult) -> str:
    """Write the mask into the preview segment (replaced, not added to) and show it with outline
    and fill. Returns the segment id. Other segments are not touched."""
    raise NotImplementedError


def clearPreview(volumeNode: Any) -> None:
    """Remove the preview segment, if there is one."""
    raise NotImplementedError


def acceptPreview(
    volumeNode: Any,
    entry: dict[str, Any],
    side: str | None,
    request: SliceRequest,
    result: LinkResult,
) -> str:
    """Turn the mask into a named segment with terminology, colour and status, in the volume's
    study, as one undo step. entry: the whole KB entry (answer of the worker to "entry").
    Returns the new segment's id."""
    raise NotImplementedError
