"""From a `SliceRequest` to what the network reads, and back. Only numpy.

The network sees a square picture of `size` pixels that holds the slice's content (empty margins are
cut off, so that a brain in a large field of view is not seen at half its resolution) and, for each
of its tokens, where that token lies in the patient: the *position map*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..messages.request import Foreground, SliceRequest

STRIDE = 8
POSITION_CHANNELS = 14
CONTENT_GREY = 25  # a tenth of the grey scale
MARGIN = 0.04
GREY_MEAN, GREY_STD = 0.30, 0.25
MAXIMUM_POINTS = 8
POINT_OUTSIDE, POINT_INSIDE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, NO_POINT = 0, 1, 2, 3, -1


@dataclass(frozen=True)
class Letterbox:
    """Square window on the slice: input pixel u = (x - x0 + 0.5) * scale - 0.5, the same for y."""

    x0: float
    y0: float
    scale: float
    size: int

    def to_input(self, xy: np.ndarray) -> np.ndarray:
        """Slice pixels (..., 2) -> input pixels (..., 2)."""
        origin = np.array([self.x0, self.y0])
        return (np.asarray(xy, dtype=np.float64) - origin + 0.5) * self.scale - 0.5

    def to_slice(self, uv: np.ndarray) -> np.ndarray:
        """Input pixels (..., 2) -> slice pixels (..., 2)."""
        origin = np.array([self.x0, self.y0])
        return (np.asarray(uv, dtype=np.float64) + 0.5) / self.scale - 0.5 + origin


@dataclass(frozen=True)
class ModelInput:
    """image: 1 x 1 x S x S float32; position: 1 x 14 x S/8 x S/8 float32."""

    image: np.ndarray
    position: np.ndarray
    letterbox: Letterbox
    key: str


def content_box(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Rows and columns that hold a picture: (x0, y0, x1, y1), ends exclusive. The whole slice if
    nothing is brighter than a tenth of the grey scale."""
    bright = pixels > CONTENT_GREY
    columns, rows = bright.sum(0), bright.sum(1)
    if not columns.any():
        return 0, 0, pixels.shape[1], pixels.shape[0]
    x = np.flatnonzero(columns >= max(1, 0.02 * columns.max()))
    y = np.flatnonzero(rows >= max(1, 0.02 * rows.max()))
    return int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1


