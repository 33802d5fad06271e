"""What a user can get wrong with train, evaluate, export, calibrate, compare and ablate ends in one
line that says what to do, at once, and writes nothing."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from python_process import ENGINE
from tiny_cases import write_cases
from velcro_engine.commands import cli


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A data set that could be used, and much that cannot."""
    folder = tmp_path_factory.mktemp("site")
    write_cases(folder / "data")
    (folder / "empty").mkdir()
    (folder / "file").write_text("x", encoding="utf-8")
    (folder / "list.json").write_text("[1, 2]", encoding="utf-8")
    (folder / "text.json").write_text('"cake"', encoding="utf-8")
    (folder / "half.json").write_text('{"dev": [', encoding="utf-8")
    (folder / "strings.json").write_text('{"dev": "some", "train": "other"}', encoding="utf-8")
    (folder / "numbers.json").write_text('{"dev": 7, "train": 7}', encoding="utf-8")
    (folder / "absent.json").write_text('{"dev": ["no/where"], "train": []}', encoding="utf-8")
    (folder / "key.json").write_text('{"stepps": 3}', encoding="utf-8")
    (folder / "many.json").write_text('{"steps": "many"}', encoding="utf-8")
    (folder / "left.json").write_text('{"left_out": "putamen"}', encoding="utf-8")
    (folder / "minus.json").write_text('{"batch": -1}', encoding="utf-8")
    (folder / "reports.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{", encoding="utf-8")
    (broken / "state.json").write_text("{", encoding="utf-8")
    (broken / "metrics.json").write_text("{", encoding="utf-8")
    model = folder / "not a model"
    model.mkdir()
    (model / "config.json").write_text('{"schema_version": 1}', encoding="utf-8")
    for name in ("cut", "unlinked"):
        shutil.copytree(folder / "data" / "brains", folder / name / "brains")
    (folder / "cut" / "brains" / "one" / "image.nii.gz").write_bytes(b"cut")
    shutil.rmtree(folder / "cut" / "brains" / "two")
    table = {str(n): {"name": "x", "entity": None, "side": None} for n in range(1, 7)}
    (folder / "unlinked" / "brains" / "labels.json").write_text(json.dumps(table), encoding="utf-8")
    return folder


