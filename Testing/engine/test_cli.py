"""The command line as a user calls it. Bad input runs in real processes; good input runs with the
stand-in model here and with the bundled model in test_bundled_model.py."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk

from affines import matrix
from python_process import ENGINE, printed
from test_volume import noise, sitk_image, write_dicom_series
from velcro_engine.commands import cli
from velcro_engine.console.output_folder import output_folder
from velcro_engine.errors import InputError
from velcro_engine.knowledge_base import load_knowledge_base
from velcro_engine.linking import linker

AFFINE = matrix(np.diag([-1, -1, 1]), (1, 1, 2), (60, 50, -40))
pytestmark = pytest.mark.usefixtures("own_home")
FILES = {"result.json", "overlay.png", "mask.seg.nrrd", "report.html"}


def run(*arguments, timeout=120, **environment):
    return subprocess.run(
        [sys.executable, "-m", "velcro_engine.commands.cli", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ENGINE), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_link_writes_the_four_files(standin, head, tmp_path, capsys):
    out = tmp_path / "out"
    code = cli.main(
        ["link", str(head), "--plane", "axial", "--box", "10,-20,0,30,0,0", "--out", str(out)]
    )
    assert code == 0
    assert {p.name for p in out.iterdir()} == FILES
    result = json.loads((out / "result.json").read_text("utf-8"))
    assert result["entries"][0]["id"] == "hippocampus"
    assert set(result["entries"][0]) == {"id", "name", "side", "confidence"}
    for key in ("abstained", "attributes", "slice", "seconds", "model", "kb"):
        assert key in result
    assert result["slice"]["plane"] == "axial" and result["slice"]["spacing_mm"] == 1.0
    assert "Hippocampus" in capsys.readouterr().out
    segmentation = sitk.ReadImage(str(out / "mask.seg.nrrd"))
    image = sitk.ReadImage(str(head))
    assert segmentation.GetSize() == image.GetSize()
    assert np.allclose(segmentation.GetOrigin(), image.GetOrigin())
    mask = sitk.GetArrayFromImage(segmentation) > 0
    assert mask.any(axis=(1, 2)).sum() == 1  # one layer
    found = sitk.GetArrayFromImage(image)[mask]
    assert (found == 900).mean() > 0.8
    picture = sitk.ReadImage(str(out / "overlay.png"))
    assert picture.GetNumberOfComponentsPerPixel() == 3 and min(picture.GetSize()) >= 500


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_three_planes_find_the_same_structure(standin, head, tmp_path, plane):
    cli.main(
        [
            "link",
            str(head),
            "--plane",
            plane,
            "--box",
            "10,-20,-10,30,0,10",
            "--out",
            str(tmp_path / "o"),
        ]
    )
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "o" / "mask.seg.nrrd"))) > 0
    k, j, i = np.argwhere(mask).mean(axis=0)
    assert np.allclose((AFFINE @ [i, j, k, 1])[:3], [20, -10, 0], atol=1.5)


def test_a_markups_roi_a_box_a_point_and_a_matrix_agree(standin, head, tmp_path):
    roi = {
        "markups": [
            {
                "type": "ROI",
                "coordinateSystem": "LPS",
                "center": [-20, 10, 0],
                "orientation": [-1, 0, 0, 0, -1, 0, 0, 0, 1],
                "size": [22, 22, 4],
            }
        ]
    }
    (tmp_path / "roi.mrk.json").write_text(json.dumps(roi))
    slice_matrix = "-1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1"
    (tmp_path / "matrix.txt").write_text("[[-1 0 0 0]\n [0 1 0 0]\n [0 0 1 0]\n [0 0 0 1]]")
    masks = []
    for number, arguments in enumerate(
        (
            ["--plane", "axial", "--roi", str(tmp_path / "roi.mrk.json")],
            ["--plane", "axial", "--box", "9,-21,0,31,1,0"],
            ["--plane", "axial", "--point", "20,-10,0"],
            ["--plane", "axial", "--at", "0", "--point", "20,-10,7"],
            ["--slice-matrix", slice_matrix, "--point", "20,-10,0"],
            ["--slice-matrix", str(tmp_path / "matrix.txt"), "--point", "20,-10,0"],
        )
    ):
        out = tmp_path / f"out{number}"
        assert cli.main(["link", str(head), *arguments, "--out", str(out)]) == 0
        masks.append(sitk.GetArrayFromImage(sitk.ReadImage(str(out / "mask.seg.nrrd"))) > 0)
    assert masks[0].any() and all(np.array_equal(masks[0], mask) for mask in masks[1:])


def test_a_picture_takes_pixels_and_gets_no_side(standin, tmp_path):
    pixels = np.full((80, 100), 60, np.uint8)
    pixels[20:50, 30:70] = 220
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / "picture.png"))
    for number, arguments in enumerate((["--box", "29,19,71,51"], ["--point", "50,35"])):
        out = tmp_path / f"out{number}"
        assert cli.main(["link", str(tmp_path / "picture.png"), *arguments, "--out", str(out)]) == 0
        result = json.loads((out / "result.json").read_text("utf-8"))
        assert result["entries"][0]["side"] is None and result["slice"]["pixel_to_ras"] is None
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "mask.seg.nrrd")))[0]
        assert mask[25:45, 35:65].all() and mask.sum() < 1.3 * 30 * 40


def test_nothing_similar_is_said(standin, head, tmp_path, capsys):
    standin.calibration = type(standin.calibration)(0.05, 0.99999999)
    out = tmp_path / "out"
    cli.main(["link", str(head), "--plane", "axial", "--point", "20,-10,0", "--out", str(out)])
    assert "No entry matches; the nearest is" in capsys.readouterr().out
    assert json.loads((out / "result.json").read_text("utf-8"))["abstained"]
    assert "No entry matches" in (out / "report.html").read_text("utf-8")


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_the_report_is_self_contained_and_holds_picture_and_definition(standin, head, tmp_path):
    out = tmp_path / "out"
    odd = head.with_name("<img src=x onerror=alert(1)>.nii.gz")
    os.replace(head, odd)
    cli.main(["link", str(odd), "--plane", "axial", "--point", "20,-10,0", "--out", str(out)])
    text = (out / "report.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    tags = [tag for tag, _ in page.tags]
    assert "script" not in tags and "link" not in tags and "iframe" not in tags
    assert "img" not in tags  # the odd file name is text
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href") and tag != "a":
                assert value.startswith("data:image/png;base64,")
    assert load_knowledge_base().entry("hippocampus").definition[:40] in text
    assert re.search(r"<text[^>]*>Hippocampus, left</text>", text)
    assert "Not for clinical use" in text


def test_results_replace_older_ones_and_leave_other_files(standin, head, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "result.json").write_text("old")
    cli.main(["link", str(head), "--plane", "axial", "--point", "20,-10,0", "--out", str(out)])
    assert (out / "notes.txt").read_text() == "mine"
    assert json.loads((out / "result.json").read_text("utf-8"))["entries"]
    assert {p.name for p in tmp_path.iterdir() if p.name.startswith(".")} == set()


def test_a_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), output_folder(tmp_path / "out") as folder:
        (folder / "half.json").write_text("{")
        raise RuntimeError("in the middle")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError), output_folder(tmp_path / "file"):
        pass


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    good = sitk_image(noise((20, 30, 40)), AFFINE)
    for name in ("good.nii.gz", "good.nrrd", "good.mha", "good.seg.nrrd", "good.nii"):
        sitk.WriteImage(good, str(folder / name))
    flat = sitk.GetImageFromArray(noise((200, 200), np.uint8))
    for name in ("good.png", "good.jpg"):
        sitk.WriteImage(flat, str(folder / name))
    for name in ("good.nii.gz", "good.nrrd", "good.mha", "good.png", "good.jpg", "good.nii"):
        whole = (folder / name).read_bytes()
        (folder / name.replace("good", "cut")).write_bytes(whole[: len(whole) // 2])
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "text.nii.gz").write_text("no image")
    (folder / "huge.nrrd").write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 1000 1000 1000\nendian: little\n"
        b"encoding: raw\n\n" + bytes(100)
    )
    four = sitk.GetImageFromArray(noise((3, 4, 5, 6)), isVector=False)
    sitk.WriteImage(four, str(folder / "four.nii.gz"))
    write_dicom_series(folder / "two", "1.2.840.1")
    write_dicom_series(folder / "two", "1.2.840.2")
    (folder / "nothing").mkdir()
    (folder / "bad.mrk.json").write_text("{")
    (folder / "kb.json").write_text('{"schema_version": 99}')
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"schema_version": 99}')
    return folder


BOX = ["--plane", "axial", "--box", "50,40,-20,30,30,-20"]


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("missing.nii.gz", BOX, "does not exist"),
        ("empty.nii.gz", BOX, "is empty"),
        ("text.nii.gz", BOX, "not a NIfTI image"),
        ("cut.nii.gz", BOX, "cut short"),
        ("cut.nii", BOX, "cut short"),
        ("cut.nrrd", BOX, "cut short"),
        ("cut.mha", BOX, "cut short"),
        ("cut.png", ["--box", "1,1,9,9"], "cut short"),
        ("cut.jpg", ["--box", "1,1,9,9"], "cut short"),
        ("huge.nrrd", BOX, "1,000,000,000 voxels"),
        ("good.seg.nrrd", BOX, "is a segmentation"),
        ("four.nii.gz", BOX, "--frame 0..2"),
        ("four.nii.gz", [*BOX, "--frame", "7"], "frames 0..2"),
        ("two", BOX, "--series"),
        ("nothing", BOX, "holds no"),
        ("good.nrrd", ["--box", "1,2,3,4,5,6"], "--plane"),
        ("good.nrrd", ["--plane", "axial", "--box", "1,2,3"], "6 finite numbers"),
        ("good.nrrd", ["--plane", "axial", "--box", "1,2,3,4,5,x"], "needs numbers"),
        ("good.nrrd", ["--plane", "axial", "--point", "1,2,nan"], "finite"),
        (
            "good.nrrd",
            ["--plane", "axial", "--at", "900", "--point", "50,40,0"],
            "misses the volume",
        ),
        ("good.nrrd", ["--plane", "axial", "--point", "50,400,-20"], "outside the image"),
        ("good.nrrd", ["--plane", "axial", "--box", "50,400,-20,30,500,-20"], "outside the image"),
        ("good.nrrd", ["--plane", "axial", "--box", "50,40,-20,49.8,30,-20"], "thinner than one"),
        ("good.nrrd", ["--plane", "axial", "--box", "50,40,-20,50,30,-20"], "thinner than one"),
        ("good.nrrd", ["--slice-matrix", "1,2,3", "--point", "50,40,0"], "16 finite numbers"),
        ("good.nrrd", ["--slice-matrix", ",".join(["0"] * 16), "--point", "50,40,0"], "singular"),
        ("good.nrrd", ["--plane", "axial", "--roi", "{folder}/bad.mrk.json"], "markups"),
        ("good.nrrd", [*BOX, "--kb", "{folder}/kb.json"], "kb.json"),
        ("good.nrrd", [*BOX, "--kb", "{folder}/none.json"], "none.json"),
        ("good.nrrd", [*BOX, "--model", "{folder}/model"], "schema 99"),
        ("good.nrrd", [*BOX, "--model", "{folder}/nothing"], "not a model folder"),
        ("good.nrrd", [*BOX, "--top", "0"], "--top"),
        ("good.nrrd", ["--plane", "axial"], "required"),
        ("good.nrrd", ["--plane", "diagonal", "--point", "1,2,3"], "invalid choice"),
        ("good.png", ["--box", "300,300,400,400"], "outside the image"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_two_and_nothing_left_behind(
    bad_files, tmp_path, name, arguments, says
):
    filled = [argument.replace("{folder}", str(bad_files)) for argument in arguments]
    home = tmp_path / "home"
    done = run(
        "link", bad_files / name, *filled, "--out", tmp_path / "out", VELCROLINK_HOME=str(home)
    )
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and says in lines[0] and done.stdout == ""
    assert {p.name for p in tmp_path.iterdir()} <= {"home"}


def test_help_is_there_without_importing_anything_heavy():
    code = (
        "import sys; from velcro_engine.commands import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'SimpleITK', 'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    output = printed(code)
    assert output.strip().endswith("[]")
    for command in ("link", "demo", "worker", "kb", "train", "evaluate", "export"):
        assert command in output


@pytest.mark.parametrize("arguments", [[], ["teleport"], ["link"]])
def test_a_wrong_call_is_told_in_one_line(arguments):
    done = run(*arguments)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1


def test_a_missing_package_says_what_to_install(monkeypatch, capsys):
    def missing(module):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(cli.importlib, "import_module", missing)
    assert cli.main(["train"]) == 2
    assert "pip install 'velcrolink[train]'" in capsys.readouterr().err


def test_our_own_mistake_is_one_line_with_exit_code_one(monkeypatch, capsys, head, tmp_path):
    def broken(*arguments):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(linker, "open_runtime", broken)
    code = cli.main(
        ["link", str(head), "--plane", "axial", "--point", "1,2,3", "--out", str(tmp_path / "o")]
    )
    error = capsys.readouterr().err
    assert code == 1 and len(error.strip().splitlines()) == 1 and "ZeroDivisionError" in error
    assert not (tmp_path / "o").exists()


def test_the_demo_links_five_regions_of_the_template(standin, tmp_path, capsys):
    assert cli.main(["demo", "--out", str(tmp_path / "demo")]) == 0
    output = capsys.readouterr().out
    assert f"Page: {tmp_path / 'demo' / 'index.html'}" in output
    assert len(json.loads((tmp_path / "demo" / "results.json").read_text("utf-8"))) == 5
    assert (tmp_path / "demo" / "index.html").read_text("utf-8").count("<svg ") == 5


@pytest.mark.parametrize("empty", ["image", "out"])
def test_an_empty_name_does_not_mean_the_current_folder(head, tmp_path, monkeypatch, capsys, empty):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    volume, out = ("", "o") if empty == "image" else (str(head), "")
    code = cli.main(["link", volume, "--plane", "axial", "--point", "1,2,3", "--out", out])
    assert code == 2 and "is empty; give" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", [["list"], ["check"], ["remove", "--case", "x"]])
def test_a_mistyped_case_library_is_not_made(tmp_path, capsys, command):
    library = tmp_path / "typo.sqlite3"
    assert cli.main(["cases", *command, "--library", str(library)]) == 2
    assert "does not exist" in capsys.readouterr().err and not library.exists()


def test_an_import_that_fails_leaves_no_case_library(tmp_path, capsys):
    table = tmp_path / "reports.csv"
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    library = tmp_path / "new.sqlite3"
    assert cli.main(["cases", "import", str(table), "--library", str(library)]) == 2
    assert not list(tmp_path.glob("new.sqlite3*"))
