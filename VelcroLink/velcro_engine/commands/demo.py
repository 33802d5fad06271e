"""`velcrolink demo`: five structures of a real brain, offline, on one page.

The brain is the MNI152 T1 template (ICBM 152 nonlinear 2009a, McConnell Brain Imaging Centre) that
the PyPI package nilearn ships in its wheel; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..console.command_options import add_model_argument
from ..console.output_folder import check_output_folder, output_folder
from ..errors import InputError
from ..head.frame import with_head
from ..imaging.overlay import enlargement, png_bytes, render_overlay
from ..imaging.reading import read_volume
from ..imaging.roi_file import box_between
from ..imaging.segmentation_file import Segment, colour_of, write_segmentation
from ..imaging.slice_voxels import mask_to_voxels
from ..imaging.slices import cut_slice
from ..linking.linker import open_linker
from ..pages.link import Section, name_with_side, report_page
from .link import caption, result_document

BRAIN = Path("datasets", "data", "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
PAGE = "index.html"


@dataclass(frozen=True)
class Region:
    """A box drawn by hand on the template: plane, and two corners in MNI space (RAS, mm)."""

    title: str
    plane: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]


REGIONS = (
    Region(
        "Coronal slice, a curled band in the temporal lobe",
        "coronal",
        (-38, -22, -22),
        (-17, -22, -4),
    ),
    Region("Axial slice, a grey nucleus beside the midline", "axial", (1, -30, 8), (22, -5, 8)),
    Region("Axial slice, a dark space within the brain", "axial", (1, -47, 18), (27, 19, 18)),
    Region("Axial slice, lateral of the internal capsule", "axial", (-34, -14, 2), (-15, 20, 2)),
    Region(
        "Sagittal slice, the stalk in front of the cerebellum",
        "sagittal",
        (1, -52, -70),
        (1, -8, -6),
    ),
)


def add_arguments(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command `demo`; `run` is set as the default to call."""
    parser = subparsers.add_parser(
        "demo",
        help="link five structures of a real brain",
        description="Link five structures of the MNI152 brain and write a page with the results.",
    )
    parser.add_argument(
        "--out",
        default="velcrolink-demo",
        metavar="DIR",
        help="folder for the page (velcrolink-demo)",
    )
    add_model_argument(parser)
    parser.set_defaults(run=run, quiet_libraries=True)
    return parser


def run(args: argparse.Namespace) -> int:
    """Link the five regions, write pictures, segmentation and page, print where the page is."""
    check_output_folder(args.out)
    volume = read_volume(brain_path(), modality="MR")
    linker = open_linker(args.model)
    volume = with_head(volume, linker.runtime)
    sections, segments, documents = [], [], []
    with output_folder(args.out) as folder:
        for number, region in enumerate(REGIONS, start=1):
            box = box_between(np.array(region.first), np.array(region.second))
            cut = cut_slice(volume, region.plane, through_ras=box.centre.tolist())
            request = cut.request(corners_ras=box.corners)
            result = linker.link(request)
            first = result.entries[0]
            print(
                f"{number}. {name_with_side(first):32} {100 * first.confidence:5.1f} %  "
                f"({1000 * result.seconds['total']:.0f} ms)  {region.title}"
            )
            picture = render_overlay(
                request, result.mask, colour_of(first.id), enlargement(request.pixels.shape)
            )
            (folder / f"overlay-{number}.png").write_bytes(png_bytes(picture))
            entry = linker.knowledge_base.entry(first.id)
            segments.append(Segment(mask_to_voxels(result.mask, cut, volume), entry, first.side))
            sections.append(Section(request, result, region.title, caption(volume, request)))
            documents.append(result_document(cut, request, result))
        write_segmentation(folder / "masks.seg.nrrd", segments, volume)
        (folder / "results.json").write_text(
            json.dumps(documents, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        page = report_page("VelcroLink demo: MNI152 brain", sections, linker.knowledge_base)
        (folder / PAGE).write_text(page, encoding="utf-8")
    print(f"Page: {(Path(args.out) / PAGE).resolve()}")
    return 0


def brain_path() -> Path:
    """The template inside the installed nilearn, found without importing it.

    Raises InputError when nilearn is missing or no longer ships the file.
    """
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise InputError(
            "The demo's brain comes with nilearn; install it with: pip install 'velcrolink[demo]'"
        )
    path = Path(spec.origin).parent / BRAIN
    if not path.is_file():
        raise InputError("This nilearn has no MNI152 brain; install nilearn 0.14.")
    return path
