"""`sam-token-knn`: nearest neighbours of a mask token that was never aligned with text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from ...errors import ModelError
from ...model.network import Encoded, VelcroNetwork
from ...resources import atomic_path
from ..data.batches import collate
from ..data.slice_sampler import SliceSampler
from ..recipes.recipe import Recipe

BANK = "bank.safetensors"
NEIGHBOURS = 15
TEMPERATURE = 0.05
BANK_SEED = 1_000_003  # not a training step's


@dataclass(frozen=True)
class TokenBank:
    """tokens N x C, standardised and of unit length; entity N (number in `entities`, or their count
    for a region of nothing); side N (left, right, none)."""

    tokens: np.ndarray
    entity: np.ndarray
    side: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def votes(self, tokens: np.ndarray, entities: int) -> tuple[np.ndarray, np.ndarray]:
        """Mask tokens M x C -> shares of entities M x (entities + 1) and of sides M x 3."""
        near = _unit((tokens - self.mean) / self.deviation) @ self.tokens.T
        keep = min(NEIGHBOURS, near.shape[1])
        chosen = np.argpartition(-near, keep - 1, axis=1)[:, :keep]
        similar = np.take_along_axis(near, chosen, axis=1)
        weight = np.exp((similar - similar.max(1, keepdims=True)) / TEMPERATURE)
        weight /= weight.sum(1, keepdims=True)
        rows = np.repeat(np.arange(len(tokens)), keep)
        share = np.zeros((len(tokens), entities + 1))
        np.add.at(share, (rows, self.entity[chosen].ravel()), weight.ravel())
        sides = np.zeros((len(tokens), 3))
        np.add.at(sides, (rows, self.side[chosen].ravel()), weight.ravel())
        return share, sides


def mask_tokens(
    network: VelcroNetwork, encoded: Encoded, points: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Mask logits N x h x w and raw mask tokens N x C; `encoded` has one row for each prompt."""
    sparse = network.prompt_encoder.embed(points, labels)
    dense = network.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    pe = network.image_pe(encoded.embedding.shape[-2:])
    masks, _, token = network.decoder.decode(
        encoded.embedding, pe, sparse, dense, encoded.fine4, encoded.fine2
    )
    return masks, token


def write_bank(
    path: Path,
    network: VelcroNetwork,
    sampler: SliceSampler,
    recipe: Recipe,
    log: Callable[[str], None],
) -> None:
    """Draw training regions until the bank is full and write their tokens."""
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    count = step = 0
    device = next(network.parameters()).device
    network = network.eval()
    sampler.size, sampler.prompts_per_slice = recipe.network.size, recipe.prompts
    while count < recipe.bank:
        rng = np.random.default_rng([recipe.seed, BANK_SEED, step])
        batch = collate([sampler.draw(rng) for _ in range(recipe.batch)])
        moved = {k: v.to(device) for k, v in batch.items()}
        with torch.no_grad():
            encoded = network.encode(moved["image"], moved["position"]).rows(moved["row"])
            _, token = mask_tokens(network, encoded, moved["points"], moved["labels"])
        parts.append((token.float().cpu().numpy(), batch["entity"].numpy(), batch["side"].numpy()))
        count += len(parts[-1][1])
        step += 1
        if step % 100 == 0:
            log(f"bank {count} of {recipe.bank} regions")
    tokens, entity, side = (np.concatenate(column) for column in zip(*parts, strict=True))
    with atomic_path(path) as temporary:
        save_file({"tokens": tokens, "entity": entity, "side": side}, str(temporary))
    log(f"bank of {len(tokens)} regions written")


def read_bank(path: Path) -> TokenBank:
    """What `write_bank` wrote. Raises ModelError when it is missing or damaged."""
    try:
        parts = load_file(str(path))
        tokens, entity, side = parts["tokens"], parts["entity"], parts["side"]
    except Exception as error:  # safetensors raises kinds of its own
        raise ModelError(
            f"'{path}' is missing or damaged; run velcrolink train --baseline sam-token-knn again.",
            repr(error),
        ) from error
    mean, deviation = tokens.mean(0), tokens.std(0) + 1e-6
    return TokenBank(_unit((tokens - mean) / deviation), entity, side, mean, deviation)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def shares_over_entries(
    share: np.ndarray, entities: Sequence[str], number: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of entities M x (E + 1) -> over the knowledge base M x K, and of nothing M.

    `number`: id of an entry -> its number. Entities that the knowledge base lacks are left out.
    """
    out = np.zeros((len(share), len(number)))
    for column, entity in enumerate(entities):
        if entity in number:
            out[:, number[entity]] += share[:, column]
    return out, share[:, -1]
