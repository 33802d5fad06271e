"""How the heads of the scene's volumes lie in their scans, asked of the engine in idle moments.

A few slices of a volume go to the worker one by one, so that a link asked for meanwhile waits for one
slice at most; what it answers replaces the volume's foreground in every later question
(`velcro_engine.head.frame`). Knows no widget. All on the main thread, in steps of one slice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import qt

from velcro_engine.errors import VelcroError
from velcro_engine.messages.head_cuts import LOOKS, can_hold_head, head_cuts
from velcro_engine.messages.request import Foreground, SliceRequest

from ..scene.volume_geometry import volumeFingerprint
from .client import EngineClient

FRAMES_KEPT = 16
Cutter = Callable[[Any, str, tuple[float, float, float]], SliceRequest]


class HeadFrames:
    """What one model found, or did not find, is forgotten with the next. An answer that is shown
    already is left alone: it must not change under the hand that accepts or corrects it."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._known: OrderedDict[str, Foreground | None] = OrderedDict()
        self._volumeNode: Any = None
        self._fingerprint = ""
        self._foreground: Foreground | None = None  # of the volume, before a head was found
        self._cutter: Cutter | None = None
        self._slices: Iterator[tuple[SliceRequest, bool, bool]] | None = None
        self._looks = 0
        self._questionId: int | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._next)
        client.loaded.connect(self._onLoaded)

    def of(self, fingerprint: str) -> Foreground | None:
        """The frame of the head in the volume of this fingerprint, None while none is known."""
        return self._known.get(fingerprint)

    def look(self, volumeNode: Any, foreground: Foreground | None, modality: str | None,
             cutter: Cutter) -> None:  # fmt: skip
        """Look for a head in the volume unless that was done or is under way.

        cutter(volumeNode, plane, RAS point): the slice through a point, with the volume's foreground.
        """
        if not can_hold_head(modality, foreground):
            return
        fingerprint = volumeFingerprint(volumeNode)
        if fingerprint in self._known or (self._slices and fingerprint == self._fingerprint):
            return
        self.stop()
        assert foreground is not None
        self._volumeNode, self._fingerprint, self._cutter = volumeNode, fingerprint, cutter
        self._looks, self._foreground = 0, foreground
        self._begin(foreground)

    def stop(self) -> None:
        """Leave the volume that is looked at; it can be looked at again later."""
        self._timer.stop()
        if self._questionId is not None:
            self._client.forget(self._questionId)
        self._questionId = self._slices = self._volumeNode = self._cutter = None

    def forget(self) -> None:
        """The scene is closed."""
        self.stop()
        self._known.clear()

    def close(self) -> None:
        self.forget()
        self._client.loaded.disconnect(self._onLoaded)

    def _onLoaded(self, _header: dict[str, Any]) -> None:
        self.forget()

    def _begin(self, foreground: Foreground) -> None:
        self._looks += 1
        self._slices = self._slicesOf(foreground)
        self._timer.start()

    def _slicesOf(self, foreground: Foreground) -> Iterator[tuple[SliceRequest, bool, bool]]:
        """(question, first, last) of every slice, told to lie in `foreground`. They are cut by the
        volume's own one each time: a head may reach far beyond what was scanned of it."""
        assert self._foreground is not None and self._cutter is not None
        cuts = head_cuts(self._foreground)
        for number, (plane, point) in enumerate(cuts):
            cut = self._cutter(self._volumeNode, plane, point)
            request = replace(cut, foreground=foreground, slice_id="")
            yield request, number == 0, number == len(cuts) - 1

    def _next(self) -> None:
        """Cut one slice and send it."""
        if self._slices is None:
            return
        try:
            if volumeFingerprint(self._volumeNode) != self._fingerprint:
                self.stop()
                return
            request, first, last = next(self._slices)
        except (VelcroError, StopIteration):
            self._remember(None)
            return
        header, payload = request.to_message()
        self._questionId = self._client.ask(
            "head",
            {"request": header, "first": first, "last": last},
            payload,
            onAnswer=self._onAnswer,
            onError=self._onError,
        )

    def _onAnswer(self, header: dict[str, Any], _payload: bytes) -> None:
        self._questionId = None
        if "foreground" not in header:
            self._timer.start()
            return
        told = header["foreground"]
        try:
            found = None if told is None else Foreground.from_message(told)
        except (KeyError, TypeError, ValueError):
            found = None
        if found is not None and header.get("far") is True and self._looks < LOOKS:
            self._begin(found)
            return
        self._remember(found)

    def _onError(self, kind: str, _message: str, _detail: str) -> None:
        self._questionId = None
        if kind == "cancelled":
            self.stop()  # the user wanted quiet; the next link asks again
        else:
            self._remember(None)

    def _remember(self, found: Foreground | None) -> None:
        fingerprint = self._fingerprint
        self.stop()
        self._known[fingerprint] = found
        while len(self._known) > FRAMES_KEPT:
            self._known.popitem(last=False)
