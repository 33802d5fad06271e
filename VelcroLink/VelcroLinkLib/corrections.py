"""Corrections the user made, kept as JSON lines in the user's data folder and never lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Correction:
    """What the engine linked and what it should have been."""

    sliceId: str
    linkedEntryId: str
    linkedConfidence: float
    rightEntryId: str
    side: str | None
    plane: str | None
    modality: str | None
    model: str
    knowledgeBase: str
    embedding: tuple[float, ...] = ()
    note: str = ""


class CorrectionFile:
    """Append-only JSON lines; a line cut off by a killed process spoils only itself."""

    def __init__(self, folder: Any) -> None:
        raise NotImplementedError

    def append(self, correction: Correction) -> None:
        raise NotImplementedError

    def read(self) -> list[Correction]:
        raise NotImplementedError
