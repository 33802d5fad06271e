"""Time, file and memory of the case library at three sizes; 10^6 by extrapolation.

    python Testing/bench/bench_cases.py [--sizes 10000 30000 100000] [--out Testing/bench/cases.json]

Items: made-up unit embeddings of 256 numbers, places drawn from the bundled knowledge base's
anatomy with a side, a thumbnail of 4 kB, a short text. Each size runs in a process of its own, so
that its peak of resident memory is its own. Nothing is asserted; the figures are for reading.
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
QUERIES = 40
MODEL = "bench"
CLUSTER = 60  # entries that items are drawn from, so that places are as crowded as in practice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("cases.json"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    rows = []
    for size in args.sizes:
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(size)],
            capture_output=True,
            text=True,
            check=True,
        )
        rows.append(json.loads(done.stdout))
        print(json.dumps(rows[-1]), flush=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    figures = {
        "machine": f"{platform.machine()}, {cores} cores usable, numpy {np.__version__}",
        "dimension": DIMENSION,
        "sizes": rows,
        "extrapolated_to_1000000": extrapolated(rows, 1_000_000) if len(rows) > 2 else None,
    }
    args.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures["extrapolated_to_1000000"]))
    print(f"written to {args.out}")


def measure(count: int) -> dict:
    from velcro_engine.cases import CaseLibrary, Query
    from velcro_engine.cases.record import location_condition
    from velcro_engine.knowledge_base import active_paths, load_knowledge_base

    base = load_knowledge_base(active_paths())
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.sqlite3"
        with CaseLibrary(path) as library:
            one = timed(lambda: library.add_many(items(base, rng, 20, "single"), base)) / 20
            adding = timed(
                lambda: library.add_many(items(base, rng, count - 20, "case"), base, batch=5000)
            )
        before = resident_mb()
        with CaseLibrary(path) as library:
            first = timed(lambda: library.search(query(rng, None)))
            places = [
                location_condition(base, entry, side)
                for entry, side in (("lung", "left"), ("brain", None), ("liver", None))
            ]
            conditioned, conditioned_cpu = repeated(
                lambda n: library.search(query(rng, places[n % 3]))
            )
            free, free_cpu = repeated(lambda n: library.search(query(rng, None)))
            share = [
                len(library.ranked(Query(model=MODEL, location=p, limit=count))) for p in places
            ]
        return {
            "items": count,
            "add_one_ms": round(1000 * one, 2),
            "add_batched_s": round(adding, 1),
            "open_and_first_query_s": round(first, 2),
            "conditioned_median_ms": round(1000 * float(np.median(conditioned)), 2),
            "conditioned_worst_ms": round(1000 * max(conditioned), 2),
            "conditioned_cpu_median_ms": round(1000 * float(np.median(conditioned_cpu)), 2),
            "conditioned_cpu_worst_ms": round(1000 * max(conditioned_cpu), 2),
            "conditioned_items": share,
            "unconditioned_median_ms": round(1000 * float(np.median(free)), 2),
            "unconditioned_cpu_median_ms": round(1000 * float(np.median(free_cpu)), 2),
            "file_mb": round(sum(p.stat().st_size for p in path.parent.iterdir()) / 2**20, 1),
            "resident_mb": round(resident_mb() - before, 1),
        }


def items(base, rng, count: int, prefix: str):
    from velcro_engine.cases import Item, Place

    chosen = ["lung", "liver", "brain", "lung_upper_lobe", "hippocampus", "kidney"]
    anatomy = [e.id for e in base.entries if e.kind == "anatomy"]
    chosen += [str(e) for e in np.random.default_rng(1).choice(anatomy, CLUSTER - len(chosen))]
    picture = b"\x89PNG\r\n\x1a\n" + bytes(4096)
    for n in range(count):
        entry = chosen[int(rng.integers(len(chosen)))]
        side = (None, "left", "right")[int(rng.integers(3))]
        yield Item(
            f"{prefix}-{n // 20}",
            "roi",
            entry,
            side,
            rng.standard_normal(DIMENSION),
            MODEL,
            (Place(entry, side),),
            attributes={"longest_diameter_mm": float(n)},
            text="A short sentence about it.",
            thumbnail=picture,
            plane="axial",
            modality="MR",
        )


def query(rng, location):
    from velcro_engine.cases import Query

    return Query(rng.standard_normal(DIMENSION), model=MODEL, location=location)


def extrapolated(rows: list[dict], size: int) -> dict:
    """Straight line through the sizes, least squares."""
    counts = np.array([row["items"] for row in rows], dtype=float)
    found = {}
    for key in (
        "open_and_first_query_s",
        "conditioned_median_ms",
        "conditioned_cpu_median_ms",
        "unconditioned_median_ms",
        "unconditioned_cpu_median_ms",
        "file_mb",
        "resident_mb",
    ):
        slope, start = np.polyfit(counts, [row[key] for row in rows], 1)
        found[key] = round(float(slope * size + start), 1)
    return found


def repeated(call) -> tuple[list[float], list[float]]:
    """Wall and processor seconds of QUERIES calls; on a busy machine only the latter are its own."""
    wall, cpu = [], []
    for n in range(QUERIES):
        at, own = time.perf_counter(), time.process_time()
        call(n)
        wall.append(time.perf_counter() - at)
        cpu.append(time.process_time() - own)
    return wall, cpu


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def resident_mb() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**20


if __name__ == "__main__":
    main()
