"""Model folders: what is accepted, and how a damaged or foreign one is refused."""

import hashlib
import json

import pytest

from velcro_engine.errors import InputError, ModelError
from velcro_engine.model.folder import bundled_model_path, model_folder
from velcro_engine.model.opening import open_runtime
from velcro_engine.model.runtime import calibration_of


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    files = {}
    for role in ("encoder", "decoder", "text", "vocabulary"):
        content = f"not a real graph: {role}".encode()
        (path / f"{role}.bin").write_bytes(content)
        files[role] = {"name": f"{role}.bin", "sha256": hashlib.sha256(content).hexdigest()}
    config = {
        "schema_version": 1,
        "name": "test",
        "version": "3",
        "runtime": "onnx",
        "size": 224,
        "embedding": 256,
        "calibration": {"temperature": 0.05, "abstain_below": 0.3},
        "files": files,
    }
    return path, config


def written(folder, **changes):
    path, config = folder
    (path / "config.json").write_text(json.dumps(config | changes))
    return path


def test_a_checked_folder_gives_its_files_and_a_fingerprint(folder):
    found = model_folder(written(folder))
    assert found.name == "test 3" and found.files["encoder"].name == "encoder.bin"
    before = found.fingerprint
    path, config = folder
    (path / "text.bin").write_bytes(b"other")
    config["files"]["text"]["sha256"] = hashlib.sha256(b"other").hexdigest()
    assert model_folder(written(folder)).fingerprint != before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": 2}, "schema 2"),
        ({"schema_version": None}, "schema None"),
        ({"name": None}, "lacks 'name'"),
        ({"size": "224"}, "lacks 'size'"),
        ({"files": []}, "lacks 'files'"),
        ({"files": {"encoder": {"name": "encoder.bin"}}}, "without checksum"),
        ({"files": {"encoder": {"name": "../x", "sha256": "0"}}}, "outside itself"),
        ({"files": {"encoder": {"name": "gone.bin", "sha256": "0"}}}, "is missing"),
        ({"files": {"encoder": {"name": "encoder.bin", "sha256": "0"}}}, "checksum"),
    ],
)
def test_a_foreign_or_damaged_configuration_is_refused(folder, changes, says):
    with pytest.raises(ModelError, match=says) as caught:
        model_folder(written(folder, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000])
def test_a_configuration_that_is_no_json_object_is_refused(folder, text):
    path = folder[0]
    (path / "config.json").write_text(text)
    with pytest.raises(ModelError, match="damaged"):
        model_folder(path)


def test_a_folder_without_configuration_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        model_folder(tmp_path)


def test_an_unknown_runtime_is_refused(folder):
    with pytest.raises(ModelError, match="runtime 'abacus'"):
        open_runtime(written(folder, runtime="abacus"))


def test_a_changed_byte_in_the_weights_is_found(folder):
    path = written(folder)
    (path / "decoder.bin").write_bytes(b"not a real graph: decodeR")
    with pytest.raises(ModelError, match="checksum"):
        open_runtime(path)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0},
        {"temperature": "warm"},
        {"abstain_below": 2},
        {"unknown": 1},
        [1],
        {"temperature": None},
    ],
)
def test_an_impossible_calibration_is_refused(values):
    with pytest.raises(ModelError, match="calibration"):
        calibration_of({"calibration": values})


def test_a_missing_bundled_model_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("VELCROLINK_RESOURCES", str(tmp_path))
    with pytest.raises(InputError, match="missing"):
        bundled_model_path()
