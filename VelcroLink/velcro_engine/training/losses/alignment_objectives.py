"""Objectives that order regions by what they share, beside naming them.

MedTrim (2504.15929): triplets of regions mined by their meta-entities; the entity's vector takes the
place of the text. RRA-VL (2503.07456): within one place, regions of the same finding lie together and
others apart. Its global alignment of images and texts is VELCRO's own contrastive loss when the image
is a region; both losses on report sentences are in `report_alignment.py`.

Meta-entities of a region: its entity with what the knowledge base says it is a kind or a part of, so
that neighbours in the ontology are the semi-hard negatives; side, zone, size class and plane, measured
from mask and position map, are its attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...imaging.diameters import diameters
from ...knowledge_base import KnowledgeBase, load_knowledge_base
from ...linking.attributes import place
from ...messages.request import Foreground
from ...reports.triplets import MetaEntities, MetaTable, mine
from ..recipes.recipe import Recipe
from .objectives import EntityTable
from .triplets import triplet_loss

TEMPERATURE = 0.1
SIDE_NAMES = ("left", "right", None)
PLANES = ("sagittal", "coronal", "axial")  # normal along R, A, S
UNIT_MM = 100.0  # half extent that stands for a known one: only ratios are used
KNOWN_PLANE = 0.9  # |cosine| of the normal with an axis


@dataclass(frozen=True)
class RegionWords:
    """What is measured of a region: side of the patient, zone of the body, size class, plane; None
    or "" where it cannot be known."""

    side: str | None = None
    zone: str = ""
    size: str = ""
    plane: str = ""

    @property
    def adjectives(self) -> frozenset[str]:
        return frozenset([*self.zone.split(), *self.size.split(), *self.plane.split()])


@dataclass(frozen=True)
class Kinship:
    """Of each entity: its names (itself, then what it is a kind or part of), the region of the body
    it lies in and its usual size in mm."""

    names: tuple[tuple[str, ...], ...]
    regions: tuple[str, ...]
    sizes: tuple[tuple[float, float] | None, ...]

    @classmethod
    def of(cls, entities: Sequence[str], base: KnowledgeBase) -> Kinship:
        """Entities that the knowledge base lacks are alone and lie in the body."""
        known = [base.by_id.get(e) for e in entities]
        return cls(
            tuple(
                (name, *(p for p in (entry.parents if entry else ()) if _is_below_root(base, p)))
                for name, entry in zip(entities, known, strict=True)
            ),
            tuple(entry.region if entry else "body" for entry in known),
            tuple(entry.size_mm if entry else None for entry in known),
        )

    def meta(self, entity: int, words: RegionWords) -> MetaEntities:
        """Meta-entities of a region of entity number `entity`."""
        sides = frozenset([words.side] if words.side else [])
        return MetaEntities(dict.fromkeys(self.names[entity], (words.adjectives, sides)))

    def place(self, entity: int, words: RegionWords) -> str:
        """Where a region lies: part of the body, side, zone; not what it is."""
        return f"{self.regions[entity]}|{words.side or ''}|{words.zone}"


def _is_below_root(base: KnowledgeBase, identifier: str) -> bool:
    found = base.by_id.get(identifier)
    return found is not None and bool(found.parents)


@lru_cache(maxsize=4)
def bundled_kinship(entities: tuple[str, ...]) -> Kinship:
    """Kinship in the bundled knowledge base."""
    return Kinship.of(entities, load_knowledge_base(None))


def measured_words(
    mask: np.ndarray, position: np.ndarray, side: int, usual_mm: tuple[float, float] | None
) -> RegionWords:
    """Words of one region. mask: bool h x h over the network's square input; position: its position
    map 14 x n x n (`preprocess.position_map`); side: 0 left, 1 right, 2 none."""
    name = SIDE_NAMES[side]
    if not mask.any() or not position[13].any():
        return RegionWords(name)
    factor = mask.shape[0] // position.shape[1]
    share = mask.reshape(position.shape[1], factor, position.shape[2], factor).mean((1, 3))
    mean = (position * share).sum((1, 2)) / share.sum()
    known = mean[3:6] > 0.5
    half = np.where(known, UNIT_MM, 1e-3)
    told = place(mean[:3] * half, Foreground((0.0, 0.0, 0.0), tuple(half)))
    axis = int(np.argmax(mean[9:12]))
    size = ""
    if usual_mm is not None:
        input_pixels = 8 * position.shape[1] / mask.shape[0]
        longest = diameters(mask)[0] * input_pixels * 2.0 ** float(mean[12])
        size = "small" if longest < usual_mm[0] else "large" if longest > usual_mm[1] else "usual"
    plane = PLANES[axis] if mean[9 + axis] >= KNOWN_PLANE else ""
    return RegionWords(name, told.get("zone", ""), size, plane)


def batch_words(batch: dict[str, Tensor], kinship: Kinship) -> list[RegionWords]:
    """Words of every prompt of a training batch (`batches.collate`)."""
    position = batch["position"].cpu().numpy()
    masks = batch["masks"].cpu().numpy().astype(bool)
    rows, sides = batch["row"].tolist(), batch["side"].tolist()
    usual = [*kinship.sizes, None]  # the last is "nothing"
    return [
        measured_words(masks[n], position[row], side, usual[entity])
        for n, (row, side, entity) in enumerate(
            zip(rows, sides, batch["entity"].tolist(), strict=True)
        )
    ]


def medtrim_loss(
    regions: Tensor, texts: Tensor, metas: Sequence[MetaEntities], rng: np.random.Generator
) -> Tensor:
    """MedTrim's four-term loss on triplets mined among N regions; embeddings N x D each. Zero when no
    triplet can be mined."""
    if len(metas) < 3:
        return regions.sum() * 0.0
    found = mine(MetaTable(metas).scores(), np.arange(len(metas)), rng)
    if not len(found):
        return regions.sum() * 0.0
    rows = [torch.from_numpy(r) for r in (found.anchor, found.positive, found.negative)]
    return triplet_loss([regions[r] for r in rows], [texts[r] for r in rows])


def location_contrast_loss(
    embedding: Tensor, places: Sequence[str], related: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Contrast within places: N x D unit embeddings, the place of each, and N x N bool: do the two
    show the same finding? Each anchor that has both kinds of neighbours in its place asks for its
    positives among them. Zero when there is none."""
    numbers = {name: n for n, name in enumerate(dict.fromkeys(places))}
    at = torch.tensor([numbers[name] for name in places], device=embedding.device)
    other = ~torch.eye(len(at), dtype=torch.bool, device=embedding.device)
    beside = (at[:, None] == at[None, :]) & other
    positive = beside & related
    anchor = positive.any(1) & (beside & ~related).any(1)
    if not bool(anchor.any()):
        return embedding.sum() * 0.0
    beside, positive = beside[anchor], positive[anchor]
    scores = (embedding[anchor] @ embedding.T) / temperature
    log_share = scores.masked_fill(~beside, float("-inf")).log_softmax(1)
    each = log_share.masked_fill(~positive, 0.0).sum(1) / positive.sum(1)
    return -each.mean()


