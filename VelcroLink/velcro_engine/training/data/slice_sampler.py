"""One augmented training slice with prompts, drawn from a case.

A slice is sampled from the volume in one go: pose (the head tilted in the scanner), oblique planes,
scale, crop, elastic deformation and mirroring (with sides swapped) are all in one sampling grid, so
image, labels and positions always agree.
"""

from __future__ import annotations

import numpy as np
import torch

from ...model.preprocess import GREY_MEAN, GREY_STD, Letterbox, position_map
from .appearance import Generator, degrade, draw_skull, recolour
from .case_data import MODALITY_NUMBERS, SIDES, Case
from .slice_draws import display_axes, draw_prompt, perturbed, random_rotation, within
from .slice_grids import interpolate, nearest, warp
from .training_slice import (
    IGNORE,
    SlicePrompts,
    TrainingSlice,
    dense_targets,
    empty_box,
    flip_horizontally,
)

MINIMUM_MASK = 10  # pixels of the half-resolution mask
MINIMUM_MASK_MM2 = 25.0
RECOLOURED = 0.6  # of CT slices, in the contrast of an MR
SLABS = 0.5  # of CT slices, from a scan that covers less of the body
SLAB_MM = (40.0, 250.0)


class SliceSampler:
    """Draws training slices of given size; holds the volumes as torch tensors."""

    def __init__(
        self,
        cases: list[Case],
        entities: list[str],
        size: int,
        prompts_per_slice: int,
        dataset_weights: dict[str, float] | None = None,
    ) -> None:
        self.cases = cases
        self.size = size
        self.prompts_per_slice = prompts_per_slice
        self.own_look = 0.0  # share of slices that are not degraded
        self.index = {name: i for i, name in enumerate(entities)}
        self.nothing = len(entities)
        self.volumes: dict[tuple[int, int], torch.Tensor] = {}
        self.tables: list[tuple[np.ndarray, np.ndarray]] = []
        for case in cases:
            entity = np.full(256, IGNORE, dtype=np.int64)
            side = np.full(256, IGNORE, dtype=np.int64)
            for value, label in case.labels.items():
                if label.entity in self.index and value < 256:
                    entity[value] = self.index[label.entity]
                    side[value] = SIDES[label.side]
            self.tables.append((entity, side))
        self.weights = self._case_weights(dataset_weights or {})
        self.rarity = self._entity_rarity()

    def _case_weights(self, table: dict[str, float]) -> np.ndarray:
        groups: dict[str, list[int]] = {}
        for i, case in enumerate(self.cases):
            groups.setdefault(case.dataset, []).append(i)
        weights = np.zeros(len(self.cases))
        for name, members in groups.items():
            seen = {
                e
                for i in members
                for (_, v) in self.cases[i].voxels
                if (e := self.cases[i].labels[v].entity)
            }
            weight = table.get(name, len(seen) ** 0.6 * len(members) ** 0.3)
            weights[members] = weight / len(members)
        return weights / weights.sum()

    def _entity_rarity(self) -> np.ndarray:
        count = np.ones(len(self.index) + 1)
        for i, case in enumerate(self.cases):
            for _, value in case.voxels:
                entity = self.tables[i][0][value]
                if entity >= 0:
                    count[entity] += self.weights[i] * 100
        return 1.0 / np.sqrt(count)

    def volume(self, case: int, channel: int) -> torch.Tensor:
        key = (case, channel)
        if key not in self.volumes:
            array = self.cases[case].images[channel]
            self.volumes[key] = torch.from_numpy(array.astype(np.float32) / 255.0)[None, None]
        return self.volumes[key]

    def draw(self, rng: Generator) -> TrainingSlice:
        """One slice; draws again when the aimed structure fell out of the picture."""
        for _ in range(20):
            number = int(rng.choice(len(self.cases), p=self.weights))
            case = self.cases[number]
            if not case.voxels:
                continue
            made = (
                self._from_picture(rng, number, case)
                if case.spacing is None
                else self._from_volume(rng, number, case)
            )
            if made is not None:
                return made
        raise RuntimeError("no training slice could be drawn from these cases")

    # ---- aiming -------------------------------------------------------------------------------

    def _aim(self, rng: Generator, number: int, case: Case) -> tuple[int, np.ndarray]:
        keys = list(case.voxels)
        rarity = np.array([self.rarity[self.tables[number][0][value]] for _, value in keys])
        layer, value = keys[int(rng.choice(len(keys), p=rarity / rarity.sum()))]
        voxels = case.voxels[(layer, value)]
        return layer, voxels[int(rng.integers(len(voxels)))].astype(np.float64)

    def _from_volume(self, rng: Generator, number: int, case: Case) -> TrainingSlice | None:
        assert case.spacing is not None
        size = self.size
        channel = int(rng.integers(len(case.images)))
        shape = np.asarray(case.images[0].shape[::-1])  # R, A, S
        extent = shape * case.spacing
        middle = (shape - 1) * case.spacing / 2
        _, kji = self._aim(rng, number, case)
        target = kji[::-1] * case.spacing  # mm from voxel (0, 0, 0)

        thin = extent < 12  # a volume of a few slices is only looked at along them
        choices = [a for a in range(3) if not any(thin[b] for b in range(3) if b != a)]
        normal_axis = int(rng.choice(choices or [int(np.argmin(extent))]))
        flat = bool(thin[normal_axis])
        pose = random_rotation(rng, 0.0 if flat else 7.0, 10.0, normal_axis)
        tilt = (
            random_rotation(rng, 25.0, 0.0, normal_axis)
            if rng.random() < 0.12 and not flat
            else None
        )
        right, down, normal = display_axes(normal_axis, rng)
        if tilt is not None:
            right, down, normal = tilt @ right, tilt @ down, tilt @ normal
        mirrored = bool(rng.random() < 0.5)

        skull = case.distance is not None and rng.random() < 0.55
        # scanner frame: subject rotated about the volume's middle
        aimed = pose @ (target - middle) + middle
        centre = middle + normal * float(normal @ (aimed - middle))
        slab = None
        if case.modality == "CT" and not flat and rng.random() < SLABS:
            thick = float(np.exp(rng.uniform(*np.log(SLAB_MM))))
            slab = target[2] - thick * float(rng.uniform(0.05, 0.95)) + np.array([0.0, thick])
        low, high = self._content(
            case, number, channel, pose, middle, centre, right, down, skull, slab
        )
        if low is None:
            return None
        side_mm = float(max(high - low)) * 1.08 * rng.uniform(0.92, 1.25)
        window = (low + high) / 2 + rng.normal(0, 0.03, 2) * side_mm
        cropped = rng.random() < 0.2
        if cropped:
            factor = rng.uniform(0.45, 0.9)
            plane_target = np.array([right @ (aimed - centre), down @ (aimed - centre)])
            side_mm *= factor
            window = plane_target + rng.uniform(-0.3, 0.3, 2) * side_mm
        mm = side_mm / size
        corner = centre + right * (window[0] - side_mm / 2 + mm / 2)
        corner = corner + down * (window[1] - side_mm / 2 + mm / 2)

        axis = np.arange(size) * mm
        grid = corner + axis[None, :, None] * right + axis[:, None, None] * down
        subject = (grid - middle) @ pose + middle  # rows times R = transpose of R
        subject = subject + warp(rng, size, min(4.0, 0.02 * side_mm), flat)
        image = interpolate(self.volume(number, channel), subject / case.spacing)
        if skull:
            image = draw_skull(rng, image, self._skull_distance(case, subject))
        labels = nearest(case.layers[0], subject[::2, ::2] / case.spacing)
        layers = [labels] + [nearest(a, subject[::2, ::2] / case.spacing) for a in case.layers[1:]]
        if case.modality == "CT" and rng.random() < RECOLOURED:
            full = nearest(case.layers[0], subject / case.spacing)
            image = recolour(rng, image, full)
        if slab is not None:
            covered = (subject[..., 2] >= slab[0]) & (subject[..., 2] <= slab[1])
            image = np.where(covered, image, 0.0).astype(np.float32)
            layers = [np.where(covered[::2, ::2], a, 0) for a in layers]
        image = self._look(rng, image, case.stripped)

        position = np.zeros((1, 14, size // 8, size // 8), dtype=np.float32)
        placed = rng.random() < 0.75
        if placed:
            fore = perturbed(rng, case, side_mm if cropped else None, aimed, normal_axis)
            if fore is not None and slab is not None:
                fore = within(fore, slab + case.origin[2])
            matrix = np.eye(4)
            matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = right * mm, down * mm, normal
            matrix[:3, 3] = corner + case.origin
            position = position_map(matrix, fore, Letterbox(0, 0, 1.0, size))
            if mirrored:  # the picture is flipped below, together with this map
                position[:, 0] *= -1
        made = self._assemble(rng, number, image, layers, position, mirrored, placed, mm, case)
        if made is not None and mirrored and normal_axis != 0:
            made = flip_horizontally(made)
        return made

    def _from_picture(self, rng: Generator, number: int, case: Case) -> TrainingSlice | None:
        size = self.size
        height, width = case.images[0].shape[1:]
        side = max(height, width) * 1.05 * rng.uniform(0.92, 1.25)
        centre = np.array([width / 2, height / 2]) + rng.normal(0, 0.03, 2) * side
        if rng.random() < 0.2:
            _, kji = self._aim(rng, number, case)
            side *= rng.uniform(0.45, 0.9)
            centre = kji[:0:-1] + rng.uniform(-0.3, 0.3, 2) * side
        angle = np.deg2rad(rng.normal(0, 7))
        stretch = np.exp(rng.normal(0, 0.06))
        axis = (np.arange(size) + 0.5) / size - 0.5
        u, v = np.meshgrid(axis * side * stretch, axis * side / stretch)
        x = centre[0] + u * np.cos(angle) - v * np.sin(angle)
        y = centre[1] + u * np.sin(angle) + v * np.cos(angle)
        bent = warp(rng, size, 0.012 * side, True)
        points = np.stack([x + bent[..., 0], y + bent[..., 1], np.zeros_like(x)], -1)
        image = interpolate(self.volume(number, 0), points)
        image = self._look(rng, image, False)
        layers = [nearest(a, points[::2, ::2]) for a in case.layers]
        position = np.zeros((1, 14, size // 8, size // 8), dtype=np.float32)
        return self._assemble(rng, number, image, layers, position, False, True, None, case)

    def _look(self, rng: Generator, image: np.ndarray, keep_zero: bool) -> np.ndarray:
        """The slice degraded, or now and then as it is."""
        if self.own_look and rng.random() < self.own_look:
            return image
        return degrade(rng, image, keep_zero)

    # ---- sampling -----------------------------------------------------------------------------

    def _content(self, case, number, channel, pose, middle, centre, right, down, skull, slab=None):
        """Extent of the picture in the plane, mm along right and down from `centre`."""
        reach = float(np.linalg.norm(case.spacing * case.images[0].shape[::-1])) / 2 + 20
        axis = np.linspace(-reach, reach, 72)
        grid = centre + axis[None, :, None] * right + axis[:, None, None] * down
        subject = (grid - middle) @ pose + middle
        picture = interpolate(self.volume(number, channel), subject / case.spacing) > 0.1
        if skull:
            picture |= self._skull_distance(case, subject) < 16.0
        if slab is not None:
            picture &= (subject[..., 2] >= slab[0]) & (subject[..., 2] <= slab[1])
        if picture.sum() < 4:
            return None, None
        x, y = axis[picture.any(0)], axis[picture.any(1)]
        step = axis[1] - axis[0]
        return np.array([x[0] - step / 2, y[0] - step / 2]), np.array(
            [x[-1] + step / 2, y[-1] + step / 2]
        )

    def _skull_distance(self, case: Case, subject: np.ndarray) -> np.ndarray:
        assert case.distance is not None
        key = (id(case), -1)
        if key not in self.volumes:
            self.volumes[key] = torch.from_numpy(60.0 - case.distance)[None, None]
        ijk = (subject - case.distance_origin) / case.distance_spacing
        return 60.0 - interpolate(self.volumes[key], ijk)

    # ---- prompts ------------------------------------------------------------------------------

    def _assemble(
        self, rng, number, image, layers, position, mirrored, sided, mm, case
    ) -> TrainingSlice | None:
        entity_of, side_of = self.tables[number]
        if mirrored:
            side_of = np.array([1, 0, 2, IGNORE])[side_of]
        if not sided:  # without a position nothing says which side it is
            side_of = np.where(side_of >= 0, 2, IGNORE)
        half = self.size // 2
        area = MINIMUM_MASK if mm is None else max(MINIMUM_MASK, MINIMUM_MASK_MM2 / (2 * mm) ** 2)
        found: list[tuple[int, int, np.ndarray]] = []
        for layer in layers:
            counts = np.bincount(layer.reshape(-1).astype(np.int64), minlength=256)
            for value in np.flatnonzero(counts[1:] >= area) + 1:
                if entity_of[value] >= 0:
                    found.append((int(entity_of[value]), int(side_of[value]), layer == value))
        if not found:
            return None
        rarity = np.array([self.rarity[e] for e, _, _ in found])
        wanted = self.prompts_per_slice
        few = len(found) < wanted
        chosen = rng.choice(len(found), wanted, replace=few, p=rarity / rarity.sum())
        points = np.zeros((wanted, 2, 2), dtype=np.float32)
        labels = np.zeros((wanted, 2), dtype=np.float32)
        entity = np.zeros(wanted, dtype=np.int64)
        side = np.zeros(wanted, dtype=np.int64)
        masks = np.zeros((wanted, half, half), dtype=np.uint8)
        has_mask = np.ones(wanted, dtype=bool)
        for row, pick in enumerate(chosen):
            entity[row], side[row], mask = found[pick]
            masks[row] = mask
            points[row], labels[row] = draw_prompt(rng, mask)
        if case.stripped and case.exhaustive and rng.random() < 0.35:
            box = empty_box(rng, layers, half)
            if box is not None:
                row = int(rng.integers(wanted))
                points[row], labels[row] = box, (2, 3)
                entity[row], side[row], has_mask[row] = self.nothing, 2, False
                masks[row] = 0
        pixel_entity, pixel_side = dense_targets(layers, entity_of, side_of, case, self.nothing)
        return TrainingSlice(
            ((image - GREY_MEAN) / GREY_STD)[None].astype(np.float32),
            position[0],
            pixel_entity,
            pixel_entity[2::4, 2::4],
            pixel_side[2::4, 2::4],
            SlicePrompts(points, labels, entity, side, masks, has_mask),
            MODALITY_NUMBERS[case.modality],
        )
