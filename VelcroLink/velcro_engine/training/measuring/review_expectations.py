"""Make `review/expectations.json` from labelled cases.

    python -m velcro_engine.training.measuring.review_expectations --data DIR --splits FILE --split train --out FILE

Cases that share enough structures get one common frame: their centres are brought onto each other
by affine maps in turns (generalised Procrustes analysis), each case together with its mirror image,
so that left and right know from each other. Covariances are those of the prediction error that the
review itself makes, neighbours' residuals included.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import VelcroError
from ...imaging.reading import read_volume
from ...knowledge_base import load_knowledge_base
from ...review.anatomy import (
    LEAST_CENTRE_SD,
    Observation,
    Placement,
    affine_map,
    cells_of,
    local_shift,
    log_extents,
)
from ...review.expectations import (
    Expectation,
    Expectations,
    expectations_document,
    keys_of,
    mirrored_key,
)
from ...review.observing import observe
from ...segmentations.names import NameReader
from ...segmentations.reading import read_segmentation
from ...segmentations.shapes import cut_out, measure_shape
from ..data.case_data import case_keys, image_files, label_files

ROUNDS = 4
LEAST_SEGMENTS = 12  # a case with fewer cannot be laid into a frame
SHARED = 8  # structures that two cases must share to have one frame
FEW_SD = 20.0  # mm, for structures known from one case
Case = list[Observation]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--kb", action="append", metavar="FILE")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[2] / "review" / "expectations.json"
    )
    args = parser.parse_args(arguments)
    reader = NameReader(load_knowledge_base(args.kb))
    cases = []
    for key in case_keys(args.data, args.splits, args.split):
        try:
            case = observed_case(args.data, key, reader)
        except VelcroError as error:
            print(f"left out: {key}: {error.message}", file=sys.stderr)
            continue
        if len(case) >= LEAST_SEGMENTS:
            print(f"{key}: {len(case)} structures", file=sys.stderr)
            cases.append(case)
    source = (
        f"Means over {len(cases)} labelled cases; research and teaching only (CC BY-NC-SA 4.0), "
        "as the model's weights."
    )
    document = expectations_document(build(cases, source))
    args.out.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(document['structures'])} structures written to {args.out}")
    return 0


def observed_case(data: Path, key: str, reader: NameReader) -> Case:
    """Observations of a labelled case's first channel and layer; empty for a picture."""
    folder = data / key
    volume = read_volume(image_files(folder)[0])
    if volume.is_picture or not volume.has_position:
        return []
    segmentation = read_segmentation(label_files(folder)[0], volume)
    case = []
    for segment, shape in zip(segmentation.segments, cut_out(segmentation), strict=True):
        measure_shape(shape, volume)
        meaning = reader.read(segment)
        keys = keys_of(meaning.entry_id, meaning.side, segment.name)
        observation = observe(shape, volume, keys)
        if observation is not None:
            case.append(observation)
    return case


def mirrored(case: Case) -> Case:
    """The case with left and right exchanged, positions and names."""
    flip = np.array([-1.0, 1.0, 1.0])
    return [
        replace(
            o,
            keys=tuple(mirrored_key(k) for k in o.keys),
            centre=o.centre * flip,
            positions=o.positions * flip,
        )
        for o in case
    ]


def build(cases: Sequence[Case], source: str = "") -> Expectations:
    """Expectations of all structures of the cases."""
    found: dict[str, Expectation] = {}
    for number, members in enumerate(_families(cases)):
        found |= _build_frame([cases[n] for n in members], f"frame {number + 1}")
    return Expectations(found, source, {"cases": len(cases)})


def _families(cases: Sequence[Case]) -> list[list[int]]:
    names = [{o.keys[0] for o in case} for case in cases]
    families: list[list[int]] = []
    for n, own in enumerate(names):
        near = [f for f in families if any(len(own & names[m]) >= SHARED for m in f)]
        families = [f for f in families if f not in near] + [[*sum(near, []), n]]
    return families


def _build_frame(cases: list[Case], name: str) -> dict[str, Expectation]:
    both = [case for original in cases for case in (original, mirrored(original))]
    reference = max(both, key=len)
    middle = np.mean([o.centre for o in reference], axis=0)
    centres = {o.keys[0]: o.centre - middle for o in reference}
    placements: list[Placement] = []
    for _ in range(ROUNDS):
        placements = [_placed(case, centres) for case in both]
        scale = np.mean([abs(np.linalg.det(p.linear)) for p in placements]) ** (1 / 3)
        gathered: dict[str, list[np.ndarray]] = {}
        for case, placement in zip(both, placements, strict=True):
            for o in case:
                gathered.setdefault(o.keys[0], []).append(placement.to_frame(o.centre[None])[0])
        centres = {key: np.mean(values, axis=0) * scale for key, values in gathered.items()}
        offset = np.mean(list(centres.values()), axis=0)
        centres = {key: value - offset for key, value in centres.items()}
    placements = [_placed(case, centres) for case in both]
    return _statistics(both, placements, centres, name)


