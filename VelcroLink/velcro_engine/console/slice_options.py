"""Options by which commands name an image, a slice of it and a region on the slice."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..errors import GeometryError, InputError
from ..imaging.reading import read_volume
from ..imaging.roi_file import Region, box_between, read_region
from ..imaging.slices import Slice, cut_slice
from ..imaging.volume import Volume
from ..messages.request import SliceRequest, require_contrast
from .command_options import add_image_arguments


def add_slice_arguments(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """VOLUME and where its slice lies. optional: the command can also do without an image."""
    parser.add_argument(
        "volume",
        metavar="VOLUME",
        nargs="?" if optional else None,
        help="image file or folder of a DICOM series",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--plane",
        choices=("axial", "coronal", "sagittal"),
        help="plane of the slice (a picture is its own slice)",
    )
    where.add_argument(
        "--slice-matrix",
        metavar="FILE|M11,...,M44",
        help="slice to RAS as a 3D Slicer slice node gives it: right, up, normal, position "
        "in mm; 16 numbers, row by row",
    )
    parser.add_argument(
        "--at",
        type=float,
        metavar="MM",
        help="where the plane lies along S, A or R, in mm (else the region's centre; without a "
        "region, the volume's middle)",
    )
    add_image_arguments(parser)


def add_region_arguments(parser: argparse.ArgumentParser, required: bool) -> None:
    """--roi, --box or --point."""
    region = parser.add_mutually_exclusive_group(required=required)
    region.add_argument(
        "--roi", metavar="FILE.mrk.json", help="ROI or point list saved by 3D Slicer"
    )
    region.add_argument(
        "--box",
        metavar="R,A,S,R,A,S",
        help="two opposite corners in RAS mm (of a picture x0,y0,x1,y1 in pixels)",
    )
    region.add_argument(
        "--point",
        metavar="R,A,S",
        help="a point inside the structure in RAS mm (of a picture x,y in pixels)",
    )


def region_request(args: argparse.Namespace, top: int = 10) -> tuple[Volume, Slice, SliceRequest]:
    """(volume, slice, question) of a command's options. Raises VelcroError."""
    volume = read_volume(args.volume, args.frame, args.modality, args.series)
    region, pixels = _region(args, volume)
    cut = _cut(args, volume, region)
    request = _request(cut, region, pixels, top)
    require_contrast(request.pixels)
    return volume, cut, request


def whole_slice(args: argparse.Namespace) -> tuple[Volume, Slice]:
    """(volume, slice) of a command without a region; the volume's middle unless --at says where.
    Raises VelcroError."""
    volume = read_volume(args.volume, args.frame, args.modality, args.series)
    cut = _cut(args, volume, Region(points=volume.centre_ras[None]))
    require_contrast(cut.pixels)
    return volume, cut


def _region(
    args: argparse.Namespace, volume: Volume
) -> tuple[Region | None, tuple[float, ...] | None]:
    """(region in RAS, None), or (None, pixels) when a picture was given pixel positions."""
    if args.roi is not None:
        return read_region(args.roi), None
    text, option, ras, flat = (
        (args.box, "--box", 6, 4) if args.box is not None else (args.point, "--point", 3, 2)
    )
    allowed = (ras, flat) if volume.is_picture else (ras,)
    numbers = parse_numbers(text, option, allowed)
    if len(numbers) == flat:
        return None, numbers
    if args.box is not None:
        return box_between(np.array(numbers[:3]), np.array(numbers[3:])), None
    return Region(points=np.array([numbers])), None


def _cut(args: argparse.Namespace, volume: Volume, region: Region | None) -> Slice:
    if volume.is_picture:
        return cut_slice(volume)
    if args.slice_matrix is not None:
        if args.at is not None:
            raise InputError("--at goes with --plane; the slice matrix holds its own position.")
        return cut_slice(volume, _matrix(args.slice_matrix))
    if args.plane is None:
        raise GeometryError("Say which plane: --plane axial, coronal or sagittal.")
    assert region is not None
    return cut_slice(volume, args.plane, args.at, region.centre.tolist())


def _request(
    cut: Slice, region: Region | None, pixels: tuple[float, ...] | None, top: int
) -> SliceRequest:
    if pixels is not None and len(pixels) == 4:
        return cut.request(box=pixels, top_k=top)
    if pixels is not None:
        return cut.request(points=[(*pixels, 1)], top_k=top)
    assert region is not None
    return cut.request(corners_ras=region.corners, points_ras=region.points, top_k=top)


def parse_numbers(text: str, option: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    """Finite numbers separated by commas or spaces. Raises InputError naming the option."""
    try:
        numbers = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise InputError(f"{option} needs numbers separated by commas, not '{text}'.") from error
    if len(numbers) not in counts or not np.isfinite(numbers).all():
        wanted = " or ".join(str(count) for count in counts)
        raise InputError(f"{option} needs {wanted} finite numbers separated by commas.")
    return numbers


def _matrix(text: str) -> np.ndarray:
    path = Path(text)
    try:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as a slice matrix.", repr(error)) from error
    for mark in "[];":
        text = text.replace(mark, " ")
    return np.array(parse_numbers(text, "--slice-matrix", (16,))).reshape(4, 4)
