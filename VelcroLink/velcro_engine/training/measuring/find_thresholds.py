"""`velcrolink calibrate --find`: from which score on a phrase counts as found, entity by entity.

Where the training labelled one structure and left all around it open (crops of a hippocampus), the
model sees that structure in whatever lies there, with scores that would be high for any other
entity. What the entity's own regions score in training says what is usual for it.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...console.output_folder import output_folder
from ...errors import InputError
from ...finding.grounding import PRESENT_ABOVE
from ...linking.linker import open_linker
from ...model.export import write_config
from ...model.folder import model_folder
from .grounding_evaluation import Row, measured_phrases
from .region_samples import query_keys

LEAST_PHRASES = 20  # of an entity that are there, for a threshold of its own
LOST = 0.05  # share of them that lies below ...
SLACK = 0.93  # ... this part of itself: images that were not trained on score a little lower


def fit_thresholds(rows: Iterable[Row]) -> dict[str, float]:
    """{entity: least score}, of entities whose usual scores lie well above the common threshold."""
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.kind == "present":
            scores[row.entity].append(row.score)
    fitted = {
        entity: round(SLACK * float(np.quantile(found, LOST)), 3)
        for entity, found in sorted(scores.items())
        if len(found) >= LEAST_PHRASES
    }
    return {entity: least for entity, least in fitted.items() if least > PRESENT_ABOVE}


def find_thresholds_command(args: argparse.Namespace) -> int:
    """Look for the phrases of `--data`, write the thresholds into the model folder's config.json."""
    from ...console.progress import Progress as Shown

    folder = model_folder(args.model)
    keys = query_keys(args)
    if not keys:
        raise InputError(f"No labelled case was found in '{args.data}'.")
    problems: list[str] = []
    linker = open_linker(folder.path, args.kb, examples=False)
    rows = measured_phrases(linker, args, keys, Shown(), problems)
    fitted = fit_thresholds(rows)
    report: dict[str, Any] = {
        "model": folder.name,
        "phrases": len(rows),
        "left_out": problems,
        "present_above": fitted,
        "others": PRESENT_ABOVE,
    }
    with output_folder(args.out) as out:
        text = json.dumps(report, indent=1)
        (out / "find.json").write_text(text + "\n", encoding="utf-8")
    if not args.report_only:
        config = {k: v for k, v in folder.config.items() if k != "files"}
        write_config(folder.path, {**config, "present_above": fitted})
    for entity, least in fitted.items():
        print(f"{entity}: {least:.3f}")
    print(f"all others: {PRESENT_ABOVE}")
    return 0
