"""`velcrolink calibrate`: link labelled cases, fit the calibration, write it into the model folder."""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...console.command_options import check_data_folder
from ...console.output_folder import check_output_folder, output_folder
from ...console.progress import Progress as Shown
from ...errors import InputError, VelcroError
from ...imaging.slices import Slice
from ...linking.linker import Linker, open_linker
from ...model.export import write_config
from ...model.folder import model_folder
from ...model.preprocess import CONTENT_GREY
from ..data.benchmark_samples import PROMPTS, Sample, case_slices
from ..data.case_data import SIDES, case_keys
from ..measuring.calibration import BACKGROUND, HELD_OUT, KNOWN, Regions, calibrate, figures
from ..measuring.link_evaluation import BATCH, LinkerAnswers, request_of, windows_of

BACKGROUND_SHARE = 0.5  # of slices that also give a box of nothing
DARK_SHARE = 0.02  # of its pixels may be bright
SEED = 42
Progress = Callable[[int, int, str], None]


def background_box(
    cut: Slice, samples: list[Sample], rng: np.random.Generator
) -> tuple[float, float, float, float] | None:
    """A random box (XYXY) with air in it and no label, or None when chance finds none."""
    height, width = cut.pixels.shape
    free = cut.pixels <= CONTENT_GREY
    for sample in samples:
        free &= ~sample.mask
    for _ in range(10):
        w, h = (rng.uniform(0.04, 0.25, 2) * [width, height]).astype(int) + 3
        x, y = int(rng.integers(max(1, width - w))), int(rng.integers(max(1, height - h)))
        if 1.0 - free[y : y + h, x : x + w].mean() <= DARK_SHARE:
            return x - 0.5, y - 0.5, x + w - 0.5, y + h - 0.5
    return None


def collect(
    linker: Linker,
    data: Path,
    keys: list[str],
    trained: set[str],
    step_mm: float,
    progress: Progress = lambda done, total, key: None,
) -> tuple[Regions, list[str]]:
    """Embeddings of every sample with every kind of prompt and of boxes of nothing; one line for
    each case that could not be read. Raises InputError when no sample was found."""
    number = {entry.id: n for n, entry in enumerate(linker.knowledge_base.entries)}
    answerer = LinkerAnswers(linker)
    columns: dict[str, list[Any]] = {n: [] for n in Regions.__dataclass_fields__}
    problems: list[str] = []
    for done, key in enumerate(keys):
        progress(done, len(keys), key)
        try:
            for _, cut, samples in case_slices(data, key, step_mm, prepared=answerer.prepared):
                _collect_slice(answerer, cut, samples, number, trained, columns)
        except VelcroError as error:
            problems.append(f"{key}: {error.message}")
    if not columns["truth"]:
        raise InputError("No labelled region was found to calibrate on.", "; ".join(problems))
    return Regions(
        np.concatenate(columns["embeddings"]).astype(np.float32),
        np.array(columns["truth"]),
        np.array(columns["kinds"]),
        np.concatenate(columns["sides"]),
        np.array(columns["true_side"]),
        np.array(columns["prompts"]),
    ), problems


def _collect_slice(
    answerer: LinkerAnswers,
    cut: Slice,
    samples: list[Sample],
    number: dict[str, int],
    trained: set[str],
    columns: dict[str, list[Any]],
) -> None:
    first = samples[0]
    name = f"{first.case}|{first.channel}|{first.plane}|{first.position_mm:.1f}|{SEED}"
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    asked: list[tuple[Any, str, Any]] = [
        (s, p, request_of(cut, s, p)) for s in samples if s.label.entity in number for p in PROMPTS
    ]
    if rng.random() < BACKGROUND_SHARE:
        box = background_box(cut, samples, rng)
        if box is not None:
            asked.append((None, "gold", cut.request(box=box)))
    for window, group in windows_of(asked, answerer.size):
        encoded = answerer.encode(group[0][2], window)
        for start in range(0, len(group), BATCH):
            part = group[start : start + BATCH]
            answers = answerer.answer(encoded, [r for _, _, r in part], window)
            columns["embeddings"].append(answers.regions)
            columns["sides"].append(answers.sides)
            for sample, prompt, _ in part:
                columns["prompts"].append(prompt)
                if sample is None:
                    truth, kind, side = -1, BACKGROUND, -1
                else:
                    truth = number[sample.label.entity]
                    kind = KNOWN if sample.label.entity in trained else HELD_OUT
                    sided = sample.label.side is not None and not sample.is_picture
                    side = SIDES[sample.label.side] if sided else -1
                columns["truth"].append(truth)
                columns["kinds"].append(kind)
                columns["true_side"].append(side)


def calibrate_command(args: argparse.Namespace) -> int:
    """Fit on `--data`, write the model folder's config.json, report into `--out`."""
    if args.find:
        from ..measuring.find_thresholds import find_thresholds_command

        return find_thresholds_command(args)
    folder = model_folder(args.model)
    data = check_data_folder(args.data)
    check_output_folder(args.out)
    keys = case_keys(data, Path(args.splits) if args.splits else None, args.split)
    if args.limit:
        keys = keys[: args.limit]
    if not keys:
        raise InputError(f"No labelled case was found in '{data}'.")
    linker = open_linker(folder.path, args.kb, examples=False)
    trained = set(folder.config.get("trained_entities", []))
    if not trained:
        raise InputError("The model does not say what it was trained on; export it again.")
    regions, problems = collect(linker, data, keys, trained, args.step_mm, Shown())
    entries, nothing = linker.embeddings, linker.runtime.nothing
    before = linker.runtime.calibration
    after = calibrate(regions, entries, nothing)
    report = {
        "model": linker.runtime.name,
        "kb": linker.knowledge_base.version,
        "cases": len(keys) - len(problems),
        "left_out": problems,
        "calibration": asdict(after),
        "before": figures(regions, entries, nothing, before) | {"calibration": asdict(before)},
        "after": figures(regions, entries, nothing, after),
    }
    with output_folder(args.out) as out:
        text = json.dumps(report, indent=1)
        (out / "calibration.json").write_text(text + "\n", encoding="utf-8")
    if not args.report_only:
        config = {k: v for k, v in folder.config.items() if k != "files"}
        write_config(folder.path, {**config, "calibration": asdict(after)})
    _say(report, folder.path, args.report_only)
    return 0


def _say(report: dict[str, Any], folder: Path, report_only: bool) -> None:
    values = ", ".join(f"{k} {v:.4f}" for k, v in report["calibration"].items())
    print(f"fitted: {values}")
    for name in ("before", "after"):
        shown = report[name]["all"]
        lost, known = shown.get("right_lost"), shown.get("n")
        print(
            f"{name:6} n {known}, nll {shown.get('nll')}, ece {shown.get('ece')}, "
            f"auroc {shown.get('auroc')}, right answers lost {lost}, rejected: background "
            f"{shown[BACKGROUND]['rejected']} of {shown[BACKGROUND]['n']}, held-out "
            f"{shown[HELD_OUT]['rejected']} of {shown[HELD_OUT]['n']}"
        )
    print("Not written (--report-only)" if report_only else f"Written: {folder / 'config.json'}")
