"""One question of a tab to the engine at a time: a newer one takes the place of the older."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from slicer.i18n import tr as _

from velcro_engine.errors import ProtocolError

from ..engine.client import EngineClient

DAMAGED = "The engine's answer is damaged; try again."


class TabQuestion:
    """changed(): running or not any more. failed(kind, text): what to tell the user; kind is
    "information" for a cancelled question, else "error"."""

    def __init__(
        self,
        client: EngineClient,
        changed: Callable[[], None],
        failed: Callable[[str, str], None],
    ) -> None:
        self._client = client
        self._changed = changed
        self._failed = failed
        self._number = 0
        self._id = 0
        self.isRunning = False

    def ask(
        self,
        messageType: str,
        fields: Mapping[str, Any],
        payload: bytes,
        onResult: Callable[[dict[str, Any], bytes], None],
    ) -> None:
        """Call onResult(the answer's "result", payload) unless `drop` or another `ask` comes first.
        An answer that onResult cannot read (KeyError, TypeError, ValueError) counts as a failure."""
        self.drop()
        self._number += 1
        number = self._number
        self.isRunning = True

        def answered(header: dict[str, Any], data: bytes) -> None:
            if number != self._number:
                return
            self.isRunning = False
            try:
                onResult(dict(header["result"]), data)
            except (KeyError, TypeError, ValueError, ProtocolError) as error:
                logging.info("VelcroLink: answer to '%s': %r", messageType, error)
                self._failed("error", _(DAMAGED))
            self._changed()

        def failed(kind: str, message: str, detail: str) -> None:
            if number != self._number:
                return
            self.isRunning = False
            if detail:
                logging.info("VelcroLink: %s: %s (%s)", kind, message, detail)
            self._failed("information" if kind == "cancelled" else "error", message)
            self._changed()

        self._id = self._client.ask(messageType, fields, payload, answered, failed)
        self._changed()

    def drop(self) -> None:
        """The answer is no longer of interest."""
        self._number += 1
        if self.isRunning:
            self.isRunning = False
            self._client.forget(self._id)
