"""A segmentation on the grid of its image: what is reviewed, however it was stored.

`read_segmentation` takes a `.seg.nrrd` of 3D Slicer, a label map with a table of names, or a DICOM
SEG object; `place_on_volume` brings the labels onto the image's voxels when they have others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..imaging.volume import LPS_TO_RAS, Volume
from ..knowledge_base.entry import Code

SAME_MM = 0.01  # corners of two grids closer than this are one place


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


def read_segmentation(
    path: str | os.PathLike[str], volume: Volume, labels: str | os.PathLike[str] | None = None
) -> Segmentation:
    """Segmentation of a file or of a folder with one DICOM SEG, on the grid of `volume`.

    labels: table of names of a label map (.ctbl, .txt or labels.json); otherwise one beside the
    file is used. Raises InputError for a file that cannot be used or holds no segment, and
    GeometryError when segmentation and image have no voxel in common.
    """
    return place_on_volume(read_stored(Path(path), labels), volume)


def read_stored(path: Path, labels: str | os.PathLike[str] | None = None) -> StoredSegmentation:
    """The segmentation as it is stored. Raises InputError."""
    if not path.exists():
        raise InputError(f"'{path}' does not exist; check the path.")
    if path.is_dir() or path.suffix.lower() == ".dcm" or _has_dicom_mark(path):
        from .dicom_seg import read_dicom_segmentation

        return read_dicom_segmentation(path)
    from .labelmaps import read_labelmap

    return read_labelmap(path, None if labels is None else Path(labels))


def _has_dicom_mark(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        raise InputError(
            f"'{path}' may not be read; check its permissions.", repr(error)
        ) from error


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
