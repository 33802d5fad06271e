"""What propagation would reach were every slice's box right: the look in three directions
(`propagation.views`) from the labels' own boxes instead of the walk's.

python Testing/bench/bench_propagation_ceiling.py --data ../shared/data [--model DIR] [--every 3]
Large structures of the dev brains, every third one. Prints a row a brain and the mean 3-D Dice.
"""

from __future__ import annotations

import argparse
from copy import copy
from pathlib import Path

import numpy as np

from velcro_engine.imaging.slice_voxels import labels_to_slice
from velcro_engine.imaging.slices import anatomical_axes, cut_plane
from velcro_engine.linking.linker import open_linker
from velcro_engine.messages.propagation import Rules
from velcro_engine.propagation.propagate import propagate
from velcro_engine.propagation.views import look_from_all_sides
from velcro_engine.propagation.walk import Walk
from velcro_engine.review.links import box_of
from velcro_engine.segmentations.shapes import cut_out
from velcro_engine.training.data.case_data import case_keys
from velcro_engine.training.data.volume_cases import labelled_volume
from velcro_engine.training.measuring.propagation_evaluation import LARGE_ML, Remembering, dice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model")
    parser.add_argument("--every", type=int, default=3)
    args = parser.parse_args()
    linker = open_linker(args.model, examples=False)
    every: list[float] = []
    for key in case_keys(args.data, args.data / "splits.json", "dev"):
        if not key.startswith("brain_neuromorphometrics35/"):
            continue
        volume, segmentation = labelled_volume(args.data, key)
        own = copy(linker)
        own.runtime = Remembering(linker.runtime)
        own._slices = type(linker._slices)()
        axis = anatomical_axes(volume)[2][0]
        found = []
        large = [
            shape
            for segment, shape in zip(segmentation.segments, cut_out(segmentation), strict=True)
            if segment.entry_id is not None and segment.volume_ml >= LARGE_ML
        ]
        for shape in large[:: args.every]:
            truth = np.zeros(volume.array.shape, dtype=bool)
            truth[shape.box] = shape.mask
            filled = np.flatnonzero(truth.any(axis=tuple(a for a in range(3) if a != 2 - axis)))
            index = int(filled[len(filled) // 2])
            cut = cut_plane(volume, "axial", index=index)
            gold = labels_to_slice(truth.astype(np.uint8), cut, volume) > 0
            if not gold.any():
                continue
            rules = Rules(limit=0)  # the start alone: what it is named and looks like
            start = propagate(
                own, volume, "axial", index, box=box_of(gold), rules=rules, consensus=False
            )
            work = Walk(own, volume, "axial", rules, lambda fraction, message: None)
            work.recall(start.steps[index])
            seen = look_from_all_sides(work, truth, (), (0.0, 1.0), ask=True)
            found.append(dice(seen, truth))
        every += found
        print(f"{key}: {len(found)} structures, 3-D Dice {np.mean(found):.3f}", flush=True)
    print(f"all: {len(every)} structures, 3-D Dice {np.mean(every):.3f}")


if __name__ == "__main__":
    main()
