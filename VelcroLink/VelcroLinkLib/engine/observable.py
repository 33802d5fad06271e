"""A small observer class: PythonQt crashes on `qt.Signal` in a Python class, so the panel uses this."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any


class Signal:
    """Calls its observers in the order they were connected, on the emitting thread."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._observers: list[Callable[..., Any]] = []

    def connect(self, observer: Callable[..., Any]) -> None:
        """Add an observer; connecting the same one twice keeps one."""
        if observer not in self._observers:
            self._observers.append(observer)

    def disconnect(self, observer: Callable[..., Any]) -> None:
        """Remove an observer; unknown ones are ignored, so that cleaning up twice is safe."""
        if observer in self._observers:
            self._observers.remove(observer)

    def disconnectAll(self) -> None:
        self._observers.clear()

    @property
    def observerCount(self) -> int:
        return len(self._observers)

    def emit(self, *arguments: Any) -> None:
        """Call every observer. One that raises is logged and does not keep the others waiting:
        a mistake in one part of the panel must not stop the engine client in the middle of a
        change of state."""
        for observer in tuple(self._observers):
            try:
                observer(*arguments)
            except Exception:
                logging.exception("VelcroLink: an observer of '%s' failed", self.name)
