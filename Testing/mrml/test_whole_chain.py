"""RoI in a slice view -> request -> the real worker process -> mask -> segment in the scene.

The worker is the real one. Its model is the engine tests' stand-in, except where a test says that
it needs the bundled model.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from vtk.util.numpy_support import vtk_to_numpy

import mrml_scene as ms
from test_engine_client import Panel, untilGone
from velcro_engine.resources import resource_path
from VelcroLinkLib.engine.client import EngineClient, EngineState
from VelcroLinkLib.scene.results_table import results
from VelcroLinkLib.scene.segmentation_result import (
    PREVIEW_SEGMENT_ID,
    acceptPreview,
    segmentationForVolume,
    showPreview,
)
from VelcroLinkLib.scene.slice_request import SliceRequestBuilder
from VelcroLinkLib.scene.volume_geometry import volumeFingerprint

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = str(ROOT / "Testing" / "engine" / "standin_worker.py")
SHAPE = (64, 60, 40)
CENTRE = [3.0, -5.0, 7.0]


@pytest.fixture
def volume(scene, rng):
    k, j, i = np.indices(tuple(reversed(SHAPE)))
    ball = ((i - 31.5) ** 2 + (j - 29.5) ** 2 + (k - 19.5) ** 2) < 20**2
    array = (ball * 300 + rng.integers(0, 60, ball.shape)).astype(np.int16)
    matrix = ms.ijkToRas(ms.rotation("R", 15) @ np.diag([-1, -1, 1]), (1, 1, 1.4), SHAPE)
    return ms.addVolume(scene, array, matrix, "T1")


@pytest.fixture
def makePanel(volume):
    """makePanel(arguments of python, environment) -> Panel with a worker of its own."""
    panels = []

    def make(arguments, variables=None, loadOptions=None):
        path = os.pathsep.join([str(ROOT / "VelcroLink"), str(ROOT / "Testing" / "engine")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1", **(variables or {})}
        client = EngineClient(
            [sys.executable, "-u", *arguments],
            environment,
            loadOptions,
            isCurrent=lambda placed: placed.fingerprint == volumeFingerprint(volume),
        )
        panels.append(Panel(client))
        client.start()
        return panels[-1]

    yield make
    for panel in panels:
        pid = panel.client.processId
        panel.client.stop()
        if pid is not None:
            untilGone(pid)


def question(scene, sliceNode, volume, shift=0.0, size=18.0):
    ms.setView(sliceNode, ms.viewDirections("coronal"), CENTRE)
    roi = ms.addRoi(scene, np.add(CENTRE, [shift, 0, 0]), [size, 4, size])
    return SliceRequestBuilder().fromRoi(sliceNode, volume, roi)


def test_drawn_region_becomes_a_coded_segment(scene, sliceNode, volume, makePanel):
    panel = makePanel([STAND_IN])
    panel.untilState(EngineState.READY)
    placed = question(scene, sliceNode, volume)
    panel.client.link(placed)
    panel.until(lambda: panel.linked or panel.failed)
    result, asked = panel.linked[0]
    assert asked is placed and result.entries and result.slice_id == placed.request.slice_id
    showPreview(volume, placed, result)
    assert ms.segmentArray(segmentationForVolume(volume), PREVIEW_SEGMENT_ID, SHAPE).any()

    entries = []
    panel.client.ask(
        "entry",
        {"entry_id": result.entries[0].id},
        onAnswer=lambda header, payload: entries.append(header["entry"]),
    )
    panel.until(lambda: entries)
    segmentId = acceptPreview(volume, entries[0], result.entries[0].side, placed, result)
    segment = segmentationForVolume(volume).GetSegmentation().GetSegment(segmentId)
    assert segment.GetTerminology().count("~") == 6
    assert results(scene)[0]["entry_id"] == result.entries[0].id


def test_volume_that_changes_while_linking_gets_no_stale_mask(scene, sliceNode, volume, makePanel):
    panel = makePanel([STAND_IN], {"STANDIN_ENCODE_SECONDS": "0.3"})
    panel.untilState(EngineState.READY)
    panel.client.link(question(scene, sliceNode, volume))
    volume.GetImageData().Modified()
    panel.until(lambda: panel.dropped)
    assert not panel.linked


def test_dragging_shows_the_last_region(scene, sliceNode, volume, makePanel, tmp_path):
    hold = tmp_path / "hold"
    panel = makePanel([STAND_IN], {"STANDIN_HOLD": str(hold)})
    panel.untilState(EngineState.READY)
    hold.touch()
    questions = [question(scene, sliceNode, volume, shift) for shift in np.linspace(-4, 4, 12)]
    for one in questions:
        panel.client.link(one)
        panel.client.poll()
    hold.unlink()
    panel.until(lambda: panel.linked and panel.linked[-1][1] is questions[-1])
    assert [asked for _, asked in panel.linked] == [questions[0], questions[-1]]


def test_cancel_and_crash_leave_a_working_panel(scene, sliceNode, volume, makePanel, tmp_path):
    hold = tmp_path / "hold"
    panel = makePanel([STAND_IN], {"STANDIN_HOLD": str(hold)})
    panel.untilState(EngineState.READY)
    hold.touch()
    panel.client.link(question(scene, sliceNode, volume))
    panel.untilState(EngineState.LINKING)
    pid = panel.client.processId
    panel.client.cancel()
    panel.until(lambda: panel.client.state is not EngineState.CANCELLED)
    hold.unlink()  # the worker that was cancelled is not waited for; the next one is not held
    panel.untilState(EngineState.READY)
    if panel.client.processId != pid:
        untilGone(pid)
    os.kill(panel.client.processId, signal.SIGKILL)
    panel.untilState(EngineState.RESTARTING)
    panel.untilState(EngineState.READY)


def test_missing_model_is_said_in_one_line_and_the_worker_stays(makePanel, tmp_path):
    panel = makePanel(["-m", "velcro_engine.worker"], loadOptions={"model": str(tmp_path / "no")})
    panel.untilState(EngineState.FAILED)
    assert "no" in panel.client.message and "\n" not in panel.client.message
    assert panel.client.processId is not None


def test_broken_knowledge_base_is_said_in_one_line(makePanel, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{"entries": [')
    panel = makePanel([STAND_IN], loadOptions={"knowledge_bases": [str(broken)]})
    panel.untilState(EngineState.FAILED)
    assert "broken.json" in panel.client.message and "\n" not in panel.client.message
    panel.client.load({})
    panel.untilState(EngineState.READY)


def test_bundled_model_links_a_region(scene, sliceNode, volume, makePanel):
    try:
        resource_path("Models/velcro-compact/config.json")
    except Exception:
        pytest.skip("the bundled model is not in Resources/Models yet")
    panel = makePanel(["-m", "velcro_engine.worker"])
    panel.untilState(EngineState.READY)
    panel.client.link(question(scene, sliceNode, volume))
    panel.until(lambda: panel.linked or panel.failed)
    assert not panel.failed and panel.linked[0][0].entries


def test_blank_slice_is_said_in_one_line_and_the_panel_goes_on(scene, sliceNode, volume, makePanel):
    panel = makePanel([STAND_IN])
    panel.untilState(EngineState.READY)
    voxels = vtk_to_numpy(volume.GetImageData().GetPointData().GetScalars())
    kept = voxels.copy()
    voxels[:] = 12
    volume.GetImageData().Modified()
    panel.client.link(question(scene, sliceNode, volume))
    panel.until(lambda: panel.linked or panel.failed)
    kind, message, _ = panel.failed[0]
    assert kind == "input" and "one grey value only" in message and "\n" not in message
    voxels[:] = kept
    volume.GetImageData().Modified()
    panel.client.link(question(scene, sliceNode, volume))
    panel.until(lambda: panel.linked)
