"""`velcrolink train`: read cases, run the trainer, resume when the run folder has a checkpoint."""

from __future__ import annotations

import argparse
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...console.command_options import check_data_folder
from ...console.output_folder import check_output_folder
from ...errors import InputError
from ...knowledge_base import active_paths, load_knowledge_base
from ...model.folder import BUNDLED, model_folder
from ..data.benchmark_samples import benchmark_table
from ..data.case_data import Case, case_keys, leave_out, load_case
from ..data.slice_sampler import SliceSampler
from ..data.slicer_cases import load_segmented_cases, segmentation_files
from ..learning import distributed
from ..learning.adaptation import (
    adapted_state,
    place_new_entities,
    trained_before,
    write_start,
)
from ..learning.checkpoints import load_checkpoint
from ..learning.trainer import train
from ..learning.training_state import TrainingState, new_state
from ..recipes.recipe import RECIPES, Recipe
from .export import entity_targets, save_tower

ZERO_SHOT = "zero-shot"
LEAST = {"steps": 1, "batch": 1, "prompts": 1, "dense_steps": 0, "fine_steps": 0, "finish_steps": 0}


def find_recipe(name: str) -> Recipe:
    """A recipe by file name, or one that ships by its short name."""
    path = Path(name)
    if not path.is_file():
        path = RECIPES / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.json")))
        raise InputError(f"There is no training recipe '{name}'; use a file or one of {known}.")
    try:
        recipe = Recipe.from_file(path)
    except AttributeError as error:  # JSON, but no table of values
        raise InputError(
            f"'{path}' is not a training recipe; check --recipe.", repr(error)
        ) from error
    for key, least in LEAST.items():
        value = getattr(recipe, key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(
                f"The training recipe '{path}' needs a whole number of {least} or more as '{key}'."
            )
    if not isinstance(recipe.left_out, list) or not all(
        isinstance(entity, str) for entity in recipe.left_out
    ):
        raise InputError(f"The training recipe '{path}' needs a list of entries as 'left_out'.")
    return recipe


def load_cases(data: Path, keys: list[str], log) -> list[Case]:
    """All cases, said every 50. Raises InputError naming the one that cannot be read."""
    cases = []
    for number, key in enumerate(keys, 1):
        try:
            cases.append(load_case(data, key))
        except (RuntimeError, OSError, ValueError, AttributeError, TypeError) as error:
            raise InputError(
                f"The case '{data / key}' cannot be read; correct its files or remove it.",
                repr(error),
            ) from error
        if number % 50 == 0 or number == len(keys):
            log(f"read {number} of {len(keys)} cases")
    return cases


def usable_device(told: str | None) -> str:
    """The named device, else a GPU if there is one. Raises InputError when it cannot be used."""
    if told is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=told)
    except (RuntimeError, AssertionError) as error:  # torch asserts when it is built without CUDA
        raise InputError(
            f"The device '{told}' cannot be used here; choose --device cpu or leave it out.",
            repr(error),
        ) from error
    return told


def check_arguments(args: argparse.Namespace, out: Path) -> None:
    """Raises InputError for what would otherwise show only after minutes of reading cases."""
    if args.text_model and not args.baseline:
        raise InputError("--text-model goes with --baseline.")
    if args.sam and (args.baseline or args.init):
        raise InputError("--sam goes without --baseline and --init; leave one of them out.")
    if (out / "state.json").is_file():
        load_checkpoint(out)
        return  # resumed: recipe and start are those of the run
    left_out_entities(args, out)
    if args.baseline:
        model_folder(args.text_model)
    if args.init is not None and args.init != BUNDLED:
        check_start(args.init)
    if args.sam is not None:
        kind, _, file = args.sam.partition(":")
        if not Path(file).is_file():
            raise InputError(f"--sam '{args.sam}' names no file; give it as TYPE:FILE.")
        from segment_anything import sam_model_registry

        kinds = [name for name in sam_model_registry if name != "default"]
        if kind not in kinds:
            raise InputError(f"Unknown SAM type '{kind}'; use one of {', '.join(kinds)}.")


