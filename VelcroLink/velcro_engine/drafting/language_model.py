"""An optional language model behind an OpenAI-compatible address the user types. Off by default.

Only addresses of this machine are used unless the user confirms another one; redirects and proxies
are not followed, since they would carry the text elsewhere.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from ..messages.addresses import check_address

SECONDS = 60
LARGEST_ANSWER = 2 * 1024 * 1024
INSTRUCTION = (
    "Reword the numbered sentences as the findings section of a radiology report. Use only what they "
    "say. Add no finding, number, side, cause, advice or diagnosis. Keep quotations of other cases "
    "marked as such. Answer with the sentences only."
)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def prompt_of(sentences: Sequence[str]) -> str:
    """What the model is sent, as it is shown to the user before."""
    numbered = "\n".join(f"{n}. {text}" for n, text in enumerate(sentences, start=1))
    return f"{INSTRUCTION}\n\n{numbered}"


def reword(
    address: str, model: str, prompt: str, remote_confirmed: bool = False, seconds: float = SECONDS
) -> str:
    """The model's answer as plain text.

    address: base such as http://localhost:11434/v1. Raises InputError for an address that is not
    local and not confirmed, a server that does not answer or answers something else.
    """
    check_address(address, remote_confirmed)
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "stream": False,
    }
    request = urllib.request.Request(
        address.rstrip("/") + "/chat/completions",
        data=json.dumps(body).encode("utf-8"),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(request, timeout=seconds) as answer:
            data = answer.read(LARGEST_ANSWER + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InputError(
            f"The language model at '{address}' did not answer; check the address and that it runs.",
            repr(error),
        ) from error
    if len(data) > LARGEST_ANSWER:
        raise InputError(f"The language model at '{address}' answered too much; nothing was used.")
    try:
        content = json.loads(data.decode("utf-8"))["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise InputError(
            f"'{address}' is no OpenAI-compatible server; its address ends in /v1.", repr(error)
        ) from error
    if not isinstance(content, str) or not content.strip():
        raise InputError(f"The language model at '{address}' answered nothing.")
    return content.strip()
