"""DICOM Segmentation objects (PS3.3 A.51), read with pydicom, which 3D Slicer bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..imaging.volume import LPS_TO_RAS
from ..knowledge_base.entry import Code
from .labelmaps import side_of_code
from .stored import NamedSegment, StoredSegmentation

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
SAME_PLANE_MM = 0.01


def read_dicom_segmentation(path: Path) -> StoredSegmentation:
    """The SEG object of a file, or the only one of a folder. Binary, fractional (from half of the
    maximum on) and label-map segmentations; overlapping segments go to layers of their own.

    Raises InputError.
    """
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        raise InputError("DICOM SEG needs pydicom; install it with: pip install pydicom") from error
    chosen = _only_seg(path, pydicom) if path.is_dir() else path
    try:
        data = pydicom.dcmread(chosen)
        if data.get("SOPClassUID") not in SEG_CLASSES:
            raise InputError(f"'{chosen}' is not a DICOM SEG; export the segmentation as one.")
        frames = np.asarray(data.pixel_array)
        frames = frames[np.newaxis] if frames.ndim == 2 else frames
        return _stored(data, frames, chosen.name)
    except InputError:
        raise
    except (
        InvalidDicomError,
        AttributeError,
        KeyError,
        IndexError,
        ValueError,
        TypeError,
    ) as error:
        raise InputError(
            f"'{chosen}' is damaged or not a DICOM SEG; export it again.", repr(error)
        ) from error
    except (OSError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"'{chosen}' cannot be decoded; export it again, uncompressed.", repr(error)
        ) from error


def _only_seg(folder: Path, pydicom: Any) -> Path:
    found = []
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        try:
            head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
        if head.get("SOPClassUID") in SEG_CLASSES:
            found.append(path)
    if len(found) != 1:
        raise InputError(f"'{folder}' holds {len(found)} DICOM SEG files; name the one to review.")
    return found[0]


def _stored(data: Any, frames: np.ndarray, name: str) -> StoredSegmentation:
    shared = data.SharedFunctionalGroupsSequence[0]
    groups = data.PerFrameFunctionalGroupsSequence
    if len(groups) != len(frames):
        raise InputError(f"'{name}' announces {len(groups)} frames and holds {len(frames)}.")
    measures = _group(shared, groups[0], "PixelMeasuresSequence")
    orientation = np.array(
        _group(shared, groups[0], "PlaneOrientationSequence").ImageOrientationPatient, dtype=float
    )
    row_spacing, column_spacing = (float(v) for v in measures.PixelSpacing)
    x, y = orientation[:3], orientation[3:]
    normal = np.cross(x, y)
    corners = np.array(
        [_group(shared, g, "PlanePositionSequence").ImagePositionPatient for g in groups], float
    )
    depth = corners @ normal
    levels = [float(depth.min())]
    for value in np.sort(depth):
        if value - levels[-1] > SAME_PLANE_MM:
            levels.append(float(value))
    thickness = float(measures.get("SpacingBetweenSlices", measures.get("SliceThickness", 1.0)))
    step = min(np.diff(levels)) if len(levels) > 1 else thickness
    # frames without a voxel may have been left out, so neighbours can be several steps apart
    index = np.rint((depth - levels[0]) / step).astype(int)
    if np.abs(levels[0] + index * step - depth).max() > 0.1 * step:
        raise InputError(f"'{name}' has unevenly spaced planes; resample the segmentation.")
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = x * column_spacing, y * row_spacing, normal * step
    matrix[:3, 3] = corners[int(np.argmin(depth))]
    shape = (int(index.max()) + 1, *frames.shape[1:])
    if data.get("SegmentationType") == "LABELMAP":
        layer = np.zeros(shape, dtype=np.int32)
        layer[index] = frames
        layers, places = (
            [layer],
            {int(s.SegmentNumber): (0, int(s.SegmentNumber)) for s in data.SegmentSequence},
        )
    else:
        least = (
            0.5 * float(data.get("MaximumFractionalValue", 1)) if frames.max(initial=0) > 1 else 0.5
        )
        layers, places = _layers(data, groups, shared, frames >= least, index, shape)
    segments = [_segment(item, places[int(item.SegmentNumber)]) for item in data.SegmentSequence]
    return StoredSegmentation(tuple(segments), tuple(layers), LPS_TO_RAS @ matrix, name)


def _layers(data, groups, shared, frames, index, shape):
    numbers = np.array(
        [
            int(_group(shared, g, "SegmentIdentificationSequence").ReferencedSegmentNumber)
            for g in groups
        ]
    )
    layers: list[np.ndarray] = []
    places: dict[int, tuple[int, int]] = {}
    for item in data.SegmentSequence:
        number = int(item.SegmentNumber)
        own = np.flatnonzero(numbers == number)
        free = next(
            (n for n, layer in enumerate(layers) if not layer[index[own]][frames[own]].any()), None
        )
        if free is None:
            layers.append(np.zeros(shape, dtype=np.int32))
            free = len(layers) - 1
        for frame in own:
            layers[free][index[frame]][frames[frame]] = number
        places[number] = (free, number)
    return layers, places


def _group(shared: Any, frame: Any, name: str) -> Any:
    return (frame if name in frame else shared)[name][0]


def _segment(item: Any, place: tuple[int, int]) -> NamedSegment:
    codes, side = [], None
    sequences = [("SegmentedPropertyTypeCodeSequence", "SegmentedPropertyTypeModifierCodeSequence")]
    sequences.append(("AnatomicRegionSequence", "AnatomicRegionModifierSequence"))
    for kind, modifier in sequences:
        for code in item.get(kind, ()):
            codes.append(_code(code))
            for nested in code.get(modifier, ()):
                side = side or side_of_code(_code(nested))
        for nested in item.get(modifier, ()):
            side = side or side_of_code(_code(nested))
    number = int(item.SegmentNumber)
    return NamedSegment(
        f"segment_{number}",
        str(item.get("SegmentLabel", "")) or f"Segment {number}",
        place[0],
        place[1],
        tuple(code for code in codes if code.value not in ("85756007", "T-D0050")),
        side,
    )


def _code(item: Any) -> Code:
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    return Code(
        str(item.get("CodingSchemeDesignator", "")), str(value), str(item.get("CodeMeaning", ""))
    )
