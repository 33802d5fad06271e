"""Options that several commands share, and the numbers they take.

A number that cannot be used ends in argparse's one line, which names the option.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..messages.request import MODALITIES

STEP_MM = (0.5, 500.0)  # finer than voxels measures the same again; coarser than a body, nothing


def whole_number(least: int) -> Callable[[str], int]:
    """Type of an option: a whole number from `least` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from error
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is less than {least}, the least it can be")
        return number

    return read


def number_between(low: float, high: float, unit: str = "") -> Callable[[str], float]:
    """Type of an option: a finite number from low to high, both included."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number") from error
        if not (math.isfinite(number) and low <= number <= high):
            reach = f"between {low:g} and {high:g} {unit}".rstrip()
            raise argparse.ArgumentTypeError(f"{text} does not lie {reach}")
        return number

    return read


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Which image a file or folder means: --frame, --series, --modality."""
    parser.add_argument(
        "--frame",
        type=whole_number(0),
        metavar="N",
        help="which image of a 4-D file, counted from 0 (a 3-D file has one only)",
    )
    parser.add_argument(
        "--series",
        metavar="UID",
        help="which DICOM series of the folder (else the only one there is)",
    )
    parser.add_argument(
        "--modality", choices=MODALITIES, help="kind of image (else told from the file)"
    )


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """--model."""
    parser.add_argument("--model", metavar="DIR", help="model folder (else the bundled one)")


def add_kb_argument(parser: argparse.ArgumentParser) -> None:
    """--kb, a list or None."""
    parser.add_argument(
        "--kb",
        action="append",
        metavar="FILE",
        help="knowledge base instead of the bundled one and your own; may be repeated",
    )


def add_step_argument(parser: argparse.ArgumentParser, default: float) -> None:
    """--step-mm."""
    parser.add_argument(
        "--step-mm",
        type=number_between(*STEP_MM, "mm"),
        default=default,
        metavar="MM",
        help=f"distance between slices in mm ({default:g})",
    )


def check_data_folder(told: str) -> Path:
    """--data as a path. Raises InputError when it is no folder."""
    if not told.strip() or not Path(told).is_dir():
        raise InputError(f"'{told}' is not a folder of data sets; check --data.")
    return Path(told)
