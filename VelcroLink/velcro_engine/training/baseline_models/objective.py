"""Losses of the baselines: VELCRO's contrastive loss against the given text side, or masks only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from .networks import Slices

if TYPE_CHECKING:
    from ..learning.trainer import Batch, Recipe, TrainingState


def baseline_loss(
    state: TrainingState, recipe: Recipe, batch: Batch, device: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch and the figures of the log line."""
    if recipe.baseline == "sam-token-knn":
        return _masks_only(state, batch, device)
    if recipe.baseline == "velcro":
        from ..learning.trainer import velcro_loss

        return velcro_loss(state, recipe, batch, device)
    slices = Slices(batch["image"], batch["position"], batch["modality"])
    with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
        encoded = state.network.encode(slices)
        embedding, side = state.network.decode(
            slices, encoded, batch["points"], batch["labels"], batch["row"]
        )
    logits = state.table.logits(embedding)
    region_loss = F.cross_entropy(logits, batch["entity"], label_smoothing=0.05)
    loss = region_loss + 0.5 * F.cross_entropy(side, batch["side"])
    figures = {
        "roi": region_loss.detach(),
        "roi_top1": (logits.argmax(1) == batch["entity"]).float().mean(),
        "side": (side.argmax(1) == batch["side"]).float().mean(),
    }
    return loss, figures


def _masks_only(
    state: TrainingState, batch: Batch, device: str
) -> tuple[Tensor, dict[str, Tensor]]:
    from ..learning.trainer import segmentation_loss

    network = state.network
    with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
        encoded = network.encode(batch["image"], batch["position"])
        decoded = network.decode(encoded.rows(batch["row"]), batch["points"], batch["labels"])
    segmentation, quality, iou = segmentation_loss(decoded, batch)
    return segmentation + 0.2 * quality, {"mask": segmentation.detach(), "iou": iou}
