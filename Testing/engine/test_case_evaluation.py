"""Retrieval and grounding measured on a small labelled folder with a stand-in model."""

import json
from argparse import Namespace

import numpy as np
import pytest
import SimpleITK as sitk

from grounding_runtime import GroundingRuntime, grey_of

pytest.importorskip("scipy", reason="evaluation needs the training extras")
pytest.importorskip("sklearn", reason="evaluation needs the training extras")

from velcro_engine.errors import InputError
from velcro_engine.knowledge_base import active_paths, load_knowledge_base, text
from velcro_engine.knowledge_base.store import KnowledgeBase
from velcro_engine.linking.linker import Linker
from velcro_engine.training.measuring import grounding_evaluation, retrieval_evaluation
from velcro_engine.training.measuring.case_evaluation import (
    evaluate_grounding,
    evaluate_retrieval,
)
from velcro_engine.training.measuring.region_samples import spread

NAMES = ("spleen", "liver", "kidney", "pancreas")


@pytest.fixture
def linker(monkeypatch):
    whole = load_knowledge_base(active_paths())
    base = KnowledgeBase(tuple(whole.by_id[n] for n in NAMES), whole.sources)
    runtime = GroundingRuntime(base.entries)
    made = Linker(runtime, base, runtime.embed_text([text(e) for e in base.entries]))
    for module in (grounding_evaluation, retrieval_evaluation):
        monkeypatch.setattr(module, "open_linker", lambda *_, **__: made)
    return made


@pytest.fixture
def data(tmp_path, linker):
    """Four cases, 3-D, a left and a right kidney and a liver as bright cubes."""
    folder = tmp_path / "data" / "set"
    folder.mkdir(parents=True)
    table = {
        "1": {"name": "left kidney", "entity": "kidney", "side": "left"},
        "2": {"name": "right kidney", "entity": "kidney", "side": "right"},
        "3": {"name": "liver", "entity": "liver", "side": None},
        "4": {"name": "pancreas", "entity": "pancreas", "side": None},
    }
    (folder / "labels.json").write_text(json.dumps(table))
    for number in range(4):
        labels = np.zeros((24, 90, 90), np.uint8)
        at = 4 + number
        labels[8:20, 60:80, 8 + number : 24 + number] = 2
        labels[8:20, 60:80, 66 - number : 82 - number] = 1
        labels[8:20, at : at + 24, 30:60] = 3
        image = np.zeros(labels.shape, np.uint8)
        image[labels > 0] = grey_of(linker.runtime, "kidney")
        image[labels == 3] = grey_of(linker.runtime, "liver")
        image[:, 88:] = 255
        case = folder / f"case{number}"
        case.mkdir()
        for name, array in (("image", image), ("labels", labels)):
            made = sitk.GetImageFromArray(array)
            made.SetSpacing((2, 2, 2))
            sitk.WriteImage(made, str(case / f"{name}.nii.gz"))
    return tmp_path / "data"


def arguments(data, **more):
    values = {"data": str(data), "splits": None, "split": "dev", "limit": None, "kb": None,
              "model": None, "step_mm": 4.0}  # fmt: skip
    return Namespace(**(values | more))


def quiet(*_):
    pass


def test_retrieval_is_better_with_the_condition(data, linker, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    metrics = evaluate_retrieval(arguments(data), out, quiet)
    figures = metrics["groups"]["all"]["roi-roi"]
    assert figures["n"] > 10 and figures["cases"] == 4
    assert figures["precision_at_5"] > figures["precision_at_5_unconditioned"] + 0.15
    assert figures["precision_at_5_ci"][0] <= figures["precision_at_5"]
    directions = metrics["groups"]["all"]
    assert list(directions) == ["roi-roi", "roi-text", "text-roi", "text-text"]
    lines = (out / "retrieval.csv").read_text().count("\n")
    assert lines == 1 + sum(f["n"] for f in directions.values())
    json.dumps(metrics, allow_nan=False)


def test_texts_find_regions_and_regions_texts_of_their_side(data, linker, tmp_path):
    directions = evaluate_retrieval(arguments(data), tmp_path, quiet)["groups"]["all"]
    for name in ("roi-text", "text-roi", "text-text"):
        figures = directions[name]
        assert figures["cases"] == 4 and figures["n"] >= 12
        # the stand-in's text knows no side: left and right are told apart by the condition alone
        assert figures["precision_at_5"] >= figures["precision_at_5_unconditioned"]
    assert directions["text-roi"]["gain"] > 0.15


def test_phrases_name_the_place_and_vary_with_the_case(linker):
    from velcro_engine.cases import Item, Place
    from velcro_engine.training.data.region_phrases import RegionPhrases

    phrases = RegionPhrases(linker)
    item = Item("case-1", "roi", "kidney", "left", places=(Place("kidney", "left"),))
    entry = linker.knowledge_base.entry("kidney")
    said = {phrases.phrase(f"case-{n}", item) for n in range(20)}
    assert said <= {f"left {name}" for name in (entry.name, *entry.synonyms)}
    assert len(said) == 1 + len(entry.synonyms)
    condition = phrases.condition(item)
    assert condition.entries == ("kidney",) and condition.side == "left"


def test_the_library_is_made_of_the_other_splits(data, linker, tmp_path):
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["set/case0", "set/case1"], "dev": ["set/case2"]}))
    metrics = evaluate_retrieval(arguments(data, splits=str(splits)), tmp_path, quiet)
    assert metrics["cases"] == 1 and metrics["library"]["cases"] == 2


def test_grounding_points_at_what_is_there_and_rejects_what_is_not(data, linker, tmp_path):
    metrics = evaluate_grounding(arguments(data), tmp_path, quiet)
    figures = metrics["groups"]["all"]["phrase"]
    assert figures["n"] > 8 and figures["pointing"] > 0.8 and figures["miou"] > 0.6
    assert figures["absent_rejected"] >= 0.8
    assert metrics["present_above"] == {"others": 0.2}
    json.dumps(metrics, allow_nan=False)


def test_a_folder_without_cases_is_told(tmp_path, linker):
    for measure in (evaluate_retrieval, evaluate_grounding):
        with pytest.raises(InputError, match="No labelled case"):
            measure(arguments(tmp_path), tmp_path, quiet)


def test_a_limit_is_spread_over_the_data_sets():
    keys = ["a/1", "a/2", "a/3", "b/1", "c/1", "c/2"]
    assert spread(keys, 4) == ["a/1", "a/2", "b/1", "c/1"]
