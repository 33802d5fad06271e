"""Calibration: confidence that means probability, abstention, sides; by function and command."""

import json

import numpy as np
import pytest

import tiny_cases
from velcro_engine.commands import cli
from velcro_engine.imaging.slices import Slice
from velcro_engine.model.folder import model_folder
from velcro_engine.model.runtime import Calibration
from velcro_engine.training.commands.calibrate import background_box
from velcro_engine.training.measuring.calibration import (
    BACKGROUND,
    HELD_OUT,
    KNOWN,
    Regions,
    calibrate,
    figures,
    fit_abstention,
    fit_side_margin,
    fit_temperature,
    score,
    separation,
)

ENTRIES, DIMENSION = 12, 16


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def entries():
    return unit(np.random.default_rng(0).standard_normal((ENTRIES, DIMENSION)))


def regions_of(entries, temperature, count=4000, seed=1):
    """Regions whose right entry is drawn from the softmax of their cosines at `temperature`, so
    that this temperature is the true one; all known."""
    rng = np.random.default_rng(seed)
    embeddings = unit(
        rng.standard_normal((count, DIMENSION)) + 2 * entries[rng.integers(ENTRIES, size=count)]
    )
    weights = np.exp(embeddings @ entries.T / temperature)
    weights /= weights.sum(1, keepdims=True)
    truth = np.array([rng.choice(ENTRIES, p=w) for w in weights])
    return Regions(
        embeddings,
        truth,
        np.full(count, KNOWN),
        np.zeros((count, 3)),
        np.full(count, -1),
        np.array(["gold", "loose"])[rng.integers(2, size=count)],
    )


@pytest.mark.parametrize("temperature", [0.05, 0.15, 0.4])
def test_temperature_that_made_the_answers_is_found(entries, temperature):
    regions = regions_of(entries, temperature)
    assert fit_temperature(regions, entries, None) == pytest.approx(temperature, rel=0.1)


def test_fitted_temperature_makes_confidence_a_probability(entries):
    regions = regions_of(entries, 0.15)
    fitted = Calibration(fit_temperature(regions, entries, None), 0.0, 0.5)
    after = figures(regions, entries, None, fitted)["all"]
    before = figures(regions, entries, None, Calibration(0.03, 0.0, 0.5))["all"]
    assert after["ece"] < 0.03 < before["ece"] and after["nll"] < before["nll"]
    assert after["top1"] == before["top1"] and after["auroc"] > 0.6


def test_abstention_rejects_the_strange_and_loses_no_more_than_allowed():
    right = np.linspace(0.4, 1.0, 1000)
    strange = np.linspace(0.0, 0.42, 500)
    threshold = fit_abstention(right, strange)
    assert (right < threshold).mean() <= 0.05
    assert (strange < threshold).mean() > 0.98
    assert fit_abstention(right, np.linspace(0.9, 1.0, 50)) <= np.quantile(right, 0.05)
    assert fit_abstention(right, np.zeros(0)) == 0.0


def test_abstention_allows_for_what_nothing_rejects_by_itself():
    right = np.concatenate([np.zeros(100), np.linspace(0.5, 1.0, 900)])  # 10 % lost to "nothing"
    threshold = fit_abstention(right, np.linspace(0.0, 0.3, 100))
    assert 0.29 < threshold <= 0.5


def test_nothing_in_the_knowledge_base_takes_its_share_and_makes_the_linker_abstain(entries):
    nothing = unit(np.ones(DIMENSION))
    regions = regions_of(entries, 0.1, 50)
    air = Regions(
        np.tile(nothing, (10, 1)),
        np.full(10, -1),
        np.full(10, BACKGROUND),
        np.zeros((10, 3)),
        np.full(10, -1),
        np.full(10, "gold"),
    )
    scored = score(air, entries, nothing, Calibration(0.05, 0.0, 0.5))
    assert (scored.nothing > scored.confidence).all() and not scored.accepted.any()
    assert not scored.right.any()
    mixed = [
        np.concatenate([getattr(regions, n), getattr(air, n)]) for n in Regions.__dataclass_fields__
    ]
    found = figures(Regions(*mixed), entries, nothing, Calibration(0.05, 0.0, 0.5))
    assert found["all"][BACKGROUND] == {
        "n": 10, "rejected": 1.0,
        "auroc_against_right": found["all"][BACKGROUND]["auroc_against_right"],
    }  # fmt: skip
    assert found["all"][HELD_OUT] == {"n": 0, "rejected": None, "auroc_against_right": None}
    assert found["all"]["n"] == 50 and found["loose"][BACKGROUND]["n"] == 0


