"""`velcrolink ablate`: what each alignment objective changes, as one table (JSON and HTML)."""

from __future__ import annotations

import argparse
import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...console.output_folder import output_folder
from ...console.progress import Progress as Said
from ...errors import InputError
from ...knowledge_base import KnowledgeBase, load_knowledge_base
from ..data.case_data import case_keys
from ..data.slice_sampler import SliceSampler
from ..learning.checkpoints import load_checkpoint
from ..learning.report_alignment import spoken_sentences
from ..learning.training_state import TrainingState
from ..losses.alignment_objectives import Kinship
from ..measuring.head_ablation import FIGURES as HEAD_FIGURES
from ..measuring.head_ablation import ablate_heads
from ..measuring.region_features import (
    RecordingNetwork,
    RegionFeatures,
    case_features,
    training_features,
)
from ..measuring.region_samples import spread
from ..measuring.text_ablation import FIGURES as TEXT_FIGURES
from ..measuring.text_ablation import ablate_text, unit_embeddings
from ..recipes.recipe import Recipe
from .export import entity_targets, open_or_new_tower
from .train import load_cases

MOST_PER_CASE = 40
HEAD_ONLY = (
    "Head only: the network that makes the features was trained without these objectives and stays "
    "as it is; each row trains a new region head on the same kept features. This says what an "
    "objective does to the last step of a region's embedding, not what it would do to an encoder."
)
FEW_STEPS = (
    "Each row starts from the same text tower and is fitted for the same few steps; \"without\" goes "
    "on with the knowledge base alone."
)  # fmt: skip
Progress = Callable[[int, int, str], None]


def ablate_command(args: argparse.Namespace) -> int:
    """Measure; kept features of an earlier call in --out are used again."""
    if bool(args.reports) != bool(args.dev_reports):
        raise InputError("Give --reports and --dev-reports together.")
    state, recipe = load_checkpoint(Path(args.run_folder))
    base = load_knowledge_base(args.kb)
    said = Said()
    with output_folder(args.out) as folder:  # kept even when what follows is interrupted
        library, queries, problems = kept_features(args, folder, state, recipe, base, said)
    with output_folder(args.out) as folder:
        known = [base.by_id.get(e) for e in state.entities]
        findings = {e.id for e in known if e is not None and e.kind != "anatomy"}
        kinship = Kinship.of(state.entities, base)
        result: dict[str, Any] = {
            "task": "ablation",
            "what": HEAD_ONLY,
            "run_steps": state.step,
            "regions": {"library": len(library), "queries": len(queries)},
            "cases": len(set(queries.case)),
            "left_out": problems,
            "heads": ablate_heads(
                state, recipe, library, queries, kinship, findings,
                args.head_steps, args.head_batch, args.seeds, said,
            ),
        }  # fmt: skip
        if args.reports:
            result["text"] = text_rows(args, state, recipe, base, library, queries, said)
        text = json.dumps(result, indent=1)
        (folder / "ablation.json").write_text(text + "\n", encoding="utf-8")
        (folder / "index.html").write_text(page(result), encoding="utf-8")
    for part in ("heads", "text"):
        for row, figures in result.get(part, {}).items():
            told = ", ".join(f"{k} {v['value']:.3f} ({v['gain']:+.3f})" for k, v in figures.items())
            print(f"{part:6}{row:20} {told}")
    print(f"Written: {Path(args.out) / 'index.html'}")
    return 0


