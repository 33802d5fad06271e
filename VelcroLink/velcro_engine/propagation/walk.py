"""From slice to slice: each one is prompted by its neighbour's mask, until the region ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import GeometryError, InputError
from ..imaging.mask_pieces import clean_mask
from ..imaging.slices import Slice
from ..imaging.volume import Volume
from ..linking.linker import Linker
from ..linking.point_rules import held_to, points_to_keep
from ..linking.ranking import entry_probabilities
from ..linking.region_mask import region_mask
from ..messages.propagation import Point, Rules, Step, rules_for, why_stop
from ..model.preprocess import Letterbox
from .appearance import Appearance
from .evidence import box_of, dice_of, grey_shares, grown, level_that_fills, sharpened
from .identity import Identity
from .sight import Sight

USUAL_SLICES = 20  # half of a walk: how far a region reaches is not known before
Box = tuple[float, float, float, float]
Progress = Callable[[float, str], None]


class Walk(Sight):
    """What one propagation holds on to."""

    def __init__(
        self, linker: Linker, volume: Volume, plane: str, rules: Rules, progress: Progress
    ) -> None:
        super().__init__(linker, volume, plane)
        self.rules, self.progress = rules, progress
        self.done = 0
        self.level = 0.0  # of the logits, at which the start's mask fills its box
        self.identity = Identity(linker)
        self.appearance = Appearance()
        self.share = 0.95  # of the whole work's time that walking takes
        self.named = True  # whether the model's names of pixels found the start where it is

    def margin(self, encoded: Any, window: Letterbox, shape: tuple[int, int]) -> np.ndarray | None:
        """`Identity.margin`, None when the rules do without or it failed on the start."""
        if self.rules.identity <= 0 or not self.named:
            return None
        return self.identity.margin(encoded, window, shape)

    def likeness(self, encoded: Any, window: Letterbox, cut: Slice) -> np.ndarray | None:
        """`Appearance.odds`, weighted; None when the rules do without, nothing was learnt, or the
        names can be relied on: they know the next slices, the start's looks do not."""
        if self.rules.appearance <= 0 or self.by_pixels:
            return None
        odds = self.appearance.odds(encoded, window, cut.pixels)
        return None if odds is None else self.rules.appearance * odds

    def learn(self, encoded: Any, mask: np.ndarray, window: Letterbox, cut: Slice) -> None:
        """What the start is named and looks like, and whether the names can be relied on: where
        the appearance can stand in, names that miss the start's own mask are left aside."""
        self.identity.learn_pixels(encoded, mask, window)
        self.appearance.learn(encoded, mask, window, cut.pixels)
        margin = self.identity.margin(encoded, window, mask.shape)
        stands_in = self.rules.appearance > 0 and self.appearance.learnt
        if margin is not None and stands_in:
            near = grown(mask, max(4, round(0.4 * float(np.sqrt(mask.sum())))))
            self.named = dice_of((margin > 0) & near, mask) >= self.rules.names_found

    def recall(self, start: Step) -> None:
        """Know again what an earlier walk learnt at its start."""
        request = self.cut(self.plane, start.index).request(box=box_of(start.mask))
        self.identity.learn_entry(start.embedding)
        encoded, window = self.encode(request)
        self.rules = rules_for(self.rules, self.identity.kind)
        self.learn(encoded, start.mask, window, self.cut(self.plane, start.index))
        self.level = start.level

    def step(self, index: int, mask, logits, decoded, identity, agreement, corrected) -> Step:
        probabilities, _ = entry_probabilities(
            decoded.embedding[None],
            self.linker.embeddings,
            self.linker.runtime.nothing,
            self.linker.runtime.calibration.temperature,
        )
        return Step(
            index,
            mask,
            logits,
            float(np.clip(decoded.mask_confidence, 0, 1)),
            agreement,
            probabilities[0].astype(np.float32),
            np.asarray(decoded.side, dtype=np.float32),
            np.asarray(decoded.embedding, dtype=np.float32),
            None if identity is None else float(identity[mask].mean()),
            corrected,
        )

    def first(self, index: int, box, points, mask, corrections) -> Step:
        cut = self.cut(self.plane, index)
        prompts = [*points, *corrections]
        if mask is not None:
            mask = np.asarray(mask, dtype=bool)
            if mask.shape != cut.pixels.shape:
                raise InputError("The mask and the slice differ in size.")
            if not mask.any():
                raise InputError("The mask is empty; draw the region first.")
            box = box_of(mask)
        request = cut.request(box=box, points=prompts)
        logits, decoded, encoded, window = self.decode(request)
        self.identity.learn_entry(decoded.embedding)
        self.rules = rules_for(self.rules, self.identity.kind)
        drawn = mask is None
        if mask is None:
            mask = region_mask(logits, request)
        elif corrections:
            logits = np.where(mask, np.maximum(logits, 2.0), np.minimum(logits, -2.0))
            logits = held_to(logits, cut.pixels, corrections, mask.sum())
            mask = clean_mask(logits > 0, request)
        self.learn(encoded, mask, window, cut)
        identity = self.margin(encoded, window, mask.shape)
        if drawn and not self.identity.names_pixels:
            if identity is not None:
                logits = logits + self.rules.identity * identity
            logits = sharpened(logits, cut.pixels, request, self.rules.grey)
            self.level = level_that_fills(logits, request)
            kept = points_to_keep(box, prompts)
            logits = held_to(logits - self.level, cut.pixels, kept, mask.sum())
            mask = clean_mask(logits > 0, request)
        else:
            logits = np.where(mask, np.maximum(logits, 2.0), np.minimum(logits, -2.0))
        if not mask.any():
            raise GeometryError("Nothing was found in the region; mark the structure more closely.")
        found = self.step(index, mask, logits, decoded, identity, 1.0, bool(corrections))
        return replace(found, level=self.level)

    def walk(
        self, steps: dict[int, Step], start: int, sign: int, given: dict[int, tuple[Point, ...]]
    ) -> str:
        """Go on from the last layer in one direction; the reason why it ended."""
        own = [i for i in steps if (i - start) * sign >= 0]
        index = max(own, key=lambda i: i * sign)
        asked = [i for i in given if (i - start) * sign > 0]
        furthest = max(asked, key=lambda i: i * sign) if asked else start
        largest = max(int(steps[i].mask.sum()) for i in own)
        while True:
            following = index + sign
            if not 0 <= following < self.count:
                return "end of the volume"
            if self.rules.limit is not None and abs(following - start) > self.rules.limit:
                return "limit of slices"
            self.done += 1
            self.progress(
                self.share * (1 - 0.5 ** (self.done / USUAL_SLICES)),
                f"{self.plane} slice {following + 1} of {self.count}",
            )
            forced = (furthest - following) * sign >= 0
            found = self._next(steps[index], steps[start], following, given.get(following, ()))
            if found is None:
                if not forced:
                    return "nothing found"
                found = self._as_before(steps[index], following, given.get(following, ()))
                if not found.mask.any():
                    return "nothing found"
            reason = (
                "" if forced else why_stop(self.rules, found, steps[index], steps[start], largest)
            )
            if reason:
                return reason
            steps[following] = found
            largest = max(largest, int(found.mask.sum()))
            index = following

    def _as_before(self, near: Step, index: int, points: Sequence[Point]) -> Step:
        """The neighbour's mask on a slice where nothing was found, but what the points say."""
        logits = np.where(near.mask, np.maximum(near.logits, 0.5), np.minimum(near.logits, -0.5))
        pixels = self.cut(self.plane, index).pixels
        logits = held_to(logits, pixels, points, near.mask.sum())
        return replace(
            near,
            index=index,
            mask=logits > 0,
            logits=logits,
            agreement=0.0,
            corrected=bool(points),
        )

    def _next(self, near: Step, start: Step, index: int, points: Sequence[Point]) -> Step | None:
        cut = self.cut(self.plane, index)
        reach = self.rules.reach_mm * cut.thickness / cut.spacing
        box = self._box_beside(near, cut, index, reach, points)
        if box is None:
            return None
        request = cut.request(box=box, points=points)
        logits, decoded, encoded, window = self.decode(request)
        identity = self.margin(encoded, window, cut.pixels.shape)
        if identity is not None and not points:
            logits = logits + self.rules.identity * identity
        likeness = self.likeness(encoded, window, cut)
        if likeness is not None and not points:
            logits = logits + likeness
        usual = grey_shares(self.cut(self.plane, near.index).pixels, near.mask)
        logits = sharpened(logits, cut.pixels, request, self.rules.grey, usual) - self.level
        weight = self.rules.smoothing ** max(1.0, cut.thickness) if not points else 0.0
        logits = (1 - weight) * logits + weight * near.logits
        logits = held_to(logits, cut.pixels, points, near.mask.sum())
        mask = logits > 0
        if not points:
            mask &= grown(near.mask, 1 + round(reach))
        most = int(near.mask.sum() * self.rules.growth ** max(1.0, cut.thickness)) + 2
        if not points and mask.sum() > most and not self.by_pixels:
            mask &= logits >= np.partition(logits[mask], -most)[-most]
        mask = clean_mask(mask, request)
        if not mask.any() or (likeness is not None and not points and self._unlike(likeness[mask])):
            return None
        agreement = dice_of(mask, near.mask)
        return self.step(index, mask, logits, decoded, identity, agreement, bool(points))

    def _unlike(self, odds: np.ndarray) -> bool:
        """Whether a mask looks too little like the start. odds: `likeness` under it."""
        usual = self.rules.appearance * self.appearance.usual
        return float(odds.mean()) < self.rules.least_appearance * usual

    @property
    def by_pixels(self) -> bool:
        """A structure of the body that the model names pixel by pixel: that says where it ends, and
        holds the mask from growing into the box it was prompted with."""
        return self.named and self.identity.names_pixels and self.identity.kind == "anatomy"

    def _box_beside(
        self, near: Step, cut: Slice, index: int, reach: float, points: Sequence[Point]
    ) -> Box | None:
        """The prompt for a slice beside `near`: what the pixels there look like and are named, or a
        little more than the neighbour's own box. None when nothing there is like the start."""
        box = box_of(near.mask)
        if not points:
            encoded, window = self.encode(cut.request(box=box))
            told = self.likeness(encoded, window, cut)
            margin = self.margin(encoded, window, cut.pixels.shape) if self.by_pixels else None
            if margin is not None:
                told = margin if told is None else told + margin
            if told is not None:
                named = (told > 0) & grown(near.mask, 1 + round(reach))
                named = clean_mask(named, cut.request(box=box))
                return box_of(named) if named.any() else None
        inner = [p for p in points if p[2] == 1]
        if inner:
            xs, ys = [p[0] for p in inner], [p[1] for p in inner]
            box = (
                min(box[0], min(xs) - 1),
                min(box[1], min(ys) - 1),
                max(box[2], max(xs) + 1),
                max(box[3], max(ys) + 1),
            )
        grow = 0.5 * reach
        return box[0] - grow, box[1] - grow, box[2] + grow, box[3] + grow
