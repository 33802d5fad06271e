"""What the panel remembers with the scene (.mrb): kept as JSON in a scripted module node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SavedLink:
    """The last link, so that the cards are there again after loading a scene."""

    entries: tuple[dict[str, Any], ...]
    abstained: bool
    attributes: dict[str, Any]
    plane: str | None
    model: str
    knowledgeBase: str


def saveLink(parameterNode: Any, volumeNode: Any, link: SavedLink | None) -> None:
    raise NotImplementedError


def savedLink(parameterNode: Any, volumeNode: Any) -> SavedLink | None:
    raise NotImplementedError
