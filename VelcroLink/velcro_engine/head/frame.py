"""How a head lies in its scan, found from what the model sees on a few slices (decision 15).

The network is told where in the patient each pixel lies, in units of the body's foreground. A head
that is tilted, cut off, or scanned with its neck has a foreground that says little. So the encoder
names the pixels of fifteen slices first; where each structure usually lies in a head then gives
centre, extents and directions of this one: nine numbers, fitted to thousands of named pixels by
reweighted least squares. Everything else is told its place by them.

Only numpy is needed here; slices are cut by whoever has the volume, where `messages.head_cuts` says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from ..messages.head_cuts import LOOKS, can_hold_head, head_cuts
from ..messages.request import Foreground, SliceRequest, Triple
from ..model.preprocess import content_box, letterbox_of, model_input
from .turns import is_far, turn_matrix, turn_vector

if TYPE_CHECKING:
    from ..imaging.volume import Volume
    from ..model.runtime import Runtime

LEAST_SHARE = 0.5  # of its name at a pixel that counts
LEAST_SIDE = 0.6  # the same of its side
PIXELS_PER_PLACE = 60
LEAST_PIXELS, LEAST_PLACES = 300, 12  # fewer do not make a head
LEAST_WEIGHT = 0.55  # mean weight of the pixels in the fit; a brain has 0.68 to 0.77
LARGEST_TURN = 45.0  # degrees
EVIDENCE = 30.0  # independent sightings that all pixels together are worth
FREEDOM = 7.0  # of the weights 1 / (1 + distance^2 / FREEDOM)
BLUR = 0.03  # uncertainty of any place, in half extents
TURN_SD = 30.0  # degrees, of heads in scanners
ITERATIONS = 30


@dataclass(frozen=True)
class HeadPlaces:
    """Where structures lie in heads. number: (entity, side) -> row. mean: N x 3 along the head's
    axes in half extents; whiten: N x 3 x 3, of unit covariance after it. half_extent: usual log mm
    (3) and its standard deviation."""

    number: dict[tuple[str, str | None], int]
    mean: np.ndarray
    whiten: np.ndarray
    log_half: np.ndarray
    log_half_sd: float


@cache
def head_places() -> HeadPlaces:
    """The table that ships (made by `training/data/head_places.py`)."""
    text = resources.files(__package__).joinpath("head_places.json").read_text(encoding="utf-8")
    table = json.loads(text)
    rows = table["places"]
    spread = np.array([row["spread"] for row in rows]) + BLUR**2 * np.eye(3)
    return HeadPlaces(
        {(row["entity"], row["side"]): n for n, row in enumerate(rows)},
        np.array([row["mean"] for row in rows]),
        np.linalg.cholesky(np.linalg.inv(spread)).transpose(0, 2, 1),
        np.array(table["log_half_extent"]),
        float(table["log_half_extent_sd"]),
    )


def with_head(volume: Volume, runtime: Runtime, check: Callable[[], None] = lambda: None) -> Volume:
    """The volume, its foreground replaced by a head's if there is one. About a second on one core."""
    from ..imaging.slices import cut_slice

    fore = volume.foreground
    if volume.is_picture or not volume.has_position or fore is None:
        return volume
    if not can_hold_head(volume.modality, fore) or not pixel_entities(runtime):
        return volume
    requests = []
    for plane, point in head_cuts(fore):
        cut = cut_slice(volume, plane, None, list(point))
        if cut.pixels.min() < cut.pixels.max():
            requests.append(cut.request(points=[(0, 0, 1)]))  # no prompt is heeded
    return replace(volume, foreground=find_head(runtime, requests, check) or fore)


def pixel_entities(runtime: Runtime) -> tuple[str, ...]:
    """What the model calls single pixels; nothing, when it cannot name them."""
    return tuple(getattr(runtime, "entities", ()))


def heed_head(request: SliceRequest, volume: Volume, runtime: Runtime) -> SliceRequest:
    """The question about a slice of the volume, told how the head lies."""
    fore = with_head(volume, runtime).foreground
    return request if request.foreground is None else replace(request, foreground=fore, slice_id="")


def find_head(
    runtime: Runtime, requests: Sequence[SliceRequest], check: Callable[[], None] = lambda: None
) -> Foreground | None:
    """The head's frame in the scan from which these slices (one foreground) are cut, None when they
    do not show a brain. check is called before every slice and may raise Cancelled."""
    start = requests[0].foreground if requests else None
    found = None
    for _ in range(LOOKS):
        if start is None:
            break
        search = HeadSearch(runtime, start)
        for request in requests:
            check()
            search.look(replace(request, foreground=start, slice_id=""))
        found = search.found()
        if found is None or not is_far(found, start):
            break
        start = found
    return found


class HeadSearch:
    """Looks at slices one after the other, then tells how the head lies.

    start: the foreground that the slices are told to lie in.
    """

    def __init__(self, runtime: Runtime, start: Foreground) -> None:
        self._runtime = runtime
        self._start = start
        self._places = head_places()
        self._named = PixelNames(pixel_entities(runtime), self._places)
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []

    def look(self, request: SliceRequest) -> None:
        """Name the pixels of one slice."""
        if not pixel_entities(self._runtime):
            return  # a slice may take such a model half a minute
        self._seen.append(self._named.seen(self._runtime, request))

    def found(self) -> Foreground | None:
        """The head's frame, None when the slices do not show a brain."""
        if not self._seen:
            return None
        ras = np.concatenate([r for r, _ in self._seen])
        place = np.concatenate([p for _, p in self._seen])
        ras, place = _evenly(ras, place, len(self._places.mean))
        if len(ras) < LEAST_PIXELS or len(np.unique(place)) < LEAST_PLACES:
            return None
        return fit_head(ras, place, self._start, self._places)


