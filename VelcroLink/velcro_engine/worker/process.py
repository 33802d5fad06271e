"""The worker process: frames of `protocol.py` in on stdin, answers out on stdout.

Two threads. The reader takes frames from stdin the whole time, so that a cancel, a newer request or
the end of stdin is noticed while the main thread works. Only the standard library is imported
before the hello; what a message needs is imported by its handler.

stdout carries frames and nothing else: at start its file descriptor is moved away and the old one
points at stderr, so a library that prints cannot damage the stream.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import deque
from importlib import import_module
from typing import Any, BinaryIO

from .. import __version__
from ..errors import Cancelled, ProtocolError, VelcroError
from ..messages.protocol import PROTOCOL_VERSION, encode_frame, read_frame
from .context import Context, Handler, Job

GRACE_SECONDS = 1.0  # after stdin has closed, for work that cannot be interrupted

# message type -> "module:function"; function(header, payload, context) -> (header, payload).
HANDLERS: dict[str, str] = {
    "load": "velcro_engine.worker.handlers:load",
    "link": "velcro_engine.worker.handlers:link",
    "example": "velcro_engine.worker.handlers:example",
    "head": "velcro_engine.worker.head_handler:head",
    "entry": "velcro_engine.worker.handlers:entry",
    "search": "velcro_engine.worker.handlers:search",
    "review": "velcro_engine.worker.review_handlers:review",
    "propagate": "velcro_engine.worker.review_handlers:propagate",
    "ground": "velcro_engine.worker.ground_handler:ground",
    "cases": "velcro_engine.worker.cases_handlers:cases",
    "correct": "velcro_engine.worker.cases_handlers:correct",
    "draft": "velcro_engine.worker.draft_handler:draft",
}


class Worker:
    """Reads requests from `source`, answers on `sink`; `run` returns the exit code."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, handlers: dict[str, str]) -> None:
        self._source = source
        self._sink = sink
        self._handlers = handlers
        self._write_lock = threading.Lock()
        self._wake = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._closing = False
        self._exit_code = 0
        self._session: dict[str, Any] = {}

    def run(self) -> int:
        self._send(
            {
                "type": "hello",
                "protocol": PROTOCOL_VERSION,
                "engine": __version__,
                "pid": os.getpid(),
            }
        )
        threading.Thread(target=self._read, name="frames in", daemon=True).start()
        while (job := self._next_job()) is not None:
            self._work(job)
        return self._exit_code

    # the reader's side

    def _read(self) -> None:
        try:
            while (frame := read_frame(self._source)) is not None:
                if frame[0]["type"] == "bye":
                    break
                self._take(*frame)
        except ProtocolError as error:
            # Where the next frame starts is unknown now; the client starts a fresh worker.
            self._exit_code = 2
            self._send_error(None, error)
        except OSError:
            self._exit_code = 1
        self._close()

    def _take(self, header: dict[str, Any], payload: bytes) -> None:
        if header["type"] == "cancel":
            self._cancel(header.get("cancel_id"))
            return
        identifier = header.get("id")
        if isinstance(identifier, bool) or not isinstance(identifier, int):
            self._send_error(None, ProtocolError("A request has no id."))
            return
        job = Job(identifier, header, payload)
        with self._wake:
            outdated = [j for j in self._waiting if j.type == job.type == "link"]
            for old in outdated:
                self._waiting.remove(old)
            self._waiting.append(job)
            self._wake.notify()
        for old in outdated:
            self._send_error(old.identifier, Cancelled("A newer request took its place."))

    def _cancel(self, identifier: Any) -> None:
        with self._wake:
            found = [job for job in self._waiting if job.identifier == identifier]
            for job in found:
                self._waiting.remove(job)
            if self._running is not None and self._running.identifier == identifier:
                self._running.cancelled.set()
        for job in found:
            self._send_error(job.identifier, Cancelled("Cancelled."))

    def _close(self) -> None:
        with self._wake:
            self._closing = True
            self._waiting.clear()
            if self._running is not None:
                self._running.cancelled.set()
            self._wake.notify()
        time.sleep(GRACE_SECONDS)  # a daemon thread: it dies with the process if that ends sooner
        os._exit(self._exit_code)

    # the main thread's side

    def _next_job(self) -> Job | None:
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            self._running = self._waiting.popleft() if self._waiting else None
            return self._running

    def _work(self, job: Job) -> None:
        try:
            handler = self._handler(job.type)
            answer, payload = handler(
                job.header, job.payload, Context(job, self._send, self._session)
            )
            if job.cancelled.is_set():
                raise Cancelled("Cancelled.")
            self._send({**answer, "id": job.identifier}, payload)
        except VelcroError as error:
            self._send_error(job.identifier, error)
        except MemoryError:
            self._send_error(
                job.identifier, VelcroError("There is not enough memory; close other programs.")
            )
        except Exception as error:
            detail = traceback.format_exc()
            print(detail, file=sys.stderr)
            self._send_error(
                job.identifier,
                VelcroError(
                    f"Something unexpected went wrong ({type(error).__name__}); "
                    "the log has the details.",
                    detail,
                ),
            )
        finally:
            with self._wake:
                self._running = None

    def _handler(self, message_type: str) -> Handler:
        place = self._handlers.get(message_type)
        if place is None:
            raise ProtocolError(f"The worker does not know the message '{message_type[:40]}'.")
        module, _, function = place.partition(":")
        return getattr(import_module(module), function)

    # both threads

    def _send_error(self, identifier: int | None, error: VelcroError) -> None:
        self._send(
            {
                "type": "error",
                "id": identifier,
                "kind": error.kind,
                "message": error.message,
                "detail": error.detail,
            }
        )

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        try:
            data = encode_frame(header, payload)
            with self._write_lock:
                self._sink.write(data)
                self._sink.flush()
        except OSError:
            os._exit(0)  # nobody listens any more


def claim_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """(binary stdin, binary stdout) for frames alone; prints then go to stderr."""
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (0, 1):
            msvcrt.setmode(descriptor, os.O_BINARY)
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    # What a library or a child reads from stdin must not be a frame.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return source, sink


def main(handlers: dict[str, str] | None = None) -> int:
    """Serve until stdin closes. Returns the exit code: 0, or 2 after a damaged frame."""
    source, sink = claim_standard_streams()
    return Worker(source, sink, HANDLERS if handlers is None else handlers).run()
