"""`velcrolink train | evaluate | export | calibrate | compare | ablate`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError, VelcroError

# task -> module and function that measures it: f(args, progress) -> metrics
TASKS = {
    "linking": ("velcro_engine.training.evaluate_linking", "evaluate"),
    "retrieval": ("velcro_engine.training.case_evaluation", "evaluate_retrieval"),
    "grounding": ("velcro_engine.training.case_evaluation", "evaluate_grounding"),
    "ober": ("velcro_engine.training.report_evaluation", "evaluate_ober_command"),
    "report-retrieval": ("velcro_engine.training.report_evaluation", "evaluate_retrieval_command"),
    "review": ("velcro_engine.training.volume_evaluation", "evaluate_review"),
    "propagate": ("velcro_engine.training.volume_evaluation", "evaluate_propagate"),
}
BASELINES = ("clip-whole", "clip-crop", "clip-mask-pool", "sam-token-knn", "box-prior", "velcro")


def add_arguments(subparsers: argparse._SubParsersAction) -> None:
    """Add the six commands."""
    _add_train(subparsers)
    _add_evaluate(subparsers)
    _add_export(subparsers)
    _add_calibrate(subparsers)
    _add_compare(subparsers)
    _add_ablate(subparsers)


def _add_train(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a model on your own segmentations",
        description="Train the network of a recipe on folders laid out as DATASET/CASE/image.* + "
        "labels.*, or of images with 3D Slicer's .seg.nrrd beside them. Interrupt it at any time; the same command goes on where it stopped.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of data sets")
    parser.add_argument("--splits", metavar="FILE", help="JSON with a list of cases per split")
    parser.add_argument("--split", default="train", help="which split of --splits (train)")
    parser.add_argument(
        "--recipe", help="recipe file or name (bundled_cpu; baseline_cpu with --baseline)"
    )
    parser.add_argument(
        "--baseline", choices=BASELINES, metavar="NAME", help=f"train {', '.join(BASELINES)}"
    )
    parser.add_argument(
        "--text-model", metavar="DIR|bundled", help="model whose text side a baseline is given"
    )
    parser.add_argument(
        "--kb", action="append", metavar="FILE", help="knowledge base of names and codes"
    )
    parser.add_argument(
        "--init",
        metavar="bundled|DIR",
        help="adapt the bundled model, a model folder or a run (recipe adapt); with --baseline: "
        "its encoder begins with that model's weights",
    )
    parser.add_argument("--sam", metavar="TYPE:FILE", help="SAM checkpoint as backbone: vit_b:FILE")
    parser.add_argument("--out", required=True, metavar="DIR", help="run folder (checkpoints, log)")
    parser.add_argument("--steps", type=int, help="stop at this step instead of the recipe's end")
    parser.add_argument("--device", help="cpu, cuda, cuda:0; else a GPU if there is one")
    parser.add_argument("--threads", type=int, help="CPU threads (else all cores)")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw slices (1)")
    parser.set_defaults(run=run_train)


def _add_evaluate(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on labelled cases",
        description="Measure one task on labelled cases or reports; writes metrics.json and, for linking, "
        "rows.csv, confusion.png and index.html.",
    )
    parser.add_argument("--task", choices=tuple(TASKS), default="linking")
    parser.add_argument("--data", required=True, metavar="DIR|FILE.csv")
    parser.add_argument("--splits", metavar="FILE", help="JSON with a list of cases per split")
    parser.add_argument("--split", default="dev", help="which split of --splits (dev)")
    parser.add_argument("--kb", action="append", metavar="FILE")
    parser.add_argument("--model", metavar="DIR|bundled")
    parser.add_argument("--baseline", metavar="NAME", help=f"linking: {', '.join(BASELINES)}")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--step-mm", type=float, default=4.0, help="between slices (4)")
    parser.add_argument("--limit", type=int, metavar="N", help="measure the first N cases only")
    parser.add_argument("--skull", action="store_true", help="draw a skull around stripped brains")
    parser.set_defaults(run=run_evaluate)


def _add_export(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "export", help="turn a trained model into a model folder for linking"
    )
    parser.add_argument("run_folder", metavar="RUN", help="folder written by `velcrolink train`")
    parser.add_argument("--out", required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--name", default="velcro-own", help="name of the model")
    parser.add_argument("--version", default="1", help="version of the model")
    parser.add_argument("--text-steps", type=int, default=1200, help="steps for the text tower")
    parser.add_argument("--kb", action="append", metavar="FILE")
    parser.add_argument("--text-from", metavar="DIR", help="start from this text tower's folder")
    parser.add_argument(
        "--reports",
        action="append",
        metavar="FILE.csv",
        help="reports (columns findings, impression) whose sentences the text tower is to bring near "
        "the entries they speak of; may be repeated",
    )
    parser.add_argument(
        "--report-objectives",
        default="location",
        metavar="NAMES",
        help="of sentences, words, medtrim, location, with commas between (location)",
    )
    parser.set_defaults(run=run_export)


def _add_calibrate(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="fit a model's confidence on labelled cases",
        description="Fit temperature, abstention and side margin on cases that were not trained "
        "on; writes them into the model folder's config.json and calibration.json into --out.",
    )
    parser.add_argument("--model", required=True, metavar="DIR|bundled")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of data sets")
    parser.add_argument("--splits", metavar="FILE", help="JSON with a list of cases per split")
    parser.add_argument("--split", default="dev", help="which split of --splits (dev)")
    parser.add_argument("--kb", action="append", metavar="FILE")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--step-mm", type=float, default=8.0, help="between slices (8)")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N cases only")
    parser.add_argument("--report-only", action="store_true", help="leave the model as it is")
    parser.set_defaults(run=run_calibrate)


def _add_compare(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="put several evaluations into one table",
        description="The first folder is the model, the others what it is compared with; writes "
        "comparison.csv, comparison.png and index.html.",
    )
    parser.add_argument("evaluations", nargs="+", metavar="DIR", help="of velcrolink evaluate")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.set_defaults(run=run_compare)


def _add_ablate(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "ablate",
        help="measure the alignment objectives, one by one",
        description="Keep what a run's region head reads of training and dev regions, train the head "
        "alone with and without each objective, and fit the text tower with and without those on "
        "reports; writes ablation.json and index.html. Nothing before the head is trained.",
    )
    parser.add_argument("run_folder", metavar="RUN", help="folder written by `velcrolink train`")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of data sets")
    parser.add_argument("--splits", required=True, metavar="FILE", help="cases of each split")
    parser.add_argument("--split", default="dev", help="split to measure on (dev); train is learnt")
    parser.add_argument("--kb", action="append", metavar="FILE")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--slices", type=int, default=800, help="training slices (800)")
    parser.add_argument("--step-mm", type=float, default=12.0, help="between slices (12)")
    parser.add_argument("--limit", type=int, metavar="N", help="use N cases of each split only")
    parser.add_argument("--head-steps", type=int, default=600, help="steps of each head (600)")
    parser.add_argument("--head-batch", type=int, default=256, help="regions in a batch (256)")
    parser.add_argument("--seeds", type=int, default=5, help="heads of each row (5)")
    parser.add_argument("--reports", metavar="FILE.csv", help="reports to learn from")
    parser.add_argument("--dev-reports", metavar="FILE.csv", help="reports with MeSH codes")
    parser.add_argument("--text-from", metavar="DIR", help="text tower to start from")
    parser.add_argument("--text-steps", type=int, default=60, help="steps of each tower (60)")
    parser.add_argument("--text-seeds", type=int, default=1, help="towers of each row (1)")
    parser.set_defaults(run=run_ablate)


class Progress:
    """Share done and remaining time on one line of stderr (many lines when it is no terminal)."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.said = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - self.said < (0.2 if terminal else 20) and done < total:
            return
        self.said = now
        left = (now - self.started) / done * (total - done) if done else float("nan")
        text = f"{done}/{total} {what}" + (f", {left:.0f} s left" if done else "")
        print(
            f"\r\x1b[K{text}" if terminal else text,
            end="" if terminal else "\n",
            file=sys.stderr,
            flush=True,
        )


