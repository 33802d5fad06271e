"""One click of correction: a point in the largest mistake of a boxed region's mask.

python Testing/bench/bench_points.py --data ../shared/data [--model DIR]
On dev slices every 60 mm, every fifth region, gold and loose boxes in turn: the point goes where the
largest false piece (outside) or missing piece (inside) is deepest. Prints mean Dice before and after,
how many points are kept to, and the same for the decoder alone, asked with box and point. Minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from velcro_engine.linking.linker import open_linker
from velcro_engine.linking.region_mask import region_mask
from velcro_engine.model.preprocess import (
    letterbox_of,
    mask_to_slice,
    model_input,
    prompt_arrays,
)
from velcro_engine.training.data.benchmark_samples import case_slices
from velcro_engine.training.data.case_data import case_keys
from velcro_engine.training.measuring.propagation_evaluation import dice

LEAST_PIXELS = 12  # of a mistake
EVERY, STEP_MM, CASES = 5, 60.0, 14
SETS = ("/1116", "ct_", "pat0003", "HG0003", "BraTS2021", "patient07", "cxr", "spine")


def deepest(mistake: np.ndarray) -> tuple[int, int] | None:
    """(x, y) of the pixel farthest inside the largest piece; None when all pieces are small."""
    image = sitk.GetImageFromArray(mistake.astype(np.uint8))
    pieces = sitk.GetArrayFromImage(sitk.ConnectedComponent(image))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if sizes.max() < LEAST_PIXELS:
        return None
    piece = np.pad(pieces == sizes.argmax(), 1).astype(np.uint8)
    depth = sitk.SignedMaurerDistanceMap(sitk.GetImageFromArray(piece), False, False, False)
    inner = sitk.GetArrayFromImage(depth)[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmin(inner)), inner.shape)
    return int(x), int(y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model")
    args = parser.parse_args()
    runtime = open_linker(args.model, examples=False).runtime
    keys = case_keys(args.data, args.data / "splits.json", "dev")
    keys = [key for key in keys if any(name in key for name in SETS)][:CASES]
    found: dict[int, list[tuple[float, ...]]] = {0: [], 1: []}
    number = 0
    for key in keys:
        for _, cut, samples in case_slices(args.data, key, STEP_MM):
            for sample in samples[::EVERY]:
                number += 1
                request = cut.request(box=sample.loose if number % 2 else sample.gold)
                window = letterbox_of(request, runtime.size)
                encoded = runtime.encode(model_input(request, runtime.size, window))
                points, labels = prompt_arrays(request, window)
                logits = runtime.decode(encoded, points, labels).mask
                logits = mask_to_slice(logits, window, request.pixels.shape)
                before, truth = region_mask(logits, request), sample.mask
                for label, mistake in ((0, before & ~truth), (1, truth & ~before)):
                    place = deepest(mistake)
                    if place is None:
                        continue
                    asked = cut.request(box=request.box, points=[(*place, label)])
                    after = region_mask(logits, asked)
                    both, kinds = points.copy(), labels.copy()
                    both[0, 2], kinds[0, 2] = window.to_input(np.array(place, float)), label
                    told = runtime.decode(encoded, both, kinds).mask
                    told = mask_to_slice(told, window, request.pixels.shape)
                    alone = region_mask(told, request)
                    at = place[1], place[0]
                    found[label].append(
                        (
                            dice(before, truth),
                            dice(after, truth),
                            dice(alone, truth),
                            after[at] == bool(label),
                            alone[at] == bool(label),
                        )
                    )
    for label, name in ((1, "inside"), (0, "outside")):
        mean = np.mean(found[label], axis=0)
        kept = np.sum(found[label], axis=0)[3:]
        print(
            f"{name}: {len(found[label])} points; Dice {mean[0]:.3f} before, {mean[1]:.3f} after, "
            f"{mean[2]:.3f} by the decoder alone; kept to {kept[0]:.0f}, by it alone {kept[1]:.0f}"
        )


if __name__ == "__main__":
    main()
