"""A worker process whose mistakes are scripted, to test what the client does about them.

Run as `python scripted_worker.py '{"linkSeconds": 0.2, ...}'`. It speaks the real protocol and links
nothing: the mask of every answer is the request's box. Script keys, all optional:

startSeconds, linkSeconds   how long start and each link take
linkGate                    a file; links last until it exists
deafGate                    a file; once loaded, nothing more is read from stdin until it exists
deaf                        cancels are not listened to
dieAtStart, dieOnLink       ends without a word (dieOnLink: a file; dies as long as it does not
                            exist, and makes it: dies once)
loadError                   kind of the error that answers "load" ("" none)
protocol                    another protocol version
noise                       writes text to stdout instead of a hello
wrongMask                   answers with a mask of another size
child                       a file to which the pid of a child process that never ends is written
stderr                      a line to write to stderr
ignoreEnd                   does not leave when stdin closes
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "VelcroLink"))

import numpy as np

from velcro_engine.messages.protocol import encode_frame, read_frame
from velcro_engine.messages.request import SliceRequest
from velcro_engine.messages.result import LinkedEntry, LinkResult

script = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
lock = threading.Lock()
cancelled: set[int] = set()


def send(header, payload=b""):
    with lock:
        sys.stdout.buffer.write(encode_frame(header, payload))
        sys.stdout.buffer.flush()


def fail(header, kind, message):
    send({"type": "error", "id": header["id"], "kind": kind, "message": message, "detail": ""})


def isOpen(gate):
    """Whether a gate's file is there; a gate that the script does not name is open."""
    return gate not in script or os.path.exists(script[gate])


def link(header, payload):
    marker = script.get("dieOnLink")
    if marker == "always":
        os._exit(3)
    if marker and not os.path.exists(marker):
        Path(marker).write_text("died")
        os._exit(3)
    request = SliceRequest.from_message(header["request"], payload)
    ends = time.monotonic() + script.get("linkSeconds", 0.0)
    while time.monotonic() < ends or not isOpen("linkGate"):
        if header["id"] in cancelled and not script.get("deaf"):
            fail(header, "cancelled", "Cancelled.")
            return
        send({"type": "progress", "id": header["id"], "fraction": 0.5, "message": "encoding"})
        time.sleep(0.01)
    mask = np.zeros(request.pixels.shape, dtype=bool)
    if request.box is not None:
        x0, y0, x1, y1 = (int(np.ceil(v)) for v in request.box)
        mask[y0:y1, x0:x1] = True
    if script.get("wrongMask"):
        mask = mask[1:]
    result = LinkResult(
        mask,
        (LinkedEntry("hippocampus", "Hippocampus", "left", 0.9),),
        False,
        {"area_mm2": float(mask.sum())},
        model="scripted",
        knowledge_base="scripted",
        slice_id=request.slice_id,
    )
    answer, bits = result.to_message()
    send({"type": "linked", "id": header["id"], "result": answer}, bits)


def answer(header, payload):
    kind = header["type"]
    if kind == "load":
        if script.get("loadError"):
            fail(header, script["loadError"], "Model file is missing; choose another model.")
        else:
            options = {k: header.get(k) for k in ("model", "knowledge_bases")}
            send({"type": "ready", "id": header["id"], "entries": 1, **options})
    elif kind == "link":
        link(header, payload)
    elif kind == "entry":
        entry = {"id": header["entry_id"], "name": "Hippocampus"}
        send({"type": "entry", "id": header["id"], "entry": entry})
    elif kind == "search":
        time.sleep(script.get("searchSeconds", 0.0))
        send({"type": "found", "id": header["id"], "entries": [{"id": "x", "name": "X"}]})
    else:
        fail(header, "protocol", f"Unknown message '{kind}'.")


def main():
    if script.get("child"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(script["child"]).write_text(str(child.pid))
    if script.get("stderr"):
        print(script["stderr"], file=sys.stderr, flush=True)
    if script.get("dieAtStart"):
        os._exit(4)
    time.sleep(script.get("startSeconds", 0.0))
    if script.get("noise"):
        sys.stdout.write("Welcome to a library that prints\n" * 3)
        sys.stdout.flush()
        time.sleep(60)
    send({"type": "hello", "protocol": script.get("protocol", 1), "engine": "scripted", "pid": 0})
    queue, wake, closed = [], threading.Condition(), threading.Event()

    def work():
        while True:
            with wake:
                wake.wait_for(lambda: queue or closed.is_set())
                if not queue:
                    return
                header, payload = queue.pop(0)
            answer(header, payload)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    while (frame := read_frame(sys.stdin.buffer)) is not None and frame[0]["type"] != "bye":
        if frame[0]["type"] == "cancel":
            cancelled.add(frame[0]["cancel_id"])
            continue
        with wake:
            queue.append(frame)
            wake.notify()
        while frame[0]["type"] == "load" and not isOpen("deafGate"):
            time.sleep(0.01)
    if script.get("ignoreEnd"):
        time.sleep(600)
    os._exit(0)


if __name__ == "__main__":
    main()
