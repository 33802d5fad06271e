"""Making confidence mean probability, and knowing when nothing in the knowledge base fits.

Fitted on cases that were not trained on: the temperature by the likelihood of the right entry over
the whole knowledge base (Guo et al., "On Calibration of Modern Neural Networks", 2017), the least
confidence of an answer so that regions of nothing and of entities never trained on are mostly
rejected while few right answers are lost, and the least share of left or right that is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from ...linking.ranking import entry_probabilities
from ...model.runtime import Calibration
from .link_figures import accuracy_at_coverage, calibration_error

TEMPERATURES = (0.005, 1.0)
LARGEST_LOSS = 0.05  # of right answers
SIDE_GOAL = 0.995  # of the sides that are told
COVERAGES = tuple(round(0.05 * n, 2) for n in range(1, 21))
KNOWN, HELD_OUT, BACKGROUND = "known", "held_out", "background"


@dataclass(frozen=True)
class Regions:
    """N linked regions of labelled cases.

    embeddings: N x D, unit length. truth: N, number of the right entry, -1 for background.
    kinds: N of KNOWN (an entity the model trained on), HELD_OUT, BACKGROUND.
    sides: N x 3 logits. true_side: N, 0 left, 1 right, -1 where no side is to be told.
    prompts: N names of the kind of prompt.
    """

    embeddings: np.ndarray
    truth: np.ndarray
    kinds: np.ndarray
    sides: np.ndarray
    true_side: np.ndarray
    prompts: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)

    def only(self, use: np.ndarray) -> Regions:
        """Those where `use` (N, bool or index)."""
        return Regions(
            self.embeddings[use],
            self.truth[use],
            self.kinds[use],
            self.sides[use],
            self.true_side[use],
            self.prompts[use],
        )


def likelihood(
    regions: Regions, entries: np.ndarray, nothing: np.ndarray | None, temperature: float
) -> float:
    """Mean negative log likelihood of the right entry."""
    probability, _ = entry_probabilities(regions.embeddings, entries, nothing, temperature)
    right = probability[np.arange(len(regions)), regions.truth]
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def fit_temperature(regions: Regions, entries: np.ndarray, nothing: np.ndarray | None) -> float:
    """Temperature of the least negative log likelihood: golden section in its logarithm."""
    low, high = np.log(TEMPERATURES)
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)

    def loss(x: float) -> float:
        return likelihood(regions, entries, nothing, float(np.exp(x)))

    at_left, at_right = loss(left), loss(right)
    while high - low > 0.005:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return float(np.exp((low + high) / 2))


def fit_abstention(
    right: np.ndarray, strange: np.ndarray, largest_loss: float = LARGEST_LOSS
) -> float:
    """Least confidence of an answer.

    right: confidences of right answers. strange: confidences given to regions that have no right
    answer. Of the thresholds that lose at most `largest_loss` of the right answers, the one with
    the largest share of strange regions rejected less share of right answers lost. An answer that
    "nothing" outweighs counts as confidence 0 in both.
    """
    if not len(right) or not len(strange):
        return 0.0
    right, strange = np.sort(right), np.sort(strange)
    candidates = np.unique(np.concatenate([[0.0], right, np.nextafter(strange, 1.0)]))
    lost = np.searchsorted(right, candidates, side="left") / len(right)
    rejected = np.searchsorted(strange, candidates, side="left") / len(strange)
    # what "nothing" loses by itself is lost at any threshold
    allowed = lost <= max(largest_loss, float((right <= 0.0).mean()))
    gain = np.where(allowed, rejected - lost, -np.inf)
    return float(np.clip(candidates[int(np.argmax(gain))], 0.0, 1.0))


def fit_side_margin(sides: np.ndarray, truth: np.ndarray, goal: float = SIDE_GOAL) -> float:
    """Least share of left or right that is told as a side: the smallest of 0.50, 0.51, ... with
    which `goal` of the told sides are right, or that comes nearest to it.

    sides: N x 3 logits. truth: N, 0 left, 1 right; others are left out.
    """
    use = truth >= 0
    if not use.any():
        return 0.5
    logits = sides[use].astype(np.float64)
    share_left = 1.0 / (1.0 + np.exp(np.clip(logits[:, 1] - logits[:, 0], -60, 60)))
    hit = (share_left > 0.5) == (truth[use] == 0)
    certainty = np.maximum(share_left, 1 - share_left)
    best = (-1.0, 0.5)
    for margin in np.round(np.arange(0.5, 0.96, 0.01), 2):
        told = certainty >= margin
        if not told.any():
            break
        accuracy = float(hit[told].mean())
        if accuracy >= goal:
            return float(margin)
        if accuracy > best[0] + 1e-9:
            best = (accuracy, float(margin))
    return best[1]


@dataclass(frozen=True)
class Scored:
    """Confidences of regions at one calibration. `accepted`: the linker would not abstain."""

    confidence: np.ndarray
    nothing: np.ndarray
    right: np.ndarray
    accepted: np.ndarray


def score(
    regions: Regions, entries: np.ndarray, nothing: np.ndarray | None, calibration: Calibration
) -> Scored:
    """What the linker says of regions, by its own rules."""
    probability, other = entry_probabilities(
        regions.embeddings, entries, nothing, calibration.temperature
    )
    best = probability.argmax(1)
    confidence = probability[np.arange(len(best)), best]
    accepted = confidence >= np.maximum(calibration.abstain_below, other)
    return Scored(confidence, other, best == regions.truth, accepted)


def calibrate(regions: Regions, entries: np.ndarray, nothing: np.ndarray | None) -> Calibration:
    """Temperature, abstention and side margin fitted to regions of all kinds of prompt."""
    known = regions.only(regions.kinds == KNOWN)
    temperature = fit_temperature(known, entries, nothing)
    scored = score(regions, entries, nothing, Calibration(temperature, 0.0, 0.5))
    effective = np.where(scored.accepted, scored.confidence, 0.0)
    is_known = regions.kinds == KNOWN
    threshold = fit_abstention(effective[is_known & scored.right], effective[~is_known])
    margin = fit_side_margin(known.sides, known.true_side)
    return Calibration(round(temperature, 5), round(threshold, 4), margin)


def figures(
    regions: Regions, entries: np.ndarray, nothing: np.ndarray | None, calibration: Calibration
) -> dict[str, Any]:
    """Likelihood, expected calibration error (15 bins), AUROC, risk-coverage and abstention, for all
    prompts together and each on its own."""
    names = ["all", *sorted(set(regions.prompts.tolist()))]
    return {
        name: _figures(
            regions if name == "all" else regions.only(regions.prompts == name),
            entries,
            nothing,
            calibration,
        )
        for name in names
    }


def _figures(
    regions: Regions, entries: np.ndarray, nothing: np.ndarray | None, calibration: Calibration
) -> dict[str, Any]:
    scored = score(regions, entries, nothing, calibration)
    known = regions.kinds == KNOWN
    confidence, right = scored.confidence[known], scored.right[known].astype(float)
    made: dict[str, Any] = {"n": int(known.sum())}
    if known.any():
        lost = (~scored.accepted[known])[right == 1]
        made |= {
            "top1": round(float(right.mean()), 4),
            "nll": round(
                likelihood(regions.only(known), entries, nothing, calibration.temperature), 4
            ),
            "ece": round(calibration_error(confidence, right), 4),
            "auroc": separation(confidence[right == 1], confidence[right == 0]),
            "risk_coverage": risk_coverage(confidence, right),
            "right_lost": round(float(lost.mean()), 4) if len(lost) else None,
            "wrong_rejected": _share(~scored.accepted[known], right == 0),
            "side_told": _sides(regions.only(known), calibration.side_margin),
        }
    for kind in (HELD_OUT, BACKGROUND):
        members = regions.kinds == kind
        made[kind] = {
            "n": int(members.sum()),
            "rejected": _share(~scored.accepted, members),
            "auroc_against_right": separation(
                confidence[right == 1] if known.any() else np.zeros(0), scored.confidence[members]
            ),
        }
    return made


def _share(flag: np.ndarray, members: np.ndarray) -> float | None:
    return round(float(flag[members].mean()), 4) if members.any() else None


def _sides(regions: Regions, margin: float) -> dict[str, float] | None:
    use = regions.true_side >= 0
    if not use.any():
        return None
    logits = regions.sides[use].astype(np.float64)
    share_left = 1.0 / (1.0 + np.exp(np.clip(logits[:, 1] - logits[:, 0], -60, 60)))
    told = np.maximum(share_left, 1 - share_left) >= margin
    hit = (share_left > 0.5) == (regions.true_side[use] == 0)
    return {
        "share": round(float(told.mean()), 4),
        "right": round(float(hit[told].mean()), 4) if told.any() else 0.0,
    }


def separation(high: np.ndarray, low: np.ndarray) -> float | None:
    """AUROC of telling `high` from `low` by confidence; None when one of them is empty."""
    if not len(high) or not len(low):
        return None
    truth = np.concatenate([np.ones(len(high)), np.zeros(len(low))])
    return round(float(roc_auc_score(truth, np.concatenate([high, low]))), 4)


def risk_coverage(
    confidence: np.ndarray, right: np.ndarray, coverages: Sequence[float] = COVERAGES
) -> list[list[float]]:
    """[share answered, share wrong of those], most confident first."""
    return [[c, round(1.0 - accuracy_at_coverage(confidence, right, c), 4)] for c in coverages]
