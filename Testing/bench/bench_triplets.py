"""Scoring a pool of 512 for triplets: all pairs at once against pair by pair in Python.

    python Testing/bench/bench_triplets.py [reports.csv]

Reports of the file (or made-up ones like them) are read by OBER; the figures are for reading.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "VelcroLink"))

from velcro_engine.reports.language.report_file import read_report_file
from velcro_engine.reports.meta_entities import read_report
from velcro_engine.reports.triplets import (
    POOL,
    MetaEntities,
    MetaTable,
    meta_of_report,
    mine,
    score_pair,
)


def main() -> None:
    metas = _metas(sys.argv[1] if len(sys.argv) > 1 else None)
    python = _best(lambda: [[score_pair(a, r) for r in metas] for a in metas], 3)
    making = _best(lambda: MetaTable(metas), 20)
    table = MetaTable(metas)
    vectorised = _best(table.scores, 50)
    scores = table.scores()
    rng = np.random.default_rng(0)
    mining = _best(lambda: mine(scores, np.arange(32), rng), 20)
    exact = np.array([[score_pair(a, r) for r in metas] for a in metas])
    print(f"pool of {len(metas)}: {len(metas) ** 2} pairs, least of several runs (CPU time)")
    print(f"pair by pair in Python {1000 * python:9.1f} ms")
    print(f"all at once            {1000 * vectorised:9.1f} ms  ({python / vectorised:.0f} times)")
    print(f"making the table       {1000 * making:9.1f} ms  (once a corpus, not once a pool)")
    print(f"mining a batch of 32   {1000 * mining:9.2f} ms")
    print(f"largest difference     {np.abs(exact - scores).max():9.1e}")


def _metas(path: str | None) -> list[MetaEntities]:
    if path:
        rows = read_report_file(path)
        read = [meta_of_report(read_report(r["findings"], r["impression"])) for r in rows]
        return random.Random(0).sample(read, min(POOL, len(read)))
    draw = random.Random(0)
    findings = [f"finding {i}" for i in range(60)]
    words = [f"word {i}" for i in range(20)]
    return [
        MetaEntities(
            {
                name: (
                    frozenset(draw.sample(words, draw.randint(0, 3))),
                    frozenset(draw.sample(["left", "right"], draw.randint(0, 2))),
                )
                for name in draw.sample(findings, draw.randint(0, 5))
            }
        )
        for _ in range(POOL)
    ]


def _best(call, times: int) -> float:
    least = float("inf")
    for _ in range(times):
        start = time.process_time()
        call()
        least = min(least, time.process_time() - start)
    return least


if __name__ == "__main__":
    main()
