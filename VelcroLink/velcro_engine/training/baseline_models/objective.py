"""Losses of the baselines: VELCRO's contrastive loss against the given text side, or masks only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.batches import Batch
from ..losses.objectives import EntityTable
from ..losses.regions import segmentation_loss
from ..recipes.recipe import Recipe
from .networks import Slices


def baseline_loss(
    network: Any, table: EntityTable, recipe: Recipe, batch: Batch, device: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch and the figures of the log line. network: what `baseline_network` made;
    `velcro` has VELCRO's own loss instead."""
    if recipe.baseline == "sam-token-knn":
        return _masks_only(network, batch, device)
    slices = Slices(batch["image"], batch["position"], batch["modality"])
    with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
        encoded = network.encode(slices)
        embedding, side = network.decode(
            slices, encoded, batch["points"], batch["labels"], batch["row"]
        )
    logits = table.logits(embedding)
    region_loss = F.cross_entropy(logits, batch["entity"], label_smoothing=0.05)
    loss = region_loss + 0.5 * F.cross_entropy(side, batch["side"])
    figures = {
        "roi": region_loss.detach(),
        "roi_top1": (logits.argmax(1) == batch["entity"]).float().mean(),
        "side": (side.argmax(1) == batch["side"]).float().mean(),
    }
    return loss, figures


def _masks_only(network: Any, batch: Batch, device: str) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
        encoded = network.encode(batch["image"], batch["position"])
        decoded = network.decode(encoded.rows(batch["row"]), batch["points"], batch["labels"])
    segmentation, quality, iou = segmentation_loss(decoded, batch)
    return segmentation + 0.2 * quality, {"mask": segmentation.detach(), "iou": iou}
