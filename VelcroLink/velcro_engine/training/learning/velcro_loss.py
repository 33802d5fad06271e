"""VELCRO's loss of one batch: dense, linked pixels, prompted regions, what an adaptation keeps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...model.network import VelcroNetwork
from ..data.batches import Batch
from ..losses.alignment_objectives import alignment_losses
from ..losses.objectives import dense_loss
from ..losses.regions import DENSE_PHASE, FINISHING, JOINT_PHASE, segmentation_loss
from ..recipes.recipe import Recipe
from .finishing import is_finishing
from .training_state import TrainingState

PIXELS = 16000  # of a batch, drawn for the pixel loss


FREQUENCY_DECAY = 0.995


def velcro_loss(
    state: TrainingState, recipe: Recipe, batch: Batch, device: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """Dense loss, and once `dense_steps` are over the losses of prompted regions."""
    joint = state.step >= recipe.dense_steps
    parts = JOINT_PHASE if joint else DENSE_PHASE
    if is_finishing(recipe, state.step):
        parts = FINISHING
    network, table = state.network, state.table
    figures: dict[str, Tensor] = {}
    with torch.no_grad():
        network.prototypes.copy_(table.scaled())
    with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
        encoded = network.encode(batch["image"], batch["position"])
        embedding, side = network.dense(encoded)
        decoded = None
        if joint:
            decoded = network.decode(encoded.rows(batch["row"]), batch["points"], batch["labels"])
    stride = batch["dense_entity"].shape[-1] // embedding.shape[-1]  # SAM's tokens are 16 pixels
    start = stride // 2
    dense_entity = batch["dense_entity"][:, start::stride, start::stride]
    dense_side = batch["dense_side"][:, start::stride, start::stride]
    seen = dense_entity[dense_entity >= 0]
    if len(seen):
        now = torch.bincount(seen, minlength=len(state.frequency)).float() / len(seen)
        state.frequency.mul_(FREQUENCY_DECAY).add_(now, alpha=1 - FREQUENCY_DECAY)
    weight = (state.frequency + 1e-4).rsqrt()
    weight = weight / (weight * state.frequency).sum()
    if len(seen):
        entity_loss, side_loss, accuracy = dense_loss(
            embedding, side, dense_entity, dense_side, table, weight
        )
        loss = parts.dense * (entity_loss + 0.5 * side_loss)
        figures |= {"dense": entity_loss.detach(), "dense_top1": accuracy}
    else:
        loss = embedding.sum() * 0.0
    if encoded.pixels is not None:
        drawing = torch.Generator().manual_seed(state.step)
        target = batch["pixel_entity"]
        pixel_loss = linked_pixels_loss(network, encoded.pixels, target, weight.sqrt(), drawing)
        loss = loss + parts.pixel * pixel_loss
        figures["pixel"] = pixel_loss.detach()
    if decoded is not None:
        logits = table.logits(decoded.embedding)
        region_loss = F.cross_entropy(logits, batch["entity"], label_smoothing=0.05)
        region_side = F.cross_entropy(decoded.side, batch["side"])
        segmentation, quality, iou = segmentation_loss(decoded, batch, parts)
        loss = loss + parts.region * region_loss + parts.side * region_side
        loss = loss + parts.mask * segmentation + 0.2 * quality
        figures |= {
            "roi": region_loss.detach(),
            "roi_top1": (logits.argmax(1) == batch["entity"]).float().mean(),
            "side": (decoded.side.argmax(1) == batch["side"]).float().mean(),
            "mask": segmentation.detach(),
            "iou": iou,
        }
        if recipe.medtrim or recipe.location_contrast:
            extra, told = alignment_losses(
                recipe, decoded.embedding, batch, table, state.entities, state.step
            )
            loss, figures = loss + extra, figures | told
    if state.start is not None:
        kept = state.start.loss(batch, encoded, embedding, decoded, network, table)
        loss = loss + recipe.keep * kept
        figures["kept"] = kept.detach()
    return loss, figures


def linked_pixels_loss(
    network: VelcroNetwork,
    measured: Tensor,
    target: Tensor,
    weight: Tensor,
    drawing: torch.Generator,
) -> Tensor:
    """Contrastive loss of some of the labelled pixels (`target` B x h x w, -1 = unknown): a pixel's
    own name teaches masks faster than the masks of a few prompts do."""
    flat = target.reshape(-1)
    labelled = torch.nonzero(flat >= 0)[:, 0]
    if len(labelled) == 0:
        return measured.sum() * 0.0
    index = labelled[torch.randint(len(labelled), (PIXELS,), generator=drawing).to(flat.device)]
    return F.cross_entropy(network.link_pixels(measured, index), flat[index], weight=weight)
