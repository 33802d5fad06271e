"""Labelled cases in memory, as training reads them (layout: shared/data/README.md).

Three-dimensional cases are brought to voxel order R, A, S (first array axis S) without resampling.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ...errors import InputError
from ...messages.request import (
    Foreground,
    IntensityWindow,
    foreground,
    intensity_window,
    strided_sample,
)

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
LARGEST_PICTURE = 448  # pictures are kept at this longest side; the network reads 224
SKULL_GRID_MM = 2.0
SKULL_REACH_MM = 44.0
SIDES = {"left": 0, "right": 1, None: 2}
# what is told without looking at the picture: it has no position, Hounsfield units, anything else
MODALITY_NUMBERS = {"picture": 0, "CT": 1, "MR": 2}


@dataclass(frozen=True)
class Label:
    """One label of a data set: `entity` is None when it is not linked."""

    name: str
    entity: str | None
    side: str | None


@dataclass
class Case:
    """One case.

    images: uint8, each K x J x I (3-D) or 1 x H x W (2-D). layers: label maps of the same shape,
    ids into `labels`. spacing: (R, A, S) mm, None for a picture. stripped: the head was cut away
    around the brain. exhaustive: nearly all of the picture is labelled, so that what is not, is air.
    origin: RAS of voxel (0, 0, 0). modality: a key of MODALITY_NUMBERS.
    distance: for stripped brains, mm to the brain on a 2 mm grid that starts at `distance_origin`.
    """

    key: str
    dataset: str
    images: list[np.ndarray]
    layers: list[np.ndarray]
    labels: dict[int, Label]
    spacing: np.ndarray | None
    origin: np.ndarray
    fore: Foreground | None
    stripped: bool = False
    exhaustive: bool = False
    modality: str = "picture"
    distance: np.ndarray | None = None
    distance_origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    distance_spacing: np.ndarray = field(default_factory=lambda: np.ones(3))
    voxels: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)


def read_labels(folder: Path) -> dict[int, Label]:
    """labels.json of a data set."""
    path = folder / "labels.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {
            int(k): Label(str(v["name"]), v.get("entity"), v.get("side")) for k, v in table.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"Cannot read the label table {path}.", repr(error)) from error


def image_files(folder: Path) -> list[Path]:
    """The channels of a case, `image.*` first."""
    found = [
        p
        for p in sorted(folder.iterdir())
        if p.name.startswith("image")
        and p.name.lower().endswith(VOLUME_SUFFIXES + PICTURE_SUFFIXES)
    ]
    return sorted(found, key=lambda p: (not p.name.startswith("image."), p.name))


def label_files(folder: Path) -> list[Path]:
    """The label layers of a case, `labels.*` first."""
    found = [
        p
        for p in sorted(folder.iterdir())
        if p.name.startswith("labels") and p.name.lower().endswith(VOLUME_SUFFIXES + (".png",))
    ]
    return sorted(found, key=lambda p: (not p.name.startswith("labels."), p.name))


def case_keys(data: Path, splits: Path | None, split: str | None) -> list[str]:
    """ "dataset/case" of every case, or of one split."""
    if splits is not None and split is not None:
        try:
            table = json.loads(Path(splits).read_text(encoding="utf-8"))
            keys = [str(k) for k in table[split]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"Cannot read split '{split}' of {splits}.", repr(error)) from error
        return [k for k in keys if (data / k).is_dir()]
    return [
        f"{d.name}/{c.name}"
        for d in sorted(data.iterdir())
        if d.is_dir() and (d / "labels.json").is_file()
        for c in sorted(d.iterdir())
        if c.is_dir() and label_files(c) and image_files(c)
    ]


def canonical(image: sitk.Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Array in order S, A, R with rising coordinates; spacing (R, A, S); RAS of its first voxel."""
    array = sitk.GetArrayFromImage(image)
    direction = np.asarray(image.GetDirection()).reshape(3, 3)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0])
    axes = lps_to_ras @ direction  # columns: I, J, K in RAS
    order = [int(np.argmax(np.abs(axes[world]))) for world in range(3)]
    if sorted(order) != [0, 1, 2]:
        raise InputError("The volume's axes are too oblique to be ordered.")
    origin = lps_to_ras @ np.asarray(image.GetOrigin())
    spacing = np.asarray(image.GetSpacing())
    array = array.transpose([2 - order[2], 2 - order[1], 2 - order[0]])
    for world in range(3):
        axis = order[world]
        if axes[world, axis] < 0:
            array = np.flip(array, 2 - world)
            origin = origin + axes[:, axis] * spacing[axis] * (image.GetSize()[axis] - 1)
    return np.ascontiguousarray(array), spacing[order], origin


