"""What the worker needs for a review: the voxels of an image and of its segmentation.

What the message holds: `velcro_engine/worker/review_handlers.py` and `volume_message.py`. Payload: the
image's voxels, then the label layers one after another, in C order, little endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from velcro_engine.errors import InputError
from velcro_engine.messages.protocol import MAXIMUM_PAYLOAD

from ..scene.segmentation_voxels import (
    SegmentationVoxels,
    readSegmentation,
    segmentationFingerprint,
    slabs,
)
from ..scene.volume_geometry import (
    volumeFingerprint,
)
from ..scene.volume_message import copyVoxels, volumeFields, voxelBytes


@dataclass(frozen=True)
class ReviewQuestion:
    """Fields and payload of the review message. notices: what had to be changed here."""

    fields: dict[str, Any]
    payload: memoryview
    notices: tuple[str, ...] = ()


def buildQuestion(volumeNode: Any, segmentationNode: Any) -> Iterator[ReviewQuestion | None]:
    """Yields None after every step of about 10 ms, and the question at the end.

    Raises InputError when the nodes cannot be used, are too large, or change meanwhile.
    """
    before = (volumeFingerprint(volumeNode), segmentationFingerprint(segmentationNode))

    def unchanged() -> None:
        if before != (volumeFingerprint(volumeNode), segmentationFingerprint(segmentationNode)):
            raise InputError("Image or segmentation changed meanwhile; press Review again.")

    volume = volumeFields(volumeNode)
    found = SegmentationVoxels()
    shape = tuple(reversed(volume["shape"]))
    for step in readSegmentation(segmentationNode, np.array(volume["ijk_to_ras"]), shape):
        yield None
        unchanged()
        found = step or found
    layers = found.layers
    size = voxelBytes(volume)
    total = size + sum(layer.nbytes for layer in layers)
    if total > MAXIMUM_PAYLOAD:
        raise InputError(
            f"Image and segmentation take {total / 2**30:.1f} GB together, 1 GB is the limit; "
            "crop the volume first (Crop Volume module)."
        )
    payload = np.empty(total, dtype=np.uint8)
    for _step in copyVoxels(volumeNode, volume, payload[:size]):
        yield None
        unchanged()
    for layer in layers:
        target = payload[size : size + layer.nbytes].view(layer.dtype).reshape(layer.shape)
        for slab in slabs(layer.shape):
            target[slab] = layer[slab]
            yield None
        size += layer.nbytes
    fields = {"volume": volume, "segmentation": _segmentationFields(segmentationNode, found)}
    yield ReviewQuestion(fields, memoryview(payload), tuple(found.notices))


def _segmentationFields(segmentationNode: Any, found: SegmentationVoxels) -> dict[str, Any]:
    return {
        "name": segmentationNode.GetName() or "",
        "ijk_to_ras": found.ijkToRas.tolist(),
        "layers": [
            {"shape": list(layer.shape), "dtype": layer.dtype.name} for layer in found.layers
        ],
        "segments": [
            {
                "id": one.identifier,
                "name": one.name,
                "terminology": one.terminology,
                "layer": one.layer,
                "value": one.value,
                "colour": list(one.colour),
            }
            for one in found.segments
        ],
    }
