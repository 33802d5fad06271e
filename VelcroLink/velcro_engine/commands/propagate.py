"""`velcrolink propagate`: a region on one slice -> a 3-D segment, result.json and mask.seg.nrrd."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..console.output_folder import check_output_folder, output_folder
from ..console.slice_options import add_region_arguments, add_slice_arguments, region_request
from ..errors import GeometryError, InputError
from ..imaging.segmentation_file import Segment, write_segmentation
from ..imaging.slices import anatomical_axes
from ..imaging.volume import Volume
from ..linking.linker import open_linker
from ..propagation.propagate import WORLD, Propagation, propagate
from ..propagation.sight import layer_of


def add_arguments(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command `propagate`; `run` is set as the default to call."""
    parser = subparsers.add_parser(
        "propagate",
        help="carry a region on a slice through the volume",
        description="Carry a region on one anatomical slice through the volume, slice by slice in "
        "both directions. Positions are R,A,S in mm.",
    )
    add_slice_arguments(parser)
    add_region_arguments(parser, required=True)
    parser.add_argument(
        "--consensus",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let axial, coronal and sagittal slices decide together; without, the slices of one "
        "direction alone, which is several times faster (default: together)",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--model", metavar="DIR", help="model folder (else the bundled one)")
    parser.add_argument("--kb", action="append", metavar="FILE", help="knowledge base")
    parser.set_defaults(run=run, quiet_libraries=True)
    return parser


def run(args: argparse.Namespace) -> int:
    """Propagate, write both files, print the figures. Raises VelcroError."""
    if args.slice_matrix is not None:
        raise InputError("Propagation follows voxel layers; use --plane instead of --slice-matrix.")
    check_output_folder(args.out)
    volume, cut, request = region_request(args)
    if volume.is_picture or cut.plane is None:
        raise GeometryError("A picture has one slice only; propagate in a volume.")
    linker = open_linker(args.model, args.kb)
    told = sys.stderr if sys.stderr.isatty() else None

    def progress(fraction: float, message: str) -> None:
        if told is not None:
            print(f"\r\x1b[K{100 * fraction:.0f} % {message}", end="", file=told, flush=True)

    found = propagate(
        linker,
        volume,
        cut.plane,
        layer_of(cut, volume),
        request.box,
        request.points,
        consensus=args.consensus,
        progress=progress,
    )
    if told is not None:
        print("\r\x1b[K", end="", file=told)
    entry = linker.knowledge_base.entry(found.entry_id)
    with output_folder(args.out) as folder:
        segment = Segment(found.voxels, entry, found.side)
        write_segmentation(folder / "mask.seg.nrrd", [segment], volume)
        document = found.summary() | {
            "name": segment.name,
            "model": linker.runtime.name,
            "kb": linker.knowledge_base.version,
        }
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (folder / "result.json").write_text(text, encoding="utf-8")
    _print(found, segment.name, volume, Path(args.out))
    return 0


TOWARDS = {
    "sagittal": ("left", "right"),
    "coronal": ("posterior", "anterior"),
    "axial": ("inferior", "superior"),
}


def ends(found: Propagation, volume: Volume) -> str:
    """Why it ended, with the direction of the patient in which it did."""
    _, sign = anatomical_axes(volume)[WORLD[found.plane]]
    low, high = TOWARDS[found.plane]
    order = (("-", low), ("+", high)) if sign > 0 else (("+", low), ("-", high))
    return "; ".join(f"{name}: {found.stopped[end]}" for end, name in order)


def _print(found: Propagation, name: str, volume: Volume, out: Path) -> None:
    size = (
        ""
        if found.longest_mm is None
        else f", {found.longest_mm:.1f} x {found.perpendicular_mm:.1f} mm"
    )
    print(f"{name} ({100 * found.confidence:.0f} %): {found.volume_ml:.2f} ml{size}")
    print(
        f"{len(found.areas)} {found.plane} slices in {found.seconds:.1f} s; ended "
        f"{ends(found, volume)}"
    )
    print(f"Written: {out / 'mask.seg.nrrd'}")
