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
from dataclasses import asdict, dataclass

import timm
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from .preprocess import GREY_MEAN, GREY_STD, NO_POINT, POSITION_CHANNELS, STRIDE

BOX_EDGE = 1.5  # input pixels over which a drawn box fades
SAM_MEAN, SAM_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of 0..255
POINT_SPREAD = 6.0  # input pixels, one sigma of a drawn point


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a network; written beside its weights so that it can be rebuilt."""

    backbone: str = "regnety_004"
    size: int = 224
    width: int = 160
    embedding: int = 256
    heads: int = 8
    mlp: int = 640
    depth: int = 2

    def as_dict(self) -> dict:
        return asdict(self)


class MixingBlock(nn.Module):
    """Depthwise 7 x 7 then a two-layer pointwise net, residual (the ConvNeXt block's layout)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.BatchNorm2d(width)
        self.expand = nn.Conv2d(width, 3 * width, 1)
        self.reduce = nn.Conv2d(3 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.reduce(F.gelu(self.expand(self.norm(self.spatial(x)))))


def _residual(width: int, inner: int) -> nn.Sequential:
    """3 x 3 convolution and back; adds nothing until it is trained."""
    block = nn.Sequential(
        nn.Conv2d(width, inner, 3, padding=1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, width, 1, bias=False),
        nn.BatchNorm2d(width),
    )
    nn.init.zeros_(block[4].weight)
    return block


class FineMaps(nn.Module):
    """What masks are drawn from: the neck's knowledge brought to the backbone's fine levels.

    neck B x C x S/8 x S/8, f4 at S/4, f2 at S/2 -> maps of C/4 and C/8 channels for the decoder and
    pixel features B x 48 x S/2 x S/2, which training links pixel by pixel.
    """

    channels = 48

    def __init__(self, width: int, f4: int, f2: int) -> None:
        super().__init__()
        n = self.channels
        self.from8, self.from4 = nn.Conv2d(width, 64, 1), nn.Conv2d(f4, 64, 1)
        self.mix4 = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.to2, self.from2 = nn.Conv2d(64, n, 1), nn.Conv2d(f2, n, 1)
        self.mix2 = nn.Sequential(
            nn.Conv2d(n, n, 3, padding=1, groups=n),
            nn.BatchNorm2d(n),
            nn.Conv2d(n, n, 1),
            nn.ReLU(),
        )
        self.more4, self.more2 = _residual(64, 64), _residual(n, 2 * n)
        self.fine4, self.fine2 = nn.Conv2d(64, width // 4, 1), nn.Conv2d(n, width // 8, 1)

    def forward(self, neck: Tensor, f4: Tensor, f2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.interpolate(self.from8(neck), scale_factor=2.0, mode="nearest") + self.from4(f4)
        x = self.mix4(x)
        x = x + self.more4(x)
        y = F.interpolate(self.to2(x), scale_factor=2.0, mode="nearest") + self.from2(f2)
        y = self.mix2(y)
        y = y + self.more2(y)
        return self.fine4(x), self.fine2(y), y


class CompactEncoder(nn.Module):
    """timm backbone, top-down neck at stride 8, position map mixed in.

    image B x 1 x S x S, position B x 14 x S/8 x S/8 -> embedding B x C x S/8 x S/8 and two
    fine maps for the mask, B x C/4 x S/4 x S/4 and B x C/8 x S/2 x S/2.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            config.backbone, pretrained=False, features_only=True, in_chans=1
        )
        reductions = self.backbone.feature_info.reduction()
        channels = self.backbone.feature_info.channels()
        self.levels = [reductions.index(r) for r in (2, 4, 8, 16, 32)]
        c = config.width
        self.laterals = nn.ModuleList(nn.Conv2d(channels[i], c, 1) for i in self.levels[2:])
        self.position = nn.Sequential(
            nn.Conv2d(POSITION_CHANNELS, c, 1), nn.GELU(), nn.Conv2d(c, c, 1)
        )
        self.mix = nn.Sequential(MixingBlock(c), MixingBlock(c))
        self.norm = nn.GroupNorm(1, c)
        self.fine = FineMaps(c, channels[self.levels[1]], channels[self.levels[0]])

    def forward(self, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = self.backbone(image)
        f2, f4, f8, f16, f32 = (features[i] for i in self.levels)
        x = self.laterals[2](f32)
        x = self.laterals[1](f16) + F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.laterals[0](f8) + F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.norm(self.mix(x + self.position(position)))
        return x, *self.fine(x, f4, f2)


class SamEncoder(nn.Module):
    """A SAM image encoder as backbone; the position map is added to its embedding.

    image B x 1 x S x S with S = 1024. The fine maps are absent (None), as in SAM.
    """

    def __init__(self, image_encoder: nn.Module, width: int = 256) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.position = nn.Sequential(
            nn.Conv2d(POSITION_CHANNELS, width, 1), nn.GELU(), nn.Conv2d(width, width, 1)
        )
        nn.init.zeros_(self.position[2].weight)  # at first the checkpoint's own embedding
        nn.init.zeros_(self.position[2].bias)

    def forward(self, image: Tensor, position: Tensor) -> tuple[Tensor, None, None, None]:
        # from our grey levels to the colours SAM was trained on
        grey = (image * GREY_STD + GREY_MEAN) * 255.0
        rgb = torch.cat([(grey - m) / s for m, s in zip(SAM_MEAN, SAM_STD, strict=True)], dim=1)
        x = self.image_encoder(rgb)
        place = F.interpolate(self.position(position), x.shape[-2:], mode="bilinear")
        return x + place, None, None, None


class VelcroPromptEncoder(PromptEncoder):
    """segment-anything's prompt encoder reading points and box corners as one list of points."""

    def embed(self, points: Tensor, labels: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """points N x P x 2 in pixels of a picture of `size` (else the configured input size); labels N x P (0 outside, 1 inside, 2 / 3 box corners,
        -1 nothing) -> N x P x C. The same sums as the parent's, without writing in place, so that
        it can be exported."""
        pe = self.pe_layer.forward_with_coords(points + 0.5, size or self.input_image_size)
        out = torch.where((labels == NO_POINT)[..., None], self.not_a_point_embed.weight, pe)
        for index, kind in enumerate(self.point_embeddings):
            out = out + (labels == index)[..., None].to(out.dtype) * kind.weight
        return out

    @staticmethod
    def draw(points: Tensor, labels: Tensor, height: int, width: int, pixel: int) -> Tensor:
        """The prompt as three maps N x 3 x height x width, values 0..1: inside the box, near a
        point inside, near a point outside. `pixel`: input pixels to a pixel of the maps."""
        first = (pixel - 1) / 2
        y = torch.arange(height, device=points.device, dtype=points.dtype) * pixel + first
        x = torch.arange(width, device=points.device, dtype=points.dtype) * pixel + first

        def corner(kind: int) -> Tensor:
            return (points * (labels == kind).to(points.dtype)[..., None]).sum(1)

        low, high = corner(2), corner(3)
        has_box = (labels == 2).to(points.dtype).sum(1).clamp(max=1)
        across = torch.sigmoid((x - low[:, :1]) / BOX_EDGE)
        across = across * torch.sigmoid((high[:, :1] - x) / BOX_EDGE)
        down = torch.sigmoid((y - low[:, 1:]) / BOX_EDGE)
        down = down * torch.sigmoid((high[:, 1:] - y) / BOX_EDGE)
        maps = [has_box[:, None, None] * down[:, :, None] * across[:, None, :]]
        spread = 2 * POINT_SPREAD**2
        near_x = torch.exp(-((x - points[..., :1]) ** 2) / spread)  # N x P x width
        near_y = torch.exp(-((y - points[..., 1:]) ** 2) / spread)
        for kind in (1, 0):
            here = (labels == kind).to(points.dtype)[..., None]
            maps.append(torch.einsum("nph,npw->nhw", near_y * here, near_x).clamp(max=1))
        return torch.stack(maps, dim=1)


class VelcroMaskDecoder(MaskDecoder):
    """segment-anything's mask decoder that also returns its mask token and reads fine maps."""

    def decode(
        self,
        embedding: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        dense: Tensor,
        fine4: Tensor | None,
        fine2: Tensor | None,
        drawn: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All N x ... (one row a prompt) -> mask logits N x h x w, IoU N, mask token N x C."""
        n = sparse.shape[0]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight], dim=0)
        tokens = torch.cat([own.unsqueeze(0).expand(n, -1, -1), sparse], dim=1)
        src = embedding + dense
        _, c, h, w = src.shape
        hs, keys = self.transformer(src, image_pe.expand(n, -1, -1, -1), tokens)
        token = hs[:, 1]
        grid = keys.transpose(1, 2).reshape(n, c, h, w)
        up1, norm, act1, up2, act2 = self.output_upscaling
        x = up1(grid)
        if fine4 is not None:
            x = x + fine4
        x = up2(act1(norm(x)))
        if fine2 is not None:
            x = x + fine2
        if drawn is not None:
            x = x + drawn
        x = act2(x)
        kernel = self.output_hypernetworks_mlps[0](token)
        masks = torch.einsum("nc,nchw->nhw", kernel, x)
        iou = self.iou_prediction_head(hs[:, 0])[:, 0]
        return masks, iou, token


class RegionHead(nn.Module):
    """Mask token and mean image token under the mask -> region embedding and side logits."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.hidden = nn.Linear(2 * width, 2 * embedding)
        self.embedding = nn.Linear(2 * embedding, embedding)
        self.side = nn.Linear(2 * embedding, 3)

    def forward(self, token: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.gelu(self.hidden(self.norm(torch.cat([token, pooled], dim=1))))
        return F.normalize(self.embedding(hidden).float(), dim=1), self.side(hidden).float()


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
