"""What the worker does for `head`: one slice a message, so that a link never waits for long."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..head.frame import HeadSearch
from ..head.turns import is_far
from .context import Context
from .handlers import current_linker, question_slice


def head(header: dict[str, Any], payload: bytes, context: Context) -> tuple[dict[str, Any], bytes]:
    """{request: SliceRequest, first: bool, last: bool}: one of the slices of `messages.head_cuts`, all with
    the same foreground. Answers {foreground, far} with the last one: the head's frame, or None, and
    whether the slices should be sent once more with it. A message in between answers {}.

    Raises InputError for a slice without a position, and when the first slice never came."""
    request = question_slice(header, payload)
    if request.foreground is None or request.pixel_to_ras is None:
        raise InputError("A head is looked for in slices that have a position.")
    if header.get("first") is True:
        context.session["head"] = HeadSearch(current_linker(context).runtime, request.foreground)
    search = context.session.get("head")
    if search is None:
        raise InputError("The first slice of the head is missing; send all of them again.")
    search.look(request)
    if header.get("last") is not True:
        return {"type": "head"}, b""
    found = context.session.pop("head").found()
    return {
        "type": "head",
        "foreground": None if found is None else found.to_message(),
        "far": found is not None and is_far(found, request.foreground),
    }, b""
