"""A brain that may be shown: the MNI152 T1 template that nilearn ships inside its wheel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import slicer

FILE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def template_path() -> Path | None:
    spec = find_spec("nilearn")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / FILE
    return path if path.is_file() else None


def load_brain() -> Any:
    """Volume node "MNI152", 1 mm voxels; None when nilearn is not installed."""
    path = template_path()
    if path is None:
        return None
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0])
    matrix = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, :3] = lps_to_ras @ directions
    matrix[:3, 3] = lps_to_ras @ np.array(image.GetOrigin())
    node = slicer.util.addVolumeFromArray(sitk.GetArrayFromImage(image), matrix, "MNI152")
    node.CreateDefaultDisplayNodes()
    voxels = slicer.util.arrayFromVolume(node)
    low, high = np.percentile(voxels[voxels > 0], [2, 99.9])
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(low, 1.1 * high)
    return node
