"""The baselines' networks, all with the bundled network's backbone and text side.

`clip-whole`, `clip-crop`: one embedding of the picture, or of the prompt's crop. `clip-mask-pool`:
tokens of a 16-pixel grid, as CLIP's ViT-B/16 has them, averaged under the prompt's box.
`sam-token-knn`: VELCRO's own network, whose masks alone are trained. `box-prior`: no picture at all.
`velcro`: VELCRO itself on the budget and the text side of the others, for a fair comparison.
"""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...model.network import VelcroNetwork
from ...model.network_parts import MixingBlock, NetworkConfig
from ...model.preprocess import POSITION_CHANNELS
from ..recipes.recipe import Recipe
from .regions import GEOMETRY, box_crops, geometry_features, prompt_boxes, tokens_under_boxes

BASELINES = ("clip-whole", "clip-crop", "clip-mask-pool", "sam-token-knn", "box-prior", "velcro")
WITH_MASKS = ("sam-token-knn", "velcro")


class Slices:
    """A batch of slices as a baseline reads it: image B x 1 x S x S, position B x 14 x h x w,
    modality B."""

    def __init__(self, image: Tensor, position: Tensor, modality: Tensor) -> None:
        self.image, self.position, self.modality = image, position, modality


class Projection(nn.Module):
    """Features N x C -> unit embedding N x D and side logits N x 3."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.hidden = nn.Linear(channels, 2 * embedding)
        self.embedding = nn.Linear(2 * embedding, embedding)
        self.side = nn.Linear(2 * embedding, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.gelu(self.hidden(self.norm(x)))
        return F.normalize(self.embedding(hidden).float(), dim=1), self.side(hidden).float()


class PictureEncoder(nn.Module):
    """timm backbone: image -> feature maps at strides 16 and 32."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            config.backbone, pretrained=False, features_only=True, in_chans=1
        )
        reductions = self.backbone.feature_info.reduction()
        self.levels = [reductions.index(16), reductions.index(32)]
        self.channels = [self.backbone.feature_info.channels()[i] for i in self.levels]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone(image)
        return maps[self.levels[0]], maps[self.levels[1]]


class PooledClip(nn.Module):
    """CLIP's global embedding, of the whole picture or of the prompt's crop."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.encoder = PictureEncoder(recipe.network)
        self.place = nn.Linear(POSITION_CHANNELS, 128) if recipe.position else None
        channels = self.encoder.channels[1] + (128 if recipe.position else 0)
        self.projection = Projection(channels, recipe.network.embedding)
        self.crop = recipe.crop if recipe.baseline == "clip-crop" else 0

    def encode(self, slices: Slices) -> Tensor:
        """Whole: pooled features B x C. Crop: the picture itself, which is cropped by prompts."""
        return slices.image if self.crop else self._pooled(slices.image)

    def decode(
        self, slices: Slices, encoded: Tensor, points: Tensor, labels: Tensor, row: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embedding N x D and side logits N x 3 of N prompts; `row`: the slice of each."""
        features = encoded[row]
        if self.crop:
            crops = box_crops(features, prompt_boxes(points, labels), self.crop)
            features = self._pooled(crops)
        if self.place is not None:
            boxes = prompt_boxes(points, labels)
            size = slices.image.shape[-1]
            spots = tokens_under_boxes(slices.position[row], boxes, size)
            features = torch.cat([features, F.gelu(self.place(spots))], 1)
        return self.projection(features)

    def _pooled(self, image: Tensor) -> Tensor:
        return self.encoder(image)[1].mean((2, 3))


class TokenClip(nn.Module):
    """CLIP's patch tokens averaged under the prompt's box (VELCRO's authors' first version)."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        c = recipe.network.width
        self.encoder = PictureEncoder(recipe.network)
        self.laterals = nn.ModuleList(nn.Conv2d(n, c, 1) for n in self.encoder.channels)
        self.place = nn.Conv2d(POSITION_CHANNELS, c, 1) if recipe.position else None
        self.mix = MixingBlock(c)
        self.projection = Projection(c, recipe.network.embedding)

    def encode(self, slices: Slices) -> Tensor:
        """Tokens B x C x S/16 x S/16."""
        f16, f32 = self.encoder(slices.image)
        x = self.laterals[0](f16) + F.interpolate(self.laterals[1](f32), scale_factor=2.0)
        if self.place is not None:
            x = x + self.place(F.adaptive_avg_pool2d(slices.position, x.shape[-2:]))
        return self.mix(x)

    def decode(
        self, slices: Slices, encoded: Tensor, points: Tensor, labels: Tensor, row: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embedding N x D and side logits N x 3 of N prompts; `row`: the slice of each."""
        size = slices.image.shape[-1]
        return self.projection(tokens_under_boxes(encoded[row], prompt_boxes(points, labels), size))


class BoxPrior(nn.Module):
    """Frequency of labels given box, position, plane and modality; sees no picture."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        width = 512
        self.body = nn.Sequential(
            nn.Linear(GEOMETRY, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
        )
        self.projection = Projection(width, recipe.network.embedding)

    def encode(self, slices: Slices) -> Tensor:
        """The position map: nothing else is read."""
        return slices.position

    def decode(
        self, slices: Slices, encoded: Tensor, points: Tensor, labels: Tensor, row: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embedding N x D and side logits N x 3 of N prompts; `row`: the slice of each."""
        size = slices.image.shape[-1]
        known = geometry_features(encoded[row], points, labels, slices.modality[row], size)
        return self.projection(self.body(known))


def baseline_network(recipe: Recipe, entities: int = 0) -> nn.Module:
    """The untrained network of `recipe.baseline`. Raises InputError for an unknown name."""
    if recipe.baseline in ("clip-whole", "clip-crop"):
        return PooledClip(recipe)
    if recipe.baseline == "clip-mask-pool":
        return TokenClip(recipe)
    if recipe.baseline == "box-prior":
        return BoxPrior(recipe)
    if recipe.baseline in WITH_MASKS:
        return VelcroNetwork(recipe.network, entities=entities)
    raise InputError(f"Unknown baseline '{recipe.baseline}'; use one of {', '.join(BASELINES)}.")
