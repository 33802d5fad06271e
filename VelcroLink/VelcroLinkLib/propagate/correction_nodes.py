"""Points that correct a propagated segment: two point lists of the scene for each segment, one for
what belongs to it (+) and one for what does not (-).

They are saved with the scene, as the region that the segment was grown from is (`start`):
who opens it another day sees what was corrected, and can go on or take a point back. Two lists, not
one with a label for each point: a list has one colour and shape, and what a point means cannot be
lost by what the Markups module lets the user do with a point (select, rename, reorder).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..scene.placement import POINT_CLASS, removeMarkup

INSIDE, OUTSIDE = 1, 0
SEGMENT_ATTRIBUTE = "VelcroLink.corrects"  # id of the segment
LABEL_ATTRIBUTE = "VelcroLink.correctionLabel"  # "1" or "0"
SEGMENTATION_ROLE = "VelcroLink.correctedSegmentation"
# Told apart by shape too, for those who do not see these two colours apart.
COLOURS = {INSIDE: (0.2, 1.0, 0.3), OUTSIDE: (1.0, 0.2, 0.2)}
GLYPHS = {INSIDE: "ThickCross2D", OUTSIDE: "Dash2D"}
GLYPH_SCALE = 3.0  # per cent of the view


@dataclass(frozen=True)
class Point:
    """One click. ras: world RAS in mm. number: rises with every click, over both lists."""

    ras: tuple[float, float, float]
    label: int
    number: int
    node: Any
    index: int


def ownNodes() -> list[Any]:
    """All lists of correction points of the scene."""
    nodes = slicer.util.getNodesByClass(POINT_CLASS)
    return [node for node in nodes if node.GetAttribute(LABEL_ATTRIBUTE)]


def removeOrphans(isKept: Callable[[Any, str], bool]) -> None:
    """Remove the lists whose segment is gone: isKept(segmentation node or None, segment id)."""
    for node in ownNodes():
        segmentationNode = node.GetNodeReference(SEGMENTATION_ROLE)
        if not isKept(segmentationNode, node.GetAttribute(SEGMENT_ATTRIBUTE) or ""):
            removeMarkup(node)


def newNode(segmentationNode: Any, segmentId: str, label: int) -> Any:
    """An empty list in the scene. label: INSIDE or OUTSIDE."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    sign = "+" if label == INSIDE else "-"
    name = slicer.mrmlScene.GenerateUniqueName(f"{segment.GetName()} {sign}")
    node = slicer.mrmlScene.AddNewNodeByClass(POINT_CLASS, name)
    node.SetAttribute(LABEL_ATTRIBUTE, str(label))
    node.SetAttribute(SEGMENT_ATTRIBUTE, segmentId)
    node.SetNodeReferenceID(SEGMENTATION_ROLE, segmentationNode.GetID())
    node.SetDescription(
        _("What belongs to the segment.") if label else _("What does not belong to the segment.")
    )
    node.CreateDefaultDisplayNodes()
    displayNode = node.GetDisplayNode()
    displayNode.SetPointLabelsVisibility(False)  # they would cover the image
    displayNode.SetPropertiesLabelVisibility(False)
    displayNode.SetUseGlyphScale(True)
    displayNode.SetGlyphScale(GLYPH_SCALE)
    displayNode.SetGlyphTypeFromString(GLYPHS[label])
    for setColour in (displayNode.SetColor, displayNode.SetSelectedColor):
        setColour(*COLOURS[label])
    return node


def corrects(node: Any, segmentationNode: Any, segmentId: str) -> bool:
    """Whether a list belongs to this segment."""
    return (
        node.GetNodeReference(SEGMENTATION_ROLE) is segmentationNode
        and node.GetAttribute(SEGMENT_ATTRIBUTE) == segmentId
    )


def labelOf(node: Any) -> int:
    """INSIDE or OUTSIDE."""
    return INSIDE if node.GetAttribute(LABEL_ATTRIBUTE) == str(INSIDE) else OUTSIDE


def _number(node: Any, index: int) -> int:
    """Kept as the point's description, which is saved with it; 0 for a new one."""
    text = node.GetNthControlPointDescription(index) or ""
    return int(text) if text.isdecimal() else 0


def pointsIn(node: Any) -> list[Point]:
    """The placed points of one list; not the one that hangs on the mouse."""
    found = []
    for index in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(index) != node.PositionDefined:
            continue
        ras = [0.0, 0.0, 0.0]
        node.GetNthControlPointPositionWorld(index, ras)
        place = (float(ras[0]), float(ras[1]), float(ras[2]))
        found.append(Point(place, labelOf(node), _number(node, index), node, index))
    return found