def letterbox_of(request: SliceRequest, size: int) -> Letterbox:
    """Window around the slice's content and the prompt, square, with a small margin."""
    x0, y0, x1, y1 = (float(v) for v in content_box(request.pixels))
    xs, ys = [], []
    if request.box is not None:
        xs += [request.box[0] + 0.5, request.box[2] + 0.5]
        ys += [request.box[1] + 0.5, request.box[3] + 0.5]
    for x, y, _ in request.points:
        xs.append(x + 0.5)
        ys.append(y + 0.5)
    # whole steps of a sixteenth of the slice: dragging a handle just outside the content does
    # not change the window, hence the cached embedding, at every pixel
    step = max(request.pixels.shape) / 16
    if xs:
        x0 = min(x0, np.floor(min(xs) / step) * step) if min(xs) < x0 else x0
        y0 = min(y0, np.floor(min(ys) / step) * step) if min(ys) < y0 else y0
        x1 = max(x1, np.ceil(max(xs) / step) * step) if max(xs) > x1 else x1
        y1 = max(y1, np.ceil(max(ys) / step) * step) if max(ys) > y1 else y1
    side = max(x1 - x0, y1 - y0, 4.0) * (1 + 2 * MARGIN)
    return Letterbox((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, size / side, size)


def _resampling_matrix(length: int, start: float, scale: float, size: int) -> np.ndarray:
    """size x length weights of a triangle filter; wide enough to average when shrinking."""
    centres = (np.arange(size) + 0.5) / scale + start - 0.5
    width = max(1.0, 1.0 / scale)
    distance = np.abs(np.arange(length)[None, :] - centres[:, None]) / width
    weights = np.clip(1.0 - distance, 0.0, None)
    total = weights.sum(1, keepdims=True)
    inside = (centres >= -0.5) & (centres <= length - 0.5)
    return np.where(inside[:, None], weights / np.maximum(total, 1e-9), 0.0).astype(np.float32)


def model_image(pixels: np.ndarray, box: Letterbox) -> np.ndarray:
    """uint8 H x W -> float32 1 x 1 x S x S, zero grey outside the slice."""
    rows = _resampling_matrix(pixels.shape[0], box.y0, box.scale, box.size)
    columns = _resampling_matrix(pixels.shape[1], box.x0, box.scale, box.size)
    grey = rows @ pixels.astype(np.float32) @ columns.T / 255.0
    return ((grey - GREY_MEAN) / GREY_STD)[None, None].astype(np.float32)


def position_map(
    pixel_to_ras: np.ndarray | None, fore: Foreground | None, box: Letterbox
) -> np.ndarray:
    """Position channels of every token, 1 x 14 x S/8 x S/8.

    0-2 along the foreground's axes (centre 0, percentile edges +-1), 3-5 whether each is known,
    6-8 log2 of the half extents / 100 mm, 9-11 |slice normal| along the axes, 12 log2 mm per input pixel,
    13 whether spacing is known. All zero for an image without position.
    """
    n = box.size // STRIDE
    out = np.zeros((POSITION_CHANNELS, n, n), dtype=np.float32)
    if pixel_to_ras is None:
        return out[None]
    axis = (np.arange(n) + 0.5) * STRIDE - 0.5
    uv = np.stack(np.meshgrid(axis, axis), axis=-1)
    xy = box.to_slice(uv)
    ras = xy @ pixel_to_ras[:3, :2].T + pixel_to_ras[:3, 3]
    normal = pixel_to_ras[:3, 2] / np.linalg.norm(pixel_to_ras[:3, 2])
    if fore is not None:
        normal = np.asarray(fore.axes) @ normal
    out[9:12] = np.abs(normal)[:, None, None]
    out[12] = np.log2(np.linalg.norm(pixel_to_ras[:3, 0]) / box.scale)
    out[13] = 1.0
    if fore is not None:
        half = np.asarray(fore.half_extent)
        known = half >= 5.0  # a one-slice volume does not say where the slice lies
        relative = fore.relative(ras)
        out[0:3] = np.where(known[:, None, None], np.clip(relative, -3, 3).transpose(2, 0, 1), 0)
        out[3:6] = known[:, None, None]
        out[6:9] = np.where(known, np.log2(half / 100.0), 0)[:, None, None]
    return out[None]


def input_key(request: SliceRequest, box: Letterbox) -> str:
    """Name of the embedding in a cache: the slice and the window on it."""
    return f"{request.slice_id}:{box.x0:.2f}:{box.y0:.2f}:{box.scale:.5f}"


def model_input(request: SliceRequest, size: int, box: Letterbox | None = None) -> ModelInput:
    """Picture and position map of a request's slice, in the window `box` if it is known already."""
    if box is None:
        box = letterbox_of(request, size)
    return ModelInput(
        model_image(request.pixels, box),
        position_map(request.pixel_to_ras, request.foreground, box),
        box,
        input_key(request, box),
    )


def prompt_arrays(request: SliceRequest, box: Letterbox) -> tuple[np.ndarray, np.ndarray]:
    """Prompt as the decoder reads it: points 1 x 8 x 2 (input pixels), labels 1 x 8 (-1 = none).

    A box alone, or the points inside: to others the answer is held afterwards (`point_rules`)."""
    points = np.zeros((1, MAXIMUM_POINTS, 2), dtype=np.float32)
    labels = np.full((1, MAXIMUM_POINTS), NO_POINT, dtype=np.float32)
    entries: list[tuple[float, float, int]] = []
    if request.box is not None:
        entries.append((request.box[0], request.box[1], BOX_TOP_LEFT))
        entries.append((request.box[2], request.box[3], BOX_BOTTOM_RIGHT))
    else:
        inside = [point for point in request.points if point[2] == POINT_INSIDE]
        entries += inside[-MAXIMUM_POINTS:]
    for index, (x, y, label) in enumerate(entries):
        points[0, index] = box.to_input(np.array([x, y]))
        labels[0, index] = label
    return points, labels


def mask_to_slice(logits: np.ndarray, box: Letterbox, shape: tuple[int, int]) -> np.ndarray:
    """Mask logits m x m over the square input -> float32 logits on the slice's H x W pixels.

    Bilinear; pixels outside the window get -20.
    """
    m = logits.shape[-1]
    ratio = m / box.size

    def weights(count: int, start: float) -> tuple[np.ndarray, np.ndarray]:
        centres = (np.arange(count) - start + 0.5) * box.scale * ratio - 0.5
        low = np.clip(np.floor(centres), 0, m - 1).astype(int)
        high = np.minimum(low + 1, m - 1)
        part = np.clip(centres - low, 0, 1).astype(np.float32)
        matrix = np.zeros((count, m), dtype=np.float32)
        index = np.arange(count)
        matrix[index, low] += 1 - part
        matrix[index, high] += part
        return matrix, (centres >= -0.5) & (centres <= m - 0.5)

    rows, inside_y = weights(shape[0], box.y0)
    columns, inside_x = weights(shape[1], box.x0)
    out = rows @ logits.astype(np.float32) @ columns.T
    out[~inside_y] = -20.0
    out[:, ~inside_x] = -20.0
    return out
