"""`velcrolink review`: a segmentation checked segment by segment -> review.csv, .json and .html."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..console.command_options import add_image_arguments, add_kb_argument, add_model_argument
from ..console.output_folder import check_output_folder, output_folder
from ..imaging.reading import read_volume
from ..knowledge_base import active_paths, load_knowledge_base
from ..linking.linker import open_linker
from ..messages.request import require_contrast
from ..pages.review import review_page
from ..review import review_segmentation
from ..review.run import Review
from ..review.table import review_csv, review_document
from ..segmentations.reading import read_segmentation

SHOWN = 12


def add_arguments(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command `review`; `run` is set as the default to call."""
    parser = subparsers.add_parser(
        "review",
        help="check a segmentation segment by segment",
        description="Link every segment of a segmentation on slices of three directions, measure "
        "it, and list what needs a look.",
    )
    parser.add_argument("volume", metavar="VOLUME", help="image file or folder of a DICOM series")
    parser.add_argument(
        "segmentation",
        metavar="SEGMENTATION",
        help=".seg.nrrd, label map (names from --labels or beside it) or DICOM SEG",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="names of a label map: .ctbl or labels.json (else the one beside it)",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    add_image_arguments(parser)
    add_model_argument(parser)
    add_kb_argument(parser)
    parser.add_argument(
        "--no-model", action="store_true", help="measure and compare only, without linking"
    )
    parser.set_defaults(run=run, quiet_libraries=True)
    return parser


def run(args: argparse.Namespace) -> int:
    """Review, write the three files, print what needs a look. Raises VelcroError."""
    check_output_folder(args.out)
    volume = read_volume(args.volume, args.frame, args.modality, args.series)
    segmentation = read_segmentation(args.segmentation, volume, args.labels)
    if args.no_model:
        linker, base = None, load_knowledge_base(args.kb or active_paths())
    else:
        require_contrast(volume.array, "image")
        linker = open_linker(args.model, args.kb)
        base = linker.knowledge_base
    terminal = sys.stderr.isatty()

    def progress(fraction: float, message: str) -> None:
        if terminal:
            print(f"\r\x1b[K{100 * fraction:.0f} % {message}", end="", file=sys.stderr, flush=True)

    review = review_segmentation(volume, segmentation, base, linker, progress)
    if terminal:
        print("\r\x1b[K", end="", file=sys.stderr)
    with output_folder(args.out) as folder:
        write_review(folder, review)
    _print(review, Path(args.out))
    return 0


def write_review(folder: Path, review: Review) -> None:
    """review.csv, review.json and review.html into an existing folder."""
    (folder / "review.csv").write_text(review_csv(review), encoding="utf-8-sig", newline="")
    text = json.dumps(review_document(review), indent=1, ensure_ascii=False) + "\n"
    (folder / "review.json").write_text(text, encoding="utf-8")
    (folder / "review.html").write_text(review_page(review), encoding="utf-8")


def _print(review: Review, out: Path) -> None:
    for notice in review.notices:
        print(f"note: {notice}")
    flagged = [row for row in review.rows if row.flagged]
    print(f"{len(flagged)} of {len(review.rows)} segments need a look.")
    for row in flagged[:SHOWN]:
        text = row.judgement.findings[0].text if row.judgement.findings else ""
        print(f"  {row.segment.name:40.40} {text}")
    if len(flagged) > SHOWN:
        print(f"  and {len(flagged) - SHOWN} more")
    print(f"Written: {out / 'review.html'}")
