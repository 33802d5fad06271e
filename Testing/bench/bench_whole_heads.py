"""Link hand-drawn boxes on the whole heads of shared/data/image_only and write a page to look at.

python Testing/bench/bench_whole_heads.py --data ../shared/data --out DIR [--model DIR]
These images have no labels: the boxes of whole_heads.json were drawn by eye, on nothing that the
model was trained or tuned on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from velcro_engine.commands.link import caption
from velcro_engine.console.output_folder import output_folder
from velcro_engine.head.frame import with_head
from velcro_engine.imaging.reading import read_volume
from velcro_engine.imaging.roi_file import box_between
from velcro_engine.imaging.slices import cut_slice
from velcro_engine.linking.linker import open_linker
from velcro_engine.pages.link import Section, name_with_side, report_page
from velcro_engine.training.measuring.link_figures import Benchmark

BOXES = Path(__file__).with_name("whole_heads.json")


def corners_of(region: dict, volume) -> tuple[np.ndarray, np.ndarray]:
    """Two corners, RAS mm; "pixels" are x0, y0, x1, y1 of the file's layer."""
    if "pixels" not in region:
        return np.array(region["first"], float), np.array(region["second"], float)
    x0, y0, x1, y1 = region["pixels"]
    ends = np.array([[x0, y0, region["layer"], 1], [x1, y1, region["layer"], 1]], float)
    return tuple((ends @ volume.ijk_to_ras.T)[:, :3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True)
    parser.add_argument("--model")
    args = parser.parse_args()
    linker = open_linker(args.model)
    concept = Benchmark().concept
    sections, rows = [], []
    for image in json.loads(BOXES.read_text(encoding="utf-8"))["images"]:
        volume = read_volume(args.data / "image_only" / image["file"])
        volume = with_head(volume, linker.runtime)
        for region in image["regions"]:
            box = box_between(*corners_of(region, volume))
            cut = cut_slice(volume, region["plane"], through_ras=box.centre.tolist())
            request = cut.request(corners_ras=box.corners)
            result = linker.link(request)
            first = result.entries[0]
            third = [e.id for e in result.entries[:3]]
            wanted = region["entity"]
            row = {
                "image": image["file"],
                "wanted": wanted,
                "side": region["side"],
                "got": first.id,
                "got_side": first.side,
                "confidence": round(first.confidence, 3),
                "right": first.id == wanted,
                "right_concept": concept.get(first.id, first.id) == concept.get(wanted, wanted),
                "top3": wanted in third,
                "side_right": region["side"] is None or first.side == region["side"],
                "abstained": result.abstained,
            }
            rows.append(row)
            mark = "right" if row["right"] else "top 3" if row["top3"] else "wrong"
            print(
                f"{mark:6} {region['side'] or '':6}{wanted:24} -> {name_with_side(first)} "
                f"({100 * first.confidence:.0f} %{', abstained' if result.abstained else ''})"
            )
            title = f"{image['file']}: {region['side'] or ''} {wanted.replace('_', ' ')}"
            sections.append(Section(request, result, title, caption(volume, request)))
    for name in ("right", "right_concept", "top3", "side_right"):
        print(f"{name}: {sum(row[name] for row in rows)} of {len(rows)}")
    with output_folder(args.out) as folder:
        (folder / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        page = report_page("Whole heads, boxes drawn by eye", sections, linker.knowledge_base)
        (folder / "index.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
