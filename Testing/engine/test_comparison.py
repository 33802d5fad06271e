"""Several evaluations in one table."""

import csv
import json
from pathlib import Path

import pytest

from velcro_engine.commands import cli
from velcro_engine.training.measuring.comparison import (
    lead,
    paired_lead,
    read_metrics,
    table_rows,
)


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


def with_rows(folder, answers):
    """rows.csv of one sample a case, answered as told."""
    columns = ("case", "channel", "plane", "position_mm", "entity", "side", "is_picture", "prompt")
    lines = [",".join((*columns, "ranked"))]
    for case, answer in answers.items():
        lines.append(f"{case},image,axial,1.0,liver,,False,gold,{answer} aorta")
    (Path(folder) / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(folder)


def test_the_lead_has_a_paired_interval(tmp_path, capsys):
    cases = [f"set/{n}" for n in range(20)]
    first = with_rows(
        evaluation(tmp_path / "a", "velcro", 0.9),
        {c: "liver" if n else "spleen" for n, c in enumerate(cases)},
    )
    other = with_rows(
        evaluation(tmp_path / "b", "clip-crop", 0.5),
        {c: "spleen" if n % 2 else "liver" for n, c in enumerate(cases)},
    )
    low, high = paired_lead(first, other, "headline", "gold")
    assert 10 < low < 45 < high < 80
    assert paired_lead(first, other, "lesion", "gold") is None
    command = ["compare", str(first), str(other), "--out", str(tmp_path / "out")]
    assert cli.main(command) == 0
    told = capsys.readouterr().out
    assert f"+40.0 points (95 %: {low:+.1f} to {high:+.1f}, paired)" in told
    (other / "rows.csv").write_text("nonsense\n1\n", encoding="utf-8")
    assert cli.main([*command[:-1], str(tmp_path / "out2")]) == 2
    assert "evaluate again" in capsys.readouterr().err


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


@pytest.mark.parametrize("damage", ["no interval", "text", "no model"])
def test_metrics_damaged_by_hand_are_told(tmp_path, capsys, damage):
    folder = Path(evaluation(tmp_path / "a", "velcro", 0.9))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if damage == "no interval":
        del metrics["groups"]["fine"]["point"]["top1_ci"]
    elif damage == "text":
        metrics["groups"]["headline"]["gold"]["top1"] = "most"
    else:
        del metrics["model"]
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert cli.main(["compare", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "holds no linking metrics" in capsys.readouterr().err
