"""Real worker processes, spoken to over real pipes."""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from python_process import ENGINE, printed
from velcro_engine.messages.protocol import PROTOCOL_VERSION, encode_frame, read_frame
from velcro_engine.messages.request import SliceRequest
from velcro_engine.messages.result import LinkResult

HERE = Path(__file__).parent
TIMEOUT = 60


class Client:
    """A worker and a queue of what it says."""

    def __init__(self, home: Path, script: str = "standin_worker.py", **environment: str) -> None:
        paths = os.pathsep.join([str(ENGINE), str(HERE), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths, "VELCROLINK_HOME": str(home), **environment},
        )
        self.frames: queue.Queue = queue.Queue()
        self._log: list[bytes] = []
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._drain, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self):
        try:
            while (frame := read_frame(self.process.stdout)) is not None:
                self.frames.put(frame)
        finally:
            self.frames.put(None)

    def _drain(self):
        self._log.extend(self.process.stderr)

    @property
    def log(self) -> str:
        self._threads[1].join(TIMEOUT)
        return b"".join(self._log).decode()

    def send(self, header, payload=b""):
        self.process.stdin.write(encode_frame(header, payload))
        self.process.stdin.flush()

    def next(self, *types):
        while True:
            frame = self.frames.get(timeout=TIMEOUT)
            assert frame is not None, "the worker left: " + self.log
            if not types or frame[0]["type"] in types:
                return frame

    def answer(self, identifier):
        while True:
            header, payload = self.next()
            if header.get("id") == identifier and header["type"] != "progress":
                return header, payload

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            return self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()


def wait_for(condition) -> None:
    """Until `condition()` holds. Fails when it never does."""
    ends = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.01)


@pytest.fixture
def client(tmp_path):
    made = Client(tmp_path)
    assert made.next()[0]["type"] == "hello"
    yield made
    made.close()


def question(grey=200, seed=0):
    pixels = np.full((90, 100), 40, np.uint8)
    pixels[30:60, 20:70] = grey
    pixels[0, 0] = seed
    return SliceRequest(
        pixels=pixels, pixel_to_ras=np.diag([-1.0, -1, 1, 1]), box=(19, 29, 71, 61), plane="axial"
    )


def link_frame(identifier, request):
    header, payload = request.to_message()
    return {"type": "link", "id": identifier, "request": header}, payload


def test_hello_comes_first_with_version_and_pid(tmp_path):
    client = Client(tmp_path)
    header, _ = client.next()
    assert header["type"] == "hello" and header["protocol"] == PROTOCOL_VERSION
    assert header["pid"] == client.process.pid
    assert client.close() == 0


def test_nothing_heavy_is_imported_before_hello():
    code = (
        "import sys; import velcro_engine.worker.process; "
        "heavy = {'numpy', 'SimpleITK', 'onnxruntime', 'torch', 'scipy'} & set(sys.modules); "
        "print(sorted(heavy))"
    )
    assert printed(code).strip() == "[]"


def test_link_answers_with_mask_and_entries_and_encodes_a_slice_once(client):
    request = question()
    client.send({"type": "load", "id": 1})
    ready, _ = client.answer(1)
    assert ready["type"] == "ready" and ready["model"] == "stand-in 1" and ready["entries"] > 50
    client.send(*link_frame(2, request))
    header, payload = client.answer(2)
    result = LinkResult.from_message(header["result"], payload)
    assert result.slice_id == request.slice_id
    assert result.mask[30:60, 20:70].mean() > 0.9 and result.mask[:20].sum() == 0
    assert result.seconds["encode"] > 0 and len(result.entries) == 10
    moved = request.with_prompt(box=(25, 32, 60, 58))
    client.send(*link_frame(3, moved))
    again = LinkResult.from_message(*_result(client.answer(3)))
    assert again.seconds["encode"] == 0


def _result(frame):
    return frame[0]["result"], frame[1]


def test_link_without_load_uses_what_is_bundled(client):
    client.send(*link_frame(7, question()))
    assert client.answer(7)[0]["type"] == "linked"


def test_entry_and_search_answer_from_the_knowledge_base(client):
    client.send({"type": "entry", "id": 1, "entry_id": "hippocampus"})
    assert client.answer(1)[0]["entry"]["name"] == "Hippocampus"
    client.send({"type": "search", "id": 2, "text": "hipocampus", "limit": 3})
    found = client.answer(2)[0]["entries"]
    assert found[0]["id"] == "hippocampus" and len(found) <= 3
    client.send({"type": "entry", "id": 3, "entry_id": "no such thing"})
    header, _ = client.answer(3)
    assert header["type"] == "error" and header["kind"] == "knowledge_base"


def test_the_newest_link_wins(tmp_path):
    hold = tmp_path / "hold"
    client = Client(tmp_path, STANDIN_HOLD=str(hold))
    client.send({"type": "load", "id": 1})
    client.answer(1)
    hold.touch()
    client.send(*link_frame(2, question(seed=2)))
    wait_for(hold.with_name("encoding").exists)
    for identifier in range(3, 8):
        client.send(*link_frame(identifier, question(seed=identifier)))
    outcome = []
    while len(outcome) < 4:  # each is told as soon as a newer one comes, while 2 is still at work
        header, _ = client.next("linked", "error")
        outcome.append((header["id"], header.get("kind", header["type"])))
    assert outcome == [(identifier, "cancelled") for identifier in range(3, 7)]
    hold.unlink()
    assert [client.next("linked", "error")[0]["id"] for _ in range(2)] == [2, 7]
    client.close()


