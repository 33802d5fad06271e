"""How many regions could teach a qualifier ("severe", "hazy"): chest images with a clinical note.

A qualifier of a note is tied to a region when the note gives it to a finding that is labelled on the
image, as itself or as a kind of it, and to one region only when just one is labelled.

    python Testing/bench/bench_qualifiers.py DATA
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path

import numpy as np

from velcro_engine.knowledge_base import KnowledgeBase, load_knowledge_base
from velcro_engine.reports.meta_entities import entry_of, read_report
from velcro_engine.training.data.benchmark_samples import read_label_array
from velcro_engine.training.data.case_data import read_labels


def qualifiers_of_regions(data: Path, base: KnowledgeBase) -> dict[str, Counter]:
    """{"images", "tied", "one region"}: counts over all data sets of `data` with notes.csv."""
    found: dict[str, Counter] = {name: Counter() for name in ("images", "tied", "one region")}
    for notes in sorted(data.glob("*/notes.csv")):
        table = read_labels(notes.parent)
        with notes.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["notes"].strip()]
        for row in rows:
            found["images"]["with a note"] += 1
            layer = notes.parent / row["case"] / "labels_finding.png"
            if not layer.is_file():
                continue
            values = np.unique(read_label_array(layer)).tolist()
            regions = Counter(table[v].entity for v in values if v and table[v].entity)
            if not regions:
                continue
            found["images"]["with a labelled finding"] += 1
            tied = _tied(row["notes"], regions, base)
            found["images"]["with a qualifier of it"] += bool(tied)
            for qualifier, alone in tied:
                found["tied"][qualifier] += 1
                found["one region"][qualifier] += alone
    return found


def _tied(note: str, regions: Counter, base: KnowledgeBase) -> list[tuple[str, bool]]:
    """(qualifier, whether just one region is labelled) of what a note says of labelled findings."""
    out = []
    for finding, told in read_report(note).summary.items():
        entry = entry_of(finding)
        if entry not in base.by_id:
            continue
        near = {*base.ancestors(entry), *base.descendants(entry), entry} & set(regions)
        alone = sum(regions[name] for name in near) == 1
        out += [(qualifier, alone) for qualifier in told["qualifiers"] if near]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    found = qualifiers_of_regions(parser.parse_args().data, load_knowledge_base(None))
    for name, counts in found.items():
        print(f"{name}: " + ", ".join(f"{key} {n}" for key, n in counts.most_common(12)))


if __name__ == "__main__":
    main()
