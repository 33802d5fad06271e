"""`velcrolink train | evaluate | export | calibrate | compare | ablate`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

from ...console.command_options import (
    add_kb_argument,
    add_step_argument,
    check_data_folder,
    whole_number,
)
from ...console.output_folder import check_output_folder
from ...errors import InputError
from .evaluate import BASELINES, TASKS, print_metrics


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
    _add_cases(parser, "train", "folder of data sets")
    parser.add_argument(
        "--recipe",
        metavar="NAME|FILE",
        help="recipe file or name (bundled_cpu; adapt with --init; baseline_cpu with --baseline)",
    )
    parser.add_argument(
        "--baseline",
        choices=BASELINES,
        metavar="NAME",
        help=f"train a baseline instead: {', '.join(BASELINES)}",
    )
    parser.add_argument(
        "--text-model",
        metavar="DIR|bundled",
        help="with --baseline: model whose text side it is given (bundled)",
    )
    add_kb_argument(parser)
    parser.add_argument(
        "--init",
        metavar="bundled|DIR",
        help="adapt the bundled model, a model folder or a run (recipe adapt); with --baseline: "
        "its encoder begins with that model's weights",
    )
    parser.add_argument("--sam", metavar="TYPE:FILE", help="SAM checkpoint as backbone: vit_b:FILE")
    parser.add_argument(
        "--leave-out",
        metavar="ENTRIES",
        help="entries (ids with commas between) whose labels count as unlabelled; zero-shot: those of the benchmark's list",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="run folder (checkpoints, log)")
    _add_count(parser, "--steps", None, "end at this step instead of the recipe's last")
    parser.add_argument("--device", help="cpu, cuda, cuda:0; else a GPU if there is one")
    _add_count(parser, "--threads", None, "CPU threads (else all cores)")
    _add_count(parser, "--workers", 1, "processes that draw slices; 0: none of their own", 0)
    parser.set_defaults(run=_later("velcro_engine.training.commands.train", "train_command"))


def _add_evaluate(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on labelled cases",
        description="Measure one task on labelled cases or reports; writes metrics.json and, for linking, "
        "rows.csv, confusion.png and index.html.",
    )
    parser.add_argument(
        "--task", choices=tuple(TASKS), default="linking", help="what to measure (linking)"
    )
    _add_cases(
        parser,
        "dev",
        "folder of data sets; for ober and report-retrieval a table of reports",
        metavar="DIR|FILE.csv",
    )
    add_kb_argument(parser)
    parser.add_argument(
        "--model",
        metavar="DIR|bundled",
        help="model folder (bundled); with --baseline its run; for review also none",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help=f"measure a baseline instead; linking: {', '.join(BASELINES)}; ober: published, uncoded",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the figures")
    add_step_argument(parser, 4.0)
    _add_count(parser, "--limit", None, "measure the first N cases only (else all)")
    parser.add_argument(
        "--skull", action="store_true", help="linking: draw a skull around stripped brains"
    )
    parser.set_defaults(run=_later("velcro_engine.training.commands.evaluate", "evaluate_command"))


def _add_export(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "export",
        help="turn a trained model into a model folder for linking",
        description="Fit the text tower to a run's entities and write a model folder.",
    )
    parser.add_argument("run_folder", metavar="RUN", help="folder written by `velcrolink train`")
    parser.add_argument("--out", required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--name", default="velcro-own", help="name of the model (velcro-own)")
    parser.add_argument("--version", default="1", help="version of the model (1)")
    _add_count(parser, "--text-steps", 1200, "steps for the text tower; 0: keep it", 0)
    add_kb_argument(parser)
    parser.add_argument(
        "--text-from", metavar="DIR", help="start from this text tower's folder (else the run's)"
    )
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
    parser.set_defaults(
        run=_later("velcro_engine.training.commands.export", "export_command", check_export)
    )


def _add_calibrate(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="fit a model's confidence on labelled cases",
        description="Fit temperature, abstention and side margin on cases that were not trained "
        "on; writes them into the model folder's config.json and calibration.json into --out.",
    )
    parser.add_argument("--model", required=True, metavar="DIR|bundled", help="model folder")
    _add_cases(parser, "dev", "folder of data sets")
    add_kb_argument(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the figures")
    add_step_argument(parser, 8.0)
    _add_count(parser, "--limit", None, "use the first N cases only (else all)")
    parser.add_argument("--report-only", action="store_true", help="leave the model as it is")
    parser.add_argument(
        "--find",
        action="store_true",
        help="fit what Find takes for present instead, on cases that were trained on (--split train)",
    )
    parser.set_defaults(
        run=_later("velcro_engine.training.commands.calibrate", "calibrate_command")
    )


def _add_compare(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="put several evaluations into one table",
        description="The first folder is the model, the others what it is compared with; writes "
        "comparison.csv, comparison.png and index.html.",
    )
    parser.add_argument(
        "evaluations", nargs="+", metavar="DIR", help="folder of velcrolink evaluate"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the table")
    parser.set_defaults(
        run=_later("velcro_engine.training.measuring.comparison", "compare_command", check_out)
    )


def _add_ablate(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "ablate",
        help="measure the alignment objectives, one by one",
        description="Keep what a run's region head reads of training and dev regions, train the head "
        "alone with and without each objective, and fit the text tower with and without those on "
        "reports; writes ablation.json and index.html. Nothing before the head is trained.",
    )
    parser.add_argument("run_folder", metavar="RUN", help="folder written by `velcrolink train`")
    _add_cases(parser, "dev", "folder of data sets; split train is learnt", splits=True)
    add_kb_argument(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the table")
    _add_count(parser, "--slices", 800, "training slices")
    add_step_argument(parser, 12.0)
    _add_count(parser, "--limit", None, "use N cases of each split only (else all)")
    _add_count(parser, "--head-steps", 600, "steps of each head")
    _add_count(parser, "--head-batch", 256, "regions in a batch")
    _add_count(parser, "--seeds", 5, "heads of each row")
    parser.add_argument("--reports", metavar="FILE.csv", help="reports to learn from")
    parser.add_argument(
        "--dev-reports", metavar="FILE.csv", help="with --reports: reports with MeSH codes"
    )
    parser.add_argument(
        "--text-from", metavar="DIR", help="text tower to start from (else the run's)"
    )
    _add_count(parser, "--text-steps", 60, "steps of each tower")
    _add_count(parser, "--text-seeds", 1, "towers of each row")
    parser.set_defaults(
        run=_later("velcro_engine.training.commands.ablate", "ablate_command", check_ablation)
    )


def _add_cases(
    parser: argparse.ArgumentParser,
    split: str,
    data: str,
    metavar: str = "DIR",
    splits: bool = False,
) -> None:
    """--data, --splits (required: `splits`) and --split."""
    parser.add_argument("--data", required=True, metavar=metavar, help=data)
    parser.add_argument(
        "--splits",
        required=splits,
        metavar="FILE",
        help="JSON with a list of cases per split" + ("" if splits else " (else all cases)"),
    )
    parser.add_argument(
        "--split", default=split, metavar="NAME", help=f"which split of --splits ({split})"
    )


def _add_count(
    parser: argparse.ArgumentParser, option: str, default: int | None, text: str, least: int = 1
) -> None:
    """An option that takes a whole number."""
    parser.add_argument(
        option,
        type=whole_number(least),
        default=default,
        metavar="N",
        help=text if default is None else f"{text} ({default})",
    )


def check_out(args: argparse.Namespace) -> None:
    """Raises InputError when results cannot go to --out."""
    check_output_folder(args.out)


def check_ablation(args: argparse.Namespace) -> None:
    """Raises InputError for what would otherwise show only after minutes."""
    check_out(args)
    check_data_folder(args.data)
    if bool(args.reports) != bool(args.dev_reports):
        raise InputError("Give --reports and --dev-reports together.")
    check_text_from(args)


def check_export(args: argparse.Namespace) -> None:
    """Raises InputError for what would otherwise show only after minutes, or not at all."""
    check_out(args)
    if not args.name.strip() or not args.version.strip():
        raise InputError("A model needs a name and a version; give --name and --version.")
    check_text_from(args)


def check_text_from(args: argparse.Namespace) -> None:
    """Raises InputError when --text-from names no text tower."""
    if args.text_from is not None and not (Path(args.text_from) / "tower.json").is_file():
        raise InputError(f"'{args.text_from}' holds no text tower; check --text-from.")


def _later(
    module: str,
    function: str,
    check: Callable[[argparse.Namespace], None] = lambda args: None,
) -> Callable[[argparse.Namespace], int]:
    """A command's function behind its check; its module, and torch with it, is imported when it is
    called."""

    def run(args: argparse.Namespace) -> int:
        check(args)
        return getattr(importlib.import_module(module), function)(args)

    return run


__all__ = ["add_arguments", "print_metrics"]
