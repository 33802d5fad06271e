"""The engine client against a real process: states, newest wins, cancel, crash, and no leftovers."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from velcro_engine.messages.request import SliceRequest
from VelcroLinkLib.engine.client import CANCEL_SECONDS, EngineClient, EngineState
from VelcroLinkLib.scene.slice_grid import SliceGrid
from VelcroLinkLib.scene.slice_request import PlacedRequest

WORKER = str(Path(__file__).with_name("scripted_worker.py"))
PATIENCE = 60.0  # seconds; only a hanging test gets there
NEVER = 3600.0  # seconds; what lasts as long is only over when it is ended


class Panel:
    """Records what a panel would hear, and plays the timer."""

    def __init__(self, client):
        self.client = client
        self.states, self.linked, self.failed, self.dropped, self.progress = [], [], [], [], []
        client.stateChanged.connect(lambda state, message: self.states.append(state.value))
        client.linked.connect(lambda result, placed: self.linked.append((result, placed)))
        client.linkFailed.connect(lambda *failure: self.failed.append(failure))
        client.dropped.connect(self.dropped.append)
        client.progressed.connect(lambda *step: self.progress.append(step))

    def until(self, condition, seconds=PATIENCE):
        ends = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < ends, (self.client.state, self.client.log, self.states)
            self.client.poll()
            time.sleep(0.005)

    def untilState(self, state):
        self.until(lambda: self.client.state is state)


@pytest.fixture
def makePanel():
    """makePanel(script, **client arguments) -> Panel with a running worker of its own."""
    panels = []

    def make(script=None, start=True, **arguments):
        command = [sys.executable, WORKER, json.dumps(script or {})]
        panel = Panel(EngineClient(command, **arguments))
        panels.append(panel)
        if start:
            panel.client.start()
            panel.untilState(EngineState.READY)
        return panel

    yield make
    for panel in panels:
        process = panel.client._life.process
        panel.client.stop(0.0)
        if process is not None:
            assert process.waitUntilGone(PATIENCE)


@pytest.fixture
def gate(tmp_path):
    """A file that a scripted worker waits for; `gate.touch()` lets it go on."""
    return tmp_path / "gate"


class Clock:
    """The client's clock, moved by the test: on a busy machine no deadline passes by itself."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def placed(x=5.0, sliceSeed=0, fingerprint="v1", size=32):
    """A request with its box at x; the same seed is the same slice."""
    pixels = np.random.default_rng(sliceSeed).integers(0, 255, (size, size)).astype(np.uint8)
    request = SliceRequest(pixels, np.eye(4), box=(x, 5.0, x + 8.0, 12.0))
    grid = SliceGrid(np.eye(4), size, size, "axial", 1.0)
    return PlacedRequest(request, grid, "vtkMRMLScalarVolumeNode1", fingerprint)


def isAlive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a zombie that nobody has waited for is not alive
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or read
        return False


def untilGone(pid, seconds=PATIENCE):
    ends = time.monotonic() + seconds
    while isAlive(pid):
        assert time.monotonic() < ends, f"process {pid} is still there"
        time.sleep(0.02)


class TestStart:
    def test_goes_from_starting_to_ready_with_the_options(self, makePanel):
        options = {"model": "m.onnx", "knowledge_bases": ["a.json"], "data": "/tmp"}
        panel = makePanel(start=False, loadOptions=options)
        ready = []
        panel.client.loaded.connect(ready.append)
        panel.client.start()
        panel.untilState(EngineState.READY)
        assert panel.states == ["starting", "ready"]
        assert ready[0]["model"] == "m.onnx" and ready[0]["knowledge_bases"] == ["a.json"]

    def test_without_onnxruntime_no_process_is_started(self, makePanel):
        installed = []
        panel = makePanel(start=False, isInstalled=lambda: bool(installed))
        panel.client.link(placed())
        assert panel.states == ["notInstalled"] and panel.client.processId is None
        installed.append(1)
        panel.client.link(placed(6.0))
        panel.until(lambda: panel.linked)
        assert len(panel.linked) == 1

    def test_link_before_start_starts_and_waits(self, makePanel):
        panel = makePanel({"startSeconds": 0.2}, start=False)
        panel.client.link(placed())
        panel.until(lambda: panel.linked)
        assert panel.states == ["starting", "ready", "linking", "ready"]

    def test_missing_model_is_a_failure_that_other_settings_mend(self, makePanel):
        panel = makePanel({"loadError": "model"}, start=False)
        panel.client.start()
        panel.untilState(EngineState.FAILED)
        assert "choose another model" in panel.client.message
        assert panel.client.processId is not None, "the worker stays for the next load"
        errors = []
        panel.client.ask("search", {"text": "x"}, onError=lambda *e: errors.append(e))
        assert errors

    def test_interpreter_that_does_not_exist(self):
        panel = Panel(EngineClient(["/no/such/PythonSlicer", "-m", "velcro_engine.worker"]))
        panel.client.start()
        panel.untilState(EngineState.FAILED)
        panel.client.stop()

    @pytest.mark.parametrize("script", [{"protocol": 99}, {"noise": True}, {"dieAtStart": True}])
    def test_worker_that_cannot_be_used_fails_and_leaves_nothing(self, makePanel, script, tmp_path):
        pidFile = tmp_path / "child"
        panel = makePanel({**script, "child": str(pidFile)}, start=False)
        panel.client.start()
        panel.untilState(EngineState.FAILED)
        untilGone(int(pidFile.read_text()))
        # A further link does not start it for every movement of the mouse, but says why.
        panel.client.link(placed())
        assert panel.client.processId is None and panel.failed

    def test_stderr_of_the_worker_is_kept(self, makePanel):
        panel = makePanel({"stderr": "ONNX Runtime says hello ä"})
        panel.until(lambda: "says hello ä" in panel.client.log)


