"""MedTrim's loss of triplets (2504.15929), over both images and texts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as functional

MARGIN = 0.3


def triplet_loss(
    image: Iterable[torch.Tensor], text: Iterable[torch.Tensor], margin: float = MARGIN
) -> torch.Tensor:
    """Mean of the four hinge terms on cosine distances; scalar.

    `image` and `text`: embeddings of (anchor, positive, negative), B x D each. The image branch
    asks an anchor image to lie nearer to the positive image and to the positive text than to the
    negative ones, the text branch the same of the anchor text.
    """
    images = [functional.normalize(tensor, dim=-1) for tensor in image]
    texts = [functional.normalize(tensor, dim=-1) for tensor in text]

    def hinge(anchor: torch.Tensor, others: list[torch.Tensor]) -> torch.Tensor:
        nearer, farther = (1 - (anchor * other).sum(-1) for other in others[1:])
        return functional.relu(nearer - farther + margin).mean()

    image_branch = (hinge(images[0], images) + hinge(images[0], texts)) / 2
    text_branch = (hinge(texts[0], texts) + hinge(texts[0], images)) / 2
    return (image_branch + text_branch) / 2
