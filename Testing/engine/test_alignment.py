"""MedTrim's and RRA-VL's objectives on regions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tiny_cases
from velcro_engine.knowledge_base import load_knowledge_base
from velcro_engine.reports.triplets import score_pair

pytest.importorskip("timm", reason="training needs the training extras")

from velcro_engine.messages.request import Foreground
from velcro_engine.model.preprocess import Letterbox, position_map
from velcro_engine.training.data.batches import collate
from velcro_engine.training.data.slice_sampler import SliceSampler
from velcro_engine.training.learning.trainer import train, train_step
from velcro_engine.training.learning.training_state import new_state
from velcro_engine.training.losses.alignment_objectives import (
    Kinship,
    RegionWords,
    batch_words,
    bundled_kinship,
    location_contrast_loss,
    measured_words,
    medtrim_loss,
)


@pytest.fixture(scope="module")
def kinship():
    return bundled_kinship(("hippocampus", "amygdala", "liver", "not_in_the_knowledge_base"))


def axial_position(size=64):
    """An axial slice through the middle of a body of 200 x 200 x 100 mm, 2 mm a pixel."""
    matrix = np.diag([-2.0, -2.0, 1.0, 1.0])
    matrix[:2, 3] = size
    fore = Foreground((0.0, 0.0, 0.0), (100.0, 100.0, 50.0))
    return position_map(matrix, fore, Letterbox(0, 0, 1.0, size))[0]


def test_words_of_a_region_are_measured_from_mask_and_position():
    mask = np.zeros((32, 32), bool)
    mask[2:6, 14:18] = True  # 16 mm wide, far in front (the slice shows anterior up)
    words = measured_words(mask, axial_position(), 0, (30.0, 50.0))
    assert words == RegionWords("left", "middle anterior", "small", "axial")
    assert measured_words(mask, np.zeros((14, 8, 8), np.float32), 2, None) == RegionWords()


def test_neighbours_in_the_ontology_are_semi_hard_and_the_same_entity_is_positive(kinship):
    left = RegionWords("left", "middle central", "usual", "axial")
    hippocampus, amygdala, liver, alone = (kinship.meta(n, left) for n in range(4))
    assert score_pair(hippocampus, hippocampus) == pytest.approx(1.0)
    assert 0.25 <= score_pair(hippocampus, amygdala) < 0.6
    assert score_pair(hippocampus, liver) == 0 and score_pair(alone, liver) == 0
    other = kinship.meta(0, RegionWords("right", "lower central", "small", "sagittal"))
    assert 0.6 < score_pair(hippocampus, other) < 1.0


def test_the_place_says_where_and_not_what(kinship):
    words = RegionWords("left", "middle central", "usual", "axial")
    assert kinship.place(0, words) == kinship.place(1, words) != kinship.place(2, words)
    assert kinship.place(0, words) != kinship.place(0, replace(words, side="right"))


def unit(*rows):
    return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def test_location_contrast_compares_only_within_a_place():
    vectors = unit([1, 0], [1, 0.1], [0, 1], [-1, 0])
    same = torch.tensor([[a == b for b in "xxyx"] for a in "xxyx"])
    apart = location_contrast_loss(vectors, ["p", "p", "p", "q"], same)
    together = location_contrast_loss(vectors, ["p", "p", "p", "p"], same)
    assert 0 <= float(apart) < 0.01 < float(together)  # the fourth, far away, is now a positive
    assert float(location_contrast_loss(vectors, ["p", "q", "r", "s"], same)) == 0.0


def test_location_contrast_pulls_the_same_finding_together():
    torch.manual_seed(0)
    free = torch.randn(12, 8, requires_grad=True)
    kind = torch.arange(12) % 3
    same = kind[:, None] == kind[None, :]
    optimizer = torch.optim.Adam([free], lr=0.1)
    for _ in range(60):
        loss = location_contrast_loss(F.normalize(free, dim=1), ["p"] * 12, same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosine = F.normalize(free, dim=1) @ F.normalize(free, dim=1).T
    assert cosine[same].min() > cosine[~same].max()


def test_medtrim_is_zero_when_order_is_right_and_without_triplets(kinship):
    entities = [0, 0, 1, 1, 2, 2]
    metas = [kinship.meta(n, RegionWords("left")) for n in entities]
    vectors = torch.eye(3)[entities]
    rng = np.random.default_rng(0)
    assert float(medtrim_loss(vectors, vectors, metas, rng)) == pytest.approx(0.0, abs=1e-6)
    wrong = torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    assert float(medtrim_loss(wrong, vectors, metas, rng)) > 0.2
    assert float(medtrim_loss(vectors[:2], vectors[:2], metas[:2], rng)) == 0.0


def test_a_training_step_uses_the_objectives_only_when_the_recipe_asks(tmp_path):
    read = tiny_cases.cases(tiny_cases.write_cases(tmp_path / "data"))
    entities = tiny_cases.entities(read)
    plain = tiny_cases.recipe(batch=4, prompts=3)
    sampler = SliceSampler(read, entities, plain.network.size, plain.prompts)
    batch = collate([sampler.draw(np.random.default_rng(n)) for n in range(4)])
    base = load_knowledge_base(None)
    words = batch_words(batch, Kinship.of(entities, base))
    assert len(words) == 12 and any(w.zone for w in words) and any(w.plane for w in words)

    quiet = train_step(new_state(plain, entities), plain, batch, "cpu")
    assert "medtrim" not in quiet and "location" not in quiet
    asked = replace(plain, medtrim=1.0, location_contrast=0.5)
    figures = [train_step(new_state(asked, entities), asked, batch, "cpu") for _ in range(2)]
    assert figures[0] == figures[1]
    assert np.isfinite([figures[0]["medtrim"], figures[0]["location"]]).all()
    told: list[str] = []
    short = replace(asked, steps=1, dense_steps=0, fine_steps=0)
    train(new_state(short, entities), short, sampler, tmp_path / "run", workers=0, log=told.append)
    assert "medtrim" in told[-1] and "location" in told[-1]
