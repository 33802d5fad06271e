"""A slice or volume of one grey value is refused by name: a model asked about nothing would name
something all the same."""

import numpy as np
import pytest
import SimpleITK as sitk

from affines import matrix
from test_volume import sitk_image
from test_worker import Client, link_frame, question
from velcro_engine.commands import cli
from velcro_engine.errors import InputError
from velcro_engine.messages.request import SliceRequest, require_contrast

AFFINE = matrix(np.diag([-1, -1, 1]), (1, 1, 2), (60, 50, -40))
SLICE = ["--plane", "axial", "--point", "20,-10,0"]


@pytest.fixture
def blank(tmp_path, monkeypatch):
    monkeypatch.setenv("VELCROLINK_HOME", str(tmp_path / "home"))
    array = np.full((40, 110, 120), 7, np.int16)
    sitk.WriteImage(sitk_image(array, AFFINE), str(tmp_path / "blank.nii.gz"))
    sitk.WriteImage(
        sitk.GetImageFromArray(np.full((80, 90), 255, np.uint8)), str(tmp_path / "blank.png")
    )
    labels = np.zeros((40, 110, 120), np.uint8)
    labels[10:20, 40:60, 40:60] = 1
    sitk.WriteImage(sitk_image(labels, AFFINE), str(tmp_path / "labels.nii.gz"))
    array[10] = 9  # one layer away from the one that is asked about
    sitk.WriteImage(sitk_image(array, AFFINE), str(tmp_path / "layer.nii.gz"))
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["link", "blank.nii.gz", *SLICE, "--out", "out"],
        ["link", "layer.nii.gz", *SLICE, "--out", "out"],
        ["link", "blank.png", "--box", "10,10,40,40", "--out", "out"],
        ["link", "blank.nii.gz", "--plane", "coronal", "--box", "0,0,-9,20,0,9", "--out", "out"],
        ["propagate", "blank.nii.gz", *SLICE, "--out", "out"],
        ["ground", "blank.nii.gz", "--plane", "axial", "--phrase", "liver", "--out", "out"],
        ["review", "blank.nii.gz", "labels.nii.gz", "--out", "out"],
        ["report", "draft", "blank.nii.gz", *SLICE, "--out", "out"],
        ["cases", "add", "blank.nii.gz", *SLICE, "--case", "a", "--library", "out"],
        ["kb", "example", "liver", "blank.nii.gz", *SLICE],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_every_command_says_that_a_blank_image_has_one_grey_value(
    blank, monkeypatch, capsys, arguments
):
    monkeypatch.chdir(blank)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert "has one grey value only; " in captured.err and captured.err.count("\n") == 1
    assert captured.out == "" and not (blank / "out").exists()


def test_the_worker_refuses_a_blank_slice_and_goes_on(tmp_path):
    client = Client(tmp_path)
    empty = SliceRequest(np.full((60, 70), 30, np.uint8), box=(5, 5, 30, 30))
    header, payload = empty.to_message()
    volume = {
        "id": "a",
        "shape": [4, 60, 70],
        "dtype": "int16",
        "ijk_to_ras": np.eye(4).tolist(),
    }
    voxels = np.full((4, 60, 70), -5, "<i2").tobytes()
    asked = [
        ({"type": "link", "request": header}, payload),
        ({"type": "example", "entry_id": "liver", "request": header}, payload),
        ({"type": "ground", "phrase": "liver", "request": header}, payload),
        (
            {
                "type": "propagate",
                "volume": volume,
                "plane": "axial",
                "index": 1,
                "box": [5, 5, 30, 30],
            },
            voxels,
        ),
        ({"type": "review", "volume": volume, "segmentation": {}}, voxels),
    ]
    for number, (message, data) in enumerate(asked):
        client.send({**message, "id": number}, data)
        answer, _ = client.answer(number)
        assert answer["type"] == "error" and answer["kind"] == "input", answer
        assert "has one grey value only" in answer["message"]
    client.send(*link_frame(99, question()))
    assert client.answer(99)[0]["type"] == "linked"
    client.close()


def test_one_pixel_of_another_grey_is_contrast():
    grey = np.full((3, 3), 5)
    with pytest.raises(InputError, match="slice has one grey value"):
        require_contrast(grey)
    grey[1, 1] = 6
    require_contrast(grey)
