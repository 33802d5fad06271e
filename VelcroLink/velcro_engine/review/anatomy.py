"""How a volume's segments fit what is usual for them (`expectations`).

The frame of the expectations is laid into a volume by the segments themselves: an affine map (a
similarity one for few segments) from expected to observed centres, fitted to the majority, so that
wrong names and moved segments show as what does not fit. The frame's own deformation around a segment
is taken from its neighbours' residuals (a Gaussian process with fixed length), which leaves about
2 mm of uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .expectations import Expectation, Expectations

CELL_MM = 4.0
AFFINE_FROM = 12  # fitted segments; fewer get a similarity map
SIMILARITY_FROM = 5
LEAST_CENTRE_SD = 1.5  # mm
FIELD_MM = 30.0  # reach of the local deformation
FIELD_SD = 2.5  # mm, its size
GREY_CORRELATION = 0.75  # of expected and observed greys: below, it is another kind of image


@dataclass(frozen=True)
class Observation:
    """One segment as it lies in the volume. keys: under which an expectation may be known, the most
    specific first. centre: RAS mm. positions: N x 3 RAS mm of some of its voxels. mm3: volume.
    grey: mean of the window's grey levels."""

    keys: tuple[str, ...]
    centre: np.ndarray
    positions: np.ndarray
    mm3: float
    grey: float


@dataclass
class Fit:
    """How one segment agrees with what is usual; None where nothing is known.

    distance: Mahalanobis distance of its centre; moved_mm: the vector from where it was expected,
    RAS. volume, extent, grey: deviations in SD (extent: the largest of three). outside: share of its
    voxels where the structure was never found. elsewhere: key of the structure in whose place it
    lies, when that fits far better than its own.
    """

    distance: float | None = None
    moved_mm: np.ndarray | None = None
    volume: float | None = None
    volume_ratio: float | None = None
    extent: float | None = None
    extent_ratio: float | None = None
    grey: float | None = None
    outside: float | None = None
    elsewhere: str | None = None
    elsewhere_distance: float | None = None
    n: int = 0


@dataclass(frozen=True)
class Placement:
    """Frame -> volume: ras = linear @ frame + offset; used: which observations were fitted."""

    linear: np.ndarray
    offset: np.ndarray
    used: np.ndarray

    def to_ras(self, frame: np.ndarray) -> np.ndarray:
        """N x 3 mm of the frame -> N x 3 RAS mm."""
        return frame @ self.linear.T + self.offset

    def to_frame(self, ras: np.ndarray) -> np.ndarray:
        """N x 3 RAS mm -> N x 3 mm of the frame."""
        return (ras - self.offset) @ np.linalg.inv(self.linear).T


