"""How fast reports are read: CPU and wall time for 3,000 reports and for one of a megabyte.

    python Testing/bench/bench_reports.py reports.csv

The file's reports are repeated or cut to 3,000, each shuffled by sentence so that no two are equal.
"cold" forgets the sentences read before; nothing is asserted, the figures are for reading.
"""

from __future__ import annotations

import random
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "VelcroLink"))

from velcro_engine.reports.language.coder import coded_findings, load_habits
from velcro_engine.reports.language.ontology import load_ontology
from velcro_engine.reports.language.published import read_report_published
from velcro_engine.reports.language.report_file import read_report_file
from velcro_engine.reports.meta_entities import read_report

COUNT = 3000


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("use: bench_reports.py reports.csv")
    rows = read_report_file(sys.argv[1])
    draw = random.Random(0)
    reports = []
    while len(reports) < COUNT:
        for row in rows[: COUNT - len(reports)]:
            parts = re.split(r"(?<=\.) ", f"{row['findings']} {row['impression']}")
            draw.shuffle(parts)
            reports.append(" ".join(parts))
    load_habits()
    ontology = load_ontology()
    print(f"{len(reports)} reports, {sum(map(len, reports)) / 1e6:.1f} million characters")
    ontology.read.clear()
    timed("read, cold", lambda: [read_report(text) for text in reports])
    timed("read, again", lambda: [read_report(text) for text in reports])
    ontology.read.clear()
    timed("read and coded, cold", lambda: [coded_findings(read_report(t)) for t in reports])
    timed("published rules", lambda: [read_report_published(t, "", ontology) for t in reports])
    ontology.read.clear()
    megabyte = " ".join(reports)[: 1 << 20]
    timed("one report of 1 MB, cold", lambda: read_report(megabyte))
    odd = "no effusion and opacity, " * 45_000
    timed("1 MB without a full stop", lambda: read_report(odd))


def timed(name: str, call) -> None:
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"{name:26} {cpu:6.2f} s CPU {wall:6.2f} s wall")


if __name__ == "__main__":
    main()