def region_losses(
    recipe: Recipe,
    embedding: Tensor,
    table: EntityTable,
    entity: Tensor,
    words: Sequence[RegionWords],
    kinship: Kinship,
    rng: np.random.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """(weighted sum, figures for the log) of the recipe's objectives on unit region embeddings N x D;
    entity: N numbers, regions of "nothing" are left out."""
    use = entity < len(kinship.names)
    embedding, entity = embedding[use], entity[use]
    words = [w for w, used in zip(words, use.tolist(), strict=True) if used]
    numbers = entity.tolist()
    total = embedding.sum() * 0.0
    figures: dict[str, Tensor] = {}
    if recipe.medtrim:
        texts = F.normalize(table.vectors, dim=1)[entity]
        metas = [kinship.meta(n, w) for n, w in zip(numbers, words, strict=True)]
        loss = medtrim_loss(embedding, texts, metas, rng)
        total = total + recipe.medtrim * loss
        figures["medtrim"] = loss.detach()
    if recipe.location_contrast:
        places = [kinship.place(n, w) for n, w in zip(numbers, words, strict=True)]
        loss = location_contrast_loss(embedding, places, entity[:, None] == entity[None, :])
        total = total + recipe.location_contrast * loss
        figures["location"] = loss.detach()
    return total, figures


def alignment_losses(
    recipe: Recipe,
    embedding: Tensor,
    batch: dict[str, Tensor],
    table: EntityTable,
    entities: Sequence[str],
    step: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`region_losses` of a training batch; the same step draws the same triplets."""
    kinship = bundled_kinship(tuple(entities))
    words = batch_words(batch, kinship)
    rng = np.random.default_rng([recipe.seed, step, 1])
    return region_losses(recipe, embedding, table, batch["entity"], words, kinship, rng)
