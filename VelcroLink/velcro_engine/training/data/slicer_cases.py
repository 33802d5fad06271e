"""Labelled cases as 3D Slicer saves them: an image and a `.seg.nrrd` in one folder.

What each segment is, is told by its terminology, else by its name, as `velcrolink review` reads them;
segments that no entry of the knowledge base fits teach nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...imaging.volume import LPS_TO_RAS
from ...knowledge_base import KnowledgeBase
from ...segmentations.labelmaps import read_labelmap
from ...segmentations.names import NameReader
from ...segmentations.stored import StoredSegmentation
from .case_data import VOLUME_SUFFIXES, Case, Label, canonical, make_case, read_image

SEGMENTATION = ".seg.nrrd"
MOST_LABELS = 255


def segmentation_files(data: Path) -> list[Path]:
    """Every `.seg.nrrd` in the folder and below it."""
    return sorted(p for p in data.rglob("*") if p.name.lower().endswith(SEGMENTATION))


def image_of(segmentation: Path) -> Path:
    """The image a segmentation lies on: the one of the same name, else the only one beside it.

    Raises InputError when it cannot be told.
    """
    images = {
        p.name[: -len(suffix)].lower(): p
        for suffix in VOLUME_SUFFIXES
        for p in segmentation.parent.iterdir()
        if p.name.lower().endswith(suffix) and not p.name.lower().endswith(SEGMENTATION)
    }
    stem = segmentation.name[: -len(SEGMENTATION)].lower()
    if stem in images:
        return images[stem]
    if len(images) == 1:
        return next(iter(images.values()))
    if "image" in images:
        return images["image"]
    raise InputError(
        f"The image of '{segmentation}' cannot be told among {len(images)}; save it beside it as "
        f"'{stem}.nrrd'."
    )


def load_segmented_cases(data: Path, base: KnowledgeBase, log: Callable[[str], None]) -> list[Case]:
    """A case of every `.seg.nrrd` below `data`; says which segments were left out.

    Raises InputError when a file is damaged or no segment at all fits the knowledge base.
    """
    reader = NameReader(base)
    files = segmentation_files(data)
    cases = [_load(path, path.relative_to(data).as_posix(), reader, log) for path in files]
    if cases and not any(case.voxels for case in cases):
        raise InputError(
            f"No segment in '{data}' fits the knowledge base; name them by its entries, or add yours "
            "(velcrolink kb import)."
        )
    return [case for case in cases if case.voxels]


def _load(path: Path, key: str, reader: NameReader, log: Callable[[str], None]) -> Case:
    stored = read_labelmap(path)
    try:
        image, array, spacing, origin, fore, modality = read_image(image_of(path))
    except RuntimeError as error:
        raise InputError(f"The image of '{path}' cannot be read.", str(error)) from error
    labels: dict[int, Label] = {}
    layers = [np.zeros(layer.shape, np.uint8) for layer in stored.layers]
    unknown = []
    for number, segment in enumerate(stored.segments, 1):
        if number > MOST_LABELS:
            raise InputError(f"'{path}' holds more than {MOST_LABELS} segments; split it.")
        meaning = reader.read(segment)
        if meaning.entry_id is None:
            unknown.append(segment.name)
        entry = reader.knowledge_base.by_id.get(meaning.entry_id or "")
        side = meaning.side if entry is not None and entry.laterality != "midline" else None
        labels[number] = Label(segment.name, meaning.entry_id, side)
        layers[segment.layer][stored.layers[segment.layer] == segment.value] = number
    if unknown:
        log(f"{key}: no entry fits {', '.join(unknown[:8])}; left out")
    on_image = [canonical(_on_grid(layer, stored, image))[0] for layer in layers]
    return make_case(key, [array], on_image, labels, spacing, origin, fore, modality)


def _on_grid(layer: np.ndarray, stored: StoredSegmentation, image: sitk.Image) -> sitk.Image:
    """A label layer on the image's voxels: Slicer saves only the box around the segments."""
    labels = sitk.GetImageFromArray(layer)
    matrix = LPS_TO_RAS @ stored.ijk_to_ras
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    labels.SetSpacing(spacing.tolist())
    labels.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    labels.SetOrigin(matrix[:3, 3].tolist())
    return sitk.Resample(labels, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
