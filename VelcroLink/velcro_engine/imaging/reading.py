"""Image files -> `Volume`, with SimpleITK. Everything a file can be wrong in is found here.

Formats: NIfTI, NRRD, MetaImage and whatever else SimpleITK reads, a folder with a DICOM series
(see `dicom_series.py`), and PNG, JPEG, TIFF or BMP as one slice without position.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..messages.request import MAXIMUM_VOXELS
from .volume import LPS_TO_RAS, Volume, luminance, make_volume

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SEGMENTATION_SUFFIXES = (".seg.nrrd", ".seg.nhdr")
MODALITY_TAG, POSITION_TAG = "0008|0060", "0020|0032"
DICOM_MODALITIES = {"CT": "CT", "MR": "MR", "US": "US", "CR": "XR", "DX": "XR", "DR": "XR"}


def read_volume(
    path: str | os.PathLike[str],
    frame: int | None = None,
    modality: str | None = None,
    series: str | None = None,
) -> Volume:
    """The volume in a file or in a folder with one DICOM series.

    frame: which image of a 4-D file, from 0; needed when it holds more than one.
    modality: "CT", "MR", "XR", "US" or "other" when the user knows; otherwise told from the file.
    series: UID of the DICOM series when the folder holds several.
    Raises InputError when the file cannot be read, is cut short, is too large or is no image.
    """
    # ITK writes warnings about foreign headers to stderr, where only our one line belongs.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    if not str(path).strip():
        raise InputError("The name of the image is empty; give a file or a DICOM folder.")
    path = Path(path)
    if not path.exists():
        raise InputError(f"'{path}' does not exist; check the path.")
    if path.is_dir():
        from .dicom_series import read_dicom_folder

        stack = read_dicom_folder(path, series)
        told = modality or DICOM_MODALITIES.get(stack.modality)
        return _to_volume(
            stack.image, path, frame, told, stack.has_position, not stack.has_position
        )
    if series is not None:
        raise InputError(f"'{path}' is one file; --series chooses among those of a DICOM folder.")
    _check_file(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_size(path, reader.GetSize(), reader.GetNumberOfComponents())
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise _reading_error(path, error) from error
    told = modality or _modality_of(reader)
    has_position = _has_position(path, reader, image)
    # pages of a TIFF and frames of a DICOM film or ultrasound clip are pictures, not a volume
    is_flat = path.name.lower().endswith(PICTURE_SUFFIXES) or (
        MODALITY_TAG in reader.GetMetaDataKeys() and not has_position
    )
    return _to_volume(image, path, frame, told, has_position, is_flat)


def _check_file(path: Path) -> None:
    if path.name.lower().endswith(SEGMENTATION_SUFFIXES):
        raise InputError(
            f"'{path}' is a segmentation, not an image; give the image it was made on."
        )
    if path.stat().st_size == 0:
        raise InputError(f"'{path}' is empty; export or copy it again.")
    if not os.access(path, os.R_OK):
        raise InputError(f"'{path}' may not be read; check its permissions.")
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            _check_nifti(path)
        elif name.endswith((".jpg", ".jpeg")):
            # libjpeg fills what is missing with grey and only warns.
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - 65536))
                if b"\xff\xd9" not in stream.read():
                    raise InputError(f"'{path}' is cut short; export or copy it again.")
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(
            f"'{path}' is damaged or cut short; export or copy it again.", repr(error)
        ) from error


def _check_nifti(path: Path) -> None:
    """ITK fills missing NIfTI voxels with zeros without a word, so the size is checked here."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else path.open("rb") as stream:
        head = stream.read(544)
    expected = _nifti_bytes(head)
    if expected is None:
        raise InputError(f"'{path}' is not a NIfTI image; export or copy it again.")
    if expected[0] > MAXIMUM_VOXELS:
        raise _too_large(path, expected[0])
    if not zipped:
        if path.stat().st_size < expected[1]:
            raise InputError(f"'{path}' is cut short; export or copy it again.")
        return
    with path.open("rb") as raw:
        raw.seek(-4, os.SEEK_END)
        (length,) = struct.unpack("<I", raw.read(4))
    if 0 <= length - expected[1] % 2**32 < 4096:  # gzip ends with its length; some files are padded
        return
    total = 0  # several gzip members, or cut short: only reading it through can tell
    with gzip.open(path, "rb") as stream:
        while part := stream.read(1 << 22):
            total += len(part)
    if total < expected[1]:
        raise InputError(f"'{path}' is cut short; export or copy it again.")


