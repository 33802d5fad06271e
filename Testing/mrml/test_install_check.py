"""The panel knows what is missing, says what would be installed, and installs only when told."""

from __future__ import annotations

import importlib.machinery
import subprocess
import sys
import types

import pytest
import slicer

from velcro_engine.errors import InputError
from VelcroLinkLib.engine.install_check import REQUIREMENTS, checkInstall, install


@pytest.fixture
def requirements(tmp_path):
    """requirements(text) -> path of a requirements file."""

    def write(text):
        path = tmp_path / "requirements.txt"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def packaging(monkeypatch):
    """Stands in for slicer.packaging, which slicer-core lacks; keeps the calls."""
    module = types.ModuleType("slicer.packaging")
    module.__spec__ = importlib.machinery.ModuleSpec("slicer.packaging", None)
    module.calls = []

    def pip_install(arguments, **options):
        module.calls.append((arguments, options))
        module.finish = options["completedCallback"]

    module.pip_install = pip_install
    monkeypatch.setitem(sys.modules, "slicer.packaging", module)
    monkeypatch.setattr(slicer, "packaging", module, raising=False)
    return module


def test_bundled_requirements_never_ask_for_torch():
    lines = [line.split("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    names = [line.split(">")[0].strip() for line in lines if line]
    assert names == ["onnxruntime"]


def test_installed_package_is_found_without_importing_it(requirements):
    before = set(sys.modules)
    state = checkInstall(requirements("numpy>=1.20\nonnxruntime>=1.0  # comment\n--pre\n\n"))
    assert state.installed and state.buttonText == "" and state.downloadMb == 0
    assert state.versions["numpy"]
    assert "onnxruntime" not in set(sys.modules) - before


@pytest.mark.parametrize("line", ["no-such-package-anywhere>=1.0", "numpy>=99.0"])
def test_missing_or_old_package_is_named_with_its_size(requirements, line):
    state = checkInstall(requirements(f"{line}\n"))
    assert state.missing == (line,) and not state.installed
    assert line in state.buttonText and "MB" in state.buttonText
    assert line in state.explanation
    assert "pip download" in state.offlineInstructions
    assert state.requirementsPath in state.offlineInstructions


def test_onnxruntime_for_graphics_processors_counts_as_onnxruntime(requirements, monkeypatch):
    import importlib.metadata

    def version(name):
        if name != "onnxruntime-gpu":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.23.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert checkInstall(requirements("onnxruntime>=1.20\n")).installed
    assert not checkInstall(requirements("onnxruntime>=1.24\n")).installed


def test_missing_requirements_file_says_to_reinstall(tmp_path):
    with pytest.raises(InputError, match="again"):
        checkInstall(tmp_path / "none.txt")


def test_install_does_not_block_and_reports_the_end(requirements, packaging):
    state = checkInstall(requirements("no-such-package-anywhere>=1.0\n"))
    done = []
    install(state, lambda *end: done.append(end))
    arguments, options = packaging.calls[0]
    assert arguments == ["--only-binary", ":all:", "no-such-package-anywhere>=1.0"]
    assert options["blocking"] is False and done == []
    packaging.finish(1)
    after, message = done[0]
    assert not after.installed and "internet" in message


def test_install_that_worked_has_no_message(requirements, packaging):
    path = requirements("no-such-package-anywhere\n")
    done = []
    install(checkInstall(path), lambda *end: done.append(end))
    path.write_text("numpy\n")  # what pip would have changed
    packaging.finish(0)
    assert done[0][0].installed and done[0][1] == ""


def test_install_from_a_folder_uses_no_network(requirements, packaging, tmp_path):
    state = checkInstall(requirements("no-such-package>=1.0\n"))
    with pytest.raises(InputError, match="not a folder"):
        install(state, print, wheelFolder=tmp_path / "missing")
    with pytest.raises(InputError, match="no wheel"):
        install(state, print, wheelFolder=tmp_path)
    wheel = tmp_path / "no_such_package-1.0-py3-none-any.whl"
    wheel.write_bytes(b"")
    done = []
    install(state, lambda *end: done.append(end), wheelFolder=tmp_path)
    arguments, _ = packaging.calls[0]
    assert arguments[2:5] == ["--no-index", "--find-links", str(tmp_path)]
    packaging.finish(1)
    assert "wheels must be for" in done[0][1]


def test_an_installation_that_slicer_runs_at_once_is_reported_too(requirements, packaging):
    """As with --testing: pip has ended when pip_install returns, and nobody is called."""
    packaging.isPipInstallInProgress = lambda: False
    path = requirements("no-such-package-anywhere\n")
    done = []
    install(checkInstall(path), lambda *end: done.append(end))
    assert "internet" in done[0][1] and len(done) == 1


def test_second_install_at_the_same_time_waits(requirements, packaging, monkeypatch):
    def busy(*_arguments, **_options):
        raise RuntimeError("A non-blocking pip_install is already in progress.")

    monkeypatch.setattr(packaging, "pip_install", busy)
    done = []
    install(checkInstall(requirements("no-such-package\n")), lambda *end: done.append(end))
    assert "Try again" in done[0][1]


def test_slicer_without_packaging_installs_through_util(requirements, monkeypatch):
    import slicer.util

    calls = []

    def pip_install(arguments):
        calls.append(arguments)
        raise subprocess.CalledProcessError(2, "pip")

    monkeypatch.setattr(slicer.util, "pip_install", pip_install, raising=False)
    done = []
    install(checkInstall(requirements("no-such-package\n")), lambda *end: done.append(end))
    assert calls and "pip exit 2" in done[0][1]
