"""One region carried through the volume, slice by slice in both directions.

Each slice's box comes from its neighbour's mask; the decoder's logits are smoothed across slices and
kept within reach of the neighbour. It stops where the region ends: when the model is not sure of its
mask any more, the mask no longer agrees with its neighbour, becomes tiny or bursts, or the region's
embedding is another one than at the start. Corrections (points on any slice) are prompts of that
slice, and everything beyond it is done again from there. With `consensus`, a structure is then
looked at in all three directions (`views`); a finding keeps the walk's mask, since what
it looks like at its border varies too much (decision 12).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import GeometryError
from ..imaging.volume import Volume
from ..linking.linker import Linker
from ..messages.propagation import Point, Propagation, Rules, Step
from .sight import WORLD
from .views import seen_from_all_sides
from .volume import finished, voxels_of
from .walk import Progress, Walk


def propagate(
    linker: Linker,
    volume: Volume,
    plane: str,
    index: int,
    box: Sequence[float] | None = None,
    points: Sequence[Point] = (),
    mask: np.ndarray | None = None,
    corrections: Mapping[int, Sequence[Point]] | None = None,
    before: Propagation | None = None,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    consensus: bool = True,
    progress: Progress = lambda fraction, message: None,
) -> Propagation:
    """Carry a region through the volume.

    plane, index: the starting layer (see `slices.cut_plane`). The region is box (XYXY) and points
    (x, y, label) in its pixels, or mask (bool, H x W): an accepted one, used as it is. corrections:
    {index: points} on any layer of the plane. consensus: whether three directions decide, in several
    times the time, or the slices of this one alone. before: an earlier result with the same start, whose
    layers up to the first new correction are kept. progress(fraction, message) is called for every
    slice and may raise Cancelled.
    Raises GeometryError for a picture or a region outside the image, InputError for an empty mask.
    """
    if volume.is_picture:
        raise GeometryError("A picture has one slice only; propagate in a volume.")
    started = time.perf_counter()
    work = Walk(linker, volume, plane, rules, progress)
    given = {int(i): tuple(p) for i, p in (corrections or {}).items() if p}
    for i in given:
        if not 0 <= i < work.count:
            raise GeometryError(f"The volume has no {plane} slice number {i}.")
    kept = _kept_steps(before, plane, index, given)
    if index not in kept:
        kept = {index: work.first(index, box, points, mask, given.get(index, ()))}
    else:
        work.recall(kept[index])
    looks = consensus and work.identity.kind == "anatomy"  # a finding keeps the walk's mask
    if looks:
        work.share = 0.2
    stopped = {}
    for sign, name in ((-1, "-"), (1, "+")):
        stopped[name] = work.walk(kept, index, sign, given)
        if before is not None and stopped[name] == "":
            stopped[name] = before.stopped.get(name, "")
    voxels = voxels_of(work, kept)
    if looks:
        voxels = seen_from_all_sides(work, voxels, [index, *given])
    return finished(work, kept, index, voxels, stopped, given, started)


def _kept_steps(
    before: Propagation | None, plane: str, index: int, given: dict[int, tuple[Point, ...]]
) -> dict[int, Step]:
    """Layers of an earlier result that no new correction lies on or before."""
    if before is None or before.plane != plane or before.start != index:
        return {}
    every = set(given) | set(before.corrections)
    new = [i for i in every if given.get(i) != before.corrections.get(i)]
    if index in new:
        return {}
    low = max((i for i in new if i < index), default=-1)
    high = min((i for i in new if i > index), default=1 << 30)
    return {i: step for i, step in before.steps.items() if low < i < high}


__all__ = ["WORLD", "Point", "Propagation", "Rules", "Step", "propagate"]
