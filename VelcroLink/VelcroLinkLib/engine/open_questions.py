"""The messages whose final answer the engine client waits for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from velcro_engine.errors import ProtocolError, VelcroError
from velcro_engine.messages.result import LinkResult

from ..scene.slice_request import PlacedRequest


@dataclass
class Question:
    """One message under way. placed: only for links. unwanted: cancelled or superseded, so that its
    answer is not shown."""

    messageType: str
    onAnswer: Callable[[dict[str, Any], bytes], None] | None = None
    onError: Callable[[str, str, str], None] | None = None
    placed: PlacedRequest | None = None
    unwanted: bool = False

    def isOnOtherSlice(self, placed: PlacedRequest) -> bool:
        return self.placed is None or self.placed.request.slice_id != placed.request.slice_id

    def linkResult(self, header: dict[str, Any], payload: bytes) -> LinkResult:
        """The result in an answer to a link. Raises ProtocolError when it does not fit."""
        try:
            result = LinkResult.from_message(dict(header["result"]), payload)
            if self.placed is None or result.mask.shape != self.placed.request.pixels.shape:
                raise ValueError(f"mask of shape {result.mask.shape}")
        except (VelcroError, KeyError, TypeError, ValueError) as error:
            raise ProtocolError(
                "The engine's answer is damaged; try again.", repr(error)
            ) from error
        return result

    def answer(self, header: dict[str, Any], payload: bytes) -> None:
        if self.onAnswer is not None and not self.unwanted:
            callSafely(self.onAnswer, header, payload)

    def fail(self, kind: str, message: str, detail: str = "") -> None:
        if self.onError is not None:
            if self.unwanted:
                kind, message = "cancelled", "Cancelled."
            callSafely(self.onError, kind, message, detail)


def callSafely(callback: Callable[..., Any], *arguments: Any) -> Any:
    """Result of a callback of the panel, None when it raised: its mistake goes to the log and must
    not stop the client in the middle of a change of state."""
    try:
        return callback(*arguments)
    except Exception:
        logging.exception("VelcroLink: a callback of the engine client failed")
        return None


class OpenQuestions:
    """Questions by their request id; ids rise and are never used twice."""

    def __init__(self) -> None:
        self._questions: dict[int, Question] = {}
        self._nextId = 1

    def __bool__(self) -> bool:
        return bool(self._questions)

    def takeId(self) -> int:
        """A fresh id."""
        requestId, self._nextId = self._nextId, self._nextId + 1
        return requestId

    def add(self, requestId: int, question: Question) -> int:
        """Open a question under this id; returns the id."""
        self._questions[requestId] = question
        return requestId

    def get(self, requestId: Any) -> Question | None:
        return self._questions.get(requestId)

    def close(self, requestId: Any) -> Question | None:
        """Take a question out; None when it is not (any more) open."""
        return self._questions.pop(requestId, None)

    def closeAll(self, messageType: str | None = None) -> list[Question]:
        """Take out all questions, or all of one type."""
        taken = {
            requestId: question
            for requestId, question in self._questions.items()
            if messageType is None or question.messageType == messageType
        }
        for requestId in taken:
            del self._questions[requestId]
        return list(taken.values())

    def markUnwanted(self) -> list[int]:
        """Nobody waits for any of them now; returns their ids, to be cancelled."""
        for question in self._questions.values():
            question.unwanted = True
        return list(self._questions)
