"""`velcrolink compare`: several evaluations as one table, one figure and one HTML page."""

from __future__ import annotations

import argparse
import base64
import csv
import html
import json
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ...console.output_folder import output_folder
from ...errors import InputError
from ...knowledge_base import load_knowledge_base
from .link_figures import Benchmark, Sampled, bootstrap

SHOWN_GROUPS = ("headline", "fine", "brain", "lesion", "ct", "cxr", "us")
FIGURES = ("top1", "top1_ci", "top3", "macro", "side", "dice", "ece", "auroc", "n")
COLUMNS = ("model", "steps", "processor_minutes", "group", "prompt", *FIGURES)


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a folder of `velcrolink evaluate --task linking`. Raises InputError."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        if metrics["task"] != "linking":
            raise ValueError(metrics["task"])
        metrics["groups"]["fine"]["gold"]["top1"], metrics["model"]
        _check_numbers(metrics["groups"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"'{folder}' holds no linking metrics; make them with velcrolink evaluate.", repr(error)
        ) from error
    return metrics


def _check_numbers(groups: dict[str, Any]) -> None:
    """Raises KeyError, TypeError or ValueError unless every group and prompt tells its accuracy."""
    for prompts in groups.values():
        for values in prompts.values():
            low, high = values["top1_ci"]
            if not all(isinstance(n, int | float) for n in (values["top1"], low, high)):
                raise TypeError(repr(values))


def table_rows(evaluations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a model, group and prompt, with what each was trained for."""
    rows = []
    for metrics in evaluations:
        training = metrics.get("training", {})
        for group in SHOWN_GROUPS:
            for prompt, values in metrics["groups"].get(group, {}).items():
                rows.append(
                    {
                        "model": metrics["model"],
                        "steps": training.get("steps"),
                        "processor_minutes": training.get("processor_minutes"),
                        "group": group,
                        "prompt": prompt,
                        **{name: values.get(name) for name in FIGURES},
                    }
                )
    return rows


def lead(evaluations: list[dict[str, Any]], group: str, prompt: str) -> tuple[str, float] | None:
    """(best of the others, points by which the first evaluation is ahead of it)."""
    values = [e["groups"].get(group, {}).get(prompt, {}).get("top1") for e in evaluations]
    others = [
        (v, e["model"]) for v, e in zip(values[1:], evaluations[1:], strict=True) if v is not None
    ]
    if values[0] is None or not others:
        return None
    best, name = max(others)
    return str(name), round(100 * (values[0] - best), 1)


def paired_lead(first: Path, other: Path, group: str, prompt: str) -> tuple[float, float] | None:
    """95 % interval of the points by which `first` is ahead of `other` on the samples that both
    evaluations hold, whole cases being drawn with replacement; None without such samples, as when a
    folder holds figures only."""
    if not all((folder / "rows.csv").is_file() for folder in (first, other)):
        return None
    right = [_right(folder, group, prompt) for folder in (first, other)]
    shared = sorted(right[0].keys() & right[1].keys())
    if not shared:
        return None
    ahead = np.array([right[0][sample] - right[1][sample] for sample in shared])
    low, high = bootstrap(ahead, [sample[0] for sample in shared], 0)
    return round(100 * low, 1), round(100 * high, 1)


def _right(folder: Path, group: str, prompt: str) -> dict[tuple[str, ...], float]:
    """{sample: 1 if it was answered rightly} of a group, from the folder's rows.csv.

    Raises InputError when it is not of `velcrolink evaluate`."""
    bench = Benchmark(_ancestors())
    found = {}
    try:
        with (folder / "rows.csv").open(encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream):
                if line["prompt"] != prompt:
                    continue
                sample = Sampled(
                    line["entity"], line["is_picture"] == "True", tuple(line["ranked"].split())
                )
                if group in bench.groups(sample):
                    key = tuple(
                        line[k]
                        for k in ("case", "channel", "plane", "position_mm", "entity", "side")
                    )
                    found[key] = float(bench.right(sample, group))
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"'{folder}' holds no rows.csv of velcrolink evaluate; evaluate again.", repr(error)
        ) from error
    return found


@cache
def _ancestors() -> dict[str, set[str]]:
    base = load_knowledge_base(None)
    return {entry.id: set(base.ancestors(entry.id)) for entry in base.entries}


def accuracy_picture(evaluations: list[dict[str, Any]], prompt: str = "gold") -> bytes:
    """PNG: top-1 accuracy with its interval, a bar a model in every group."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    groups = [g for g in SHOWN_GROUPS if any(prompt in e["groups"].get(g, {}) for e in evaluations)]
    figure, axes = plt.subplots(figsize=(2 + 1.5 * len(groups), 4))
    width = 0.8 / len(evaluations)
    for n, metrics in enumerate(evaluations):
        x, height, below, above = [], [], [], []
        for at, group in enumerate(groups):
            values = metrics["groups"].get(group, {}).get(prompt)
            if values is None:
                continue
            low, high = values["top1_ci"]
            x.append(at - 0.4 + (n + 0.5) * width)
            height.append(values["top1"])
            below.append(max(0.0, values["top1"] - low))
            above.append(max(0.0, high - values["top1"]))
        error = np.array([below, above])
        axes.bar(x, height, width, yerr=error, label=str(metrics["model"]), error_kw={"lw": 0.8})
    axes.set_xticks(range(len(groups)), groups)
    axes.set(ylim=(0, 1), ylabel=f"top-1 accuracy, {prompt} prompts")
    axes.legend(fontsize=7, ncols=2)
    figure.tight_layout()
    stream = BytesIO()
    figure.savefig(stream, dpi=110)
    plt.close(figure)
    return stream.getvalue()


def write_comparison(out: Path, evaluations: list[dict[str, Any]]) -> None:
    """comparison.csv, comparison.png and index.html in `out` (which exists)."""
    rows = table_rows(evaluations)
    with (out / "comparison.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    pictures = {p: accuracy_picture(evaluations, p) for p in ("gold", "loose", "point")}
    (out / "comparison.png").write_bytes(pictures["gold"])
    head = "".join(f"<th>{html.escape(c)}</th>" for c in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_shown(row[c]))}</td>" for c in COLUMNS) + "</tr>"
        for row in rows
    )
    images = "".join(
        f'<img alt="top-1 accuracy, {p}" src="data:image/png;base64,'
        f'{base64.b64encode(data).decode()}">'
        for p, data in pictures.items()
    )
    (out / "index.html").write_text(
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>VelcroLink: comparison</title>"
        "<style>body{font:15px/1.4 sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{padding:2px 8px;border-bottom:1px solid #ccc;text-align:right}"
        "td:first-child,th:first-child{text-align:left}img{max-width:100%}</style>"
        "<h1>Linking: comparison</h1><p>Answers over the whole knowledge base; intervals: 95 %, "
        "bootstrap over cases. Steps and processor minutes say what each was trained for: where "
        f"they differ, so do the budgets.</p>{images}<table><tr>{head}</tr>{body}</table></html>",
        encoding="utf-8",
    )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return " to ".join(f"{v:.3f}" for v in value)
    return "" if value is None else str(value)


def compare_command(args: argparse.Namespace) -> int:
    """Compare evaluations; the first is the model, the others are what it is compared with."""
    evaluations = [read_metrics(Path(f)) for f in args.evaluations]
    with output_folder(args.out) as out:
        write_comparison(out, evaluations)
    for metrics in evaluations:
        groups = metrics["groups"]
        parts = []
        for group in ("headline", "fine"):
            for prompt, values in groups.get(group, {}).items():
                parts.append(f"{group} {prompt} {values['top1']:.3f}")
        budget = ", ".join(f"{k} {v}" for k, v in metrics.get("training", {}).items())
        print(f"{metrics['model']} ({budget or 'budget unknown'}): " + ", ".join(parts))
    for group in ("headline", "fine"):
        ahead = lead(evaluations, group, "gold")
        if ahead is None:
            continue
        best = [str(e["model"]) for e in evaluations].index(ahead[0], 1)
        first, other = (Path(args.evaluations[n]) for n in (0, best))
        between = paired_lead(first, other, group, "gold")
        told = "" if between is None else f" (95 %: {between[0]:+.1f} to {between[1]:+.1f}, paired)"
        print(f"{group}, gold boxes: {ahead[1]:+.1f} points{told} to the best other, {ahead[0]}")
    print(f"Written: {Path(args.out) / 'index.html'}")
    return 0
