"""What the worker does for `draft`."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..messages.result import LinkResult
from .context import Context
from .handlers import current_linker


def draft(header: dict[str, Any], payload: bytes, context: Context) -> tuple[dict[str, Any], bytes]:
    """{linked: LinkResult header (payload its bytes), use_cases?: bool,
    llm?: {address, model, remote_confirmed}} -> {"result": `draft_document`}.

    With "prompt_only" true nothing is sent to a language model; the answer's "prompt" is what would
    be, for the panel to show first.
    """
    from ..drafting.check import checked_wording
    from ..drafting.draft import draft_document, draft_report
    from ..drafting.language_model import prompt_of, reword
    from ..drafting.similar import similar_sentences
    from .cases_handlers import store_of

    if not isinstance(header.get("linked"), dict):
        raise InputError("The request holds no linked region.")
    result = LinkResult.from_message(header["linked"], payload)
    linker = current_linker(context)
    hits = []
    if header.get("use_cases", True) and result.embedding is not None:
        hits = similar_sentences(store_of(context), linker, result)
    context.check_cancelled()
    made = draft_report(result, linker.knowledge_base, hits)
    answer = draft_document(made)
    texts = [sentence.text for sentence in made.sentences]
    answer["prompt"] = prompt_of(texts)
    model = header.get("llm")
    if model is not None and not header.get("prompt_only"):
        if not isinstance(model, dict) or not isinstance(model.get("address"), str):
            raise InputError("The language model needs an address.")
        wording = reword(
            model["address"],
            str(model.get("model") or "default"),
            answer["prompt"],
            model.get("remote_confirmed") is True,
        )
        context.check_cancelled()
        names = linker.knowledge_base.entry(result.entries[0].id).terms
        kept, struck = checked_wording(wording, made, names)
        answer["wording"] = kept
        answer["struck"] = [{"text": text, "reason": reason} for text, reason in struck]
    return {"type": "draft", "result": answer}, b""
