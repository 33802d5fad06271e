"""Losses of VELCRO and of the dense phase.

Contrastive: InfoNCE of region embeddings against entity embeddings, cosine / learnable temperature
(VELCRO, equations of section 3). Segmentation: 20 x focal + dice with squared denominator.
Dense: the same contrastive loss for every image token; it teaches the encoder several times faster
than region prompts alone, since one slice gives hundreds of answers instead of a few.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.slice_sampler import IGNORE


class EntityTable(nn.Module):
    """Unit embeddings of the training entities and of "nothing in the knowledge base".

    They start free and are later tied to the text tower (`text_training.py`).
    """

    def __init__(self, entities: int, embedding: int, temperature: float = 0.1) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(entities + 1, embedding) * embedding**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1.0 / temperature)))

    def scaled(self) -> Tensor:
        """Unit vectors times the temperature's inverse, (entities + 1) x D."""
        scale = self.log_scale.clamp(max=math.log(50.0)).exp()
        return scale * F.normalize(self.vectors, dim=1)

    def logits(self, embedding: Tensor) -> Tensor:
        """Unit embeddings N x D -> N x (entities + 1)."""
        return embedding @ self.scaled().T


def dense_loss(
    embedding: Tensor,
    side: Tensor,
    entity_target: Tensor,
    side_target: Tensor,
    table: EntityTable,
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of every image token; targets B x h x w (-1 = unknown). Returns (entity loss, side
    loss, top-1 accuracy)."""
    d = embedding.shape[1]
    use = entity_target.reshape(-1) >= 0
    target = entity_target.reshape(-1)[use]
    logits = table.logits(embedding.permute(0, 2, 3, 1).reshape(-1, d)[use])
    loss = F.cross_entropy(logits, target, weight=weight, label_smoothing=0.05)
    sides = side.permute(0, 2, 3, 1).reshape(-1, 3)
    side_loss = F.cross_entropy(sides, side_target.reshape(-1), ignore_index=IGNORE)
    if not torch.isfinite(side_loss):  # a batch without any sided token
        side_loss = sides.sum() * 0.0
    accuracy = (logits.argmax(1) == target).float().mean()
    return loss, side_loss, accuracy


def mask_loss(
    logits: Tensor,
    target: Tensor,
    use: Tensor,
    cross_entropy: float = 1.0,
    overlap_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy + dice over the N x h x w masks where `use`; also each mask's IoU (detached).

    The cross-entropy is summed over pixels and divided by three times the mask's area, so that a
    small structure in a large picture counts as much as a large one. VELCRO's 20 x focal + dice
    was tried first: its logits stay near zero and masks learn several times slower.
    """
    logits, target = logits.float().flatten(1), target.float().flatten(1)
    probability = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    area = target.sum(1)
    each = cross.sum(1) / (3 * area + 50)
    overlap = (probability * target).sum(1)
    dice = 1 - (2 * overlap + 1) / (probability.sum(1) + area + 1)
    hard = (logits > 0).float()
    meet = (hard * target).sum(1)
    iou = meet / (hard.sum(1) + area - meet).clamp(min=1)
    loss = (cross_entropy * each.clamp(max=5.0) + overlap_weight * dice) * use
    return loss.sum() / use.sum().clamp(min=1), iou.detach()