class TestLink:
    def test_result_comes_with_its_request(self, makePanel):
        panel = makePanel()
        question = placed()
        panel.client.link(question)
        panel.until(lambda: panel.linked)
        result, asked = panel.linked[0]
        assert asked is question
        assert result.entries[0].id == "hippocampus" and result.mask[6, 6]
        panel.untilState(EngineState.READY)

    def test_newest_wins_while_dragging(self, makePanel, gate):
        panel = makePanel({"linkGate": str(gate)})
        questions = [placed(x / 4) for x in range(40)]
        for question in questions:
            panel.client.link(question)
            panel.client.poll()
        gate.touch()
        panel.until(lambda: panel.linked and panel.linked[-1][1] is questions[-1])
        shown = [questions.index(asked) for _, asked in panel.linked]
        assert shown == [0, 39], "the one under way on the same slice is shown too"

    def test_link_on_another_slice_replaces_the_one_under_way(self, makePanel):
        panel = makePanel({"linkSeconds": NEVER})
        panel.client.link(placed(sliceSeed=1))
        panel.until(lambda: panel.progress)
        panel.client._life.commandLine[-1] = "{}"
        panel.client.link(placed(sliceSeed=2))
        running = panel.client._inFlight
        panel.until(lambda: panel.client._inFlight not in (None, running))
        assert not panel.failed, "what was replaced has not failed"

    def test_result_for_a_volume_that_changed_is_dropped(self, makePanel):
        current = ["v1"]
        panel = makePanel(
            {"linkSeconds": 0.1}, isCurrent=lambda asked: asked.fingerprint == current[0]
        )
        panel.client.link(placed())
        current[0] = "v2"
        panel.until(lambda: panel.dropped)
        assert not panel.linked
        panel.untilState(EngineState.READY)

    def test_damaged_answer_is_reported_and_the_next_works(self, makePanel):
        panel = makePanel({"wrongMask": True})
        panel.client.link(placed())
        panel.until(lambda: panel.failed)
        assert panel.failed[0][0] == "protocol"
        panel.untilState(EngineState.READY)

    def test_observer_that_raises_does_not_stop_the_client(self, makePanel):
        panel = makePanel()
        panel.client.linked.connect(lambda *_: 1 / 0)
        panel.client.link(placed())
        panel.until(lambda: panel.linked)
        panel.untilState(EngineState.READY)

    def test_polling_never_blocks_although_the_worker_does_not_read(self, makePanel, gate):
        """64 requests of 1 MB, more than any pipe holds, to a worker that reads none of them before
        the gate opens. If a call waited for it, only the watchdog would open the gate."""
        panel = makePanel({"deafGate": str(gate)})
        opened = []

        def watchdog():
            opened.append("by the watchdog")
            gate.touch()

        timer = threading.Timer(PATIENCE, watchdog)
        timer.start()
        answers = []
        for x in range(64):
            panel.client.link(placed(x / 8, sliceSeed=x, size=1024))
            panel.client.ask(
                "entry",
                {"entry_id": str(x)},
                bytes(1 << 20),
                onAnswer=lambda header, payload: answers.append(header["entry"]["id"]),
            )
            panel.client.poll()
        assert not opened and not answers and not panel.linked
        timer.cancel()
        gate.touch()
        panel.until(lambda: not panel.client.isBusy)
        assert answers == [str(x) for x in range(64)] and panel.linked


