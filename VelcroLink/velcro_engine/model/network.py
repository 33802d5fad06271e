"""The VELCRO network in torch: backbone, segment-anything's prompt encoder and decoder, RoI head.

The decoder's mask token, after it has attended to the prompt and to the whole slice, names the
region (Carbone et al., "Visual Medical Entity Linking with VELCRO", ML4H 2025). Four things are ours:
each image token knows where in the patient it lies (`preprocess.position_map`); the region embedding
also reads the image tokens and the linked pixels under the decoder's mask; box and points are also
drawn as maps, as SAM does with mask prompts; and the mask adds what the linked pixels say, each on
its own, about belonging to the region's entity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from segment_anything.modeling import TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from .network_parts import (
    CompactEncoder,
    FineMaps,
    NetworkConfig,
    RegionHead,
    SamEncoder,
    VelcroMaskDecoder,
    VelcroPromptEncoder,
)
from .preprocess import STRIDE


@dataclass
class Encoded:
    """What a slice leaves behind: embedding B x C x h x w and fine maps, and of every pixel of the
    S/2 grid its features with the inverse length of its embedding (`pixels` B x 49 x S/2 x S/2)
    and the share of each training entity (`posterior` B x (E + 1) x S/2 x S/2)."""

    embedding: Tensor
    fine4: Tensor | None
    fine2: Tensor | None
    pixels: Tensor | None = None
    posterior: Tensor | None = None

    def rows(self, index: Tensor) -> Encoded:
        """One row for each prompt; what is said of pixels stays one row a slice, since prompts
        come slice by slice, the same number for each."""
        return Encoded(
            self.embedding[index],
            None if self.fine4 is None else self.fine4[index],
            None if self.fine2 is None else self.fine2[index],
            self.pixels,
            self.posterior,
        )


@dataclass
class Decoded:
    """masks N x h x w logits; iou N; embedding N x D unit length; side N x 3 (left, right, none)."""

    masks: Tensor
    iou: Tensor
    embedding: Tensor
    side: Tensor


class VelcroNetwork(nn.Module):
    """Encoder, prompt encoder, decoder, region head and dense head."""

    def __init__(
        self, config: NetworkConfig, sam: nn.Module | None = None, entities: int = 0
    ) -> None:
        """`entities`: how many are trained. `sam`: a model of `segment_anything.sam_model_registry`; then its encoder, and the
        weights of its prompt encoder and decoder, are taken and `config.width` must be 256."""
        super().__init__()
        self.config = config
        c, d = config.width, config.embedding
        if sam is None:
            self.encoder: nn.Module = CompactEncoder(config)
            self.stride = STRIDE
        else:
            self.encoder = SamEncoder(sam.image_encoder, c)
            self.stride = 16
        grid = config.size // self.stride
        self.prompt_encoder = VelcroPromptEncoder(
            embed_dim=c,
            image_embedding_size=(grid, grid),
            input_image_size=(config.size, config.size),
            mask_in_chans=16,
        )
        self.decoder = VelcroMaskDecoder(
            transformer_dim=c,
            transformer=TwoWayTransformer(
                depth=config.depth, embedding_dim=c, mlp_dim=config.mlp, num_heads=config.heads
            ),
            num_multimask_outputs=0 if sam is None else 3,
            activation=nn.ReLU if sam is None else nn.GELU,  # twice as fast on the fine maps
            iou_head_hidden_dim=c,
        )
        if sam is not None:
            self.prompt_encoder.load_state_dict(sam.prompt_encoder.state_dict())
            self.decoder.load_state_dict(sam.mask_decoder.state_dict())
        else:
            # mask prompts are not used; what is not trained must not be shipped
            self.prompt_encoder.mask_downscaling = nn.Identity()
        self.region_head = RegionHead(c, d)
        self.dense_head = nn.Conv2d(c, d + 3, 1)
        self.pixel_head = nn.Linear(FineMaps.channels, d) if sam is None else None
        # the entities' unit vectors times the temperature's inverse, "nothing" last
        self.register_buffer("prototypes", torch.zeros(entities + 1, d))
        if sam is None:
            self.pixel_gain = nn.Parameter(torch.tensor(1.0))
            self.region_gain = nn.Parameter(torch.tensor(0.3))  # of the pixels in the embedding
            self.agreement = nn.Parameter(torch.tensor([0.5, 0.5]))  # of log-odds; where even
            self.drawn_grid = nn.Conv2d(3, c, 1)
            self.drawn_fine = nn.Conv2d(3, c // 8, 1)
            for drawn in (self.drawn_grid, self.drawn_fine):
                nn.init.zeros_(drawn.weight)
                nn.init.zeros_(drawn.bias)

    def encode(self, image: Tensor, position: Tensor) -> Encoded:
        embedding, fine4, fine2, pixels = self.encoder(image, position)
        if pixels is None:
            return Encoded(embedding, fine4, fine2)
        measured = self._measured(pixels)
        with torch.no_grad():  # pixels learn their names (`link_pixels`), not to please a mask
            posterior = self.pixel_logits(measured).softmax(1)
        return Encoded(embedding, fine4, fine2, measured, posterior)

    def _measured(self, pixels: Tensor) -> Tensor:
        """Pixel features B x 48 x h x w -> B x 49 x h x w, such that any vector's cosine with every
        pixel's embedding is one product and the 256-d embeddings of all pixels are never built:
        |W y + b|^2 = y'W'W y + 2 b'W y + b'b."""
        assert self.pixel_head is not None
        weight, bias = self.pixel_head.weight, self.pixel_head.bias
        with torch.autocast(pixels.device.type, enabled=False):
            y = pixels.float()
            squared = (y * F.conv2d(y, (weight.T @ weight)[:, :, None, None])).sum(1, keepdim=True)
            squared = squared + 2 * F.conv2d(y, (weight.T @ bias)[None, :, None, None])
            inverse = (squared + bias @ bias).clamp(min=1e-6).rsqrt()
            return torch.cat([y * inverse, inverse], dim=1)

    def pixel_logits(self, measured: Tensor) -> Tensor:
        """Every pixel linked on its own: B x 49 x h x w -> B x (entities + 1) x h x w."""
        return F.conv2d(measured, self._pixel_keys()[:, :, None, None]).float()

    def link_pixels(self, measured: Tensor, index: Tensor) -> Tensor:
        """Logits N x (entities + 1) of single pixels, `index` into B * h * w."""
        rows = measured.permute(0, 2, 3, 1).reshape(-1, measured.shape[1])[index]
        return (rows @ self._pixel_keys().T).float()

    def _pixel_keys(self) -> Tensor:
        assert self.pixel_head is not None
        weight, bias = self.pixel_head.weight, self.pixel_head.bias
        keys = torch.cat([self.prototypes @ weight, (self.prototypes @ bias)[:, None]], dim=1)
        return self.pixel_gain * keys

    def dense(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Every image token linked on its own: unit embeddings B x D x h x w, side B x 3 x h x w."""
        out = self.dense_head(encoded.embedding).float()
        d = self.config.embedding
        return F.normalize(out[:, :d], dim=1), out[:, d:]

    def image_pe(self, grid: Sequence[int]) -> Tensor:
        return self.prompt_encoder.pe_layer((int(grid[0]), int(grid[1]))).unsqueeze(0)

    def decode(self, encoded: Encoded, points: Tensor, labels: Tensor) -> Decoded:
        """`encoded` has one row for each prompt; points N x P x 2, labels N x P."""
        grid = encoded.embedding.shape[-2:]
        size = (int(grid[0]) * self.stride, int(grid[1]) * self.stride)
        sparse = self.prompt_encoder.embed(points, labels, size)
        dense = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        fine = None
        if encoded.pixels is not None:
            height, width = (int(n) for n in encoded.pixels.shape[-2:])
            drawn = self.prompt_encoder.draw(points, labels, height, width, size[0] // height)
            fine = self.drawn_fine(drawn)
            dense = dense + self.drawn_grid(F.avg_pool2d(drawn, height // int(grid[0])))
        masks, iou, token = self.decoder.decode(
            encoded.embedding,
            self.image_pe(grid),
            sparse,
            dense,
            encoded.fine4,
            encoded.fine2,
            fine,
        )
        pooled = mean_under_mask(encoded.embedding, masks)
        embedding, side = self.region_head(token, pooled)
        if encoded.pixels is not None:
            embedding = embedding + self.region_gain * self._pixels_under(encoded.pixels, masks)
            embedding = F.normalize(embedding, dim=1)
            if len(self.prototypes) > 1:
                masks = masks.float() + self._same_entity(embedding.detach(), encoded.posterior)
        return Decoded(masks, iou, embedding, side)

    def _pixels_under(self, measured: Tensor, masks: Tensor) -> Tensor:
        """Mean pixel embedding under the masks N x h x w -> N x D, not of unit length."""
        assert self.pixel_head is not None
        slices, channels = measured.shape[:2]
        with torch.autocast(measured.device.type, enabled=False):
            weight = torch.sigmoid(masks.detach().float()).flatten(1)
            weight = weight / (weight.sum(1, keepdim=True) + 1e-3)
            weight = weight.reshape(slices, -1, weight.shape[1])
            mean = torch.bmm(weight, measured.float().flatten(2).transpose(1, 2))
            mean = mean.reshape(-1, channels)
            head = self.pixel_head
            return mean[:, :-1] @ head.weight.T + mean[:, -1:] * head.bias

    def _same_entity(self, region: Tensor, posterior: Tensor | None) -> Tensor:
        """What a pixel's own link adds to the mask logit: log-odds that it is of the region's entity,
        the region's entity itself being uncertain. Region embeddings N x D -> N x h x w."""
        assert posterior is not None
        slices, entities, height, width = posterior.shape
        with torch.autocast(posterior.device.type, enabled=False):
            of_region = (region.float() @ self.prototypes.T).softmax(1)
            of_region = of_region.reshape(slices, -1, entities)
            same = torch.bmm(of_region, posterior.flatten(2)).reshape(-1, height, width)
            same = same.clamp(1e-3, 1 - 1e-3)
            odds = torch.log(same) - torch.log(1 - same)
            return self.agreement[0] * odds + self.agreement[1]


def mean_under_mask(embedding: Tensor, masks: Tensor) -> Tensor:
    """Mean image token under the predicted mask: N x C x h x w, N x H x W logits -> N x C.

    The mask is not trained through this mean, lest it grow towards tokens that are easy to name.
    """
    kernel = masks.shape[-1] // embedding.shape[-1]
    weight = F.avg_pool2d(torch.sigmoid(masks.detach().float()).unsqueeze(1), kernel)
    weight = weight.to(embedding.dtype).flatten(1)
    total = weight.sum(1, keepdim=True) + 1e-3
    return torch.bmm(embedding.flatten(2), (weight / total).unsqueeze(2)).squeeze(2)
