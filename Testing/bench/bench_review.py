"""Planted errors found by a review, and the time of reviewing a brain with 150 segments.

    python Testing/bench/bench_review.py --data DIR --splits FILE [--model DIR|none] [--out FILE]

Plants seeded errors into the segmentations of the split (the same measurement as
`velcrolink evaluate --task review`), then reviews a whole brain once more, with large segments cut
in two until there are 150, and takes the time, the longest silence between two progress calls and
the peak memory. Nothing here is asserted; the figures are for reading.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "VelcroLink"))

SEGMENTS = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--splits")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--kb", action="append")
    parser.add_argument("--model", help="model folder, 'none' for geometry alone (bundled)")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--only-time", action="store_true", help="leave the planted errors out")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    figures: dict = {"time": time_of_brain(args)}
    print(json.dumps(figures["time"]))
    if not args.only_time:
        from velcro_engine.console.progress import Progress
        from velcro_engine.training.commands.cli import print_metrics
        from velcro_engine.training.measuring.review_evaluation import evaluate_review

        with tempfile.TemporaryDirectory() as folder:
            figures["planted"] = evaluate_review(args, Path(folder), Progress())
        print_metrics(figures["planted"])
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def time_of_brain(args: argparse.Namespace) -> dict:
    """Review of the case with most segments, cut up to `SEGMENTS`."""
    from velcro_engine.errors import InputError
    from velcro_engine.knowledge_base import load_knowledge_base
    from velcro_engine.linking.linker import open_linker
    from velcro_engine.pages.review import review_page
    from velcro_engine.review import review_segmentation
    from velcro_engine.training.data.volume_cases import labelled_volume, volume_keys
    from velcro_engine.training.measuring.evaluate_linking import peak_memory_mb

    linker = None if args.model == "none" else open_linker(args.model, args.kb)
    base = load_knowledge_base(args.kb) if linker is None else linker.knowledge_base
    best = None
    for key in volume_keys(args)[:5]:
        try:
            volume, segmentation = labelled_volume(Path(args.data), key)
        except InputError:
            continue
        if best is None or len(segmentation.segments) > len(best[2].segments):
            best = key, volume, segmentation
    assert best is not None
    key, volume, segmentation = best
    segmentation = cut_up(segmentation)
    calls = [time.perf_counter()]
    before = time.process_time()
    review = review_segmentation(
        volume, segmentation, base, linker, lambda f, m: calls.append(time.perf_counter())
    )
    busy = time.process_time() - before
    page = review_page(review)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "case": key,
        "segments": len(review.rows),
        "slices": len({(s.plane, s.index) for row in review.rows for s in row.slices}),
        "seconds": round(review.seconds["total"], 1),
        "cpu_seconds": round(busy, 1),
        "cores": cores,
        "longest_silence_s": round(float(np.diff(calls).max()), 2),
        "page_mb": round(len(page) / 1e6, 2),
        "memory_mb": peak_memory_mb(),
    }


def cut_up(segmentation):
    """The segmentation with its largest segments halved until there are `SEGMENTS`."""
    layer = segmentation.layers[0].astype(np.int32)
    segments = list(segmentation.segments)
    for segment in sorted(segments, key=lambda s: -s.voxels):
        if len(segments) >= SEGMENTS:
            break
        kji = np.argwhere(layer == segment.value)
        half = kji[kji[:, 1] > np.median(kji[:, 1])]
        value = max(s.value for s in segments) + 1
        layer[tuple(half.T)] = value
        segments.append(
            replace(segment, identifier=f"half_{value}", name=f"{segment.name} half", value=value)
        )
    return replace(segmentation, segments=tuple(segments), layers=(layer,))


if __name__ == "__main__":
    main()
