"""An image volume as the engine sees it: voxels, where they lie, and how they are shown.

The window and the foreground follow `request.py`, so that a slice cut here and the same slice cut
inside 3D Slicer ask the same question.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import GeometryError, InputError
from ..messages.request import (
    MODALITIES,
    Foreground,
    IntensityWindow,
    foreground,
    intensity_window,
    strided_sample,
)

# ITK's patient coordinates run to left, posterior, superior; the engine speaks RAS.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Volume:
    """Voxels and their position.

    array: K x J x I, any real dtype, finite. A two-dimensional picture has K = 1.
    ijk_to_ras: 4 x 4, index (i, j, k) of a voxel's centre -> RAS in mm.
    modality: one of `request.MODALITIES`, or None when nothing tells.
    window: how the values become grey levels. foreground: where the body lies, None if unknown.
    has_position: False for pictures and files whose position in the patient is unknown; then no
        side may be told from it, although `ijk_to_ras` still maps voxels to a plane.
    is_picture: True for a two-dimensional image, which is its own and only slice.
    name: of the file, for reports.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    modality: str | None
    window: IntensityWindow
    foreground: Foreground | None
    has_position: bool = True
    is_picture: bool = False
    name: str = ""

    @property
    def ras_to_ijk(self) -> np.ndarray:
        """4 x 4, RAS in mm -> continuous voxel index (i, j, k)."""
        return np.linalg.inv(self.ijk_to_ras)

    @property
    def shape_ijk(self) -> np.ndarray:
        """Number of voxels along I, J, K."""
        return np.array(self.array.shape[::-1])

    @property
    def spacing(self) -> np.ndarray:
        """Distance in mm between neighbouring voxels along I, J, K."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def centre_ras(self) -> np.ndarray:
        """RAS in mm of the middle of the volume."""
        return self.ijk_to_ras[:3, :3] @ ((self.shape_ijk - 1) / 2) + self.ijk_to_ras[:3, 3]


def make_volume(
    array: np.ndarray,
    ijk_to_ras: np.ndarray,
    modality: str | None = None,
    has_position: bool = True,
    is_picture: bool = False,
    name: str = "",
) -> Volume:
    """Volume of a K x J x I array and its 4 x 4 IJK-to-RAS matrix (any handedness, any shear).

    NaN and infinities are replaced by the ends of the window, after the window and the foreground
    were read from the finite values. A volume whose values can only be Hounsfield units becomes CT.
    Raises GeometryError for a matrix that is not finite or singular, InputError for other faults.
    """
    array = np.asarray(array)
    if array.ndim != 3 or min(array.shape) < 1:
        raise InputError("The image is empty; use one with at least one voxel in each direction.")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "uif":
        raise InputError("The image holds no grey values; use an image of real numbers.")
    if array.dtype.itemsize > 4 and array.dtype.kind == "f" and _exceeds_float32(array):
        raise InputError(
            "The image holds numbers beyond 3e38; scale its values and export it anew."
        )
    matrix = np.array(ijk_to_ras, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise GeometryError("The image's position is not a finite 4 x 4 matrix; export it anew.")
    if min(np.linalg.norm(matrix[:3, :3], axis=0)) < 1e-9 or np.linalg.matrix_rank(matrix) < 4:
        raise GeometryError("The image's position matrix is singular; export the image anew.")
    if modality is not None and modality not in MODALITIES:
        raise InputError(f"Unknown modality '{modality}'; use one of {', '.join(MODALITIES)}.")
    sample, strides = strided_sample(array)
    window = intensity_window(sample, modality)
    if modality is None and window.kind == "ct":
        modality = "CT"
    where = foreground(sample, strides, matrix, window) if has_position else None
    array = _finite(array, window)
    return Volume(array, matrix, modality, window, where, has_position, is_picture, name)


def _exceeds_float32(array: np.ndarray) -> bool:
    """Whether a finite value would become infinite where slices are cut (float32)."""
    limit = np.finfo(np.float32).max
    return bool((np.isfinite(array) & (np.abs(array) > limit)).any())


def _finite(array: np.ndarray, window: IntensityWindow) -> np.ndarray:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    return np.nan_to_num(array, nan=window.low, posinf=window.high, neginf=window.low)


def luminance(array: np.ndarray) -> np.ndarray:
    """Colour array (..., 3 or 4 with alpha) -> float32 brightness by ITU-R BT.601 (...)."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.asarray(array[..., :3], dtype=np.float32) @ weights
