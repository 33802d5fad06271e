"""`velcrolink train`: read cases, run the trainer, resume when the run folder has a checkpoint."""

from __future__ import annotations

import argparse
import os
import signal
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import InputError
from .case_data import Case, case_keys, load_case
from .slice_sampler import SliceSampler
from .trainer import Recipe, TrainingState, load_checkpoint, new_state, train

RECIPES = Path(__file__).parent / "recipes"


def find_recipe(name: str) -> Recipe:
    """A recipe by file name, or one that ships by its short name."""
    path = Path(name)
    if not path.is_file():
        path = RECIPES / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.json")))
        raise InputError(f"There is no training recipe '{name}'; use a file or one of {known}.")
    return Recipe.from_file(path)


def load_cases(data: Path, keys: list[str], log) -> list[Case]:
    """All cases, said every 50."""
    cases = []
    for number, key in enumerate(keys, 1):
        cases.append(load_case(data, key))
        if number % 50 == 0 or number == len(keys):
            log(f"read {number} of {len(keys)} cases")
    return cases


def train_command(args: argparse.Namespace) -> int:
    """Train to the recipe's end; Ctrl+C saves and leaves."""
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if args.threads:
        torch.set_num_threads(args.threads)
    data = Path(args.data)
    keys = case_keys(data, Path(args.splits) if args.splits else None, args.split)
    if not keys:
        raise InputError(f"No labelled case was found in '{data}'.")
    with (out / "train.log").open("a", encoding="utf-8") as log_file:

        def log(line: str) -> None:
            print(line, flush=True)
            log_file.write(line + "\n")
            log_file.flush()

        cases = load_cases(data, keys, log)
        state, recipe = open_state(args, out, cases, device, log)
        if args.steps:
            recipe = replace(recipe, steps=min(recipe.steps, args.steps))
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
        if recipe.baseline == "sam-token-knn" and state.step >= recipe.steps:
            from .baseline_models.token_bank import BANK, write_bank

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
    recipe = find_recipe(args.recipe or ("baseline_cpu" if args.baseline else "bundled_cpu"))
    entities = sorted({str(c.labels[v].entity) for c in cases for _, v in c.voxels})
    if args.baseline:
        from .baselines import new_baseline

        return new_baseline(args.baseline, recipe, entities, out, args.text_model, args.kb, device)
    if args.sam:
        from .sam_checkpoint import open_sam, sam_recipe

        kind, sam = open_sam(args.sam)
        recipe = sam_recipe(recipe, kind, sam)
        return new_state(recipe, entities, device, sam), recipe
    if args.init:
        return adapted_state(Path(args.init), recipe, entities, device), recipe
    return new_state(recipe, entities, device), recipe


def adapted_state(source: Path, recipe: Recipe, entities: list[str], device: str) -> TrainingState:
    """Weights of another run; entities it does not know get new vectors."""
    old, old_recipe = load_checkpoint(source, device)
    if old_recipe.network != recipe.network:
        recipe = replace(recipe, network=old_recipe.network)
    known = list(old.entities) + [e for e in entities if e not in old.entities]
    state = new_state(recipe, known, device)
    weights = old.average.state_dict()
    weights.pop("prototypes")  # follows the table
    state.network.load_state_dict(weights, strict=False)
    state.average.load_state_dict(weights, strict=False)
    with torch.no_grad():
        for table in (state.table, state.average_table):
            vectors = old.average_table.vectors
            table.vectors[: len(old.entities)] = vectors[:-1]
            table.vectors[-1] = vectors[-1]
            table.log_scale.copy_(old.average_table.log_scale)
    return state


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
