"""Checkpoints of a training run: a safetensors file plus a JSON file, written atomically.

A run that goes on from one ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...errors import ModelError
from ...model.network_parts import NetworkConfig
from ..recipes.recipe import Recipe
from .adaptation import read_start
from .training_state import TrainingState, new_state


def save_checkpoint(state: TrainingState, recipe: Recipe, folder: Path) -> None:
    """Write everything to `folder` atomically (tensors.safetensors, state.json)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {"frequency": state.frequency}
    for prefix, module in (
        ("network", state.network),
        ("table", state.table),
        ("average", state.average),
        ("average_table", state.average_table),
    ):
        tensors |= {f"{prefix}.{k}": v.contiguous() for k, v in module.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{k}": torch.as_tensor(v).contiguous() for k, v in values.items()
        }
    target = folder / "tensors.safetensors"
    save_file({k: v.clone() for k, v in tensors.items()}, f"{target}.new")
    recipe_dict = asdict(recipe)
    told = {"step": state.step, "processor_seconds": round(state.seconds, 1)}
    text = json.dumps({**told, "entities": state.entities, "recipe": recipe_dict})
    (folder / "state.json.new").write_text(text, encoding="utf-8")
    os.replace(f"{target}.new", target)
    os.replace(folder / "state.json.new", folder / "state.json")


def load_checkpoint(folder: Path, device: str = "cpu") -> tuple[TrainingState, Recipe]:
    """Read what `save_checkpoint` wrote. Raises ModelError when it is missing or damaged."""
    try:
        raw = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        network = NetworkConfig(**raw["recipe"].pop("network"))
        recipe = Recipe(network=network, **raw["recipe"])
        tensors = load_file(str(folder / "tensors.safetensors"), device=device)
        state = new_state(recipe, raw["entities"], device)
        for prefix in ("network", "table", "average", "average_table"):
            part = {
                k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")
            }
            getattr(state, prefix).load_state_dict(part)
        optimizer = state.optimizer.state_dict()
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                optimizer["state"].setdefault(int(index), {})[name] = value
        state.optimizer.load_state_dict(optimizer)
        state.frequency.copy_(tensors["frequency"])
        state.step = int(raw["step"])
        state.seconds = float(raw.get("processor_seconds", 0.0))
        if recipe.keep:
            state.start = read_start(folder, recipe, device)
        return state, recipe
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"'{folder}' holds no readable run of velcrolink train; check the folder.", repr(error)
        ) from error
