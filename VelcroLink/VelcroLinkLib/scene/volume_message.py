"""The voxels of an image as the worker's messages carry them: the header's "volume", then bytes in C
order, little endian (`velcro_engine/worker/volume_message.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from velcro_engine.errors import GeometryError
from velcro_engine.messages.protocol import VOLUME_DTYPES

from .segmentation_voxels import slabs
from .volume_geometry import (
    greyValues,
    shownComponent,
    volumeArray,
    volumeFingerprint,
    volumeGeometry,
    volumeModality,
)


def volumeFields(volumeNode: Any) -> dict[str, Any]:
    """The header's "volume". Raises InputError or GeometryError for an image that cannot be used."""
    geometry = volumeGeometry(volumeNode)
    if not geometry.isLinear:
        raise GeometryError("The volume is under a bent transform; harden it first.")
    array = volumeArray(volumeNode)
    dtype = "float32" if shownComponent(volumeNode) is None else array.dtype.name
    return {
        "id": volumeFingerprint(volumeNode),
        "name": volumeNode.GetName() or "",
        "shape": list(array.shape[:3]),
        "dtype": dtype if dtype in VOLUME_DTYPES else "float64",
        "ijk_to_ras": geometry.ijkToWorld.tolist(),
        "modality": volumeModality(volumeNode),
    }


def voxelBytes(fields: dict[str, Any]) -> int:
    """Size of what `fields` describe."""
    return int(np.prod(fields["shape"])) * np.dtype(fields["dtype"]).itemsize


def copyVoxels(volumeNode: Any, fields: dict[str, Any], target: np.ndarray) -> Iterator[None]:
    """Copy the image's grey values into `target` (bytes), one step at a time."""
    array, component = volumeArray(volumeNode), shownComponent(volumeNode)
    out = target.view(fields["dtype"]).reshape(fields["shape"])
    for slab in slabs(array.shape[:3]):
        out[slab] = greyValues(array[slab], component)
        yield
