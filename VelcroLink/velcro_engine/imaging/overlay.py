"""A slice with mask, prompt and outline as an RGB picture, and PNG files without further packages."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from ..messages.request import SliceRequest
from .slice_sampling import resample

SMALLEST_SIDE = 640  # pixels of the shown picture's longer side, at least
FILL = 0.35
BOX_COLOUR = (255, 214, 64)


def enlargement(shape: Sequence[int]) -> int:
    """Whole factor by which a small slice is shown larger."""
    return max(1, -(-SMALLEST_SIDE // max(shape)))


def render_overlay(
    request: SliceRequest, mask: np.ndarray, colour: tuple[float, float, float], factor: int = 1
) -> np.ndarray:
    """RGB picture (uint8, H f x W f x 3): grey slice, mask filled and outlined, box or points."""
    grey = _enlarged(request.pixels, factor)
    picture = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    large = np.repeat(np.repeat(mask.astype(bool), factor, axis=0), factor, axis=1)
    tint = np.array(colour, dtype=np.float32) * 255
    picture[large] = (1 - FILL) * picture[large] + FILL * tint
    picture[large & ~_eroded(large, max(1, factor // 2))] = tint
    if request.box is not None:
        _draw_box(picture, request.box, factor)
    for x, y, label in request.points:
        _draw_cross(picture, (x, y), factor, BOX_COLOUR if label else (255, 80, 80))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def png_bytes(picture: np.ndarray) -> bytes:
    """PNG file of a uint8 picture, H x W grey or H x W x 3 RGB."""
    picture = np.ascontiguousarray(picture, dtype=np.uint8)
    height, width = picture.shape[:2]
    colour_type = 2 if picture.ndim == 3 else 0
    rows = picture.reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(raw, 6))
        + chunk(b"IEND", b"")
    )


def _enlarged(pixels: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return pixels.astype(np.float32)
    height, width = pixels.shape
    rows = (np.arange(height * factor) + 0.5) / factor - 0.5
    columns = (np.arange(width * factor) + 0.5) / factor - 0.5
    return resample(resample(pixels, rows, 0), columns, 1)


def _eroded(mask: np.ndarray, radius: int) -> np.ndarray:
    inner = np.pad(mask, radius)
    for axis in (0, 1):
        around = [np.roll(inner, shift, axis) for shift in range(-radius, radius + 1)]
        inner = np.logical_and.reduce(around)
    return inner[radius:-radius, radius:-radius]


def _draw_box(picture: np.ndarray, box: Sequence[float], factor: int) -> None:
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (round((v + 0.5) * factor) for v in box)
    x0, x1 = np.clip([x0, x1 - 1], 0, width - 1)
    y0, y1 = np.clip([y0, y1 - 1], 0, height - 1)
    line = max(1, factor // 2)
    picture[y0 : y0 + line, x0 : x1 + 1] = BOX_COLOUR
    picture[max(y1 - line + 1, 0) : y1 + 1, x0 : x1 + 1] = BOX_COLOUR
    picture[y0 : y1 + 1, x0 : x0 + line] = BOX_COLOUR
    picture[y0 : y1 + 1, max(x1 - line + 1, 0) : x1 + 1] = BOX_COLOUR


def _draw_cross(
    picture: np.ndarray, point: tuple[float, float], factor: int, colour: tuple[int, int, int]
) -> None:
    height, width = picture.shape[:2]
    x = int(np.clip(round((point[0] + 0.5) * factor), 0, width - 1))
    y = int(np.clip(round((point[1] + 0.5) * factor), 0, height - 1))
    arm, line = max(4, 3 * factor), max(1, factor // 3)
    picture[max(y - arm, 0) : y + arm + 1, x : x + line] = colour
    picture[y : y + line, max(x - arm, 0) : x + arm + 1] = colour
