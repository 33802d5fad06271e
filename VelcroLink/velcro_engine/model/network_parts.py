"""What the VELCRO network is put together from: encoders, segment-anything's prompt encoder and
mask decoder as we run them, the region head, and the sizes of it all."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import timm
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder
from torch import Tensor, nn
from torch.nn import functional as F

from .preprocess import GREY_MEAN, GREY_STD, NO_POINT, POSITION_CHANNELS

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
