"""Several evaluations in one table."""

import csv
import json
from pathlib import Path

import pytest

from velcro_engine import cli
from velcro_engine.training.comparison import lead, read_metrics, table_rows


def evaluation(folder, model, top1, training=None, task="linking"):
    values = {
        "n": 10, "top1": top1, "top1_ci": [top1 - 0.05, top1 + 0.05], "top3": 0.9, "macro": 0.5,
        "side": None, "dice": None, "ece": 0.02, "auroc": 0.8,
    }  # fmt: skip
    folder.mkdir(parents=True)
    prompts = {"gold": values, "loose": values, "point": values}
    metrics = {
        "task": task,
        "model": model,
        "groups": {"headline": prompts, "fine": prompts},
        "training": training or {},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return str(folder)


def test_compare_writes_table_figure_and_page_and_says_the_lead(tmp_path, capsys):
    folders = [
        evaluation(tmp_path / "a", "velcro", 0.9, {"steps": 8000}),
        evaluation(tmp_path / "b", "clip-crop", 0.5, {"steps": 400, "processor_minutes": 3.5}),
        evaluation(tmp_path / "c", "box-prior <x>", 0.6),
    ]
    assert cli.main(["compare", *folders, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "headline, gold boxes: +30.0 points to the best other, box-prior" in told
    assert "steps 400, processor_minutes 3.5" in told and "budget unknown" in told
    out = tmp_path / "out"
    rows = list(csv.DictReader((out / "comparison.csv").open(encoding="utf-8")))
    assert len(rows) == 3 * 2 * 3 and rows[0]["model"] == "velcro" and rows[0]["steps"] == "8000"
    page = (out / "index.html").read_text("utf-8")
    assert "box-prior &lt;x&gt;" in page and page.count("data:image/png") == 3
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_groups_that_a_model_lacks_are_left_out(tmp_path):
    made = read_metrics(Path(evaluation(tmp_path / "a", "velcro", 0.9)))
    assert {row["group"] for row in table_rows([made])} == {"headline", "fine"}
    assert lead([made], "headline", "gold") is None
    assert lead([made, made], "lesion", "gold") is None


@pytest.mark.parametrize("task", ["retrieval", None])
def test_folders_without_linking_metrics_are_told(tmp_path, capsys, task):
    folder = tmp_path / "a"
    if task:
        evaluation(folder, "velcro", 0.9, task=task)
    assert cli.main(["compare", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "holds no linking metrics" in capsys.readouterr().err
