"""`velcrolink ground`: a phrase on a slice of a file -> regions.json, heat.png, mask.seg.nrrd, regions.png."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from ..console.command_options import add_kb_argument, add_model_argument, number_between
from ..console.output_folder import check_output_folder, output_folder
from ..console.slice_options import add_slice_arguments, whole_slice
from ..finding.document import grounding_document, place_in_mm
from ..finding.grounding import Grounding, ground, view_slice
from ..finding.phrases import read_phrase
from ..head.frame import heed_head
from ..imaging.overlay import enlargement, png_bytes, render_overlay
from ..imaging.segmentation_file import Segment, write_segmentation
from ..imaging.slice_voxels import mask_to_voxels
from ..knowledge_base.search import SearchIndex
from ..linking.linker import open_linker
from ..messages.request import SliceRequest

RESULT, PICTURE, HEAT, MASK = "regions.json", "regions.png", "heat.png", "mask.seg.nrrd"
COLOUR = (1.0, 0.84, 0.25)


def add_arguments(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command `ground`."""
    parser = subparsers.add_parser(
        "ground",
        help="find a phrase on a slice",
        description="Find what a phrase names (for instance 'left hippocampus') on one slice of an "
        "image, or say that it is not in this slice.",
    )
    add_slice_arguments(parser)
    parser.add_argument("--phrase", required=True, metavar="TEXT", help="what to find")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    add_model_argument(parser)
    add_kb_argument(parser)
    parser.add_argument(
        "--threshold",
        type=number_between(0.0, 1.0),
        metavar="SCORE",
        help="least score that counts as found, 0 to 1 (else the model's own)",
    )
    parser.set_defaults(run=run, quiet_libraries=True)
    return parser


def run(args: argparse.Namespace) -> int:
    """Find, write the files, print the regions. Raises VelcroError."""
    check_output_folder(args.out)
    volume, cut = whole_slice(args)
    linker = open_linker(args.model, args.kb)
    base = linker.knowledge_base
    phrase = read_phrase(args.phrase, base, SearchIndex(base))
    request = heed_head(cut.request(points=[(0.0, 0.0, 1)]), volume, linker.runtime)
    found = ground(linker, view_slice(linker, request), phrase, args.threshold)
    with output_folder(args.out, replaces=(MASK,)) as folder:
        document = grounding_document(found, request.pixel_to_ras)
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (folder / RESULT).write_text(text + "\n", encoding="utf-8")
        (folder / HEAT).write_bytes(png_bytes(np.rint(found.heat * 255).astype(np.uint8)))
        (folder / PICTURE).write_bytes(png_bytes(_picture(request, found)))
        if found.present:
            mask = np.any([region.mask for region in found.regions], axis=0)
            voxels = mask_to_voxels(mask, cut, volume)
            entry = base.entry(phrase.entries[0]) if phrase.entries else None
            if entry is not None:
                write_segmentation(folder / MASK, [Segment(voxels, entry, phrase.side)], volume)
    if not found.present:
        print(f"'{phrase.text}' is not in this slice (best score {found.score:.2f}).")
    elif request.pixel_to_ras is not None:
        print("Centre R,A,S; box from R,A,S to R,A,S; in mm:")
    for number, region in enumerate(found.regions if found.present else (), start=1):
        side = f", {region.side}" if region.side else ""
        place = _place(region.box, request.pixel_to_ras)
        print(f"{number}. score {region.score:.2f}{side}, {place}")
    print(f"Written: {Path(args.out) / RESULT}")
    return 0


def _place(box: tuple[float, float, float, float], pixel_to_ras: np.ndarray | None) -> str:
    if pixel_to_ras is None:
        return f"box {','.join(f'{v:.1f}' for v in box)} pixels"
    centre, whole = (
        ",".join(f"{v:.1f}" for v in numbers) for numbers in place_in_mm(box, pixel_to_ras)
    )
    return f"centre {centre}, box {whole}"


def _picture(request: SliceRequest, found: Grounding) -> np.ndarray:
    mask = np.zeros(request.pixels.shape, dtype=bool)
    for region in found.regions if found.present else ():
        mask |= region.mask
    box = found.regions[0].box if found.present else None
    shown = (
        request.with_prompt(box=box)
        if box is not None
        else request.with_prompt(points=[(0.0, 0.0, 0), (0.0, 0.0, 1)])
    )
    return render_overlay(shown, mask, COLOUR, enlargement(request.pixels.shape))
