"""The module in a stand-in for Slicer's window: real MRML, real slice views, real worker process.

Run `pytest Testing/panel`. `--screenshots` writes the pictures of Resources/Screenshots anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "VelcroLink")]

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import slicer  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--screenshots", action="store_true", help="write Resources/Screenshots anew")


@pytest.fixture(scope="session")
def application(tmp_path_factory):
    """One host for all tests: there can be one QApplication in a process."""
    from host.application import Application

    made = Application(tmp_path_factory.mktemp("slicer"))
    yield made
    made.close()


@pytest.fixture
def slot_errors():
    """Exceptions in slots and observers end up here, as Qt and VTK do not raise them."""
    caught = []
    before = sys.excepthook
    sys.excepthook = lambda kind, value, trace: caught.append((kind, value, trace))
    yield caught
    sys.excepthook = before
    if caught:
        kind, value, trace = caught[0]
        raise value.with_traceback(trace)


@pytest.fixture
def worker_script(tmp_path, monkeypatch):
    script = tmp_path / "script.json"
    script.write_text("{}", "utf-8")
    monkeypatch.setenv("VELCROLINK_TEST_SCRIPT", str(script))
    monkeypatch.setenv("VELCROLINK_WORKER", str(HERE / "scripted_worker.py"))
    return script


@pytest.fixture
def driver(application, slot_errors, worker_script, monkeypatch):
    """The module, freshly loaded in an empty scene; afterwards nothing of it may be left."""
    from PySide6 import QtCore

    from driver import Driver, assert_gone
    from host import packaging

    packaging.reset()
    slicer.mrmlScene = application.scene
    QtCore.QSettings().clear()
    application.close_scene()
    application.reset_views()
    made = Driver(application, worker_script, slot_errors)
    application.process_events()
    yield made
    pid = made.client.processId
    application.unload_module("VelcroLink")
    application.close_scene()
    assert_gone(pid)
