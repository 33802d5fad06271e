"""What each part of VELCRO's loss counts, and the loss of prompted masks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ...model.network import Decoded
from ..data.batches import Batch
from .objectives import mask_loss


@dataclass(frozen=True)
class LossWeights:
    """What each part of VELCRO's loss counts."""

    dense: float = 0.5
    pixel: float = 1.0
    region: float = 1.0
    side: float = 0.5
    mask: float = 1.0
    cross_entropy: float = 1.0  # within the mask's loss
    overlap: float = 1.0


DENSE_PHASE = LossWeights(dense=1.0)
JOINT_PHASE = LossWeights()
FINISHING = LossWeights(
    dense=0.0, pixel=0.7, region=0.7, side=0.3, mask=1.5, cross_entropy=0.5, overlap=2.0
)


def segmentation_loss(
    decoded: Decoded, batch: Batch, parts: LossWeights = JOINT_PHASE
) -> tuple[Tensor, Tensor, Tensor]:
    """(mask loss, squared error of the predicted IoU, mean IoU) of the prompts that have a mask."""
    target = batch["masks"]
    if (
        target.shape[-1] != decoded.masks.shape[-1]
    ):  # SAM's masks have a quarter of the input's side
        size = decoded.masks.shape[-2:]
        target = (F.adaptive_avg_pool2d(target.float()[:, None], size)[:, 0] >= 0.5).to(target)
    use = batch["has_mask"].float()
    segmentation, iou = mask_loss(decoded.masks, target, use, parts.cross_entropy, parts.overlap)
    quality = (((decoded.iou.float() - iou) ** 2) * use).sum() / use.sum().clamp(min=1)
    return segmentation, quality, (iou * use).sum() / use.sum().clamp(min=1)