def said(arguments, site, tmp_path, monkeypatch, capsys) -> str:
    """The one line on stderr of a call that must end with exit code 2 and leave nothing."""
    monkeypatch.setenv("VELCROLINK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    filled = [argument.replace("{}", str(site)) for argument in arguments]
    try:
        code = cli.main(filled)
    except SystemExit as left:  # argparse
        code = left.code
    captured = capsys.readouterr()
    assert code == 2, captured.err
    progress = re.compile(r"\d+/\d+ ")
    lines = [line for line in captured.err.splitlines() if not progress.match(line)]
    assert len(lines) == 1, captured.err
    assert captured.out == "" and {p.name for p in tmp_path.iterdir()} <= {"home"}
    return lines[0]


DATA = ["--data", "{}/data"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*DATA, "--limit", "0"], "--limit: 0 is less than 1"),
        ([*DATA, "--limit", "-3"], "--limit: -3 is less than 1"),
        ([*DATA, "--limit", "few"], "--limit: 'few' is not a whole number"),
        ([*DATA, "--step-mm", "0"], "--step-mm: 0 does not lie between 0.5 and 500 mm"),
        ([*DATA, "--step-mm", "-4"], "--step-mm: -4 does not lie"),
        ([*DATA, "--step-mm", "nan"], "--step-mm: nan does not lie"),
        ([*DATA, "--step-mm", "1e999"], "--step-mm: 1e999 does not lie"),
        ([*DATA, "--step-mm", "wide"], "--step-mm: 'wide' is not a number"),
        (["--data", "{}/none"], "is not a folder of data sets; check --data"),
        (["--data", "{}/file"], "is not a folder of data sets; check --data"),
        (["--data", " "], "is not a folder of data sets; check --data"),
        (["--data", "{}/empty"], "No labelled case was found"),
        ([*DATA, "--splits", "{}/none.json"], "Cannot read split 'dev' of"),
        ([*DATA, "--splits", "{}/half.json"], "Cannot read split 'dev' of"),
        ([*DATA, "--splits", "{}/list.json"], "Cannot read split 'dev' of"),
        ([*DATA, "--splits", "{}/numbers.json"], "Cannot read split 'dev' of"),
        ([*DATA, "--splits", "{}/absent.json", "--split", "tset"], "Cannot read split 'tset' of"),
        ([*DATA, "--splits", "{}/absent.json"], "No labelled case was found"),
        ([*DATA, "--splits", "{}/strings.json"], "No labelled case was found"),
        ([*DATA, "--model", "{}/none"], "is not a model folder"),
        ([*DATA, "--model", "{}/not a model"], "not a model"),
        ([*DATA, "--kb", "{}/none.json"], "none.json"),
        ([*DATA, "--baseline", "clip-hole"], "There is no baseline 'clip-hole' for linking"),
        ([*DATA, "--baseline", "velcro", "--model", "{}/none"], "No trained baseline in"),
        ([*DATA, "--baseline", "velcro", "--task", "review"], "--baseline goes with --task"),
        ([*DATA, "--skull", "--task", "grounding"], "--skull goes with --task linking"),
        ([*DATA, "--task", "everything"], "invalid choice"),
        ([*DATA, "--task", "ober"], "is not a table of reports; check --data"),
        (["--data", "{}/reports.csv", "--task", "ober"], "reports.csv"),
        (["--data", "{}/reports.csv", "--task", "report-retrieval"], "reports.csv"),
        ([*DATA, "--out", "{}/file"], "is a file; give a folder"),
        *(
            (["--data", "{}/empty", "--task", task], "No labelled")
            for task in ("retrieval", "grounding", "review", "propagate")
        ),
        *(
            (["--data", f"{{}}/{name}", "--task", task], says)
            for task in ("retrieval", "grounding")
            for name, says in (("cut", "(brains/one: "), ("unlinked", "check --data and --kb"))
        ),
    ],
)
def test_evaluate_refuses(site, tmp_path, monkeypatch, capsys, arguments, says):
    line = said(["evaluate", "--out", "out", *arguments], site, tmp_path, monkeypatch, capsys)
    assert says in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "{}/none"], "is not a folder of data sets; check --data"),
        (["--data", "{}/file"], "is not a folder of data sets; check --data"),
        (["--data", ""], "is not a folder of data sets; check --data"),
        (["--data", "{}/empty"], "No labelled case was found"),
        ([*DATA, "--splits", "{}/none.json"], "Cannot read split 'train' of"),
        ([*DATA, "--steps", "0"], "--steps: 0 is less than 1"),
        ([*DATA, "--steps", "-10"], "--steps: -10 is less than 1"),
        ([*DATA, "--steps", "1.5"], "--steps: '1.5' is not a whole number"),
        ([*DATA, "--threads", "0"], "--threads: 0 is less than 1"),
        ([*DATA, "--workers", "-1"], "--workers: -1 is less than 0"),
        ([*DATA, "--recipe", "cake"], "There is no training recipe 'cake'"),
        ([*DATA, "--recipe", "{}/text.json"], "is not a training recipe"),
        ([*DATA, "--recipe", "{}/list.json"], "Cannot read the training recipe"),
        ([*DATA, "--recipe", "{}/half.json"], "Cannot read the training recipe"),
        ([*DATA, "--recipe", "{}/key.json"], "Cannot read the training recipe"),
        ([*DATA, "--recipe", "{}/many.json"], "needs a whole number of 1 or more as 'steps'"),
        ([*DATA, "--recipe", "{}/minus.json"], "needs a whole number of 1 or more as 'batch'"),
        ([*DATA, "--baseline", "clip-hole"], "invalid choice: 'clip-hole'"),
        ([*DATA, "--recipe", "{}/left.json"], "needs a list of entries as 'left_out'"),
        ([*DATA, "--leave-out", "putamen,cake"], "The knowledge base has no entry 'cake'"),
        ([*DATA, "--init", "nonsense"], "is neither a run of velcrolink train nor a model folder"),
        ([*DATA, "--init", ""], "is neither a run of velcrolink train nor a model folder"),
        ([*DATA, "--init", "{}/broken"], "holds no readable run of velcrolink train"),
        ([*DATA, "--init", "{}/not a model"], "not a model"),
        ([*DATA, "--baseline", "velcro", "--init", "nonsense"], "is neither a run of"),
        ([*DATA, "--baseline", "velcro", "--init", "{}/broken"], "holds no readable run of"),
        ([*DATA, "--text-model", "bundled"], "--text-model goes with --baseline"),
        ([*DATA, "--baseline", "velcro", "--text-model", "{}/none"], "is not a model folder"),
        ([*DATA, "--sam", "vit_b"], "names no file; give it as TYPE:FILE"),
        ([*DATA, "--sam", "vit_b:{}/none.pth"], "names no file"),
        ([*DATA, "--sam", "vit_x:{}/file"], "Unknown SAM type 'vit_x'"),
        ([*DATA, "--sam", ""], "names no file"),
        ([*DATA, "--sam", "vit_b:{}/file", "--init", "bundled"], "--sam goes without"),
        ([*DATA, "--device", "abacus"], "The device 'abacus' cannot be used here"),
        ([*DATA, "--out", "{}/file"], "is a file; give a folder"),
        ([*DATA, "--out", "{}/broken"], "holds no readable run of velcrolink train"),
    ],
)
def test_train_refuses(site, tmp_path, monkeypatch, capsys, arguments, says):
    line = said(["train", "--out", "out", *arguments], site, tmp_path, monkeypatch, capsys)
    assert says in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "{}/none"], "holds no readable run"),
        (["export", "{}/broken"], "holds no readable run"),
        (["export", "{}/broken", "--name", " "], "needs a name and a version"),
        (["export", "{}/broken", "--text-from", "{}/none"], "holds no text tower"),
        (["export", "{}/broken", "--out", "{}/file"], "is a file; give a folder"),
        (["compare", "{}/none", "--out", "{}/file"], "is a file; give a folder"),
        (
            ["ablate", "{}/none", *DATA, "--splits", "x", "--reports", "x"],
            "--reports and --dev-rep",
        ),
        (["ablate", "{}/none", "--data", "{}/none", "--splits", "x"], "check --data"),
        (["export", "{}/broken", "--text-steps", "-1"], "--text-steps: -1 is less than 0"),
        (["calibrate", "--model", "{}/none", *DATA], "is not a model folder"),
        (["calibrate", "--model", "bundled", "--data", "{}/none"], "check --data"),
        (["calibrate", "--model", "bundled", *DATA, "--out", "{}/file"], "is a file"),
        (["calibrate", "--model", "bundled", *DATA, "--limit", "0"], "--limit: 0 is less than 1"),
        (["calibrate", "--model", "bundled", *DATA, "--step-mm", "0"], "--step-mm: 0 does not"),
        (["compare", "{}/none"], "holds no linking metrics"),
        (["compare", "{}/broken", "{}/none"], "holds no linking metrics"),
        (["ablate", "{}/none", *DATA, "--splits", "{}/absent.json"], "holds no readable run"),
        (["ablate", "{}/none", *DATA, "--splits", "x", "--seeds", "0"], "--seeds: 0 is less"),
        (["ablate", "{}/none", *DATA], "required: --splits"),
    ],
)
def test_the_other_training_commands_refuse(site, tmp_path, monkeypatch, capsys, arguments, says):
    given = arguments if "--out" in arguments else [*arguments, "--out", "out"]
    line = said(given, site, tmp_path, monkeypatch, capsys)
    assert says in line


@pytest.mark.parametrize("command", ["train", "evaluate", "export"])
def test_without_torch_each_says_what_to_install(site, tmp_path, command):
    """In a process of its own in which torch cannot be imported."""
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from velcro_engine.commands import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    arguments = {
        "train": ["train", "--data", str(site / "data")],
        "evaluate": ["evaluate", "--data", str(site / "data"), "--baseline", "velcro"],
        "export": ["export", str(site / "broken")],
    }[command]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(ENGINE)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "velcrolink: error: 'torch' is not installed; "
        "install it with: pip install 'velcrolink[train]'\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [("cut", "brains/one' cannot be read"), ("unlinked", "shows a labelled structure")],
)
def test_train_names_the_case_or_the_table_that_cannot_be_used(site, tmp_path, capsys, name, says):
    out = tmp_path / "out"
    code = cli.main(["train", "--data", str(site / name), "--out", str(out), "--device", "cpu"])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and says in error
    assert not (out / "state.json").exists()