def run_train(args: argparse.Namespace) -> int:
    """Train or resume."""
    from .train_command import train_command

    return train_command(args)


def run_export(args: argparse.Namespace) -> int:
    """Write a model folder."""
    from .export_command import export_command

    return export_command(args)


def run_calibrate(args: argparse.Namespace) -> int:
    """Fit and write a calibration."""
    from .calibrate_command import calibrate_command

    return calibrate_command(args)


def run_compare(args: argparse.Namespace) -> int:
    """One table of several evaluations."""
    from .comparison import compare_command

    return compare_command(args)


def run_ablate(args: argparse.Namespace) -> int:
    """A table with and without each objective."""
    from .ablate_command import ablate_command

    return ablate_command(args)


def run_evaluate(args: argparse.Namespace) -> int:
    """Measure one task, print its main figures, write the files."""
    from ..output_folder import output_folder

    module, name = TASKS[args.task]
    measure: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
    if not Path(args.data).exists():
        raise InputError(f"'{args.data}' does not exist; check --data.")
    with output_folder(args.out) as folder:
        metrics = measure(args, folder, Progress())
        path = folder / "metrics.json"
        if not path.is_file():
            path.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    print_metrics(metrics)
    print(f"Written: {Path(args.out) / 'metrics.json'}")
    return 0


def print_metrics(metrics: dict[str, Any]) -> None:
    """The groups' figures, one line each."""
    for group, prompts in metrics.get("groups", {}).items():
        for prompt, values in prompts.items():
            parts = []
            for key, value in values.items():
                shown = f"{value:.3f}" if isinstance(value, float) else value
                parts.append(f"{key} {shown}")
            print(f"{group:10} {prompt:6} " + ", ".join(parts))


__all__ = ["BASELINES", "TASKS", "Progress", "VelcroError", "add_arguments"]
