"""Errors planted into a right segmentation, to measure whether a review finds them.

Five kinds, as they happen: the sides of a pair swapped, two names swapped, a segment moved by 10 mm,
a slice emptied, a blob of another structure added. The result is one label map again: what is moved
or added takes voxels from others, as painting in a segmentation editor does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...imaging.slices import anatomical_axes
from ...imaging.volume import Volume
from ...segmentations.names import Meaning
from ...segmentations.shapes import Shape, cut_out
from ...segmentations.stored import NamedSegment, Segmentation

KINDS = ("sides", "names", "shift", "slice", "blob")
LEAST_ML = 0.1  # smaller segments are left alone
SHIFT_MM = 10.0
BLOB_RADIUS_MM = 6.0
BLOB_LEAST_ML = 0.1
CHANGED = 0.02  # share of voxels lost to others from which a segment is no longer untouched


@dataclass(frozen=True)
class Planted:
    """One error. segments: numbers of those that are wrong now."""

    kind: str
    segments: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Damaged:
    """The segmentation with its errors. changed: numbers of segments that lost voxels to others
    and are neither wrong nor untouched."""

    segmentation: Segmentation
    planted: tuple[Planted, ...]
    changed: frozenset[int]


def plant(
    segmentation: Segmentation,
    meanings: Sequence[Meaning],
    volume: Volume,
    rng: np.random.Generator,
    count: int,
    first: int = 0,
) -> Damaged:
    """Plant up to `count` errors, the kinds in turn from number `first` on, each segment used once.

    Fewer come out when the segmentation has no room for more (a pair for "sides", two names for
    "names" and "blob")."""
    work = _Work(segmentation, meanings, volume, rng)
    planted: list[Planted] = []
    for number in range(4 * count):
        if len(planted) == count:
            break
        kind = KINDS[(first + number) % len(KINDS)]
        error = getattr(work, f"plant_{kind}")()
        if error is not None:
            planted.append(error)
            work.used.update(error.segments)
    return Damaged(work.result(), tuple(planted), work.changed())


class _Work:
    def __init__(self, segmentation, meanings, volume, rng) -> None:
        self.before = segmentation
        self.segments: list[NamedSegment] = list(segmentation.segments)
        self.layers = [layer.copy() for layer in segmentation.layers]
        self.meanings = meanings
        self.volume = volume
        self.rng = rng
        self.shapes: list[Shape] = cut_out(segmentation)
        self.used: set[int] = set()

    def result(self) -> Segmentation:
        return replace(self.before, segments=tuple(self.segments), layers=tuple(self.layers))

    def changed(self) -> frozenset[int]:
        found = set()
        for n, (segment, shape) in enumerate(zip(self.segments, self.shapes, strict=True)):
            if n in self.used or not shape.voxels:
                continue
            kept = np.count_nonzero(
                self.layers[segment.layer][shape.box][shape.mask] == segment.value
            )
            if kept < (1 - CHANGED) * shape.voxels:
                found.add(n)
        return frozenset(found)

    def _free(self) -> list[int]:
        return [
            n
            for n, segment in enumerate(self.segments)
            if n not in self.used and segment.volume_ml >= LEAST_ML and self.shapes[n].voxels
        ]

    def _pick(self, choices: Sequence[int]) -> int | None:
        return int(self.rng.choice(choices)) if len(choices) else None

    def _swap_names(self, a: int, b: int) -> None:
        first, second = self.segments[a], self.segments[b]
        for n, own, other in ((a, first, second), (b, second, first)):
            self.segments[n] = replace(
                own, name=other.name, codes=other.codes, side=other.side, entry_id=other.entry_id
            )

    def plant_sides(self) -> Planted | None:
        free = self._free()
        pairs = [
            (a, b)
            for a in free
            for b in free
            if self.meanings[a].side == "left"
            and self.meanings[b].side == "right"
            and self.meanings[a].entry_id == self.meanings[b].entry_id is not None
            and _without_side(self.segments[a].name) == _without_side(self.segments[b].name)
        ]
        if not pairs:
            return None
        a, b = pairs[int(self.rng.integers(len(pairs)))]
        self._swap_names(a, b)
        return Planted("sides", (a, b), f"sides of {self.before.segments[a].name} swapped")

    def plant_names(self) -> Planted | None:
        free = [n for n in self._free() if self.meanings[n].entry_id is not None]
        a = self._pick(free)
        others = [n for n in free if a is not None and self._entity(n) != self._entity(a)]
        b = self._pick(others)
        if a is None or b is None:
            return None
        text = f"{self.segments[a].name} and {self.segments[b].name} swapped"
        self._swap_names(a, b)
        return Planted("names", (a, b), text)

    def _entity(self, n: int) -> str | None:
        return self.meanings[n].entry_id

    def plant_shift(self) -> Planted | None:
        n = self._pick(self._free())
        if n is None:
            return None
        direction = self.rng.standard_normal(3)
        direction *= SHIFT_MM / np.linalg.norm(direction)
        step = np.rint(self.volume.ras_to_ijk[:3, :3] @ direction).astype(int)[::-1]
        layer, value = self.layers[self.segments[n].layer], self.segments[n].value
        kji = np.argwhere(layer == value)
        moved = kji + step
        inside = ((moved >= 0) & (moved < layer.shape)).all(axis=1)
        if inside.mean() < 0.9:
            return None
        layer[tuple(kji.T)] = 0
        layer[tuple(moved[inside].T)] = value
        return Planted("shift", (n,), f"{self.segments[n].name} moved by {SHIFT_MM:.0f} mm")

    def plant_slice(self) -> Planted | None:
        n = self._pick(self._free())
        if n is None:
            return None
        layer, value = self.layers[self.segments[n].layer], self.segments[n].value
        world = int(self.rng.integers(3))
        axis = 2 - anatomical_axes(self.volume)[world][0]
        area = np.count_nonzero(np.moveaxis(layer, axis, 0) == value, axis=(1, 2))
        filled = np.flatnonzero(area)
        good = [
            int(k)
            for k in filled
            if filled[0] < k < filled[-1]
            and area[k] >= 0.4 * area.max()
            and area[k - 1]
            and area[k + 1]
        ]
        k = self._pick(good)
        if k is None:
            return None
        plane = np.moveaxis(layer, axis, 0)[k]
        plane[plane == value] = 0
        return Planted("slice", (n,), f"a slice of {self.segments[n].name} emptied")

    def plant_blob(self) -> Planted | None:
        free = self._free()
        n = self._pick(free)
        if n is None:
            return None
        layer = self.layers[self.segments[n].layer]
        others = [
            m
            for m in free
            if m != n
            and self._entity(m) != self._entity(n)
            and self.segments[m].layer == self.segments[n].layer
        ]
        for _ in range(8):
            other = self._pick(others)
            if other is None:
                return None
            blob = self._ball_in(layer, other)
            if blob is not None:
                layer[blob] = self.segments[n].value
                return Planted(
                    "blob",
                    (n,),
                    f"a blob of {self.segments[other].name} in {self.segments[n].name}",
                )
        return None

    def _ball_in(self, layer: np.ndarray, other: int):
        value = self.segments[other].value
        kji = np.argwhere(layer == value)
        if not len(kji):
            return None
        centre = kji[int(self.rng.integers(len(kji)))]
        mm = (kji - centre) * self.volume.spacing[::-1]
        chosen = kji[(mm**2).sum(1) <= BLOB_RADIUS_MM**2]
        voxel_ml = abs(float(np.linalg.det(self.volume.ijk_to_ras[:3, :3]))) / 1000
        # the structure itself must not be given away as a whole
        if len(chosen) * voxel_ml < BLOB_LEAST_ML or len(chosen) > 0.5 * len(kji):
            return None
        return tuple(chosen.T)


def _without_side(name: str) -> str:
    return " ".join(w for w in name.lower().split() if w not in ("left", "right"))