class PixelNames:
    """Which rows of the places' table the pixels of a slice belong to, for a model's entities."""

    def __init__(self, entities: Sequence[str], places: HeadPlaces) -> None:
        number = places.number
        self.sided = np.array(
            [[number.get((e, s), -1) for s in ("left", "right")] for e in entities] + [[-1, -1]]
        )
        self.single = np.array([number.get((e, None), -1) for e in entities] + [-1])

    def seen(self, runtime: Runtime, request: SliceRequest) -> tuple[np.ndarray, np.ndarray]:
        """(RAS N x 3, row N) of the pixels of a slice that the model is sure of. Its prompt is not
        heeded."""
        x0, y0, x1, y1 = content_box(request.pixels)
        request = request.with_prompt(box=(x0 - 0.5, y0 - 0.5, x1 - 0.5, y1 - 0.5))
        box = letterbox_of(request, runtime.size)
        encoded: Any = runtime.encode(model_input(request, runtime.size, box))
        posterior = getattr(encoded, "maps", {}).get("posterior")
        nobody = np.zeros((0, 3)), np.zeros(0, dtype=int)
        if posterior is None or request.pixel_to_ras is None:
            return nobody
        shares = posterior[0]
        best, share = shares.argmax(0), shares.max(0)
        sides = np.exp(encoded.dense_side[0] - encoded.dense_side[0].max(0))
        sides /= sides.sum(0)
        step = shares.shape[1] // sides.shape[1]
        sides = sides[:2].repeat(step, 1).repeat(step, 2)  # left, right
        side = sides.argmax(0)
        row = np.where(sides.max(0) > LEAST_SIDE, self.sided[best, side], -1)
        row = np.where(self.single[best] >= 0, self.single[best], row)
        y, x = np.nonzero((share > LEAST_SHARE) & (row >= 0))
        if len(x) == 0:
            return nobody
        pixel = runtime.size / shares.shape[1]
        at = box.to_slice((np.stack([x, y], axis=-1) + 0.5) * pixel - 0.5)
        matrix = request.pixel_to_ras
        return at @ matrix[:3, :2].T + matrix[:3, 3], row[y, x]


def _evenly(ras: np.ndarray, place: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """At most PIXELS_PER_PLACE pixels of each place, spread over all that it has."""
    picks = []
    for number in range(count):
        members = np.flatnonzero(place == number)
        step = max(1, -(-len(members) // PIXELS_PER_PLACE))
        picks.append(members[::step])
    pick = np.concatenate(picks)
    return ras[pick], place[pick]


def fit_head(
    ras: np.ndarray, place: np.ndarray, start: Foreground, places: HeadPlaces
) -> Foreground | None:
    """Centre, extents and axes under which pixels (N x 3 RAS mm) lie where their places (N) usually
    do: the maximum of the places' normal densities, with a prior on turn and size. None when they
    lie nowhere like that."""
    mean, whiten = places.mean[place], places.whiten[place]
    turn = np.array(start.axes)
    centre = np.array(start.centre)
    size = np.log(np.asarray(start.half_extent))
    worth = EVIDENCE / len(ras)
    turn_precision = 1 / np.deg2rad(TURN_SD) ** 2
    size_precision = 1 / places.log_half_sd**2
    weight = np.zeros(len(ras))
    for _ in range(ITERATIONS):
        along = (ras - centre) @ turn.T
        half = np.exp(size)
        relative = along / half
        off = np.einsum("nij,nj->ni", whiten, relative - mean)
        weight = 1 / (1 + (off**2).sum(1) / FREEDOM)
        slope = np.zeros((len(ras), 3, 9))  # by turn, centre, log half extent
        for axis in range(3):
            unit = np.zeros(3)
            unit[axis] = 1.0
            slope[:, :, axis] = np.cross(unit, along) / half
            slope[:, axis, 6 + axis] = -relative[:, axis]
        slope[:, :, 3:6] = -turn / half[:, None]
        slope = np.einsum("nij,njk->nik", whiten, slope)
        normal = worth * np.einsum("n,nij,nik->jk", weight, slope, slope)
        pull = worth * np.einsum("n,nij,ni->j", weight, slope, off)
        pull[6:] += worth * weight.sum()  # densities thin out as the head grows
        normal[:3, :3] += turn_precision * np.eye(3)
        pull[:3] += turn_precision * turn_vector(turn)
        normal[6:, 6:] += size_precision * np.eye(3)
        pull[6:] += size_precision * (size - places.log_half)
        step = np.linalg.solve(normal, -pull)
        turn = turn_matrix(step[:3]) @ turn
        centre = centre + step[3:6]
        size = size + np.clip(step[6:], -0.2, 0.2)
        if np.abs(step[:3]).max() < 1e-4 and np.abs(step[3:6]).max() < 0.02:
            break
    turned = float(np.rad2deg(np.linalg.norm(turn_vector(turn))))
    unusual = np.abs(size - places.log_half).max() > 5 * places.log_half_sd
    if weight.mean() < LEAST_WEIGHT or turned > LARGEST_TURN or unusual:
        return None
    right, anterior, superior = (_triple(axis) for axis in turn)
    return Foreground(_triple(centre), _triple(np.exp(size)), (right, anterior, superior))


def _triple(values: np.ndarray) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])
