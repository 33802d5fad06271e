"""Adapting a trained model to a department's cases without forgetting what it knew.

Learning without forgetting (Li & Hoiem, 2016): a frozen copy of the start sees the same slices, and
what it said where the new labels are silent, or where it was right, stays the target. The entities'
old vectors are held, the batch statistics too, and the recipe takes few small steps.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ModelError
from ...knowledge_base import KnowledgeBase, text
from ...model.network import Decoded, Encoded
from ..losses.objectives import EntityTable
from ..recipes.recipe import Recipe
from .text_training import embed_texts
from .training_state import TrainingState, new_network, new_state

START, TOLD = "start.safetensors", "start.json"


class Start:
    """The network and entity vectors that an adaptation began with; never trained."""

    def __init__(self, network: Any, vectors: Tensor, entities: list[str]) -> None:
        """vectors: (entities + 1) x D, unit length, "nothing" last; `entities` come first, in this
        order, in the adapted run's list too."""
        self.network = network.eval().requires_grad_(False)
        self.vectors = vectors
        self.entities = entities

    @staticmethod
    def hold_statistics(network: nn.Module) -> None:
        """Few slices of one department must not replace the statistics of all images."""
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def loss(
        self,
        batch: dict[str, Tensor],
        encoded: Encoded,
        dense: Tensor,
        decoded: Decoded | None,
        network: Any,
        table: EntityTable,
    ) -> Tensor:
        """Distance from what the start said of the same slices, plus that of the entities' vectors."""
        device = dense.device.type
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
            before = self.network.encode(batch["image"], batch["position"])
            dense_before, _ = self.network.dense(before)
            decoded_before = None
            if decoded is not None:
                rows = before.rows(batch["row"])
                decoded_before = self.network.decode(rows, batch["points"], batch["labels"])
        old = self._of_old(table.vectors.shape[0])
        unit = F.normalize(table.vectors, dim=1)
        loss = 5.0 * (1 - (unit[old] * self.vectors).sum(1)).mean()
        stride = batch["dense_entity"].shape[-1] // dense.shape[-1]
        target = batch["dense_entity"][:, stride // 2 :: stride, stride // 2 :: stride]
        # a label that the start knew nothing of is free to move; all else stays where it was
        free = (target >= len(self.entities)) & (target < table.vectors.shape[0] - 1)
        off = 1 - (dense * dense_before).sum(1)
        loss = loss + (off * ~free).sum() / (~free).sum().clamp(min=1)
        if decoded is not None and decoded_before is not None:
            said = (decoded_before.embedding.float() @ self.vectors.T).argmax(1)
            right = (old.to(said.device)[said] == batch["entity"]).float()
            away = 1 - (decoded.embedding.float() * decoded_before.embedding.float()).sum(1)
            loss = loss + (away * right).sum() / right.sum().clamp(min=1)
        if encoded.pixels is not None and before.posterior is not None:
            loss = loss + self._pixels(network, encoded.pixels, before.posterior, batch, old)
        return loss

    def _of_old(self, rows: int) -> Tensor:
        """Rows of the adapted table that the start had: its entities, then "nothing"."""
        return torch.tensor([*range(len(self.entities)), rows - 1], device=self.vectors.device)

    def _pixels(
        self, network: Any, measured: Tensor, posterior: Tensor, batch: dict[str, Tensor], old
    ) -> Tensor:
        """Cross-entropy to the start's shares at unlabelled pixels (a sample of every third)."""
        unlabelled = batch["pixel_entity"][:, ::3, ::3] < 0
        logits = network.pixel_logits(measured[:, :, ::3, ::3])[:, old]
        shares = posterior[:, :, ::3, ::3]
        apart = F.kl_div(logits.log_softmax(1), shares.clamp(min=1e-6), reduction="none").sum(1)
        return 0.2 * (apart * unlabelled).sum() / unlabelled.sum().clamp(min=1)


def adapted_state(
    network: nn.Module,
    table: EntityTable,
    old_entities: list[str],
    recipe: Recipe,
    entities: list[str],
    device: str,
) -> TrainingState:
    """A run that goes on from weights; entities they do not know get new vectors behind the old."""
    known = list(old_entities) + [e for e in entities if e not in old_entities]
    state = new_state(recipe, known, device)
    weights = {k: v for k, v in network.state_dict().items() if k != "prototypes"}
    with torch.no_grad():
        for mine in (state.table, state.average_table):
            mine.vectors[: len(old_entities)] = table.vectors[:-1]
            mine.vectors[-1] = table.vectors[-1]
            mine.log_scale.copy_(table.log_scale)
        for other in (state.network, state.average):
            other.load_state_dict(weights, strict=False)
            other.prototypes.copy_(state.table.scaled())
    if recipe.keep:
        vectors = F.normalize(table.vectors.detach(), dim=1).to(device)
        state.start = Start(copy.deepcopy(network).to(device), vectors, list(old_entities))
    return state


def mixed_with_start(network: Any, start: Start, share: float) -> Any:
    """A copy of an adapted network with weights between its start's (share 0) and its own (1): it
    keeps more of what it knew than it loses of what it learnt (WiSE-FT, Wortsman et al., 2022)."""
    mixed = copy.deepcopy(network)
    before = start.network.state_dict()
    with torch.no_grad():
        for name, value in mixed.state_dict().items():
            # prototypes are the entities' vectors, which are held by a loss of their own
            if name != "prototypes" and value.dtype.is_floating_point:
                value.lerp_(before[name].to(value), 1.0 - share)
    return mixed


def place_new_entities(state: TrainingState, known: int, base: KnowledgeBase, tower, tokenizer):
    """Vectors of the entities behind the first `known` begin where the text tower puts their text."""
    new = [(i, e) for i, e in enumerate(state.entities) if i >= known and e in base.by_id]
    if not new:
        return
    vectors = embed_texts(tower, tokenizer, [text(base.by_id[e]) for _, e in new])
    with torch.no_grad():
        for table in (state.table, state.average_table):
            for (row, _), vector in zip(new, vectors, strict=True):
                table.vectors[row] = vector.to(table.vectors)


def write_start(folder: Path, start: Start | None, trained: frozenset[str], source: str) -> None:
    """Keep the start beside the checkpoint, for resuming and for `velcrolink export`. trained: the
    entities it was trained on, and those of the new cases."""
    folder.mkdir(parents=True, exist_ok=True)
    if start is not None:
        tensors = {f"network.{k}": v for k, v in start.network.state_dict().items()}
        tensors["vectors"] = start.vectors
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, f"{folder / START}.new")
        os.replace(f"{folder / START}.new", folder / START)
    told = {
        "source": source,
        "entities": [] if start is None else start.entities,
        "trained_entities": sorted(trained),
    }
    (folder / f"{TOLD}.new").write_text(json.dumps(told), encoding="utf-8")
    os.replace(folder / f"{TOLD}.new", folder / TOLD)


def read_start(folder: Path, recipe: Recipe, device: str) -> Start:
    """What `write_start` wrote. Raises ModelError when it is missing or damaged."""
    try:
        entities = [str(e) for e in _told(folder)["entities"]]
        tensors = load_file(str(folder / START), device=device)
        vectors = tensors.pop("vectors")
        network = new_network(recipe, entities=len(entities)).to(device)
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items()})
        return Start(network, vectors, entities)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"'{folder}' has lost what its adaptation started from; begin it again in a new folder.",
            repr(error),
        ) from error


def trained_before(folder: Path) -> frozenset[str]:
    """Entities that an adapted run knows, of its start or of its cases; none for other runs."""
    if not is_adapted(folder):
        return frozenset()
    try:
        return frozenset(map(str, _told(folder)["trained_entities"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{folder / TOLD}' is damaged; adapt again.", repr(error)) from error


def is_adapted(folder: Path) -> bool:
    """Whether a run folder went on from a model or another run."""
    return (folder / TOLD).is_file()


def _told(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / TOLD).read_text(encoding="utf-8")))
