"""What the panel remembers with the scene (.mrb): the last link of each volume, so that the cards
are there again after loading. Kept as JSON in the parameter node, beside the typed parameters of
parameterNodeWrapper, which has no type for it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

from velcro_engine.messages.result import LinkedEntry, LinkResult

from ..scene.slice_request import PlacedRequest

_PARAMETER = "VelcroLink.savedLink."
_ROLE = "VelcroLink.linkedVolume."


@dataclass(frozen=True)
class SavedLink:
    """A link without its pixels: the mask is in the scene as the preview or an accepted segment."""

    entries: tuple[LinkedEntry, ...]
    abstained: bool
    attributes: dict[str, Any]
    plane: str | None
    model: str
    knowledgeBase: str


def savedFrom(placed: PlacedRequest, result: LinkResult) -> SavedLink:
    """The part of a result that is kept with the scene."""
    return SavedLink(
        tuple(result.entries),
        result.abstained,
        dict(result.attributes),
        placed.request.plane,
        result.model,
        result.knowledge_base,
    )


def saveLink(parameterNode: Any, volumeNode: Any, link: SavedLink | None) -> None:
    """Keep (or with None forget) the last link of a volume in a vtkMRMLScriptedModuleNode."""
    slot = _slotOf(parameterNode, volumeNode)
    if link is None:
        if slot is not None:
            parameterNode.UnsetParameter(_PARAMETER + slot)
            parameterNode.SetNodeReferenceID(_ROLE + slot, None)
        return
    if slot is None:
        slot = _freeSlot(parameterNode)
        # A node reference, not the id as text: ids change when a scene is loaded into another.
        parameterNode.SetNodeReferenceID(_ROLE + slot, volumeNode.GetID())
    parameterNode.SetParameter(_PARAMETER + slot, json.dumps(asdict(link), default=str))


def savedLink(parameterNode: Any, volumeNode: Any) -> SavedLink | None:
    """The kept link of a volume; None when there is none or it was damaged."""
    slot = _slotOf(parameterNode, volumeNode)
    if slot is None:
        return None
    try:
        values = json.loads(parameterNode.GetParameter(_PARAMETER + slot))
        values["entries"] = tuple(LinkedEntry(**entry) for entry in values["entries"])
        return SavedLink(**values)
    except (ValueError, TypeError, KeyError) as error:
        logging.warning("VelcroLink: the saved link cannot be read: %r", error)
        return None


def _slots(parameterNode: Any) -> list[str]:
    names = parameterNode.GetParameterNames()
    return [name[len(_PARAMETER) :] for name in names if name.startswith(_PARAMETER)]


def _slotOf(parameterNode: Any, volumeNode: Any) -> str | None:
    if volumeNode is None:
        return None
    for slot in _slots(parameterNode):
        if parameterNode.GetNodeReference(_ROLE + slot) is volumeNode:
            return slot
    return None


def _freeSlot(parameterNode: Any) -> str:
    """A slot whose volume was deleted is used again, so that they do not pile up."""
    slots = _slots(parameterNode)
    for slot in slots:
        if parameterNode.GetNodeReference(_ROLE + slot) is None:
            return slot
    return str(max((int(slot) for slot in slots if slot.isdigit()), default=0) + 1)