class TestAsk:
    def test_answers_and_errors_come_back(self, makePanel):
        panel = makePanel()
        answers, errors = [], []
        for kind in ("entry", "search", "nonsense"):
            panel.client.ask(
                kind,
                {"entry_id": "hippocampus", "text": "x"},
                onAnswer=lambda header, payload: answers.append(header),
                onError=lambda *error: errors.append(error),
            )
        panel.until(lambda: len(answers) == 2 and errors)
        assert answers[0]["entry"]["id"] == "hippocampus"
        assert answers[1]["entries"][0]["id"] == "x"
        assert errors[0][0] == "protocol"

    def test_question_before_start_waits(self, makePanel):
        panel = makePanel({"startSeconds": 0.2}, start=False)
        answers = []
        panel.client.ask("entry", {"entry_id": "a"}, onAnswer=lambda *a: answers.append(a))
        panel.until(lambda: answers)

    def test_forgotten_question_does_not_call_back(self, makePanel):
        panel = makePanel({"searchSeconds": 0.1})
        answers = []
        asked = panel.client.ask("search", {"text": "x"}, onAnswer=lambda *a: answers.append(a))
        panel.client.forget(asked)
        panel.client.ask("entry", {"entry_id": "a"}, onAnswer=lambda *a: answers.append("entry"))
        panel.until(lambda: "entry" in answers)
        assert answers == ["entry"]

    def test_question_ends_with_an_error_when_the_worker_dies(self, makePanel):
        panel = makePanel({"searchSeconds": NEVER})
        errors = []
        panel.client.ask("search", {"text": "x"}, onError=lambda *error: errors.append(error))
        os.kill(panel.client.processId, signal.SIGKILL)
        panel.until(lambda: errors)
        assert "repeat" in errors[0][1]


class TestCancel:
    def test_worker_that_listens_is_ready_again_and_stays(self, makePanel):
        """The clock stands still: only the worker's own answer ends the waiting."""
        panel = makePanel({"linkSeconds": NEVER}, clock=Clock())
        panel.client.link(placed())
        panel.until(lambda: panel.progress)
        pid = panel.client.processId
        panel.client.cancel()
        assert panel.client.state is EngineState.CANCELLED
        panel.untilState(EngineState.READY)
        assert panel.client.processId == pid and not panel.linked and not panel.failed

    def test_worker_that_does_not_listen_is_killed_within_a_second_and_restarted(
        self, makePanel, tmp_path
    ):
        pidFile, clock = tmp_path / "child", Clock()
        panel = makePanel({"linkSeconds": NEVER, "deaf": True, "child": str(pidFile)}, clock=clock)
        panel.client.link(placed())
        panel.until(lambda: panel.progress)
        pid, child = panel.client.processId, int(pidFile.read_text())
        panel.client.cancel()
        clock.now += CANCEL_SECONDS - 0.01
        panel.client.poll()
        assert panel.client.state is EngineState.CANCELLED and isAlive(pid)
        clock.now += 0.02
        panel.client.poll()
        assert panel.client.state is EngineState.RESTARTING and CANCEL_SECONDS < 1.0
        untilGone(pid)
        untilGone(child)
        panel.untilState(EngineState.READY)
        assert panel.states[-3:] == ["cancelled", "restarting", "ready"]
        assert not panel.failed, "cancelled is not failed"

    def test_link_asked_right_after_a_cancel_is_answered(self, makePanel, gate):
        panel = makePanel({"linkGate": str(gate)})
        panel.client.link(placed())
        panel.until(lambda: panel.progress)
        panel.client.cancel()
        question = placed(9.0)
        panel.client.link(question)
        gate.touch()
        panel.until(lambda: panel.linked)
        assert [asked for _, asked in panel.linked] == [question]

    def test_cancelling_the_start_ends_the_worker(self, makePanel):
        panel = makePanel({"startSeconds": NEVER}, start=False)
        panel.client.start()
        panel.until(lambda: panel.client.processId is not None)
        pid = panel.client.processId
        panel.client.cancel()
        untilGone(pid)
        assert panel.client.state is EngineState.CANCELLED
        panel.client._life.commandLine[-1] = "{}"
        panel.client.link(placed())
        panel.until(lambda: panel.linked)

    def test_cancelling_nothing_changes_nothing(self, makePanel):
        panel = makePanel()
        panel.client.cancel()
        assert panel.client.state is EngineState.READY


