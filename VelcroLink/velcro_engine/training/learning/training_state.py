"""What a training run does and what it is made of: recipe, networks, optimiser, checkpoints.

A checkpoint is a safetensors file plus a JSON file, written atomically; a run that goes on from it
ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import copy
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...errors import ModelError
from ...model.network import VelcroNetwork
from ...model.network_parts import NetworkConfig
from ..losses.objectives import EntityTable


@dataclass(frozen=True)
class Recipe:
    """What a training run does; a JSON file under training/recipes."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    steps: int = 12000
    dense_steps: int = 5000
    batch: int = 8
    prompts: int = 5
    learning_rate: float = 1.5e-3
    joint_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 200
    ema: float = 0.998
    seed: int = 42
    small_size: int = 192  # pictures are this large until the last `fine_steps`
    fine_steps: int = 500
    finish_steps: int = 0  # the last ones, with the encoder at rest (finishing.py)
    dataset_weights: dict[str, float] = field(default_factory=dict)
    medtrim: float = 0.0  # weight of MedTrim's triplets of regions (alignment_objectives.py)
    location_contrast: float = 0.0  # weight of RRA-VL's contrast within a place
    sam: str = ""  # type of a SAM checkpoint that is the backbone, e.g. "vit_b"
    keep: float = 0.0  # weight of staying what the start was, when adapting (adaptation.py)
    mix: float = 1.0  # share of the adapted weights in what is exported, the rest is the start's
    baseline: str = ""  # name of a baseline of the benchmark; "" trains VELCRO
    position: bool = False  # whether the clip-* baselines read the position map
    crop: int = 112  # pixels along the square crop of clip-crop
    bank: int = 12000  # regions that sam-token-knn compares with
    left_out: list[str] = field(default_factory=list)  # entities whose labels count as unlabelled

    @classmethod
    def from_file(cls, path: Path) -> Recipe:
        """Read a recipe. Raises ModelError when a key is unknown or the file is not JSON."""
        try:
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
            network = NetworkConfig(**raw.pop("network", {}))
            return cls(network=network, **raw)
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"Cannot read the training recipe {path}.", repr(error)) from error


@dataclass
class TrainingState:
    """Everything a resumed run needs. `network` is a VelcroNetwork, or a baseline's.

    seconds: processor time of the training process so far, without the workers that draw slices.
    """

    network: Any
    table: EntityTable
    average: Any
    average_table: EntityTable
    optimizer: torch.optim.Optimizer
    frequency: Tensor
    entities: list[str]
    step: int = 0
    seconds: float = 0.0
    start: Any = None  # `adaptation.Start`: what an adapted network was, frozen


def new_network(recipe: Recipe, sam: nn.Module | None = None, entities: int = 0) -> nn.Module:
    """The untrained network of a recipe for a number of entities; `sam`: its SAM model, weights
    and all."""
    if recipe.baseline:
        from ..baseline_models.networks import baseline_network

        return baseline_network(recipe, entities)
    if recipe.sam and sam is None:
        from .sam_checkpoint import untrained_sam

        sam = untrained_sam(recipe.sam)
    return VelcroNetwork(recipe.network, sam, entities)


def new_state(
    recipe: Recipe, entities: list[str], device: str = "cpu", sam: nn.Module | None = None
) -> TrainingState:
    """Fresh network, averaged copy and optimiser."""
    torch.manual_seed(recipe.seed)
    network = new_network(recipe, sam, len(entities)).to(device)
    if isinstance(getattr(network, "encoder", None), nn.Module):
        network.encoder.to(memory_format=torch.channels_last)
    table = EntityTable(len(entities), recipe.network.embedding).to(device)
    table.vectors.requires_grad_(not recipe.baseline)  # baselines are given the text side
    average = copy.deepcopy(network).eval()
    average_table = copy.deepcopy(table)
    decay = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    plain += [p for p in table.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    frequency = torch.full((len(entities) + 1,), 1.0 / (len(entities) + 1), device=device)
    return TrainingState(network, table, average, average_table, optimizer, frequency, entities)


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
            from .adaptation import read_start

            state.start = read_start(folder, recipe, device)
        return state, recipe
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"'{folder}' holds no readable run of velcrolink train; check the folder.", repr(error)
        ) from error