def _nifti_bytes(head: bytes) -> tuple[int, int] | None:
    """NIfTI-1 or -2 header -> (voxels, bytes of the uncompressed file), None if it is neither."""
    for order in "<>":
        if len(head) >= 348 and struct.unpack(order + "i", head[:4])[0] == 348:
            sizes = struct.unpack(order + "8h", head[40:56])
            (bits,) = struct.unpack(order + "h", head[72:74])
            offset = int(struct.unpack(order + "f", head[108:112])[0])
        elif len(head) >= 540 and struct.unpack(order + "i", head[:4])[0] == 540:
            sizes = struct.unpack(order + "8q", head[16:80])
            (bits,) = struct.unpack(order + "h", head[14:16])
            (offset,) = struct.unpack(order + "q", head[168:176])
        else:
            continue
        if not 1 <= sizes[0] <= 7 or min(sizes[1 : sizes[0] + 1]) < 1 or bits < 1:
            return None
        voxels = int(np.prod([int(n) for n in sizes[1 : sizes[0] + 1]], dtype=object))
        return voxels, offset + voxels * bits // 8
    return None


def _check_size(path: Path, size: tuple[int, ...], components: int) -> None:
    voxels = components
    for n in size:
        voxels *= int(n)
    if voxels < 1:
        raise InputError(f"'{path}' holds no voxels; export it again.")
    if voxels > MAXIMUM_VOXELS:
        raise _too_large(path, voxels)


def _too_large(path: Path, voxels: int) -> InputError:
    return InputError(
        f"'{path}' announces {voxels:,} voxels, more than {MAXIMUM_VOXELS:,}; crop or resample it."
    )


def _reading_error(path: Path, error: BaseException) -> InputError:
    text = str(error)
    if isinstance(error, MemoryError):
        message = f"'{path}' does not fit into memory; crop or resample it."
    elif "orthonormal" in text:
        message = f"'{path}' has axes that are not perpendicular; resample it to a regular grid."
    elif "Unable to determine ImageIO" in text:
        message = f"'{path}' is not an image that can be read; use NIfTI, NRRD, DICOM or PNG."
    else:
        message = f"'{path}' is damaged or cut short; export or copy it again."
    return InputError(message, text)


def _modality_of(reader: sitk.ImageFileReader) -> str | None:
    for key in (MODALITY_TAG, "Modality"):
        if reader.HasMetaDataKey(key):
            value = reader.GetMetaData(key).strip().upper().removeprefix("MET_MOD_")
            return DICOM_MODALITIES.get(value)
    return None


def _has_position(path: Path, reader: sitk.ImageFileReader, image: sitk.Image) -> bool:
    """Whether the file says where in the patient its voxels lie."""
    if image.GetDimension() < 3 or path.name.lower().endswith(PICTURE_SUFFIXES):
        return False
    keys = reader.GetMetaDataKeys()
    if path.name.lower().endswith((".nrrd", ".nhdr")):
        return "NRRD_space" in keys
    if "qform_code" in keys and "sform_code" in keys:
        return reader.GetMetaData("qform_code") != "0" or reader.GetMetaData("sform_code") != "0"
    if MODALITY_TAG in keys:  # a single DICOM file: projections carry no patient position
        return POSITION_TAG in keys
    return True


def _to_volume(
    image: sitk.Image,
    path: Path,
    frame: int | None,
    modality: str | None,
    has_position: bool,
    is_flat: bool,
) -> Volume:
    array = sitk.GetArrayFromImage(image)
    components = image.GetNumberOfComponentsPerPixel()
    dimension = image.GetDimension()
    if np.iscomplexobj(array):
        raise InputError(f"'{path}' holds complex numbers; export its magnitude instead.")
    if components in (3, 4) and array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        array = luminance(array)
    elif components > 1:  # NRRD keeps the images of a series as the components of each voxel
        array = np.moveaxis(array, -1, 0)
    spatial = 2 if is_flat else min(dimension, 3)
    frames = array.reshape((-1, *array.shape[array.ndim - spatial :]))
    array = frames[_chosen_frame(path, frame, len(frames))]
    matrix = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:spatial, :spatial]
    matrix[:spatial, :spatial] = direction * np.array(image.GetSpacing()[:spatial])
    matrix[:spatial, 3] = image.GetOrigin()[:spatial]
    is_picture = spatial == 2 or (not has_position and array.shape[0] == 1)
    array = array.reshape((-1, *array.shape[-2:]))
    return make_volume(
        array,
        LPS_TO_RAS @ matrix,
        modality,
        has_position=has_position and spatial == 3,
        is_picture=is_picture,
        name=path.name,
    )


def _chosen_frame(path: Path, frame: int | None, count: int) -> int:
    if frame is None and count == 1:
        return 0
    if frame is None:
        raise InputError(f"'{path}' holds {count} frames; choose one with --frame 0..{count - 1}.")
    if not 0 <= frame < count:
        raise InputError(f"'{path}' has frames 0..{count - 1}, not {frame}; choose one of them.")
    return frame
