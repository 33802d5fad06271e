"""A draft report as the engine tells it, and the text of it that is shown and copied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _


@dataclass(frozen=True)
class DraftView:
    """sentences: (text, source, reference). wording: a language model's version, "" without one;
    struck: its sentences that no source says, with the reason. prompt: what a model is sent."""

    notice: str
    sentences: tuple[tuple[str, str, str], ...]
    wording: str
    struck: tuple[tuple[str, str], ...]
    prompt: str

    @classmethod
    def fromAnswer(cls, told: Mapping[str, Any]) -> DraftView:
        """From a `draft` answer. Raises KeyError, TypeError or ValueError when it is none."""
        sentences = tuple(
            (str(s["text"]), str(s["source"]), str(s["reference"])) for s in told["sentences"]
        )
        if not sentences:
            raise ValueError("a draft without sentences")
        return cls(
            notice=str(told["notice"]),
            sentences=sentences,
            wording=str(told.get("wording") or ""),
            struck=tuple((str(s["text"]), str(s["reason"])) for s in told.get("struck") or ()),
            prompt=str(told.get("prompt") or ""),
        )

    @property
    def text(self) -> str:
        """What is copied: the notice that it is a draft, then the body."""
        return f"{self.notice}\n\n{self.body}"

    @property
    def body(self) -> str:
        """Plain text: every sentence with the number of its source, the sources below."""
        lines = []
        if self.wording:
            lines += [self.wording, "", _("Worded by a language model from these sentences:")]
        lines += [f"{s[0]} [{n}]" for n, s in enumerate(self.sentences, start=1)]
        lines += ["", _("Sources")]
        lines += [
            f"[{n}] {_sourceName(source)}: {reference}"
            for n, (_said, source, reference) in enumerate(self.sentences, start=1)
        ]
        if self.struck:
            lines += ["", _("Struck out, because no source says it")]
            lines += [f"- {text} ({reason})" for text, reason in self.struck]
        return "\n".join(lines) + "\n"


def _sourceName(source: str) -> str:
    names = {"link": _("link"), "measurement": _("measurement"), "case": _("similar case")}
    return names.get(source, source)
