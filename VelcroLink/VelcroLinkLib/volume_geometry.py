"""What the module needs to know of a volume node: where its voxels lie, what they hold, whether it
has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from velcro_engine.request import Foreground, IntensityWindow


def volumeFingerprint(volumeNode: Any) -> str:
    """Cheap identity of a volume's voxels and place: node id, MTime of the image data, IJK-to-RAS
    matrix, MTime of the parent transforms. Changes when any of them changes; "" for None."""
    raise NotImplementedError


def volumeModality(volumeNode: Any) -> str | None:
    """ "CT", "MR", "XR", "US" as far as Slicer knows it from DICOM or from the voxel units, else None."""
    raise NotImplementedError


@dataclass(frozen=True)
class VolumeStatistics:
    """Window and foreground of a volume; read once for each fingerprint."""

    window: IntensityWindow
    foreground: Foreground | None