def test_calibration_of_all_three_values_survives_rounding(entries):
    regions = regions_of(entries, 0.1, 1500)
    strange = regions_of(entries, 10.0, 300, seed=5)
    kinds = np.concatenate([regions.kinds, np.full(300, HELD_OUT)])
    parts = {
        n: np.concatenate([getattr(regions, n), getattr(strange, n)])
        for n in Regions.__dataclass_fields__
    }
    fitted = calibrate(Regions(**(parts | {"kinds": kinds})), entries, None)
    assert fitted.temperature == pytest.approx(0.1, rel=0.15)
    assert 0 <= fitted.abstain_below < 1 and fitted.side_margin == 0.5
    told = figures(Regions(**(parts | {"kinds": kinds})), entries, None, fitted)["all"]
    assert told["right_lost"] <= 0.0501
    risks = [risk for _, risk in told["risk_coverage"]]
    assert risks[-1] == pytest.approx(1 - told["top1"], abs=1e-3) and risks[0] < risks[-1]


def test_side_margin_rises_until_the_told_sides_are_right():
    rng = np.random.default_rng(0)
    certainty = rng.uniform(0, 3, 3000)
    truth = rng.integers(0, 2, 3000)
    wrong = (certainty < 0.4) & (rng.random(3000) < 0.5)  # doubtful sides are wrong half the time
    sign = np.where(truth == 0, 1, -1) * np.where(wrong, -1, 1)
    logits = np.stack([sign * certainty / 2, -sign * certainty / 2, np.zeros(3000)], 1)
    margin = fit_side_margin(logits, truth)
    assert 0.55 < margin < 0.65  # sigmoid(0.4) = 0.60
    assert fit_side_margin(logits, np.full(3000, -1)) == 0.5
    sure = np.array([[5.0, -5.0, 0.0]])
    assert fit_side_margin(sure, np.array([0])) == 0.5


def test_separation_needs_both_kinds():
    assert separation(np.array([0.9, 0.8]), np.array([0.1])) == 1.0
    assert separation(np.array([0.9]), np.zeros(0)) is None


def test_background_boxes_hold_air_and_no_label():
    pixels = np.zeros((60, 80), np.uint8)
    pixels[20:40, 20:60] = 200
    cut = Slice(pixels, pixels.astype(np.float32), np.eye(4), None, 1.0, False, None, None)
    rng = np.random.default_rng(0)
    boxes = [b for _ in range(30) if (b := background_box(cut, [], rng)) is not None]
    assert len(boxes) > 20
    for x0, y0, x1, y1 in boxes:
        part = pixels[int(y0 + 0.5) : int(y1 + 0.5), int(x0 + 0.5) : int(x1 + 0.5)]
        assert part.size and (part > 0).mean() <= 0.02
        assert 0 <= x0 + 0.5 < x1 <= 79.5 and 0 <= y0 + 0.5 < y1 <= 59.5
    full = Slice(pixels + 100, pixels.astype(np.float32), np.eye(4), None, 1.0, False, None, None)
    assert background_box(full, [], rng) is None


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    trained = ["hippocampus", "thalamus", "fetal_head"]
    return tiny_cases.write_site(tmp_path_factory.mktemp("site"), trained)


def test_command_writes_the_calibration_into_the_model_folder(site, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VELCROLINK_HOME", str(tmp_path / "home"))
    asked = [
        "calibrate", "--model", str(site / "model"), "--data", str(site / "data"),
        "--kb", str(site / "kb.json"), "--step-mm", "16",
    ]  # fmt: skip
    before = model_folder(site / "model")
    assert cli.main([*asked, "--out", str(tmp_path / "dry"), "--report-only"]) == 0
    assert model_folder(site / "model").config == before.config
    assert cli.main([*asked, "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "calibration.json").read_text("utf-8"))
    after = model_folder(site / "model")  # checks every checksum
    assert after.config["calibration"] == report["calibration"]
    assert after.config["trained_entities"] == before.config["trained_entities"]
    assert after.fingerprint == before.fingerprint  # the weights are the same
    told = report["after"]["all"]
    assert told["nll"] <= report["before"]["all"]["nll"] + 1e-3
    assert told["n"] > 20 and told[BACKGROUND]["n"] > 0
    assert told[HELD_OUT]["n"] > 0  # the brainstem is not among the trained
    assert {"gold", "loose", "point"} <= report["after"].keys()


def test_model_that_does_not_say_what_it_was_trained_on_is_refused(
    site, tmp_path, monkeypatch, capsys
):
    import shutil

    monkeypatch.setenv("VELCROLINK_HOME", str(tmp_path / "home"))
    folder = tmp_path / "model"
    shutil.copytree(site / "model", folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config.pop("trained_entities")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    code = cli.main(
        ["calibrate", "--model", str(folder), "--data", str(site / "data"),
         "--kb", str(site / "kb.json"), "--out", str(tmp_path / "out")]
    )  # fmt: skip
    assert code == 2 and "what it was trained on" in capsys.readouterr().err