def test_cancel_ends_a_running_and_a_waiting_request(client):
    client.send({"type": "slow", "id": 1})
    client.send({"type": "slow", "id": 2})
    assert client.next("progress")[0]["id"] == 1
    client.send({"type": "cancel", "cancel_id": 2})
    assert client.answer(2)[0]["kind"] == "cancelled"  # while 1 is at work, for an hour yet
    client.send({"type": "cancel", "cancel_id": 1})
    assert client.answer(1)[0]["kind"] == "cancelled"
    client.send({"type": "noisy", "id": 3}, b"abc")
    assert client.answer(3)[1] == b"cba"


def test_progress_tells_fraction_message_and_remaining_time(client):
    client.send({"type": "slow", "id": 1})
    seen = [client.next("progress")[0]]
    while seen[-1]["remaining_s"] is None:  # it needs a fiftieth of the work to tell from
        seen.append(client.next("progress")[0])
    assert seen[0]["message"] == "working"
    fractions = [p["fraction"] for p in seen]
    assert fractions == sorted(fractions) and seen[-1]["remaining_s"] > 0


def test_prints_of_libraries_do_not_damage_the_stream(client):
    client.send({"type": "noisy", "id": 1}, b"payload")
    header, payload = client.answer(1)
    assert header["type"] == "noisy" and payload == b"daolyap"
    client.close()
    assert "a library says hello" in client.log and "another one" in client.log


def test_a_mistake_in_a_handler_is_an_answer_and_the_worker_goes_on(client):
    client.send({"type": "broken", "id": 1})
    header, _ = client.answer(1)
    assert header["kind"] == "error" and "RuntimeError" in header["message"]
    assert "a mistake in the code" in header["detail"] and "\n" not in header["message"]
    client.send({"type": "noisy", "id": 2})
    assert client.answer(2)[0]["type"] == "noisy"


@pytest.mark.parametrize(
    "header",
    [
        {"type": "teleport", "id": 1},
        {"type": "link", "id": 1},
        {"type": "link", "id": 1, "request": {"shape": [5, 5]}},
        {"type": "load", "id": 1, "model": "/no/such/folder", "knowledge_bases": ["/no/such.json"]},
        {"type": "load", "id": 1, "knowledge_bases": "text"},
        {"type": "search", "id": 1, "limit": "many"},
    ],
)
def test_unusable_requests_are_refused_in_one_line(client, header):
    client.send(header)
    answer, _ = client.answer(1)
    assert answer["type"] == "error" and "\n" not in answer["message"]
    assert answer["kind"] in ("protocol", "input", "knowledge_base", "model")


def test_a_request_without_id_is_refused(client):
    client.send({"type": "noisy"})
    header, _ = client.next("error")
    assert header["id"] is None and header["kind"] == "protocol"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        encode_frame({"type": "noisy", "id": 1}, b"x" * 100)[:-30],
        b"VLK1" + (2**31).to_bytes(4, "little") + bytes(4),
        b"VLK1" + (3).to_bytes(4, "little") + bytes(4) + b"{a}",
    ],
    ids=["foreign", "cut", "oversized", "not JSON"],
)
def test_a_damaged_stream_ends_the_worker_with_a_reason(tmp_path, data):
    client = Client(tmp_path)
    client.next("hello")
    client.process.stdin.write(data)
    client.process.stdin.flush()
    client.process.stdin.close()
    header, _ = client.next("error")
    assert header["kind"] == "protocol"
    assert client.process.wait(TIMEOUT) == 2
    assert "Traceback" not in client.log


def test_the_worker_leaves_when_stdin_closes(client):
    client.send({"type": "noisy", "id": 1})
    client.answer(1)
    assert client.close() == 0


def test_the_worker_leaves_even_while_stuck_in_work(client):
    client.send({"type": "stuck", "id": 1})
    client.next("progress")
    client.close()  # waits for a minute at most, and it is stuck for an hour


def test_bye_ends_the_worker(client):
    client.send({"type": "bye"})
    assert client.process.wait(TIMEOUT) == 0


def test_the_worker_leaves_when_its_client_is_killed(tmp_path):
    """A client that dies without a word closes the pipe; the worker must not stay behind."""
    code = (
        "import subprocess, sys, time\n"
        "worker = subprocess.Popen([sys.executable, sys.argv[1]], stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE)\n"
        "worker.stdout.read(4)\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(3600)\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ENGINE), str(HERE)]),
        "VELCROLINK_HOME": str(tmp_path),
    }
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(HERE / "standin_worker.py")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    try:
        wait_for(lambda: not _alive(worker))
    finally:
        if _alive(worker):
            os.kill(worker, 9)


def _alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_command_line_starts_the_same_worker(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "velcro_engine.commands.cli", "worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ENGINE), "VELCROLINK_HOME": str(tmp_path)},
    )
    assert read_frame(process.stdout)[0]["type"] == "hello"
    process.stdin.close()
    assert process.wait(TIMEOUT) == 0