def similarity_map(frame: np.ndarray, ras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation, one scale and offset that take N x 3 points best onto others (Umeyama 1991)."""
    a, b = frame - frame.mean(0), ras - ras.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = float((s * sign).sum() / max((a**2).sum(), 1e-9))
    linear = scale * (u * sign) @ vt
    return linear, ras.mean(0) - linear @ frame.mean(0)


def affine_map(
    frame: np.ndarray, ras: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Affine map by weighted least squares."""
    system = np.hstack([frame, np.ones((len(frame), 1))]) * weights[:, None]
    found = np.linalg.lstsq(system, ras * weights[:, None], rcond=None)[0]
    return found[:3].T, found[3]


def place_frame(frame: np.ndarray, ras: np.ndarray, sd: np.ndarray) -> Placement | None:
    """The map that most expected centres (N x 3) agree on; sd: mm, how far each may be off.

    Starts from many random samples of four (least trimmed squares), refits with Tukey weights.
    None when there are too few, or when the result would mirror or distort the frame.
    """
    n = len(frame)
    if n < SIMILARITY_FROM:
        return None
    rng = np.random.default_rng(0)
    best, best_cost = None, np.inf
    keep = max(4, int(0.7 * n))
    for _ in range(60):
        pick = rng.choice(n, 4, replace=False)
        linear, offset = similarity_map(frame[pick], ras[pick])
        cost = np.sort((((ras - frame @ linear.T - offset) / sd[:, None]) ** 2).sum(1))[:keep].sum()
        if cost < best_cost:
            best, best_cost = (linear, offset), cost
    assert best is not None
    linear, offset = best
    for step in range(12):
        residual = np.linalg.norm(ras - frame @ linear.T - offset, axis=1) / sd
        reach = max(4.7, (10.0 if step < 3 else 3.0) * float(np.median(residual)))
        weights = np.clip(1 - (residual / reach) ** 2, 0, None)
        if np.count_nonzero(weights) < SIMILARITY_FROM:
            return None
        if n >= AFFINE_FROM and np.count_nonzero(weights) >= AFFINE_FROM:
            linear, offset = affine_map(frame, ras, weights / sd)
        else:
            use = weights > 0
            linear, offset = similarity_map(frame[use], ras[use])
    stretch = np.linalg.svd(linear, compute_uv=False)
    if np.linalg.det(linear) <= 0 or stretch.max() > 2.5 or stretch.min() < 0.4:
        return None
    return Placement(linear, offset, weights > 0)


def fit_all(observations: Sequence[Observation | None], expectations: Expectations) -> list[Fit]:
    """The `Fit` of every segment, in their order; an empty one for None or an unknown structure."""
    fits = [Fit() for _ in observations]
    frames: dict[str, list] = {}
    for number, observation in enumerate(observations):
        if observation is None:
            continue
        key, expected = expectations.of(observation.keys)
        if key is not None and expected is not None:
            known = (number, observation, key, expected)
            frames.setdefault(expected.frame, []).append(known)
    for known_in_frame in frames.values():
        _fit_frame(fits, known_in_frame)
    return fits


def _fit_frame(fits: list[Fit], known: list) -> None:
    frame = np.array([e.centre for _, _, _, e in known])
    ras = np.array([o.centre for _, o, _, _ in known])
    sd = np.sqrt([np.trace(e.covariance) / 3 + LEAST_CENTRE_SD**2 for _, _, _, e in known])
    placement = place_frame(frame, ras, sd)
    if placement is None:
        return
    observed = placement.to_frame(ras)
    predicted = frame + local_shift(frame, observed - frame, sd)
    for row, (number, observation, _key, expected) in enumerate(known):
        fit = fits[number]
        fit.n = expected.n
        _fit_place(fit, observed[row] - predicted[row], expected, placement)
        _fit_size(fit, observation, expected, placement)
        _fit_outside(fit, observation, expected, placement)
    _fit_elsewhere(fits, known, observed, predicted)
    _fit_grey(fits, known)


def local_shift(frame: np.ndarray, residual: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """For each structure the shift (mm) that its neighbours' residuals make likely, itself left out.

    Gaussian process with kernel FIELD_SD^2 exp(-d^2 / 2 FIELD_MM^2) and noise sd^2; residuals beyond
    four of their SD count as four, so that a moved neighbour bends nothing. Leave-one-out in closed
    form (Rasmussen and Williams 2006, 5.10-5.12).
    """
    apart = ((frame[:, None] - frame[None]) ** 2).sum(-1)
    kernel = FIELD_SD**2 * np.exp(-apart / (2 * FIELD_MM**2)) + np.diag(sd**2)
    size = np.linalg.norm(residual, axis=1)
    limit = 3 * sd
    clipped = residual * np.minimum(1, limit / np.maximum(size, 1e-9))[:, None]
    inverse = np.linalg.inv(kernel)
    return clipped - (inverse @ clipped) / np.diag(inverse)[:, None]


def _fit_place(fit: Fit, off: np.ndarray, expected: Expectation, placement: Placement) -> None:
    covariance = expected.covariance + np.eye(3) * LEAST_CENTRE_SD**2
    fit.distance = float(np.sqrt(off @ np.linalg.solve(covariance, off)))
    fit.moved_mm = placement.linear @ off


def _fit_size(
    fit: Fit, observation: Observation, expected: Expectation, placement: Placement
) -> None:
    mm3 = max(observation.mm3 / abs(np.linalg.det(placement.linear)), 1e-3)
    fit.volume = (np.log(mm3) - expected.log_volume) / expected.log_volume_sd
    fit.volume_ratio = float(np.exp(np.log(mm3) - expected.log_volume))
    extents = log_extents(placement.to_frame(observation.positions))
    deviation = (extents - expected.extents) / expected.extents_sd
    worst = int(np.argmax(np.abs(deviation)))
    fit.extent = float(deviation[worst])
    fit.extent_ratio = float(np.exp(extents[worst] - expected.extents[worst]))


def log_extents(positions: np.ndarray) -> np.ndarray:
    """Logarithm of the extents (mm) along the three axes, from the 1st to the 99th percentile."""
    low, high = np.percentile(positions, [1, 99], axis=0)
    return np.log(np.maximum(high - low, 1.0) + 1.0)


def cells_of(frame: np.ndarray) -> np.ndarray:
    """N x 3 mm of the frame -> indices of the cells of CELL_MM."""
    return np.floor(frame / CELL_MM).astype(int)


def _fit_outside(
    fit: Fit, observation: Observation, expected: Expectation, placement: Placement
) -> None:
    if not expected.found.any() or expected.n < 5:
        return
    index = cells_of(placement.to_frame(observation.positions)) - expected.found_start
    inside = ((index >= 0) & (index < expected.found.shape)).all(axis=1)
    hit = np.zeros(len(index), dtype=bool)
    hit[inside] = expected.found[tuple(index[inside].T)]
    fit.outside = float(1 - hit.mean())


def _fit_elsewhere(
    fits: list[Fit], known: list, observed: np.ndarray, predicted: np.ndarray
) -> None:
    for row, (number, _, _, _) in enumerate(known):
        fit = fits[number]
        if fit.distance is None or fit.distance < 3:
            continue
        best, best_distance = None, np.inf
        for other, (_, _, key, expected) in enumerate(known):
            if other == row:
                continue
            off = observed[row] - predicted[other]
            covariance = expected.covariance + np.eye(3) * LEAST_CENTRE_SD**2
            distance = float(np.sqrt(off @ np.linalg.solve(covariance, off)))
            size = abs(fits[other].volume_ratio or 1.0)
            if distance < best_distance and 0.2 < size < 5:
                best, best_distance = key, distance
        if best is not None and best_distance < min(3.0, 0.5 * fit.distance):
            fit.elsewhere, fit.elsewhere_distance = best, best_distance


def _fit_grey(fits: list[Fit], known: list) -> None:
    """Greys against the expected ones, after the line that most structures agree on."""
    rows = [(n, o.grey, e.grey, e.grey_sd) for n, o, _, e in known if e.grey is not None]
    if len(rows) < 8:
        return
    observed = np.array([r[1] for r in rows])
    expected = np.array([r[2] for r in rows], dtype=float)
    sd = np.array([r[3] for r in rows])
    use = np.ones(len(rows), dtype=bool)
    for _ in range(5):
        slope, level = np.polyfit(expected[use], observed[use], 1)
        off = observed - slope * expected - level
        use = np.abs(off) <= 3 * max(1.4826 * float(np.median(np.abs(off))), 1.0)
    if slope <= 0.2 or np.corrcoef(expected[use], observed[use])[0, 1] < GREY_CORRELATION:
        return
    for (number, *_), value, spread in zip(rows, off, sd, strict=True):
        fits[number].grey = float(value / (slope * spread))
