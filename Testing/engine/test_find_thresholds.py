"""From which score on a phrase counts as found: fitted on training cases, read from the model."""

import json
from types import SimpleNamespace

import pytest

from velcro_engine.commands import cli
from velcro_engine.errors import ModelError
from velcro_engine.finding.grounding import PRESENT_ABOVE, threshold_of
from velcro_engine.finding.phrases import Phrase
from velcro_engine.model.onnx_runtime import _thresholds
from velcro_engine.training.measuring import find_thresholds
from velcro_engine.training.measuring.find_thresholds import (
    LEAST_PHRASES,
    SLACK,
    fit_thresholds,
)
from velcro_engine.training.measuring.grounding_evaluation import Row


def rows(entity, scores, kind="present"):
    return [Row("set/1", entity, entity, False, kind, score, True) for score in scores]


def test_an_entity_whose_regions_score_high_has_a_threshold_of_its_own():
    usual = [0.7] * (LEAST_PHRASES - 1) + [0.6, 0.8]
    fitted = fit_thresholds(
        rows("posterior_hippocampus", usual)
        + rows("posterior_hippocampus", [0.1] * 50, "near")  # absent phrases tell nothing of it
        + rows("liver", [0.9] * (LEAST_PHRASES - 1))  # too few
        + rows("glioma", [0.1] * LEAST_PHRASES)  # the common threshold is higher already
    )
    assert fitted == {"posterior_hippocampus": pytest.approx(SLACK * 0.7, abs=0.01)}


def test_the_phrases_entry_decides_which_threshold_counts():
    runtime = SimpleNamespace(present_above={"posterior_hippocampus": 0.5})
    own = Phrase("tail", "tail", None, ("posterior_hippocampus",))
    other = Phrase("hippocampus", "hippocampus", None, ("hippocampus", "posterior_hippocampus"))
    unknown = Phrase("zzz", "zzz", None, ())
    assert threshold_of(runtime, own) == 0.5
    assert threshold_of(runtime, other) == threshold_of(runtime, unknown) == PRESENT_ABOVE
    assert threshold_of(SimpleNamespace(), own) == PRESENT_ABOVE


@pytest.mark.parametrize("bad", [[0.5], {"liver": "much"}, {"liver": 2}, {"liver": None}])
def test_damaged_thresholds_are_refused(bad):
    assert _thresholds({}) == {} and _thresholds({"present_above": {"liver": 0.3}})
    with pytest.raises(ModelError, match="damaged"):
        _thresholds({"present_above": bad})


def test_calibrate_find_writes_them_into_the_model(tmp_path, monkeypatch, capsys):
    written = {}
    folder = SimpleNamespace(path=tmp_path, name="m 1", config={"size": 224, "files": {"a": 1}})
    measured = rows("posterior_hippocampus", [0.7] * LEAST_PHRASES)
    monkeypatch.setattr(find_thresholds, "model_folder", lambda model: folder)
    monkeypatch.setattr(find_thresholds, "open_linker", lambda *a, **k: None)
    monkeypatch.setattr(find_thresholds, "query_keys", lambda args: ["set/1"])
    monkeypatch.setattr(find_thresholds, "measured_phrases", lambda *a: measured)
    monkeypatch.setattr(
        find_thresholds, "write_config", lambda path, config: written.update(config)
    )
    command = ["calibrate", "--find", "--model", "m", "--data", str(tmp_path), "--out"]
    assert cli.main([*command, str(tmp_path / "told"), "--report-only"]) == 0 and not written
    assert cli.main([*command, str(tmp_path / "out")]) == 0
    assert written == {"size": 224, "present_above": {"posterior_hippocampus": 0.651}}
    assert "posterior_hippocampus: 0.651" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "find.json").read_text("utf-8"))
    assert told["present_above"] == {"posterior_hippocampus": 0.651}
