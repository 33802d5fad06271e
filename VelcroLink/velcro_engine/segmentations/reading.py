"""Segmentation files: a `.seg.nrrd` of 3D Slicer, a label map with a table of names, or a DICOM SEG.

`read_segmentation` also brings the labels onto the image's voxels.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError
from ..imaging.volume import Volume
from .placing import place_on_volume
from .stored import Segmentation, StoredSegmentation


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