def load_case(data: Path, key: str) -> Case:
    """Read one case. Raises InputError when a file is missing or does not fit the others."""
    folder = data / key
    labels = read_labels(folder.parent)
    images, layers = [], []
    spacing: np.ndarray | None = None
    origin = np.zeros(3)
    fore = None
    modality = "picture"
    for path in image_files(folder):
        picture = path.name.lower().endswith(PICTURE_SUFFIXES)
        if picture:
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            if array.ndim == 3:
                array = array[..., :3].mean(-1).astype(np.uint8)
            images.append(array[None])
            continue
        _, array, spacing, origin, seen, modality = read_image(path)
        fore = fore or seen
        images.append(array)
    for path in label_files(folder):
        image = sitk.ReadImage(str(path))
        if path.name.lower().endswith(".png"):
            layers.append(sitk.GetArrayFromImage(image)[None])
        else:
            layers.append(canonical(image)[0])
    if not images or not layers:
        raise InputError(f"{folder} holds no image or no labels.")
    return make_case(key, images, layers, labels, spacing, origin, fore, modality)


def leave_out(case: Case, entities: Collection[str]) -> None:
    """Make labels of these entities unlinked, as if nobody had drawn them."""
    case.labels = {
        value: replace(label, entity=None) if label.entity in entities else label
        for value, label in case.labels.items()
    }
    case.voxels = {
        key: at for key, at in case.voxels.items() if case.labels[key[1]].entity is not None
    }


def read_image(
    path: Path,
) -> tuple[sitk.Image, np.ndarray, np.ndarray, np.ndarray, Foreground | None, str]:
    """A volume -> (as stored, uint8 array in order S, A, R, spacing and origin (R, A, S) in mm, RAS,
    foreground, key of MODALITY_NUMBERS)."""
    image = sitk.ReadImage(str(path))
    array, spacing, origin = canonical(image)
    sample, strides = strided_sample(array)
    window: IntensityWindow = intensity_window(sample)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(spacing)
    matrix[:3, 3] = origin
    fore = foreground(sample, strides, matrix, window)
    modality = "CT" if window.kind == "ct" else "MR"
    return image, window.apply(array), spacing, origin, fore, modality


def make_case(
    key: str,
    images: list[np.ndarray],
    layers: list[np.ndarray],
    labels: dict[int, Label],
    spacing: np.ndarray | None,
    origin: np.ndarray,
    fore: Foreground | None,
    modality: str,
) -> Case:
    """A case of arrays in order S, A, R. Raises InputError when they differ in size."""
    if any(a.shape != images[0].shape for a in images + layers):
        raise InputError(f"Images and labels of {key} differ in size.")
    if spacing is None:
        images, layers = _shrink(images, layers)
    stripped = spacing is not None and float((images[0] == 0).mean()) > 0.3
    case = Case(
        key, key.split("/")[0], images, layers, labels, spacing, origin, fore, stripped=stripped
    )
    case.modality = modality
    case.exhaustive = stripped and float((layers[0][images[0] > 0] > 0).mean()) > 0.85
    _index_voxels(case)
    if stripped and min(images[0].shape) > 30:
        _measure_skull_distance(case)
    return case


def _shrink(images: list[np.ndarray], layers: list[np.ndarray]):
    factor = LARGEST_PICTURE / max(images[0].shape[1:])
    if factor >= 1:
        return images, layers
    height, width = (max(1, round(n * factor)) for n in images[0].shape[1:])
    out = []
    for array, nearest in [(a, False) for a in images] + [(a, True) for a in layers]:
        image = sitk.GetImageFromArray(array[0])
        if not nearest:
            image = sitk.DiscreteGaussian(sitk.Cast(image, sitk.sitkFloat32), 0.25 / factor**2)
        grid = sitk.Image(width, height, image.GetPixelID())
        grid.SetSpacing([image.GetWidth() / width, image.GetHeight() / height])
        grid.SetOrigin([(s - 1) / 2 for s in grid.GetSpacing()])
        how = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
        shrunk = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), how, 0.0))
        out.append(np.clip(np.rint(shrunk), 0, 255).astype(np.uint8)[None])
    return out[: len(images)], out[len(images) :]


def _index_voxels(case: Case, keep: int = 1500) -> None:
    """A few voxels of every linked label, from which training slices are aimed."""
    rng = np.random.default_rng(0)
    for layer, array in enumerate(case.layers):
        for value in np.unique(array):
            label = case.labels.get(int(value))
            if value == 0 or label is None or label.entity is None:
                continue
            kji = np.argwhere(array == value)
            if len(kji) > keep:
                kji = kji[rng.choice(len(kji), keep, replace=False)]
            case.voxels[(layer, int(value))] = kji.astype(np.int16)


def _measure_skull_distance(case: Case) -> None:
    """mm to the brain's surface on a coarse padded grid, where an artificial skull is drawn."""
    assert case.spacing is not None
    brain = case.images[0] > 0
    step = np.maximum(1, np.rint(SKULL_GRID_MM / case.spacing[::-1])).astype(int)
    coarse = brain[:: step[0], :: step[1], :: step[2]]
    grid = case.spacing[::-1] * step
    pad = np.ceil(SKULL_REACH_MM / grid).astype(int)
    coarse = np.pad(coarse, [(p, p) for p in pad])
    coarse = ndimage.binary_closing(coarse, iterations=3)
    case.distance = ndimage.distance_transform_edt(~coarse, sampling=grid).astype(np.float32)
    case.distance_origin = (-pad * grid)[::-1]  # mm from voxel (0, 0, 0), order R, A, S
    case.distance_spacing = grid[::-1]