class TestCrash:
    def test_killed_worker_is_restarted_and_the_region_linked(self, makePanel, gate):
        panel = makePanel({"linkGate": str(gate)})
        question = placed()
        panel.client.link(question)
        panel.until(lambda: panel.progress)
        os.kill(panel.client.processId, signal.SIGKILL)
        gate.touch()
        panel.until(lambda: panel.linked)
        assert "restarting" in panel.states and "failed" not in panel.states
        assert panel.linked[0][1] is question

    def test_idle_worker_that_is_killed_comes_back_by_itself(self, makePanel):
        panel = makePanel()
        os.kill(panel.client.processId, signal.SIGKILL)
        panel.untilState(EngineState.RESTARTING)
        panel.untilState(EngineState.READY)

    def test_worker_that_dies_of_every_link_is_restarted_only_once(self, makePanel):
        panel = makePanel({"dieOnLink": "always"})
        panel.client.link(placed())
        panel.untilState(EngineState.FAILED)
        assert panel.states.count("restarting") == 1
        assert "Restart" in panel.client.message
        panel.client._life.commandLine[-1] = "{}"
        panel.client.restart()
        panel.client.link(placed())
        panel.until(lambda: panel.linked)

    def test_each_working_link_allows_one_more_restart(self, makePanel, tmp_path):
        panel = makePanel({"dieOnLink": str(tmp_path / "died")})
        panel.client.link(placed())
        panel.until(lambda: panel.linked)
        os.kill(panel.client.processId, signal.SIGKILL)
        panel.client.link(placed(7.0))
        panel.until(lambda: len(panel.linked) == 2)
        assert "failed" not in panel.states


class TestEnd:
    @pytest.mark.parametrize("grace", [0.0, 0.5])
    def test_stop_ends_worker_and_children(self, makePanel, tmp_path, grace):
        pidFile = tmp_path / "child"
        panel = makePanel({"child": str(pidFile), "ignoreEnd": True})
        pid, child = panel.client.processId, int(pidFile.read_text())
        panel.client.stop(grace)
        assert panel.client.state is EngineState.STOPPED
        untilGone(pid)
        untilGone(child)

    def test_stop_does_not_wait_for_the_worker(self, makePanel):
        """It leaves neither by itself nor within the grace: whoever waited would never return."""
        panel = makePanel({"ignoreEnd": True})
        pid = panel.client.processId
        panel.client.stop(NEVER)
        assert panel.client.state is EngineState.STOPPED and isAlive(pid)
        os.kill(pid, signal.SIGKILL)
        untilGone(pid)

    def test_stop_while_starting_and_linking(self, makePanel):
        for script, start in (({"startSeconds": NEVER}, False), ({"linkSeconds": NEVER}, True)):
            panel = makePanel(script, start=start)
            panel.client.link(placed())
            panel.until(lambda panel=panel: panel.client.processId is not None)
            pid = panel.client.processId
            panel.client.stop()
            untilGone(pid)
            panel.client.poll()
            assert not panel.linked and panel.client.state is EngineState.STOPPED

    def test_stop_before_the_process_exists(self, makePanel):
        for _ in range(10):
            panel = makePanel(start=False)
            panel.client.start()
            process = panel.client._life.process
            panel.client.stop(0.0)
            assert process.waitUntilGone(PATIENCE)
            assert process.pid is None or not isAlive(process.pid)

    def test_worker_leaves_when_slicer_dies(self, tmp_path):
        """Slicer killed hard: stdin of the worker closes and the worker goes."""
        pidFile = tmp_path / "worker"
        code = (
            "import subprocess, sys, time\n"
            f"p = subprocess.Popen([sys.executable, {WORKER!r}], stdin=subprocess.PIPE,\n"
            "    stdout=subprocess.PIPE, start_new_session=True)\n"
            f"open({str(pidFile)!r}, 'w').write(str(p.pid))\n"
            "time.sleep(600)\n"
        )
        import subprocess

        slicerLike = subprocess.Popen([sys.executable, "-c", code])
        ends = time.monotonic() + PATIENCE
        while not (pidFile.exists() and pidFile.read_text()):
            assert time.monotonic() < ends
            time.sleep(0.02)
        slicerLike.kill()
        slicerLike.wait()
        untilGone(int(pidFile.read_text()))

    def test_stop_twice_and_start_again(self, makePanel):
        panel = makePanel()
        panel.client.stop()
        panel.client.stop()
        panel.client.link(placed())
        panel.until(lambda: panel.linked)
