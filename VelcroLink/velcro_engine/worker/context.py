"""One request to the worker, and what a handler may ask of the worker while it works on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import Cancelled

PROGRESS_SECONDS = 0.1  # at most ten progress messages a second


@dataclass
class Job:
    """One request that waits or runs."""

    identifier: int
    header: dict[str, Any]
    payload: bytes
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def type(self) -> str:
        return str(self.header["type"])


class Context:
    """What a handler may ask of the worker while it works on one request.

    session: a dict that outlives the request, in which handlers keep what they loaded.
    """

    def __init__(self, job: Job, send: Callable[..., None], session: dict[str, Any]) -> None:
        self._job = job
        self._send = send
        self._started = self._told = time.monotonic()
        self.session = session

    def check_cancelled(self) -> None:
        """Raises Cancelled when the request is no longer wanted."""
        if self._job.cancelled.is_set():
            raise Cancelled("Cancelled.")

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell how far the work is (0..1); also raises Cancelled when it is no longer wanted."""
        self.check_cancelled()
        now = time.monotonic()
        if now - self._told < PROGRESS_SECONDS and fraction < 1.0:
            return
        self._told = now
        fraction = min(max(float(fraction), 0.0), 1.0)
        remaining = (now - self._started) * (1 - fraction) / fraction if fraction > 0.02 else None
        self._send(
            {
                "type": "progress",
                "id": self._job.identifier,
                "fraction": fraction,
                "message": message,
                "remaining_s": remaining,
            }
        )


Handler = Callable[[dict[str, Any], bytes, Context], tuple[dict[str, Any], bytes]]
