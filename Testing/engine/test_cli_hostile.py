"""Odd names, odd numbers, interruptions and broken disks: one clear line, exit code 2 (130 when
interrupted), and nothing half-written."""

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from affines import matrix
from python_process import ENGINE
from test_volume import sitk_image
from test_worker import wait_for
from tiny_cases import write_cases
from velcro_engine.cases import CaseLibrary
from velcro_engine.commands import cli
from velcro_engine.console import output_folder
from velcro_engine.linking import linker
from velcro_engine.training.data import labelled_folder as labelled

AFFINE = matrix(np.diag([-1, -1, 1]), (1, 1, 2), (60, 50, -40))
POINT = ["--plane", "axial", "--point", "20,-10,0"]

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refused(capsys, *arguments) -> str:
    """The one line of a call that ends with exit code 2 and prints nothing else."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as left:
        code = left.code
    captured = capsys.readouterr()
    assert code == 2, captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""
    return captured.err


@pytest.mark.parametrize("name", ["köpf ä 脳.nii.gz", "a b/my head.nii.gz", "-head.nii.gz"])
def test_names_may_have_accents_spaces_and_a_minus(standin, head, here, name):
    target = here / name
    target.parent.mkdir(exist_ok=True)
    os.replace(head, target)
    volume = name if not name.startswith("-") else f"./{name}"
    assert cli.main(["link", volume, *POINT, "--out", "aus gang ü"]) == 0
    assert len(list((here / "aus gang ü").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--plane", "axial", "--box", "1e308,1e308,1e308,-1e308,-1e308,-1e308"], "not a finite"),
        (["--plane", "axial", "--point", "0,0,0", "--at", "1e308"], "at 1e+308 mm misses"),
        (["--slice-matrix", ",".join(["1e308"] * 16), "--point", "0,0,0"], "too large"),
        (["--slice-matrix", "1,0,0,0,0,1,0,0,0,0,1,1e308,0,0,0,1", "--point", "0,0,0"], "misses"),
        ([*POINT, "--series", "1.2.3"], "--series chooses among those of a DICOM folder"),
        ([*POINT, "--frame", "9" * 30], "has frames 0..0"),
        ([*POINT, "--model", "x" * 5000], "name too long"),
    ],
)
def test_numbers_and_names_without_measure_are_refused(head, here, capsys, arguments, says):
    line = refused(capsys, "link", head, *arguments, "--out", "out")
    assert says in line and len(line) < 400 and not list(here.iterdir())


@pytest.mark.parametrize("option", ["volume", "--out"])
def test_a_name_that_the_disk_refuses_is_named(head, here, capsys, option):
    long = "x" * 300
    volume, out = (long, "out") if option == "volume" else (head, long)
    line = refused(capsys, "link", volume, *POINT, "--out", out)
    assert "File name too long; check the path" in line and not list(here.iterdir())


def test_grey_values_beyond_float32_are_refused(here, capsys):
    array = np.random.default_rng(1).normal(size=(6, 30, 30)) * 1e300
    sitk.WriteImage(sitk_image(array, AFFINE), "huge.nrrd")
    line = refused(capsys, "link", "huge.nrrd", *POINT, "--out", "out")
    assert "numbers beyond 3e38" in line


def test_warnings_of_numpy_do_not_join_the_one_line(head, here, capsys, monkeypatch):
    def warning(*arguments):
        warnings.warn("overflow encountered", RuntimeWarning, stacklevel=1)
        raise MemoryError

    monkeypatch.setattr(linker, "open_runtime", warning)
    line = refused(capsys, "link", head, *POINT, "--out", "out")
    assert "not enough memory" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cases", "remove", "--item", "9" * 25], "The library has no item 999"),
        (["cases", "show", "9" * 25], "The library has no item 999"),
        (["cases", "list", "--library", "http://[::1"], "is not a server's address"),
        (["cases", "check", "--library", "http://127.0.0.1:1"], "are for library files"),
        (["cases", "rescue", "--library", "http://127.0.0.1:1", "--out", "o"], "are for library"),
        (["report", "entities", "reports.csv", "--out", ""], "is empty; give --out DIR"),
        (["report", "draft", "a.nrrd", *POINT, "--out", "o", "--llm", ""], "is not an address"),
    ],
)
def test_odd_libraries_servers_and_folders(here, capsys, arguments, says):
    with CaseLibrary():
        pass  # the user has one, with nothing in it
    (here / "reports.csv").write_text("findings\nSmall pleural effusion.\n", encoding="utf-8")
    assert says in refused(capsys, *arguments)
    assert [path.name for path in here.iterdir()] == ["reports.csv"]


def test_a_full_disk_leaves_the_earlier_results(standin, head, here, capsys, monkeypatch):
    out = here / "out"
    out.mkdir()
    (out / "result.json").write_text("old", encoding="utf-8")

    def full(self, *arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    line = refused(capsys, "link", head, *POINT, "--out", out)
    assert "cannot be written; check the disk" in line
    assert [path.name for path in here.iterdir()] == ["out"]
    assert (out / "result.json").read_text("utf-8") == "old" and len(list(out.iterdir())) == 1


def test_a_folder_that_may_not_be_written_is_told_before_the_work(head, here, capsys, monkeypatch):
    (here / "locked").mkdir()
    real = os.access
    monkeypatch.setattr(
        output_folder.os,
        "access",
        lambda path, mode: "locked" not in str(path) and real(path, mode),
    )
    line = refused(capsys, "link", head, *POINT, "--out", here / "locked" / "out")
    assert "cannot be written" in line


def test_an_output_folder_needs_only_itself_to_be_writable(tmp_path, monkeypatch):
    """A mounted folder whose parent belongs to the system."""
    out = tmp_path / "out"
    out.mkdir()
    real = output_folder.tempfile.mkdtemp

    def mkdtemp(prefix, dir):
        if Path(dir) == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(dir))
        return real(prefix=prefix, dir=dir)

    monkeypatch.setattr(output_folder.tempfile, "mkdtemp", mkdtemp)
    with output_folder.output_folder(out) as folder:
        (folder / "new.txt").write_text("new", encoding="utf-8")
    assert [path.name for path in out.iterdir()] == ["new.txt"]


def test_an_interrupted_link_leaves_nothing(standin, head, here, capsys, monkeypatch):
    def interrupted(model_input):
        raise KeyboardInterrupt

    monkeypatch.setattr(standin, "encode", interrupted)
    assert cli.main(["link", str(head), *POINT, "--out", "out"]) == 130
    assert capsys.readouterr().err == "velcrolink: error: interrupted\n"
    assert not list(here.iterdir())


@pytest.mark.parametrize("after", [0, 1])
def test_an_interrupted_import_keeps_whole_cases_or_makes_no_library(
    standin, here, capsys, monkeypatch, after
):
    data = write_cases(here / "data")
    done = []

    def items(of_linker, folder, key, case, step_mm):
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(key)
        return [*real(of_linker, folder, key, case, step_mm)]

    real = labelled.case_items
    monkeypatch.setattr(labelled, "case_items", items)
    library = here / "new.sqlite3"
    code = cli.main(["cases", "import", str(data), "--library", str(library), "--step-mm", "40"])
    assert code == 130 and capsys.readouterr().err.endswith("velcrolink: error: interrupted\n")
    assert library.exists() == bool(after)
    if after:
        with CaseLibrary(library) as kept:
            kept.check()
            assert list(kept.cases()) == ["case-1"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_in_a_real_process_is_one_line(here):
    """Interrupted while it waits for its input, once the command runs."""
    pipe, told = here / "reports.csv", here / "told"
    os.mkfifo(pipe)
    code = (
        "import sys, pathlib; from velcro_engine.commands import cli, report as report_command\n"
        "read = report_command.read_report_file\n"
        "def reading(path):\n"
        "    pathlib.Path('told').touch()\n"
        "    return read(path)\n"
        "report_command.read_report_file = reading\n"
        "sys.exit(cli.main(['report', 'entities', 'reports.csv', '--out', 'out']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ENGINE)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(told.exists)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "velcrolink: error: interrupted\n"
    assert process.returncode == 130 and not (here / "out").exists()


def test_results_are_json_that_any_reader_takes(standin, head, here):
    """No NaN or Infinity, which JSON does not know."""
    cli.main(["link", str(head), *POINT, "--out", "out", "--top", "9" * 20])

    def unknown(name):
        raise AssertionError(name)

    json.loads((here / "out" / "result.json").read_text("utf-8"), parse_constant=unknown)
