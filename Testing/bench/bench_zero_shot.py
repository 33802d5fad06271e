"""Entities that a model was never trained on: linked by their text, and with example regions.

python Testing/bench/bench_zero_shot.py --model DIR --data ../shared/data [--step-mm 16]
DIR: a model folder of a run with `velcrolink train --leave-out zero-shot`. Gold boxes on dev, ranked
over the whole knowledge base, with 0, 1, 3 and 10 examples of every entity left out, drawn from train
cases (as `velcrolink kb example` would store them), five draws. Prints top-1 and top-5 of those, the
one for each entity, and top-1 of all other entities, which examples must not hurt. Half an hour.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from velcro_engine.linking.linker import open_linker
from velcro_engine.linking.ranking import entry_probabilities
from velcro_engine.linking.region_examples import Example
from velcro_engine.training.data.benchmark_samples import benchmark_table, case_slices
from velcro_engine.training.data.case_data import case_keys
from velcro_engine.training.measuring.link_evaluation import (
    LinkerAnswers,
    request_of,
    windows_of,
)

COUNTS = (0, 1, 3, 10)
DRAWS = 5
TRAIN_CASES, TRAIN_STEP_MM = 8, 24.0  # of each data set, for examples


def regions(answerer, data: Path, keys, step_mm: float, wanted=None):
    """(entity, embedding) of every region with a gold box; of `wanted` entities only, if given."""
    known = answerer.knowledge_base.by_id
    for key in keys:
        print(f"\r{key:60}", end="", file=sys.stderr, flush=True)
        for _, cut, samples in case_slices(data, key, step_mm, prepared=answerer.prepared):
            asked = [
                (s, "gold", request_of(cut, s, "gold"))
                for s in samples
                if s.label.entity in known and (wanted is None or s.label.entity in wanted)
            ]
            for window, questions in windows_of(asked, answerer.size):
                requests = [question[2] for question in questions]
                encoded = answerer.encode(requests[0], window)
                found = answerer.answer(encoded, requests, window).regions
                yield from ((q[0].label.entity, r) for q, r in zip(questions, found, strict=True))


def ranks(linker, entities: list[str], vectors: np.ndarray) -> np.ndarray:
    """Place of the right entry among all, 0 the best."""
    probability, _ = entry_probabilities(
        vectors, linker.embeddings, None, linker.runtime.calibration.temperature
    )
    number = {entry.id: n for n, entry in enumerate(linker.knowledge_base.entries)}
    mine = probability[np.arange(len(entities)), [number[e] for e in entities]]
    return (probability > mine[:, None]).sum(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--step-mm", type=float, default=16.0)
    args = parser.parse_args()
    linker = open_linker(args.model, examples=False)
    answerer = LinkerAnswers(linker)
    unseen = sorted(set(benchmark_table()["zero_shot"]) - linker.runtime.trained_entities)
    if not unseen:
        sys.exit("This model was trained on all entities of the benchmark's zero-shot list.")
    splits = args.data / "splits.json"
    of_set: dict[str, list[str]] = defaultdict(list)
    for key in case_keys(args.data, splits, "train"):
        of_set[key.split("/")[0]].append(key)
    keys = [key for members in of_set.values() for key in members[:TRAIN_CASES]]
    pool: dict[str, list[np.ndarray]] = defaultdict(list)
    for entity, region in regions(answerer, args.data, keys, TRAIN_STEP_MM, unseen):
        pool[entity].append(region)
    dev = case_keys(args.data, splits, "dev")
    told = list(regions(answerer, args.data, dev, args.step_mm))
    print(file=sys.stderr)
    entities, vectors = [e for e, _ in told], np.stack([r for _, r in told])
    new = np.isin(entities, unseen)
    seen = np.isin(entities, sorted(linker.runtime.trained_entities))
    print(
        f"{int(new.sum())} regions of {len(unseen)} entities left out, {int(seen.sum())} of others"
    )
    print("examples  top-1  top-5  others' top-1   top-1 of each entity left out")
    for count in COUNTS:
        first, fifth, others, each = [], [], [], defaultdict(list)
        for draw in range(DRAWS if count else 1):
            rng = np.random.default_rng([draw, count])
            shown = {
                entity: tuple(
                    Example(members[int(n)])
                    for n in rng.choice(len(members), min(count, len(members)), replace=False)
                )
                for entity, members in sorted(pool.items())
            }
            linker.use_examples(shown if count else {})
            at = ranks(linker, entities, vectors)
            first.append((at[new] == 0).mean())
            fifth.append((at[new] < 5).mean())
            others.append((at[seen] == 0).mean())
            for entity in unseen:
                here = np.array([e == entity for e in entities])
                if here.any():
                    each[entity].append((at[here] == 0).mean())
        single = ", ".join(f"{entity} {np.mean(v):.2f}" for entity, v in each.items())
        print(
            f"{count:8}  {np.mean(first):.3f}  {np.mean(fifth):.3f}  {np.mean(others):13.3f}   {single}"
        )


if __name__ == "__main__":
    main()
