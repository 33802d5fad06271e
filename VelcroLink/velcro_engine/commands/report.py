"""`velcrolink report entities FILE.csv --out FOLDER`: findings of many reports as tables."""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

from ..console.output_folder import check_output_folder, output_folder
from ..knowledge_base.store import load_knowledge_base
from ..reports.language.coder import coded_findings
from ..reports.language.entry_terms import ontology_with_entries
from ..reports.language.findings import ReportFindings
from ..reports.language.ontology import Ontology
from ..reports.language.report_file import read_report_file
from ..reports.meta_entities import as_dict, entry_of, read_report
from .draft import add_draft_arguments

COLUMNS = (
    "uid",
    "finding",
    "entry",
    "certainty",
    "sides",
    "places",
    "qualifiers",
    "summary",
    "section",
    "sentence",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run such a cell


def add_arguments(subparsers: argparse._SubParsersAction) -> None:
    """Add the command `report`; `run` is set as the default to call."""
    parser = subparsers.add_parser("report", help="read findings from radiology reports")
    commands = parser.add_subparsers(dest="report_command", required=True, metavar="COMMAND")
    entities = commands.add_parser(
        "entities",
        help="findings, places, sides and qualifiers of every report of a CSV file",
        description="Read the columns findings and impression (or report, or text) of a CSV file. "
        "Writes entities.csv, one line a mention, and reports.jsonl, one line a report.",
    )
    entities.add_argument(
        "file", type=Path, metavar="FILE.csv", help="reports, with a column findings or report"
    )
    entities.add_argument("--out", required=True, metavar="DIR", help="folder for the tables")
    entities.add_argument(
        "--entries",
        action="store_true",
        help="look up all names of the knowledge base too, for reports of other regions",
    )
    entities.add_argument(
        "--kb",
        type=Path,
        action="append",
        metavar="FILE",
        help="with --entries: knowledge base instead of the bundled one; may be repeated",
    )
    entities.add_argument("--absent", action="store_true", help="also what the text denies")
    parser.set_defaults(run=run)
    add_draft_arguments(commands)


def run(args: argparse.Namespace) -> int:
    """Read the reports, write the tables, say how many findings there are."""
    out = check_output_folder(args.out)
    rows = read_report_file(args.file)
    ontology = None
    if args.entries or args.kb:
        ontology = ontology_with_entries(load_knowledge_base(args.kb).entries)
    start = time.perf_counter()
    mentions = 0
    with (
        output_folder(args.out) as folder,
        open(folder / "entities.csv", "w", encoding="utf-8", newline="") as table,
        open(folder / "reports.jsonl", "w", encoding="utf-8") as lines,
    ):
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        for row in rows:
            report = read_report(row["findings"], row["impression"], ontology)
            line = report_line(row["uid"], report, ontology)
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            coded = {item["finding"] for item in line["summary"]}
            for cells in entity_rows(row["uid"], report, coded, args.absent, ontology):
                writer.writerow([_plain(cell) for cell in cells])
                mentions += 1
    seconds = time.perf_counter() - start
    print(f"{len(rows)} reports, {mentions} mentions in {seconds:.1f} s")
    print(f"Written: {out / 'entities.csv'}, {out / 'reports.jsonl'}")
    return 0


def report_line(
    uid: str, report: ReportFindings, ontology: Ontology | None = None
) -> dict[str, Any]:
    """One report as JSON: what it says, what it denies, and a coder's summary of it."""
    summary = [
        {
            "finding": item.finding,
            "entry": entry_of(item.finding, ontology),
            "sides": sorted(item.sides),
            "places": sorted(item.places),
            "qualifiers": sorted(item.qualifiers),
            "score": item.score,
        }
        for item in coded_findings(report)
    ]
    return {"uid": uid, **as_dict(report), "summary": summary}


def entity_rows(
    uid: str,
    report: ReportFindings,
    coded: set[str],
    absent: bool = False,
    ontology: Ontology | None = None,
) -> list[list[str]]:
    """Rows of `COLUMNS`, one a mention; `summary` is "yes" for the findings in `coded`."""
    return [
        [
            uid,
            mention.finding,
            entry_of(mention.finding, ontology) or "",
            mention.certainty,
            " ".join(sorted(mention.sides)),
            " ".join(sorted(mention.places)),
            " ".join(sorted(mention.qualifiers)),
            "yes" if mention.finding in coded and mention.certainty != "absent" else "no",
            sentence.section,
            sentence.text,
        ]
        for sentence in report.sentences
        for mention in sentence.mentions
        if absent or mention.certainty != "absent"
    ]


def _plain(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
