"""What `velcrolink evaluate` leaves: metrics.json, rows.csv, confusion.png and one HTML page."""

from __future__ import annotations

import base64
import csv
import html
import json
from collections import Counter
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .link_evaluation import Row

SHOWN_ENTITIES = 60
COLUMNS = ("n", "top1", "top1_ci", "top3", "macro", "side", "dice", "ece", "auroc")


def write_rows(path: Path, rows: list[Row]) -> None:
    """Every linked sample as one line of CSV."""
    names = [f.name for f in fields(Row)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for row in rows:
            values = [getattr(row, n) for n in names]
            writer.writerow([" ".join(v) if isinstance(v, tuple) else v for v in values])


def confusion_picture(rows: list[Row], prompt: str = "gold") -> bytes:
    """PNG: the most frequent true entities against the answers, row-normalised."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    use = [r for r in rows if r.prompt == prompt]
    names = [e for e, _ in Counter(r.entity for r in use).most_common(SHOWN_ENTITIES)]
    names.sort()
    index = {e: i for i, e in enumerate(names)}
    table = np.zeros((len(names), len(names) + 1))
    for row in use:
        if row.entity in index:
            table[index[row.entity], index.get(row.ranked[0], len(names))] += 1
    table /= np.maximum(table.sum(1, keepdims=True), 1)
    side = 3 + 0.17 * len(names)
    figure, axes = plt.subplots(figsize=(side + 1, side))
    axes.imshow(table, cmap="viridis", vmin=0, vmax=1)
    axes.set_xticks(range(len(names) + 1), [*names, "other"], rotation=90, fontsize=6)
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    figure.tight_layout()
    stream = BytesIO()
    figure.savefig(stream, dpi=110)
    plt.close(figure)
    return stream.getvalue()


def reliability_picture(rows: list[Row], prompt: str = "gold") -> bytes:
    """PNG: accuracy against confidence, and accuracy against the share that is answered."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    use = [r for r in rows if r.prompt == prompt]
    confidence = np.array([r.confidence for r in use])
    right = np.array([r.entity == r.ranked[0] for r in use], dtype=float)
    figure, (left, other) = plt.subplots(1, 2, figsize=(8, 3.6))
    edges = np.linspace(0, 1, 11)
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (confidence >= low) & (confidence < high + 1e-9 * (high == 1))
        if inside.any():
            left.bar((low + high) / 2, right[inside].mean(), width=0.09, color="#4477aa")
    left.plot([0, 1], [0, 1], "k:", lw=1)
    left.set(xlabel="confidence", ylabel="share right", xlim=(0, 1), ylim=(0, 1))
    order = np.argsort(-confidence, kind="stable")
    coverage = np.arange(1, len(order) + 1) / len(order)
    other.plot(coverage, 1 - np.cumsum(right[order]) / np.arange(1, len(order) + 1))
    other.set(xlabel="share answered", ylabel="share wrong of those", xlim=(0, 1))
    figure.tight_layout()
    stream = BytesIO()
    figure.savefig(stream, dpi=110)
    plt.close(figure)
    return stream.getvalue()


def _table(metrics: dict[str, Any]) -> str:
    lines = ["<table><tr><th>group</th><th>prompt</th>"]
    lines += [f"<th>{c}</th>" for c in COLUMNS] + ["</tr>"]
    for group, prompts in metrics["groups"].items():
        for prompt, values in prompts.items():
            cells = "".join(f"<td>{html.escape(str(values.get(c)))}</td>" for c in COLUMNS)
            lines.append(f"<tr><td>{html.escape(group)}</td><td>{prompt}</td>{cells}</tr>")
    return "".join(lines) + "</table>"


def _entity_table(metrics: dict[str, Any]) -> str:
    lines = ["<table><tr><th>entity</th><th>n</th><th>top-1</th><th>Dice</th></tr>"]
    for entity, values in metrics["entities"].items():
        lines.append(
            f"<tr><td>{html.escape(entity)}</td><td>{values['n']}</td>"
            f"<td>{values['top1']}</td><td>{values['dice']}</td></tr>"
        )
    return "".join(lines) + "</table>"


def write_report(out: Path, metrics: dict[str, Any], rows: list[Row]) -> None:
    """Write all four files into `out` (which exists); metrics.json comes last."""
    write_rows(out / "rows.csv", rows)
    confusion, reliability = confusion_picture(rows), reliability_picture(rows)
    (out / "confusion.png").write_bytes(confusion)

    def picture(data: bytes, text: str) -> str:
        return f'<img alt="{text}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'

    page = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>VelcroLink: linking</title>"
        "<style>body{font:15px/1.4 sans-serif;margin:2em;max-width:110em}table{border-collapse:"
        "collapse;margin:1em 0}td,th{padding:2px 8px;border-bottom:1px solid #ccc;text-align:"
        "right}td:first-child,th:first-child{text-align:left}img{max-width:100%}</style>"
        f"<h1>Linking: {html.escape(str(metrics['model']))}</h1>"
        f"<p>{metrics['cases']} cases, knowledge base {html.escape(str(metrics['kb']))} "
        f"({metrics['kb_entries']} entries as candidates). Intervals: 95 %, bootstrap over cases.</p>"
        + _table(metrics)
        + "<h2>Confidence</h2>"
        + picture(reliability, "reliability and risk-coverage")
        + "<h2>Confusion (gold boxes)</h2>"
        + picture(confusion, "confusion matrix")
        + "<h2>Entities (gold boxes)</h2>"
        + _entity_table(metrics)
        + "</html>"
    )
    (out / "index.html").write_text(page, encoding="utf-8")
    text = json.dumps(metrics, indent=1)
    (out / "metrics.json").write_text(text + "\n", encoding="utf-8")
