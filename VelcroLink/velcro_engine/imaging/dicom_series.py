"""A folder of DICOM files -> one volume; says which series there are when it holds several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..messages.request import MAXIMUM_VOXELS

GAP_TOLERANCE = 0.1  # of the slice distance; scanners write positions with rounding


@dataclass(frozen=True)
class DicomStack:
    """A series: its image, its DICOM modality such as "CT", and whether it has a patient position."""

    image: sitk.Image
    modality: str
    has_position: bool


def read_dicom_folder(folder: Path, series: str | None = None) -> DicomStack:
    """The one series in `folder`, or the one whose UID is `series`.

    Raises InputError when there is no series, more than one and none chosen, a slice is missing,
    the slices do not share one orientation, or a file is damaged.
    """
    chosen = _choose_series(folder, series)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), chosen)
    if not names:
        raise InputError(f"The DICOM series in '{folder}' has no images; choose another folder.")
    first = _header(Path(names[0]))
    modality, positioned = _tag(first, "0008|0060"), bool(_tag(first, "0020|0032"))
    if len(names) == 1:
        return DicomStack(_read_one(Path(names[0])), modality, positioned)
    _check_stack(folder, names, first)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    try:
        return DicomStack(reader.Execute(), modality, positioned)
    except (RuntimeError, MemoryError) as error:
        raise InputError(
            f"The DICOM series in '{folder}' is damaged or incomplete; export it again.", str(error)
        ) from error


def _choose_series(folder: Path, series: str | None) -> str:
    if not any(entry.is_file() for entry in folder.iterdir()):
        raise InputError(f"'{folder}' holds no files; choose a folder with a DICOM series.")
    found = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not found:
        raise InputError(f"'{folder}' holds no DICOM series; choose another folder or a file.")
    if series is not None:
        # GDCM appends geometry to the UID when one UID holds several stacks.
        matching = [uid for uid in found if uid == series or uid.startswith(series + ".")]
        if len(matching) != 1:
            raise InputError(f"'{folder}' holds no series {series}; it has {_list(folder, found)}.")
        return matching[0]
    if len(found) > 1:
        raise InputError(
            f"'{folder}' holds {len(found)} DICOM series; choose one with --series: "
            f"{_list(folder, found)}."
        )
    return found[0]


def _list(folder: Path, found: tuple[str, ...]) -> str:
    parts = []
    for uid in found:
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
        what = _tag(_header(Path(names[0])), "0008|103e") if names else ""
        parts.append(f"{uid} ({what or 'no description'}, {len(names)} files)")
    return "; ".join(parts)


def _header(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(
            f"'{path}' is damaged or cut short; export or copy it again.", str(error)
        ) from error
    return reader


def _tag(reader: sitk.ImageFileReader, key: str) -> str:
    return str(reader.GetMetaData(key)).strip() if reader.HasMetaDataKey(key) else ""


def _read_one(path: Path) -> sitk.Image:
    reader = _header(path)
    if int(np.prod(reader.GetSize(), dtype=object)) > MAXIMUM_VOXELS:
        raise InputError(f"'{path}' announces too many voxels; crop or resample it.")
    try:
        return reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise InputError(
            f"'{path}' is damaged or cut short; export or copy it again.", str(error)
        ) from error


def _check_stack(folder: Path, names: tuple[str, ...], first: sitk.ImageFileReader) -> None:
    """ITK stacks whatever it is given; missing or tilted slices would move every voxel."""
    columns, rows = first.GetSize()[:2]
    if columns * rows * len(names) > MAXIMUM_VOXELS:
        raise InputError(f"The DICOM series in '{folder}' is too large; crop or resample it.")
    positions = []
    for name in names:
        reader = _header(Path(name))
        if tuple(reader.GetSize()[:2]) != (columns, rows):
            raise InputError(f"'{name}' has another size than the rest of its series; remove it.")
        positions.append([float(v) for v in reader.GetOrigin()[:3]])
    steps = np.diff(np.array(positions), axis=0)
    distances = np.linalg.norm(steps, axis=1)
    usual = float(np.median(distances))
    if usual <= 0 or distances.min() <= usual * GAP_TOLERANCE:
        raise InputError(
            f"The DICOM series in '{folder}' has several images at one place (a time series?); "
            "export one volume of it."
        )
    worst = int(np.argmax(np.abs(distances - usual)))
    if abs(distances[worst] - usual) > GAP_TOLERANCE * usual:
        raise InputError(
            f"The DICOM series in '{folder}' misses a slice: {distances[worst]:.2f} mm instead of "
            f"{usual:.2f} mm after '{Path(names[worst]).name}'; export it again."
        )
    normal = np.array(first.GetDirection()).reshape(3, 3)[:, 2]
    along = steps @ normal
    if np.abs(along).min() < 0.999 * distances.min():
        raise InputError(
            f"The DICOM series in '{folder}' was taken with a tilted gantry; load it in 3D Slicer, "
            "harden its acquisition transform and export it."
        )