def kept_features(
    args: argparse.Namespace,
    folder: Path,
    state: TrainingState,
    recipe: Recipe,
    base: KnowledgeBase,
    progress: Progress,
) -> tuple[RegionFeatures, RegionFeatures, list[str]]:
    """(training regions, regions to measure, what could not be read); written into `folder`."""
    out = Path(args.out)
    key = json.dumps([state.step, args.slices, args.split, args.limit, args.step_mm])
    if (out / "features.json").is_file() and (out / "features.json").read_text("utf-8") == key:
        print(f"Features: those kept in {out}")
        return (
            RegionFeatures.read(out / "library.npz"),
            RegionFeatures.read(out / "queries.npz"),
            [],
        )
    data, splits = Path(args.data), Path(args.splits)
    keys = {name: case_keys(data, splits, name) for name in ("train", args.split)}
    if args.limit:
        keys = {name: spread(found, args.limit) for name, found in keys.items()}
    if not all(keys.values()):
        raise InputError(f"'{splits}' names no case of '{data}' in train or {args.split}.")
    network = RecordingNetwork.of(state)
    cases = load_cases(data, keys["train"], print)
    sampler = SliceSampler(
        cases, state.entities, recipe.network.size, recipe.prompts, recipe.dataset_weights
    )
    kinship = Kinship.of(state.entities, base)
    library = training_features(network, sampler, kinship, args.slices, recipe.seed, progress)
    queries, problems = case_features(
        network, data, keys[args.split], state.entities, base, args.step_mm, MOST_PER_CASE, progress
    )
    library.write(folder / "library.npz")
    queries.write(folder / "queries.npz")
    (folder / "features.json").write_text(key, encoding="utf-8")
    return library, queries, problems


def text_rows(
    args: argparse.Namespace,
    state: TrainingState,
    recipe: Recipe,
    base: KnowledgeBase,
    library: RegionFeatures,
    queries: RegionFeatures,
    progress: Progress,
) -> dict[str, Any]:
    """The rows of the text tower."""
    targets = {k: v for k, v in entity_targets(state).items() if k in base.by_id}
    folder = Path(args.text_from) if args.text_from else Path(args.run_folder) / "text"
    return ablate_text(
        open_or_new_tower(folder, base, recipe.network.embedding),
        spoken_sentences([args.reports], base),
        base,
        targets,
        state.entities,
        (unit_embeddings(library, state), library),
        (unit_embeddings(queries, state), queries),
        Path(args.dev_reports),
        args.text_steps,
        args.text_seeds,
        progress,
    )


def page(result: dict[str, Any]) -> str:
    """The table as one HTML page; a gain whose interval excludes zero is bold."""
    regions = result["regions"]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>VelcroLink: ablation</title>"
        "<style>body{font:15px/1.4 sans-serif;margin:2em;max-width:80em}table{border-collapse:"
        "collapse}td,th{padding:3px 10px;border-bottom:1px solid #ccc;text-align:right;"
        "vertical-align:top}td:first-child,th:first-child{text-align:left}small{color:#555}</style>"
        "<h1>Alignment objectives: ablation</h1>"
        f"<p>Run at step {result['run_steps']}; {regions['library']} training regions, "
        f"{regions['queries']} measured regions of {result['cases']} cases. Value with its 95 % "
        'interval (bootstrap over cases or reports), below it the gain over "without", query by '
        "query, with its interval; bold where that excludes zero.</p>",
        f"<h2>Regions</h2><p>{html.escape(HEAD_ONLY)}</p>",
        _table(result["heads"], HEAD_FIGURES),
    ]
    if "text" in result:
        parts += [
            f"<h2>Report sentences</h2><p>{html.escape(FEW_STEPS)}</p>",
            _table(result["text"], TEXT_FIGURES),
        ]
    return "".join(parts) + "</html>"


def _table(rows: dict[str, Any], figures: dict[str, str]) -> str:
    shown = [name for name in figures if any(name in row for row in rows.values())]
    head = "".join(
        f"<th>{html.escape(n)}<br><small>{html.escape(figures[n])}</small></th>" for n in shown
    )
    body = "".join(
        f"<tr><td>{html.escape(row)}</td>"
        + "".join(f"<td>{_cell(values.get(name))}</td>" for name in shown)
        + "</tr>"
        for row, values in rows.items()
    )
    return f"<table><tr><th>objective</th>{head}</tr>{body}</table>"


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    text = f"{figure['value']:.3f}<br><small>{_interval(figure['ci'])}</small>"
    low, high = figure["gain_ci"]
    if low == high == 0:
        return text
    gain = f"{figure['gain']:+.3f} ({_interval(figure['gain_ci'])})"
    return text + (f"<br><b>{gain}</b>" if low > 0 or high < 0 else f"<br><small>{gain}</small>")


def _interval(bounds: Sequence[float]) -> str:
    return " to ".join(f"{v:.3f}" for v in bounds)
