"""Make `head_places.json` from labelled brains: where each structure lies in a head.

    python -m velcro_engine.training.data.head_places --data DIR --splits FILE --split train

Of every case with enough brain structures, the mean and covariance of each structure's voxels along
the scanner's axes, in half extents of the case's foreground; then means over the cases and their
mirror images, since a head's frame must not lean to one side.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import InputError, VelcroError
from ...knowledge_base import load_knowledge_base
from .case_data import Case, case_keys, load_case

LEAST_STRUCTURES = 30
LEAST_CASES = 3
SOURCE = "Means over {} labelled brains; research and teaching only (CC BY-NC-SA 4.0), as the model's weights."


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[2] / "head" / "head_places.json"
    )
    args = parser.parse_args(arguments)
    cases = []
    for key in case_keys(args.data, args.splits, args.split):
        try:
            case = load_case(args.data, key)
        except VelcroError as error:
            print(f"left out: {key}: {error.message}", file=sys.stderr)
            continue
        if is_brain(case):
            print(key, file=sys.stderr)
            cases.append(places_of(case))
    document = places_document(cases)
    args.out.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(document['places'])} places of {len(cases)} brains written to {args.out}")
    return 0


def is_brain(case: Case) -> bool:
    """Whether most structures of a brain are labelled in a case with a position."""
    base = load_knowledge_base(None)
    named = {case.labels[value].entity for _, value in case.voxels}
    brain = {e for e in named if e in base.by_id and "brain" in base.ancestors(e)}
    return case.spacing is not None and case.fore is not None and len(brain) >= LEAST_STRUCTURES


MIRRORED = {"left": "right", "right": "left", None: None}
MIRROR = np.array([-1.0, 1.0, 1.0])
Places = dict[tuple[str, str | None], np.ndarray]


def places_of(case: Case) -> tuple[np.ndarray, Places]:
    """(half extents in mm, points N x 3 of each structure along R, A, S in half extents)."""
    assert case.spacing is not None and case.fore is not None
    found: Places = {}
    for (_, value), kji in case.voxels.items():
        label = case.labels[value]
        ras = kji[:, ::-1] * case.spacing + case.origin
        found[(str(label.entity), label.side)] = case.fore.relative(ras)
    return np.asarray(case.fore.half_extent), found


def places_document(cases: list[tuple[np.ndarray, Places]]) -> dict:
    """What head_places.json holds. Raises InputError without cases."""
    if len(cases) < LEAST_CASES:
        raise InputError(f"At least {LEAST_CASES} labelled brains are needed.")
    keys = sorted({key for _, found in cases for key in found}, key=lambda k: (k[0], k[1] or ""))
    rows = []
    for key in keys:
        members = [found[key] for _, found in cases if len(found.get(key, ())) > 3]
        mate = (key[0], MIRRORED[key[1]])
        members += [found[mate] * MIRROR for _, found in cases if len(found.get(mate, ())) > 3]
        if len(members) < 2 * LEAST_CASES:
            continue
        means = np.array([points.mean(0) for points in members])
        spread = np.mean([np.cov(points.T) for points in members], axis=0) + np.cov(means.T)
        rows.append(
            {
                "entity": key[0],
                "side": key[1],
                "mean": [round(float(v), 4) for v in means.mean(0)],
                "spread": [[round(float(v), 5) for v in row] for row in spread],
            }
        )
    half = np.log([extent for extent, _ in cases])
    return {
        "source": SOURCE.format(len(cases)),
        "log_half_extent": [round(float(v), 4) for v in half.mean(0)],
        "log_half_extent_sd": round(float(max(0.05, half.std(0).max())), 4),
        "places": rows,
    }


if __name__ == "__main__":
    sys.exit(main())
