"""The slices of a volume as a propagation sees them: cut, encoded, and asked about a region."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import InputError
from ..imaging.slice_voxels import labels_to_slice
from ..imaging.slices import Slice, anatomical_axes, cut_plane
from ..imaging.volume import Volume
from ..linking.linker import Linker
from ..messages.request import SliceRequest
from ..model.preprocess import (
    Letterbox,
    input_key,
    letterbox_of,
    mask_to_slice,
    model_input,
    prompt_arrays,
)

KEPT_SLICES = 4
WORLD = {"sagittal": 0, "coronal": 1, "axial": 2}


def layer_of_axis(axis: int, index: int) -> tuple[slice, slice, slice]:
    """Where a layer lies in an array K x J x I. axis: of the volume, 0 for I."""
    where = [slice(None)] * 3
    where[2 - axis] = slice(index, index + 1)
    return where[0], where[1], where[2]


class Sight:
    """Slices of one volume along the anatomical planes; `plane` is the one that is walked along."""

    def __init__(self, linker: Linker, volume: Volume, plane: str) -> None:
        """Raises InputError for an unknown plane."""
        if plane not in WORLD:
            raise InputError(f"Unknown plane '{plane}'; use axial, coronal or sagittal.")
        self.linker, self.volume, self.plane = linker, volume, plane
        self.axis = anatomical_axes(volume)[WORLD[plane]][0]
        self.count = int(volume.shape_ijk[self.axis])
        self._cuts: dict[tuple[str, int], Slice] = {}
        self._encoded: dict[str, Any] = {}

    def cut(self, plane: str, index: int) -> Slice:
        key = (plane, index)
        if key not in self._cuts:
            if len(self._cuts) > 64:
                self._cuts.clear()
            self._cuts[key] = cut_plane(self.volume, plane, index=index)
        return self._cuts[key]

    def layers(self, plane: str, voxels: np.ndarray) -> Iterator[tuple[float, int, np.ndarray]]:
        """(share done, index, voxels on its pixels, bool H x W) of the plane's slices that hold
        some of `voxels` (bool, K x J x I)."""
        axis = anatomical_axes(self.volume)[WORLD[plane]][0]
        filled = np.flatnonzero(voxels.any(axis=tuple(a for a in range(3) if a != 2 - axis)))
        labels = voxels.astype(np.uint8)
        for number, index in enumerate(filled.tolist()):
            own = labels_to_slice(labels, self.cut(plane, index), self.volume) > 0
            if own.any():
                yield number / len(filled), index, own

    def encode(self, request: SliceRequest) -> tuple[Any, Letterbox]:
        """The slice as the model knows it, and the window that it looks through."""
        runtime = self.linker.runtime
        window = letterbox_of(request, runtime.size)
        slices = self.linker._slices  # the linker's own cache: what was linked is not encoded again
        key = input_key(request, window)
        # the walk's own cache serves the second look at a slice and the consensus
        encoded = slices.get(key) or self._encoded.get(key)
        if encoded is None:
            encoded = runtime.encode(model_input(request, runtime.size, window))
            while len(self._encoded) >= KEPT_SLICES:
                self._encoded.pop(next(iter(self._encoded)))
            self._encoded[key] = encoded
        return encoded, window

    def decode(self, request: SliceRequest) -> tuple[np.ndarray, Any, Any, Letterbox]:
        """(logits on the slice's pixels, everything the decoder said, encoded slice, window)."""
        encoded, window = self.encode(request)
        decoded = self.linker.runtime.decode(encoded, *prompt_arrays(request, window))
        mask = decoded.mask
        if request.box is None:
            probability, _ = self.linker.probabilities(decoded)
            mask = self.linker.clicks.heed(encoded, request, window, probability, mask)[1]
        return mask_to_slice(mask, window, request.pixels.shape), decoded, encoded, window


def layer_of(cut: Slice, volume: Volume) -> int:
    """Number of the voxel layer that an anatomical slice shows."""
    axis = anatomical_axes(volume)[WORLD[str(cut.plane)]][0]
    ijk = volume.ras_to_ijk @ cut.pixel_to_ras @ np.array([0.0, 0.0, 0.0, 1.0])
    return int(np.clip(np.rint(ijk[axis]), 0, volume.shape_ijk[axis] - 1))