def check_start(init: str) -> None:
    """Raises InputError or ModelError when --init names nothing to start from."""
    source = Path(init)
    if init.strip() and (source / "state.json").is_file():
        load_checkpoint(source)
    elif init.strip() and (source / "config.json").is_file():
        model_folder(init)
    else:
        raise InputError(
            f"'{init}' is neither a run of velcrolink train nor a model folder; check --init."
        )


def left_out_entities(args: argparse.Namespace, out: Path) -> list[str]:
    """Entities that are not to be learnt: those of the run that is resumed, else of --leave-out,
    else of the recipe. Raises InputError when one of them is not in the knowledge base."""
    if (out / "state.json").is_file():
        return load_checkpoint(out)[1].left_out
    recipe = find_recipe(args.recipe or default_recipe(args))
    if args.leave_out is None:
        return recipe.left_out
    if args.leave_out == ZERO_SHOT:
        return list(benchmark_table()["zero_shot"])
    named = [name.strip() for name in args.leave_out.split(",") if name.strip()]
    base = load_knowledge_base(args.kb or active_paths())
    for name in named:
        if name not in base.by_id:
            raise InputError(f"The knowledge base has no entry '{name}'; check --leave-out.")
    return named


def shortened(recipe: Recipe, steps: int, begun: int = 0) -> Recipe:
    """`recipe` ending at `steps`, the learning rate with it. The phases of a run that has not begun
    keep their shares; those of one that has stay where they are."""
    if steps >= recipe.steps:
        return recipe
    part = 1.0 if begun else steps / recipe.steps
    return replace(
        recipe,
        steps=steps,
        dense_steps=round(recipe.dense_steps * part),
        fine_steps=round(recipe.fine_steps * part),
        finish_steps=round(recipe.finish_steps * part),
        warmup=max(1, round(recipe.warmup * part)),
    )


def default_recipe(args: argparse.Namespace) -> str:
    """The recipe when none is named."""
    if args.baseline:
        return "baseline_cpu"
    return "adapt" if args.init else "bundled_cpu"


def train_command(args: argparse.Namespace) -> int:
    """Train to the recipe's end; Ctrl+C saves and leaves. Under torchrun, together."""
    device = distributed.join(usable_device(args.device))
    try:
        return _train(args, device)
    finally:
        distributed.leave()


def _train(args: argparse.Namespace, device: str) -> int:
    out = check_output_folder(args.out)
    data = check_data_folder(args.data)
    check_arguments(args, out)
    if args.threads:
        torch.set_num_threads(args.threads)
    keys = case_keys(data, Path(args.splits) if args.splits else None, args.split)
    segmented = not args.splits and bool(segmentation_files(data))
    if not keys and not segmented:
        raise InputError(
            f"No labelled case was found in '{data}': neither DATASET/CASE/image.* + labels.* nor "
            "an image with its .seg.nrrd."
        )
    out.mkdir(parents=True, exist_ok=True)
    with (out / "train.log").open("a", encoding="utf-8") as log_file:

        def log(line: str) -> None:
            if distributed.rank():
                return
            print(line, flush=True)
            log_file.write(line + "\n")
            log_file.flush()

        cases = load_cases(data, keys, log)
        if segmented:
            base = load_knowledge_base(args.kb or active_paths())
            cases += load_segmented_cases(data, base, log)
        left_out = left_out_entities(args, out)
        for case in cases:
            leave_out(case, left_out)
        if not any(case.voxels and np.ptp(case.images[0]) for case in cases):
            raise InputError(
                f"No case of '{data}' shows a labelled structure with an entry; check labels.json."
            )
        state, recipe = open_state(args, out, cases, device, log)
        if args.steps:
            recipe = shortened(recipe, args.steps, state.step)
        sampler = SliceSampler(
            cases, state.entities, recipe.network.size, recipe.prompts, recipe.dataset_weights
        )
        stopping = _Stop()
        train(
            state,
            recipe,
            sampler,
            out,
            device=device,
            workers=args.workers,
            log=log,
            stop=stopping.requested,
        )
        if (
            distributed.rank() == 0
            and recipe.baseline == "sam-token-knn"
            and state.step >= recipe.steps
        ):
            from ..baseline_models.token_bank import BANK, write_bank

            if not (out / BANK).is_file():
                write_bank(out / BANK, state.average, sampler, recipe, log)
        log("saved" if state.step < recipe.steps else "finished")
    return 130 if stopping.requested() else 0


