"""Prompt to region for networks without a decoder: box of a prompt, its crop, its tokens.

Pixel coordinates are those of the square model input, (0, 0) at the centre of the first pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...model.preprocess import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, POINT_INSIDE

POINT_REACH = 14.0  # pixels around a point that count as its box: half of a usual structure
MARGIN = 0.1  # of the box's longer side, on each side
SMALLEST_CROP = 24.0  # pixels


def prompt_boxes(points: Tensor, labels: Tensor) -> Tensor:
    """points N x P x 2 and labels N x P of prompts -> boxes N x 4 (XYXY).

    A prompt of points becomes the box around those inside, POINT_REACH wider on all sides.
    """
    corner = torch.where((labels == BOX_TOP_LEFT)[..., None], points, 0.0).sum(1)
    opposite = torch.where((labels == BOX_BOTTOM_RIGHT)[..., None], points, 0.0).sum(1)
    inside = (labels == POINT_INSIDE)[..., None]
    low = torch.where(inside, points, torch.inf).amin(1) - POINT_REACH
    high = torch.where(inside, points, -torch.inf).amax(1) + POINT_REACH
    has_box = (labels == BOX_TOP_LEFT).any(1, keepdim=True)
    return torch.cat([torch.where(has_box, corner, low), torch.where(has_box, opposite, high)], 1)


def box_crops(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """images N x 1 x S x S (one a box), boxes N x 4 -> N x 1 x size x size.

    A square around the box: its longer side and a little margin; the aspect ratio stays.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).amax(1) * (1 + 2 * MARGIN)
    side = side.clamp(min=SMALLEST_CROP, max=1.2 * images.shape[-1])
    axis = (torch.arange(size, device=images.device) + 0.5) / size - 0.5
    offset = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    at = centre[:, None, None] + offset[None] * side[:, None, None, None]
    unit = (at + 0.5) * (2.0 / images.shape[-1]) - 1.0
    return F.grid_sample(images.float(), unit, padding_mode="border", align_corners=False)


def tokens_under_boxes(tokens: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Mean token under each box: tokens N x C x h x w (one row a box), input of `size` pixels.

    Tokens weigh by the share of the box that lies in their cell, so a box smaller than a cell reads
    the tokens it touches.
    """
    n, _, h, w = tokens.shape

    def share(low: Tensor, high: Tensor, cells: int) -> Tensor:
        edges = torch.arange(cells + 1, device=tokens.device) * (size / cells) - 0.5
        inner = edges[1:-1]
        cuts = torch.cat([inner.new_tensor([-torch.inf]), inner, inner.new_tensor([torch.inf])])
        left = torch.maximum(low[:, None], cuts[None, :-1])
        right = torch.minimum(high[:, None], cuts[None, 1:])
        return (right - left).clamp(min=0)

    wider = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1.0)
    columns, rows = share(boxes[:, 0], wider[:, 0], w), share(boxes[:, 1], wider[:, 1], h)
    weight = (rows[:, :, None] * columns[:, None, :]).reshape(n, h * w)
    weight = weight / weight.sum(1, keepdim=True)
    return torch.bmm(tokens.flatten(2), weight.to(tokens.dtype).unsqueeze(2)).squeeze(2)


def geometry_features(
    position: Tensor, points: Tensor, labels: Tensor, modality: Tensor, size: int
) -> Tensor:
    """What is known of a region without its picture: N x GEOMETRY features.

    position N x 14 x h x w, points N x P x 2, labels N x P, modality N (one row a prompt). The
    position map at the box's centre and corners, the box in the window and in mm, whether it was a
    point, the modality.
    """
    boxes = prompt_boxes(points, labels)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    spots = torch.stack([centre, boxes[:, :2], boxes[:, 2:]], 1)
    unit = (spots + 0.5) * (2.0 / size) - 1.0
    at = F.grid_sample(position, unit[:, None], padding_mode="border", align_corners=False)[:, :, 0]
    extent = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1.0)
    pixels = torch.log2(extent / size)
    millimetres = (torch.log2(extent / 100.0) + position[:, 12:13, 0, 0]) * position[:, 13:14, 0, 0]
    is_point = (~(labels == BOX_TOP_LEFT).any(1, keepdim=True)).float()
    kind = F.one_hot(modality, 3).float()
    waves = torch.cat([at[:, :3].flatten(1), centre / size * 2 - 1], 1)
    fourier = [f(waves * k) for k in (1.5, 3.0, 6.0, 12.0) for f in (torch.sin, torch.cos)]
    plain = [at[:, :3].flatten(1), at[:, 3:, 0], centre / size, pixels, millimetres, is_point, kind]
    return torch.cat([*plain, *fourier], 1)


GEOMETRY = 9 + 11 + 2 + 2 + 2 + 1 + 3 + 8 * 11
