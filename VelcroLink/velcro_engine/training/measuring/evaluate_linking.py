"""`velcrolink evaluate --task linking`: arguments in, metrics out."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...linking.linker import Linker, open_linker
from ...model.folder import model_folder
from ..data.case_data import case_keys
from .evaluation_report import write_report
from .link_evaluation import Row, evaluate_cases
from .link_figures import Benchmark, entity_figures, figures


def evaluate(args: argparse.Namespace, folder: Path, progress) -> dict[str, Any]:
    """Link every sample of every case; the report goes into `folder`."""
    started = time.monotonic()
    data = Path(args.data)
    keys = case_keys(data, Path(args.splits) if args.splits else None, args.split)
    if args.limit:
        keys = keys[: args.limit]
    if not keys:
        raise InputError(
            f"No labelled case was found in '{data}'; expected DATASET/labels.json and "
            "DATASET/CASE/image.* + labels.*."
        )
    measure: Callable[..., tuple[list[Row], list[str]]] = evaluate_cases
    if args.baseline:
        from .baselines import TEXT_MODEL, baseline_run, open_baseline

        run = baseline_run(args.baseline, args.model)
        linker = open_linker(run / TEXT_MODEL, args.kb, examples=False)
        measure = open_baseline(args.baseline, linker, run).evaluate_cases
    else:
        linker = open_linker(args.model, args.kb, examples=False)
    options = {"skull": True} if args.skull else {}
    rows, problems = measure(linker, data, keys, step_mm=args.step_mm, progress=progress, **options)
    for line in problems:
        print(f"left out: {line}", file=sys.stderr)
    base = linker.knowledge_base
    trained = None if args.baseline else getattr(linker.runtime, "trained_entities", None)
    bench = Benchmark({e.id: set(base.ancestors(e.id)) for e in base.entries}, trained)
    model = args.baseline or linker.runtime.name
    metrics = {
        "task": "linking",
        "model": model,
        "kb": base.version,
        "kb_entries": len(base),
        "cases": len({r.case for r in rows}),
        "left_out": problems,
        "groups": figures(rows, bench),
        "entities": entity_figures(rows),
        "training": training_budget(args, linker),
        "seconds": {
            "per_region": round(sum(r.seconds for r in rows) / len(rows), 4),
            "total": round(time.monotonic() - started, 1),
        },
        "memory_mb": peak_memory_mb(),
    }
    write_report(folder, metrics, rows)
    return metrics


def training_budget(args: argparse.Namespace, linker: Linker) -> dict[str, Any]:
    """What the measured model was trained for, as far as its folder tells."""
    if not args.baseline:
        steps = model_folder(args.model).config.get("trained_steps")
        return {} if steps is None else {"steps": steps}
    from .baselines import baseline_run

    raw = json.loads((baseline_run(args.baseline, args.model) / "state.json").read_text("utf-8"))
    return {
        "steps": raw["step"],
        "slices": raw["step"] * raw["recipe"]["batch"],
        "processor_minutes": round(raw.get("processor_seconds", 0.0) / 60, 1),
        "text_side": linker.runtime.name,
    }


def peak_memory_mb() -> float | None:
    """Largest resident size of this process so far, None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