def open_state(
    args: argparse.Namespace, out: Path, cases: list[Case], device: str, log
) -> tuple[TrainingState, Recipe]:
    """Resume, start from another run's weights, or start afresh."""
    if (out / "state.json").is_file():
        state, recipe = load_checkpoint(out, device)
        log(f"resumed at step {state.step} of {recipe.steps}")
        return state, recipe
    recipe = find_recipe(args.recipe or default_recipe(args))
    recipe = replace(recipe, left_out=left_out_entities(args, out))
    entities = sorted({str(c.labels[v].entity) for c in cases for _, v in c.voxels})
    if args.baseline:
        return begun_baseline(args, recipe, entities, out, device)
    if args.sam:
        from ..learning.sam_checkpoint import open_sam, sam_recipe

        kind, sam = open_sam(args.sam)
        recipe = sam_recipe(recipe, kind, sam)
        return new_state(recipe, entities, device, sam), recipe
    if args.init:
        return started_state(args, recipe, entities, out, device)
    return new_state(recipe, entities, device), recipe


def begun_baseline(
    args: argparse.Namespace, recipe: Recipe, entities: list[str], out: Path, device: str
) -> tuple[TrainingState, Recipe]:
    """A baseline before its first step; with --init its encoder is the model's."""
    from ..measuring.baselines import new_baseline, start_encoder

    text = args.text_model
    state, recipe = new_baseline(args.baseline, recipe, entities, out, text, args.kb, device)
    if args.init:
        from ..learning.bundled_weights import read_bundled_model

        if (Path(args.init) / "state.json").is_file():
            trained = load_checkpoint(Path(args.init), device)[0].average
        else:
            trained = read_bundled_model(args.init).network
        start_encoder(state, trained)
    return state, recipe


def started_state(
    args: argparse.Namespace, recipe: Recipe, entities: list[str], out: Path, device: str
) -> tuple[TrainingState, Recipe]:
    """A run that goes on from --init: another run's folder, or a model folder ("bundled")."""
    source = Path(args.init)
    if (source / "state.json").is_file():
        old, old_recipe = load_checkpoint(source, device)
        recipe = replace(recipe, network=old_recipe.network, sam=old_recipe.sam)
        known, network, table = list(old.entities), old.average, old.average_table
        state = adapted_state(network, table, known, recipe, entities, device)
        seen = entity_targets(old, trained_before(source))
        if distributed.rank() == 0:
            write_start(out, state.start, frozenset(seen) | frozenset(entities), "run")
        return state, recipe
    from ..learning.bundled_weights import read_bundled_model

    model = read_bundled_model(args.init)
    recipe = replace(recipe, network=model.network.config, sam="")
    state = adapted_state(model.network, model.table, model.entities, recipe, entities, device)
    base = load_knowledge_base(args.kb or active_paths())
    place_new_entities(state, len(model.entities), base, model.tower, model.tokenizer)
    if distributed.rank() == 0:
        save_tower(out / "text", model.tower, model.vocabulary)
        write_start(out, state.start, model.trained | frozenset(entities), model.folder.name)
    return state, recipe


class _Stop:
    """Ctrl+C asks the trainer to save and leave; a second one interrupts at once."""

    def __init__(self) -> None:
        self._asked = False
        if os.environ.get("LOCAL_RANK") is None:
            signal.signal(signal.SIGINT, self._ask)

    def _ask(self, *_: object) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def requested(self) -> bool:
        return self._asked
