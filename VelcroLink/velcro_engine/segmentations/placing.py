"""A segmentation brought onto the voxels of its image, when it has others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..imaging.volume import LPS_TO_RAS, Volume
from .stored import Segmentation, StoredSegmentation, counted

SAME_MM = 0.01  # corners of two grids closer than this are one place


def place_on_volume(stored: StoredSegmentation, volume: Volume) -> Segmentation:
    """Bring the layers onto the image's voxels, by nearest neighbour where the grids differ.

    Nothing is dropped: a segment that ends up without voxels stays in the list, and a notice says
    why. Raises InputError without segments, GeometryError when the two do not overlap.
    """
    if not stored.segments:
        raise InputError(f"'{stored.name}' holds no segment; choose another segmentation.")
    shape = stored.layers[0].shape
    mm3 = abs(float(np.linalg.det(stored.ijk_to_ras[:3, :3])))
    segments = counted(stored.segments, stored.layers, mm3)
    notices = list(stored.notices)
    if same_grid(shape, stored.ijk_to_ras, volume):
        return Segmentation(segments, stored.layers, stored.name, tuple(notices))
    if volume.is_picture or not volume.has_position:
        raise GeometryError(
            f"'{stored.name}' is not of the image's size {_size(volume.array.shape)}, and the image "
            "has no position to bring them together; segment the image itself."
        )
    layers = tuple(_resampled(layer, stored.ijk_to_ras, volume) for layer in stored.layers)
    now = counted(segments, layers, abs(float(np.linalg.det(volume.ijk_to_ras[:3, :3]))))
    if any(s.voxels for s in segments) and not any(s.voxels for s in now):
        raise GeometryError(
            f"'{stored.name}' and the image '{volume.name}' do not overlap; "
            "choose the image that was segmented."
        )
    notices.append(
        f"The segmentation's grid ({_size(shape)}) differs from the image's "
        f"({_size(volume.array.shape)}); it was resampled by nearest neighbour. "
        "Volumes in ml are of its own grid."
    )
    for before, after in zip(segments, now, strict=True):
        if before.voxels and after.volume_ml < 0.5 * before.volume_ml:
            left = "nothing" if not after.voxels else f"{after.volume_ml:.2f} ml"
            notices.append(
                f"'{before.name}': {left} of {before.volume_ml:.2f} ml lies within the image."
            )
    return Segmentation(segments, layers, stored.name, tuple(notices))


def same_grid(shape: Sequence[int], ijk_to_ras: np.ndarray, volume: Volume) -> bool:
    """Whether a K x J x I grid has the image's voxels: all corners at the same place."""
    if tuple(shape) != volume.array.shape:
        return False
    ends = np.array(shape[::-1]) - 1
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    corners[:, :3] *= ends
    apart = corners @ (ijk_to_ras - volume.ijk_to_ras).T
    return bool(np.abs(apart[:, :3]).max() < SAME_MM) or volume.is_picture


def image_of(array: np.ndarray, ijk_to_ras: np.ndarray) -> sitk.Image:
    """SimpleITK image of a K x J x I array (copied) at its place.

    Raises GeometryError for axes that are not perpendicular, which ITK cannot hold.
    """
    image = sitk.GetImageFromArray(array)
    matrix = LPS_TO_RAS @ ijk_to_ras
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    try:
        image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    except RuntimeError as error:
        raise GeometryError(
            "The volume's axes are not perpendicular; resample it to a regular grid.", str(error)
        ) from error
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def _resampled(layer: np.ndarray, ijk_to_ras: np.ndarray, volume: Volume) -> np.ndarray:
    grid = image_of(np.zeros(volume.array.shape, dtype=np.uint8), volume.ijk_to_ras)
    labels = image_of(layer, ijk_to_ras)
    moved = sitk.Resample(labels, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return sitk.GetArrayFromImage(moved)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape[::-1])
