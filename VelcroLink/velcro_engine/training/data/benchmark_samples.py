"""The samples of the linking benchmark (shared/design/BENCHMARK.md): slices, labels, prompts."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...errors import InputError
from ...imaging.reading import read_volume
from ...imaging.slice_voxels import labels_to_slice
from ...imaging.slices import Slice, anatomical_slices
from ...imaging.volume import Volume
from .case_data import Label, image_files, label_files, read_labels
from .skull_volume import looks_stripped, with_skull

MINIMUM_MM2 = 30.0
MINIMUM_SHARE = 0.0005  # of a picture without spacing
PROMPTS = ("gold", "loose", "point")
STEP_MM = 4.0
SEED = 42


@dataclass(frozen=True)
class Sample:
    """One label on one slice. mask: bool H x W. boxes XYXY and point in slice pixels."""

    case: str
    channel: str
    plane: str | None
    position_mm: float
    label: Label
    value: int
    mask: np.ndarray
    gold: tuple[float, float, float, float]
    loose: tuple[float, float, float, float]
    point: tuple[float, float]
    is_picture: bool


def benchmark_table() -> dict:
    """Mapping of entities to headline concepts and groups (`benchmark.json`)."""
    text = resources.files(__package__).joinpath("benchmark.json").read_text(encoding="utf-8")
    return json.loads(text)


def case_slices(
    data: Path,
    key: str,
    step_mm: float = STEP_MM,
    skull: bool = False,
    prepared: Callable[[Volume], Volume] = lambda volume: volume,
) -> Iterator[tuple[str, Slice, list[Sample]]]:
    """(channel, slice, samples on it) of one case. `skull`: stripped brains are shown with an
    artificial skull, the same one in all their slices. prepared: what is done to a volume before it
    is cut. Raises InputError when files do not fit."""
    folder = data / key
    labels = read_labels(folder.parent)
    images, layers = image_files(folder), label_files(folder)
    if not images or not layers:
        raise InputError(f"{folder} holds no image or no labels.")
    label_arrays = [read_label_array(p) for p in layers]
    for path in images:
        volume = read_volume(path)
        channel = path.name.split(".")[0]
        if any(array.shape != volume.array.shape for array in label_arrays):
            raise InputError(f"The labels of {folder} differ from the image in size.")
        arrays = label_arrays
        if skull and looks_stripped(volume):
            volume, pad = with_skull(volume, zlib.crc32(f"{key}|skull|{SEED}".encode()))
            arrays = [np.pad(array, pad) for array in label_arrays]
        volume = prepared(volume)
        for plane, cut in anatomical_slices(volume, step_mm):
            samples = []
            for array in arrays:
                on_slice = labels_to_slice(array, cut, volume)
                samples += _samples(key, channel, plane, cut, on_slice, labels, volume.is_picture)
            if samples:
                yield channel, cut, samples


def read_label_array(path: Path) -> np.ndarray:
    """Label map as integers K x J x I (1 x H x W for a picture), values untouched."""
    import SimpleITK as sitk

    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise InputError(f"Cannot read the labels {path}.", repr(error)) from error
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{path} is not a label map of whole numbers.")
    return array


def _samples(key, channel, plane, cut: Slice, on_slice, labels, is_picture) -> list[Sample]:
    pixel_mm2 = cut.spacing**2
    least = MINIMUM_SHARE * on_slice.size if is_picture else MINIMUM_MM2 / pixel_mm2
    values, counts = np.unique(on_slice, return_counts=True)
    out = []
    for value, count in zip(values, counts, strict=True):
        label = labels.get(int(value))
        if value == 0 or label is None or label.entity is None or count < least:
            continue
        mask = on_slice == value
        normal = cut.pixel_to_ras[:3, 2]
        at = float(normal @ cut.pixel_to_ras[:3, 3])
        seed = zlib.crc32(f"{key}|{channel}|{plane}|{at:.1f}|{value}|{SEED}".encode())
        gold = tight_box(mask)
        out.append(
            Sample(
                key,
                channel,
                plane,
                at,
                label,
                int(value),
                mask,
                gold,
                loosened(gold, np.random.default_rng(seed)),
                interior_point(mask),
                is_picture,
            )
        )
    return out


def tight_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """XYXY box around the mask's pixel edges."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        float(columns[0]) - 0.5,
        float(rows[0]) - 0.5,
        float(columns[-1]) + 0.5,
        float(rows[-1]) + 0.5,
    )


def loosened(
    box: tuple[float, float, float, float], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Each side moved outwards by a uniform 0-20 % of the box's width or height."""
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    a, b, c, d = rng.uniform(0, 0.2, 4)
    return x0 - a * width, y0 - b * height, x1 + c * width, y1 + d * height


def interior_point(mask: np.ndarray) -> tuple[float, float]:
    """The mask's most interior pixel (x, y)."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(distance)), mask.shape)
    return float(column), float(row)
