"""A segmentation as dataclasses: its segments and their label layers, however it was stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..knowledge_base.entry import Code


@dataclass(frozen=True)
class NamedSegment:
    """One segment as its maker named it.

    identifier: stable within the file. codes: type of its terminology, as stored. side: "left",
    "right" or None, from the terminology's modifier. entry_id: knowledge-base id, when the table
    names one. layer, value: where its voxels are in `Segmentation.layers`. volume_ml, voxels: on the
    segmentation's own grid, before any resampling. colour: RGB 0..1.
    """

    identifier: str
    name: str
    layer: int
    value: int
    codes: tuple[Code, ...] = ()
    side: str | None = None
    entry_id: str | None = None
    colour: tuple[float, float, float] | None = None
    voxels: int = 0
    volume_ml: float = 0.0


@dataclass(frozen=True)
class StoredSegmentation:
    """As read: integer label layers (K x J x I) on a grid of their own, ijk_to_ras 4 x 4."""

    segments: tuple[NamedSegment, ...]
    layers: tuple[np.ndarray, ...]
    ijk_to_ras: np.ndarray
    name: str = ""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segmentation:
    """Segments and their label layers (K x J x I) on the grid of the image.

    notices: one line for everything that was changed or could not be understood.
    """

    segments: tuple[NamedSegment, ...]
    layers: tuple[np.ndarray, ...]
    name: str = ""
    notices: tuple[str, ...] = field(default=())


def counted(
    segments: Sequence[NamedSegment], layers: Sequence[np.ndarray], voxel_mm3: float
) -> tuple[NamedSegment, ...]:
    """The segments with `voxels` and `volume_ml` counted from their layers."""
    tables = []
    for layer in layers:
        values, counts = np.unique(layer, return_counts=True)
        tables.append(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return tuple(
        replace(
            segment,
            voxels=int(tables[segment.layer].get(segment.value, 0)),
            volume_ml=tables[segment.layer].get(segment.value, 0) * voxel_mm3 / 1000,
        )
        for segment in segments
    )
