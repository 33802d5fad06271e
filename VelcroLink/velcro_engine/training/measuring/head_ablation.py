"""Rows of the ablation table: a region head trained with and without each objective.

Head only: the network that makes the features stays as it is, so this says what an objective does to
the last step of a region's embedding and nothing of what it would do to an encoder trained with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...model.network_parts import RegionHead
from ..learning.training_state import TrainingState
from ..losses.alignment_objectives import Kinship, region_losses
from ..losses.objectives import EntityTable
from ..recipes.recipe import Recipe
from .region_features import RegionFeatures
from .region_samples import interval

FIRST = 5
LEARNING_RATE = 1e-3
# name of a row -> what it changes in the recipe
ROWS: dict[str, dict[str, float]] = {
    "without": {},
    "medtrim": {"medtrim": 1.0},
    "location contrast": {"location_contrast": 0.3},
    "location contrast x 3": {"location_contrast": 1.0},
    "both": {"medtrim": 1.0, "location_contrast": 0.3},
}
RUN = "the run's own head"
FIGURES = {
    "linking": "entity right (top-1 of the run's entities)",
    "side": "side right, of sided regions with a position",
    "attributes": "overlap of zone, size class and plane with the five nearest regions",
    "roi-roi": "precision@5, same entity and place",
    "roi-roi in place": "precision@5 within the predicted place",
    "text-roi": "precision@5 of the entity's vector among the measured regions",
}


class Head(nn.Module):
    """Untrained region head, with the run's entity vectors and share of the pixels; `trained`: with
    the run's own head."""

    def __init__(self, state: TrainingState, recipe: Recipe, trained: bool = False) -> None:
        super().__init__()
        self.head = RegionHead(recipe.network.width, recipe.network.embedding)
        self.table = EntityTable(len(state.entities), recipe.network.embedding)
        self.table.load_state_dict(state.average_table.state_dict())
        if trained:
            self.head.load_state_dict(state.average.region_head.state_dict())
        self.gain = nn.Parameter(state.average.region_gain.detach().clone())

    def forward(self, token: Tensor, pooled: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        own, side = self.head(token, pooled)
        return F.normalize(own + self.gain * pixels, dim=1), side


def train_head(
    state: TrainingState,
    recipe: Recipe,
    features: RegionFeatures,
    kinship: Kinship,
    steps: int,
    batch: int,
    seed: int,
) -> Head:
    """A head trained with the trainer's losses of regions and the recipe's objectives, on batches of
    `batch` regions."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 2])
    model = Head(state, recipe)
    inputs = [torch.from_numpy(a) for a in (features.token, features.pooled, features.pixels)]
    entity, side = torch.from_numpy(features.entity), torch.from_numpy(features.side)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    size = min(batch, len(features))
    for _ in range(steps):
        chosen = rng.choice(len(features), size, replace=False)
        rows = torch.from_numpy(chosen)
        embedding, sides = model(*(tensor[rows] for tensor in inputs))
        logits = model.table.logits(embedding)
        loss = F.cross_entropy(logits, entity[rows], label_smoothing=0.05)
        loss = loss + 0.5 * F.cross_entropy(sides, side[rows])
        if recipe.medtrim or recipe.location_contrast:
            words = [features.words[n] for n in chosen]
            extra, _ = region_losses(
                recipe, embedding, model.table, entity[rows], words, kinship, rng
            )
            loss = loss + extra
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@dataclass(frozen=True)
class Truths:
    """What decides on hits, the same for every row: for each query, which library regions show the
    same in the same place; each region's zone; overlap of attribute words."""

    same: np.ndarray
    overlap: np.ndarray


def truths_of(
    library: RegionFeatures, queries: RegionFeatures, entities: Sequence[str], findings: set[str]
) -> Truths:
    """`findings`: entities that are no anatomy; for them the place is side and zone, for anatomy its
    side."""

    def key(features: RegionFeatures, n: int) -> tuple:
        number, words = int(features.entity[n]), features.words[n]
        if number >= len(entities):
            return ("nothing",)
        zone = words.zone if entities[number] in findings else ""
        return entities[number], words.side, zone

    keys: dict[tuple, int] = {}
    numbered = [
        np.array([keys.setdefault(key(f, n), len(keys)) for n in range(len(f))])
        for f in (queries, library)
    ]
    same = numbered[0][:, None] == numbered[1][None, :]
    return Truths(same, _overlap(queries, library))


def _overlap(queries: RegionFeatures, library: RegionFeatures) -> np.ndarray:
    """IoU of attribute words, queries x library; 0 where neither has any."""
    names = sorted({w for f in (queries, library) for r in f.words for w in r.adjectives})
    place = {name: n for n, name in enumerate(names)}
    sets = []
    for features in (queries, library):
        table = np.zeros((len(features), len(names)), dtype=np.float32)
        for n, words in enumerate(features.words):
            table[n, [place[w] for w in words.adjectives]] = 1
        sets.append(table)
    both = sets[0] @ sets[1].T
    union = sets[0].sum(1)[:, None] + sets[1].sum(1)[None, :] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


@torch.no_grad()
def measure_head(
    model: Head,
    library: RegionFeatures,
    queries: RegionFeatures,
    truths: Truths,
    kinship: Kinship,
) -> dict[str, np.ndarray]:
    """{figure: value of each query, NaN where it does not apply}."""

    def embed(features: RegionFeatures) -> tuple[Tensor, Tensor]:
        arrays = (features.token, features.pooled, features.pixels)
        return model(*(torch.from_numpy(a) for a in arrays))

    kept, (mine, side) = embed(library)[0], embed(queries)
    answer = model.table.logits(mine)[:, :-1].argmax(1).numpy()
    sided = side[:, :2].argmax(1).numpy()
    none = side.argmax(1).numpy() == 2
    scores = (mine @ kept.T).numpy()
    nearest = np.argsort(-scores, axis=1)[:, :FIRST]
    rows = np.arange(len(queries))
    found = {"linking": (answer == queries.entity).astype(float)}
    applies = (queries.side < 2) & ~queries.picture
    found["side"] = np.where(applies, sided == queries.side, np.nan)
    found["attributes"] = np.where(
        [bool(w.adjectives) for w in queries.words],
        truths.overlap[rows[:, None], nearest].mean(1),
        np.nan,
    )
    relevant = truths.same.sum(1)
    most = np.where(relevant > 0, np.minimum(relevant, FIRST), np.nan)
    found["roi-roi"] = truths.same[rows[:, None], nearest].sum(1) / most
    within = _in_place(library, queries, answer, np.where(none, 2, sided), kinship)
    allowed = np.where(within, scores, -2.0)
    first = np.argsort(-allowed, axis=1)[:, :FIRST]
    hits = truths.same[rows[:, None], first] & within[rows[:, None], first]
    found["roi-roi in place"] = hits.sum(1) / most
    found["text-roi"] = _text_to_regions(model, mine, queries)
    return found


def _in_place(
    library: RegionFeatures,
    queries: RegionFeatures,
    entity: np.ndarray,
    side: np.ndarray,
    kinship: Kinship,
) -> np.ndarray:
    """Bool, queries x library: does the library's region lie where the query's seems to lie? Its
    entity and side are predicted, its zone is measured."""
    names = ("left", "right", None)
    nothing = len(kinship.names)
    asked = [
        kinship.place(int(e), replace(w, side=names[int(s)]))
        for e, s, w in zip(entity, side, queries.words, strict=True)
    ]
    there = [
        kinship.place(int(e), w) if e < nothing else ""
        for e, w in zip(library.entity, library.words, strict=True)
    ]
    number = {name: n for n, name in enumerate(dict.fromkeys([*asked, *there]))}
    a, b = (np.array([number[name] for name in names]) for names in (asked, there))
    return a[:, None] == b[None, :]


def _text_to_regions(model: Head, mine: Tensor, queries: RegionFeatures) -> np.ndarray:
    """One query for each entity of each case: its vector among the measured regions. Those of the
    library have taught the head and are found nearly always."""
    vectors = F.normalize(model.table.vectors, dim=1)
    best = (vectors @ mine.T).topk(min(FIRST, len(queries)), dim=1).indices.numpy()
    values = np.full(len(queries), np.nan)
    seen = set()
    for n, (case, entity) in enumerate(zip(queries.case, queries.entity.tolist(), strict=True)):
        if (case, entity) not in seen:
            seen.add((case, entity))
            same = queries.entity == entity
            values[n] = same[best[entity]].sum() / min(FIRST, int(same.sum()))
    return values


def ablate_heads(
    state: TrainingState,
    recipe: Recipe,
    library: RegionFeatures,
    queries: RegionFeatures,
    kinship: Kinship,
    findings: set[str],
    steps: int,
    batch: int,
    seeds: int,
    progress: Callable[[int, int, str], None],
) -> dict[str, dict[str, dict[str, object]]]:
    """{row: {figure: {"value", "ci", "seeds", "gain", "gain_ci"}}}; intervals over cases, gains
    against "without", query by query. The last row is the run's own head, for comparison."""
    truths = truths_of(library, queries, state.entities, findings)
    tables: dict[str, dict[str, np.ndarray]] = {}
    for number, (row, changes) in enumerate(ROWS.items()):
        own = replace(recipe, **({"medtrim": 0.0, "location_contrast": 0.0} | changes))
        runs = []
        for seed in range(seeds):
            progress(number * seeds + seed, len(ROWS) * seeds, f"head: {row}")
            model = train_head(state, own, library, kinship, steps, batch, seed)
            runs.append(measure_head(model, library, queries, truths, kinship))
        tables[row] = {name: np.stack([run[name] for run in runs]) for name in FIGURES}
    own_head = Head(state, recipe, trained=True).eval()
    measured = measure_head(own_head, library, queries, truths, kinship)
    tables[RUN] = {name: measured[name][None] for name in FIGURES}
    return {row: compared(table, tables["without"], queries.case) for row, table in tables.items()}


def compared(
    table: dict[str, np.ndarray], reference: dict[str, np.ndarray], cases: Sequence[str]
) -> dict[str, dict[str, object]]:
    """Figures of seeds x queries (NaN = does not apply), with gains over `reference`."""
    found = {}
    for name, values in table.items():
        use = ~np.isnan(values).any(0)
        if use.any():
            owners = [case for case, used in zip(cases, use, strict=True) if used]
            found[name] = compared_figure(values[:, use], reference[name][:, use], owners)
    return found


def compared_figure(
    values: np.ndarray, reference: np.ndarray, owners: list[str]
) -> dict[str, object]:
    """Mean over seeds and queries (seeds x queries) with its interval over owners, and the same of
    the gain over `reference`, query by query."""
    mean, gain = values.mean(0), values.mean(0) - reference.mean(0)
    return {
        "n": len(mean),
        "value": round(float(mean.mean()), 4),
        "ci": interval(mean, owners),
        "seeds": [round(float(v), 4) for v in values.mean(1)],
        "gain": round(float(gain.mean()), 4),
        "gain_ci": interval(gain, owners),
    }
