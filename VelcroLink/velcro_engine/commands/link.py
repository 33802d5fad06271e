"""`velcrolink link`: a region on a slice of a file -> result.json, overlay.png, mask.seg.nrrd, report.html."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..console.command_options import add_kb_argument, add_model_argument, whole_number
from ..console.output_folder import check_output_folder, output_folder
from ..console.slice_options import add_region_arguments, add_slice_arguments, region_request
from ..head.frame import heed_head
from ..imaging.overlay import enlargement, png_bytes, render_overlay
from ..imaging.segmentation_file import Segment, colour_of, write_segmentation
from ..imaging.slice_voxels import mask_to_voxels
from ..imaging.slices import Slice
from ..imaging.volume import Volume
from ..knowledge_base import KnowledgeBase
from ..linking.linker import open_linker
from ..messages.request import SliceRequest
from ..messages.result import LinkResult
from ..pages.link import Section, name_with_side, report_page

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
    add_slice_arguments(parser)
    add_region_arguments(parser, required=True)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    add_model_argument(parser)
    add_kb_argument(parser)
    parser.add_argument(
        "--top", type=whole_number(1), default=10, metavar="N", help="entries in result.json (10)"
    )
    parser.set_defaults(run=run, quiet_libraries=True)
    return parser


def run(args: argparse.Namespace) -> int:
    """Link, write the four files, print the ranking. Raises VelcroError."""
    check_output_folder(args.out)
    volume, cut, request = region_request(args, args.top)
    linker = open_linker(args.model, args.kb)
    request = heed_head(request, volume, linker.runtime)
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


def _print(result: LinkResult, out: Path) -> None:
    if result.abstained:
        print(f"No entry matches; the nearest is {name_with_side(result.entries[0])}.")
    for rank, entry in enumerate(result.entries[:5], start=1):
        print(f"{rank}. {name_with_side(entry):45} {100 * entry.confidence:5.1f} %  [{entry.id}]")
    print(f"Written: {out / REPORT}")
