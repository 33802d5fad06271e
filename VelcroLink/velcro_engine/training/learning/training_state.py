"""What a training run does and what it is made of: recipe, networks, optimiser, checkpoints.

A checkpoint is a safetensors file plus a JSON file, written atomically; a run that goes on from it
ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...model.network import VelcroNetwork
from ..losses.objectives import EntityTable
from ..recipes.recipe import Recipe


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
