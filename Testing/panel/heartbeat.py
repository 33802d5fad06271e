"""A timer that should beat every few milliseconds, and how long it was kept from beating."""

from __future__ import annotations

import time

from PySide6 import QtCore

from host.slice_view import SliceRenderer

INTERVAL_MS = 5


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.thread_time() - SliceRenderer.drawing


class Heartbeat:
    """Between two beats, on the main thread: `wall` is the time that passed, `work` the processor
    time that the thread used. On a computer that is busy with something else `wall` grows without
    anything being blocked; `work` does not. Both in ms, of the worst beat since `start`. What the
    host's slice views take to draw without a graphics card is no work of the panel's: it is left
    out of `work` (in 3D Slicer the application draws them).
    """

    def __init__(self) -> None:
        self.wall = self.work = 0.0
        self.beats = 0
        self.marks: dict[str, tuple[float, float]] = {}
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._last = _now()

    def start(self) -> None:
        self.wall = self.work = 0.0
        self._last = _now()
        self._timer.start(INTERVAL_MS)

    def stop(self, name: str) -> None:
        """End a phase and keep its worst beat under a name."""
        self._beat()
        self._timer.stop()
        self.marks[name] = (self.wall, self.work)

    def _beat(self) -> None:
        now = _now()
        self.wall = max(self.wall, 1000 * (now[0] - self._last[0]))
        self.work = max(self.work, 1000 * (now[1] - self._last[1]))
        self._last = now
        self.beats += 1
