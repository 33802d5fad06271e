"""Labelled volumes for measuring review and propagation: which cases, what they hold, intervals."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...imaging.reading import read_volume
from ...imaging.volume import Volume
from ...segmentations.reading import read_segmentation
from ...segmentations.stored import Segmentation
from .case_data import case_keys, image_files, label_files

BOOTSTRAPS = 1000
Progress = Callable[[int, int, str], None]


def volume_keys(args: argparse.Namespace) -> list[str]:
    """Cases with a label volume to measure. Raises InputError when there is none."""
    data = Path(args.data)
    keys = case_keys(data, Path(args.splits) if args.splits else None, args.split)
    keys = [key for key in keys if not label_files(data / key)[0].name.endswith(".png")]
    if args.limit:
        keys = keys[: args.limit]
    if not keys:
        raise InputError(f"No labelled 3-D case was found in '{data}'.")
    return keys


def labelled_volume(data: Path, key: str) -> tuple[Volume, Segmentation]:
    """First channel and first label layer of a case. Raises VelcroError when it is no volume."""
    folder = data / key
    volume = read_volume(image_files(folder)[0])
    if volume.is_picture or min(volume.array.shape) < 3:
        raise InputError("not a volume")
    return volume, read_segmentation(label_files(folder)[0], volume)


def interval(values: Sequence[float], cases: Sequence[str], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean when whole cases are drawn with replacement."""
    names, index = np.unique(list(cases), return_inverse=True)
    sums = np.bincount(index, weights=np.asarray(values, dtype=float))
    counts = np.bincount(index).astype(float)
    picks = np.random.default_rng(seed).integers(len(names), size=(BOOTSTRAPS, len(names)))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """CSV of rows that all have the first one's keys."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
