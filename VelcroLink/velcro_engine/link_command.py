"""`velcrolink link`: a region on a slice of a file -> result.json, overlay.png, mask.seg.nrrd, report.html."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from .errors import GeometryError, InputError
from .knowledge_base import KnowledgeBase
from .linker import open_linker
from .output_folder import output_folder
from .overlay import enlargement, png_bytes, render_overlay
from .reading import read_volume
from .report_page import Section, name_with_side, report_page
from .request import MODALITIES, SliceRequest
from .result import LinkResult
from .roi_file import Region, box_between, read_region
from .segmentation_file import Segment, colour_of, write_segmentation
from .slices import Slice, cut_slice, mask_to_voxels
from .volume import Volume

RESULT, OVERLAY, MASK, REPORT = "result.json", "overlay.png", "mask.seg.nrrd", "report.html"


def add_arguments(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command `link`; `run` is set as the default to call."""
    parser = subparsers.add_parser(
        "link",
        help="link a region on a slice to knowledge-base entries",
        description="Link a region of interest on one slice of an image to entries of the "
        "knowledge base. Positions are R,A,S in mm; for a picture without position (PNG, JPEG, "
        "TIFF) --box x0,y0,x1,y1 and --point x,y are pixels.",
    )
    parser.add_argument("volume", metavar="VOLUME", help="image file or folder of a DICOM series")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--plane", choices=("axial", "coronal", "sagittal"))
    where.add_argument(
        "--slice-matrix",
        metavar="FILE|M11,...,M44",
        help="slice to RAS as a 3D Slicer slice node gives it: right, up, normal, position; "
        "16 numbers, row by row",
    )
    parser.add_argument(
        "--at", type=float, metavar="MM", help="position of the plane (else the RoI's centre)"
    )
    region = parser.add_mutually_exclusive_group(required=True)
    region.add_argument("--roi", metavar="FILE.mrk.json", help="ROI or point list from 3D Slicer")
    region.add_argument("--box", metavar="R,A,S,R,A,S", help="two opposite corners")
    region.add_argument("--point", metavar="R,A,S", help="a point inside the structure")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--frame", type=int, help="which image of a 4-D file, from 0")
    parser.add_argument("--series", metavar="UID", help="which DICOM series of the folder")
    parser.add_argument("--modality", choices=MODALITIES, help="else told from the file")
    parser.add_argument("--model", metavar="DIR", help="model folder (else the bundled one)")
    parser.add_argument(
        "--kb", action="append", metavar="FILE", help="knowledge base, may be repeated"
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="entries to list (10)")
    parser.set_defaults(run=run, quiet_libraries=True)
    return parser


def run(args: argparse.Namespace) -> int:
    """Link, write the four files, print the ranking. Raises VelcroError."""
    if args.top < 1:
        raise InputError("--top must be at least 1.")
    volume = read_volume(args.volume, args.frame, args.modality, args.series)
    region, pixels = _region(args, volume)
    cut = _cut(args, volume, region)
    request = _request(cut, region, pixels, args.top)
    linker = open_linker(args.model, args.kb)
    result = linker.link(request)
    with output_folder(args.out) as folder:
        write_results(folder, volume, cut, request, result, linker.knowledge_base)
    _print(result, Path(args.out))
    return 0


def write_results(
    folder: Path,
    volume: Volume,
    cut: Slice,
    request: SliceRequest,
    result: LinkResult,
    knowledge_base: KnowledgeBase,
) -> None:
    """The four files of one link into an existing folder."""
    first = result.entries[0]
    entry = knowledge_base.entry(first.id)
    factor = enlargement(request.pixels.shape)
    picture = render_overlay(request, result.mask, colour_of(first.id), factor)
    (folder / OVERLAY).write_bytes(png_bytes(picture))
    voxels = mask_to_voxels(result.mask, cut, volume)
    write_segmentation(folder / MASK, [Segment(voxels, entry, first.side)], volume)
    section = Section(request, result, "", caption(volume, request))
    page = report_page(f"VelcroLink: {volume.name}", [section], knowledge_base)
    (folder / REPORT).write_text(page, encoding="utf-8")
    text = json.dumps(result_document(cut, request, result), indent=1, ensure_ascii=False)
    (folder / RESULT).write_text(text + "\n", encoding="utf-8")


def result_document(cut: Slice, request: SliceRequest, result: LinkResult) -> dict[str, Any]:
    """What result.json holds. Lengths in mm, positions in RAS mm, boxes in pixels of the slice."""
    matrix = request.pixel_to_ras
    return {
        "entries": [vars(entry) for entry in result.entries],
        "abstained": result.abstained,
        "attributes": result.attributes,
        "mask_confidence": result.mask_confidence,
        "mask_pixels": int(result.mask.sum()),
        "slice": {
            "plane": request.plane,
            "modality": request.modality,
            "shape": list(request.pixels.shape),
            "spacing_mm": request.pixel_spacing,
            "thickness_mm": cut.thickness if cut.has_position else None,
            "pixel_to_ras": None if matrix is None else matrix.tolist(),
            "slice_id": request.slice_id,
        },
        "prompt": {
            "box": None if request.box is None else list(request.box),
            "points": [list(point) for point in request.points],
        },
        "seconds": result.seconds,
        "model": result.model,
        "kb": result.knowledge_base,
    }


def caption(volume: Volume, request: SliceRequest) -> str:
    """One line under the picture: file, plane and where it lies."""
    if request.pixel_to_ras is None:
        return volume.name
    height, width = request.pixels.shape
    centre = request.pixel_to_ras @ [(width - 1) / 2, (height - 1) / 2, 0, 1]
    along = {"sagittal": ("R", 0), "coronal": ("A", 1), "axial": ("S", 2)}.get(request.plane or "")
    place = f" at {along[0]} {centre[along[1]]:.1f} mm" if along else ""
    return f"{volume.name}: {request.plane} slice{place}, {request.pixel_spacing:.2f} mm pixels"


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


def _print(result: LinkResult, out: Path) -> None:
    if result.abstained:
        print(f"No entry matches; the nearest is {name_with_side(result.entries[0])}.")
    for rank, entry in enumerate(result.entries[:5], start=1):
        print(f"{rank}. {name_with_side(entry):45} {100 * entry.confidence:5.1f} %  [{entry.id}]")
    print(f"Written: {out / REPORT}")
