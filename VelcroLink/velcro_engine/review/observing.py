"""From a segment's voxels and its image to what `anatomy.py` compares."""

from __future__ import annotations

import numpy as np

from ..imaging.volume import Volume
from ..segmentations.shapes import Shape
from .anatomy import Observation


def observe(shape: Shape, volume: Volume, keys: tuple[str, ...]) -> Observation | None:
    """The observation of a measured shape; None for an empty one or an image without position."""
    if not shape.voxels or shape.centre is None or not volume.has_position or volume.is_picture:
        return None
    values = volume.array[shape.box][shape.mask]
    values = values[:: max(1, len(values) // 20000)]
    mm3 = shape.voxels * abs(float(np.linalg.det(volume.ijk_to_ras[:3, :3])))
    return Observation(
        keys,
        shape.centre,
        shape.positions(volume.ijk_to_ras),
        mm3,
        float(volume.window.apply(values).mean()),
    )
