"""`velcrolink evaluate`: which task is measured by what, and what is printed of it."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...console.command_options import check_data_folder
from ...console.output_folder import output_folder
from ...console.progress import Progress
from ...errors import InputError

# task -> module and function that measures it: f(args, progress) -> metrics
TASKS = {
    "linking": ("velcro_engine.training.measuring.evaluate_linking", "evaluate"),
    "retrieval": ("velcro_engine.training.measuring.case_evaluation", "evaluate_retrieval"),
    "grounding": ("velcro_engine.training.measuring.case_evaluation", "evaluate_grounding"),
    "ober": ("velcro_engine.training.measuring.report_evaluation", "evaluate_ober_command"),
    "report-retrieval": (
        "velcro_engine.training.measuring.report_evaluation",
        "evaluate_retrieval_command",
    ),
    "review": ("velcro_engine.training.measuring.review_evaluation", "evaluate_review"),
    "propagate": ("velcro_engine.training.measuring.propagation_evaluation", "evaluate_propagate"),
}
REPORT_TASKS = ("ober", "report-retrieval")  # read a table, not folders of images
BASELINE_TASKS = ("linking", *REPORT_TASKS)
BASELINES = ("clip-whole", "clip-crop", "clip-mask-pool", "sam-token-knn", "box-prior", "velcro")


def evaluate_command(args: argparse.Namespace) -> int:
    """Measure one task, print its main figures, write the files. Raises VelcroError."""
    check_evaluation(args)
    module, name = TASKS[args.task]
    measure: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
    progress = Progress()
    with output_folder(args.out) as folder:
        metrics = measure(args, folder, progress)
        path = folder / "metrics.json"
        if not path.is_file():
            path.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    progress.clear()
    print_metrics(metrics)
    print(f"Written: {Path(args.out) / 'metrics.json'}")
    return 0


def check_evaluation(args: argparse.Namespace) -> None:
    """Raises InputError for options that the task cannot use, before anything is opened."""
    if args.task in REPORT_TASKS:
        if not Path(args.data).is_file():
            raise InputError(f"'{args.data}' is not a table of reports; check --data.")
    else:
        check_data_folder(args.data)
    if args.baseline is not None and args.task not in BASELINE_TASKS:
        raise InputError(f"--baseline goes with --task {' or '.join(BASELINE_TASKS)}.")
    if args.task == "linking" and args.baseline not in (None, *BASELINES):
        raise InputError(
            f"There is no baseline '{args.baseline}' for linking; use one of "
            f"{', '.join(BASELINES)}."
        )
    if args.skull and args.task != "linking":
        raise InputError("--skull goes with --task linking.")


def print_metrics(metrics: dict[str, Any]) -> None:
    """The groups' figures, one line each."""
    for group, prompts in metrics.get("groups", {}).items():
        for prompt, values in prompts.items():
            parts = []
            for key, value in values.items():
                shown = f"{value:.3f}" if isinstance(value, float) else value
                parts.append(f"{key} {shown}")
            print(f"{group:10} {prompt:6} " + ", ".join(parts))