def _placed(case: Case, centres: dict[str, np.ndarray]) -> Placement:
    # labelled cases are right, so no majority has to be found first
    use = [o for o in case if o.keys[0] in centres]
    frame = np.array([centres[o.keys[0]] for o in use])
    ras = np.array([o.centre for o in use])
    linear, offset = affine_map(frame, ras, np.ones(len(use)))
    return Placement(linear, offset, np.ones(len(use), dtype=bool))


def _statistics(
    cases: list[Case],
    placements: list[Placement],
    centres: dict[str, np.ndarray],
    name: str,
) -> dict[str, Expectation]:
    rows: dict[str, list[tuple]] = {}
    greys = _levelled_greys(cases)
    for case, placement, levels in zip(cases, placements, greys, strict=True):
        use = [n for n, o in enumerate(case) if o.keys[0] in centres]
        frame = np.array([centres[case[n].keys[0]] for n in use])
        seen = placement.to_frame(np.array([case[n].centre for n in use]))
        sd = np.full(len(use), 3.0)
        off = seen - frame - local_shift(frame, seen - frame, sd)
        size = abs(np.linalg.det(placement.linear))
        for row, n in enumerate(use):
            o = case[n]
            positions = placement.to_frame(o.positions)
            values = (off[row], np.log(o.mm3 / size), log_extents(positions), levels[n], positions)
            for key in o.keys:
                rows.setdefault(key, []).append((o.keys[0], seen[row], *values))
    pooled = np.mean(
        [np.cov(np.array([r[2] for r in v]).T) for v in rows.values() if len(v) >= 8]
        or [np.eye(3)],
        axis=0,
    )
    found = {}
    for key, members in rows.items():
        kinds = {member[0] for member in members}
        found[key] = _expectation(members, centres, pooled, name, len(kinds))
    return found


def _levelled_greys(cases: list[Case]) -> list[list[float]]:
    """Mean grey of every structure after a line per case onto the mean of all cases."""
    gathered: dict[str, list[float]] = {}
    for case in cases:
        for o in case:
            gathered.setdefault(o.keys[0], []).append(o.grey)
    mean = {key: float(np.mean(values)) for key, values in gathered.items()}
    levelled = []
    for case in cases:
        own, usual = np.array([o.grey for o in case]), np.array([mean[o.keys[0]] for o in case])
        slope, level = np.polyfit(own, usual, 1) if np.ptp(own) > 1 else (1.0, 0.0)
        levelled.append((slope * own + level).tolist())
    return levelled


def _expectation(
    members: list[tuple], centres: dict[str, np.ndarray], pooled: np.ndarray, frame: str, kinds: int
) -> Expectation:
    # every case is there twice, once mirrored, and for a paired structure both sides count
    n = max(1, len(members) // 2)
    centre = np.mean([centres[m[0]] for m in members], axis=0)
    off = np.array([m[2] + (m[1] - centre if kinds > 1 else 0) for m in members])
    if n >= 4:
        own = off.T @ off / len(off)
        covariance = (n * own + 4 * pooled) / (n + 4)
        volume_sd = max(float(np.std([m[3] for m in members])), 0.08)
        extents_sd = np.maximum(np.std([m[4] for m in members], axis=0), 0.05)
        grey_sd = max(float(np.std([m[5] for m in members])), 2.0)
    else:
        covariance = np.eye(3) * (FEW_SD**2 - LEAST_CENTRE_SD**2)
        volume_sd, extents_sd, grey_sd = 0.7, np.full(3, 0.5), 25.0
    start, found = _found(members)
    return Expectation(
        n,
        frame,
        centre,
        covariance,
        float(np.mean([m[3] for m in members])),
        volume_sd,
        np.mean([m[4] for m in members], axis=0),
        extents_sd,
        float(np.mean([m[5] for m in members])),
        grey_sd,
        start,
        found,
    )


def _found(members: list[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """Cells in which the structure was seen, and those that share a face with one."""
    cells = np.concatenate([cells_of(m[6]) for m in members])
    start = cells.min(axis=0) - 1
    grid = np.zeros(cells.max(axis=0) - start + 2, dtype=bool)
    grid[tuple((cells - start).T)] = True
    wider = grid.copy()
    for axis in range(3):
        wider |= np.roll(grid, 1, axis) | np.roll(grid, -1, axis)
    return start, wider


if __name__ == "__main__":
    sys.exit(main())
