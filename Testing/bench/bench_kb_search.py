"""Time and memory of searching a knowledge base of 10^3 to 10^6 entries.

    python Testing/bench/bench_kb_search.py [--largest 1000000] [--out Testing/bench/kb_search.json]

Vectors: exact cosine search over a memory-mapped matrix of 256 numbers a row, each size in a
process of its own, so that its peak of resident memory is its own. Names: `SearchIndex` over
made-up names. Nothing here is asserted; the figures are for reading.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "VelcroLink"))

DIMENSION = 256
QUERIES = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("kb_search.json"))
    parser.add_argument("--vectors", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--names", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.vectors:
        path, count, dtype, workers = args.vectors
        print(json.dumps(measure_vectors(Path(path), int(count), dtype, int(workers))))
        return
    if args.names:
        print(json.dumps(measure_names(args.names)))
        return
    sizes = [n for n in (1_000, 10_000, 100_000, 1_000_000) if n <= args.largest]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    figures = {
        "machine": f"{platform.machine()}, {cores} cores usable, numpy {np.__version__}",
        "dimension": DIMENSION,
        "vectors": vectors(sizes, sorted({1, min(2, cores or 1)})),
        "names": [alone("--names", str(n)) for n in sizes if n <= 100_000],
    }
    report(figures)
    args.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"written to {args.out}")


def vectors(sizes: list[int], workers: list[int]) -> list[dict]:
    found = []
    for dtype in ("float32", "float16"):
        for count in sizes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "vectors.npy"
                write_vectors(path, count, dtype)
                for n in workers:
                    found.append(alone("--vectors", str(path), str(count), dtype, str(n)))
    return found


def write_vectors(path: Path, count: int, dtype: str) -> None:
    from velcro_engine.knowledge_base.embeddings import _record_type, unit_rows

    records = np.lib.format.open_memmap(
        path, mode="w+", dtype=_record_type(DIMENSION, dtype), shape=(count,)
    )
    rng = np.random.default_rng(0)
    for start in range(0, count, 50_000):
        rows = rng.normal(size=(min(50_000, count - start), DIMENSION)).astype(np.float32)
        records["vector"][start : start + len(rows)] = unit_rows(rows)
    records.flush()


def alone(*arguments: str) -> dict:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measure_vectors(path: Path, count: int, dtype: str, workers: int) -> dict:
    from velcro_engine.knowledge_base.embeddings import EmbeddingIndex

    before = resident_mb()
    index = EmbeddingIndex.open(path, Rows(count), dtype)
    index.workers = workers
    rng = np.random.default_rng(1)
    first = timed(lambda: index.search(rng.normal(size=DIMENSION)))
    times = [timed(lambda: index.search(rng.normal(size=DIMENSION))) for _ in range(QUERIES)]
    exact = index.search(index.matrix[count // 2])[0][0][0] == str(count // 2)
    return {
        "entries": count,
        "dtype": dtype,
        "workers": workers,
        "first_ms": round(1000 * first, 2),
        "median_ms": round(1000 * float(np.median(times)), 2),
        "worst_ms": round(1000 * max(times), 2),
        "resident_mb": round(resident_mb()),
        "before_mb": round(before),
        "finds_itself": exact,
    }


class Rows:
    """Ids of rows without a list of a million strings, so that the matrix alone is measured."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> str:
        return str(row)


def measure_names(count: int) -> dict:
    from velcro_engine.knowledge_base.entry import Entry
    from velcro_engine.knowledge_base.search import SearchIndex
    from velcro_engine.knowledge_base.store import KnowledgeBase

    rng = np.random.default_rng(2)
    syllables = [a + b for a in "bcdfglmnprstv" for b in ("a", "e", "i", "o", "u", "al", "or")]
    words = ["".join(rng.choice(syllables, 4)) for _ in range(max(500, count // 20))]
    names = [" ".join(rng.choice(words, 3)) for _ in range(count)]
    entries = tuple(
        Entry(f"e{n}", name, "Some words of a text.", "anatomy") for n, name in enumerate(names)
    )
    start = time.perf_counter()
    index = SearchIndex(KnowledgeBase(entries, ()))
    built = time.perf_counter() - start
    asked = [names[n] for n in rng.integers(0, count, QUERIES)]
    misspelt = [name[:3] + name[4:] for name in asked]
    hits = 0
    times = []
    for name, query in zip(asked, misspelt, strict=True):
        start = time.perf_counter()
        found = index.search(query, 3)
        times.append(time.perf_counter() - start)
        hits += name in [hit.entry.name for hit in found]
    return {
        "entries": count,
        "build_s": round(built, 2),
        "median_ms": round(1000 * float(np.median(times)), 2),
        "worst_ms": round(1000 * max(times), 2),
        "found_misspelt": f"{hits}/{QUERIES}",
        "resident_mb": round(resident_mb()),
    }


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def resident_mb() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def report(figures: dict) -> None:
    print(figures["machine"])
    print("entries    dtype    threads  first ms  median ms  worst ms  resident MB")
    for row in figures["vectors"]:
        print(
            f"{row['entries']:9d}  {row['dtype']:8s} {row['workers']:7d} {row['first_ms']:9.1f} "
            f"{row['median_ms']:10.2f} {row['worst_ms']:9.1f} {row['resident_mb']:12d}"
        )
    print("names: entries  build s  median ms  worst ms  found misspelt  resident MB")
    for row in figures["names"]:
        print(
            f"{row['entries']:14d} {row['build_s']:8.2f} {row['median_ms']:10.2f} "
            f"{row['worst_ms']:9.1f} {row['found_misspelt']:>15s} {row['resident_mb']:12d}"
        )


if __name__ == "__main__":
    main()
