"""Which propagated segment is corrected, and whether it still can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from velcro_engine.errors import VelcroError

from ..frame.link_session import LinkSession
from ..scene.segmentation_result import findSegmentation
from ..scene.volume_geometry import VolumeGeometry, volumeFingerprint, volumeGeometry
from .start import PropagationStart, propagatedSegments, savedStart

SEGMENT_EVENTS = (
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
)


class CorrectionTarget(VTKObservationMixin):
    """Follows the session's volume; the newest propagated segment in it unless one is chosen.

    names: {segment id: name} of all that can be chosen. segmentationNode, segmentId: None and ""
    while there is none. nodeRemoved(), segmentsChanged(): something in the scene is different; both
    are called while it changes, so nothing may be removed from the scene then.
    """

    def __init__(
        self,
        session: LinkSession,
        nodeRemoved: Callable[[], None],
        segmentsChanged: Callable[[], None],
    ) -> None:
        VTKObservationMixin.__init__(self)
        self.names: dict[str, str] = {}
        self.segmentationNode: Any = None
        self.segmentId = ""
        self._session = session
        self._nodeRemoved = nodeRemoved
        self._segmentsChanged = segmentsChanged
        self._fingerprints: dict[tuple[str, str], str] = {}  # of the volume, for each segment
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeRemovedEvent, self._onNodeRemoved)

    def close(self) -> None:
        self.removeObservers()
        self.segmentationNode, self.names, self.segmentId = None, {}, ""

    @property
    def name(self) -> str:
        return self.names.get(self.segmentId, "")

    def choose(self, segmentId: str) -> None:
        self.segmentId = segmentId
        self.follow()

    def made(self, segmentId: str) -> None:
        """A segment was propagated just now: it is the one to look at, and to correct."""
        self.follow()
        if self.segmentationNode is not None:
            key = (self.segmentationNode.GetID(), segmentId)
            self._fingerprints[key] = volumeFingerprint(self._session.volumeNode)
        self.choose(segmentId)

    def follow(self) -> None:
        """Keep up with the session and the scene."""
        session = self._session
        volumeNode = session.volumeNode if session.parameters is not None else None
        node = None
        if volumeNode is not None and volumeNode.GetScene() is not None:
            node = findSegmentation(volumeNode.GetScene(), volumeNode)
        if session.parameters is None:
            self._fingerprints.clear()
        if node is not self.segmentationNode:
            self._watch(node)
            self.segmentId = ""
        self.names = propagatedSegments(node)
        if self.segmentId not in self.names:
            self.segmentId = next(reversed(self.names), "")
        if self.segmentId:
            # One that came with a scene: only from now on can be said whether the voxels change.
            key = (node.GetID(), self.segmentId)
            self._fingerprints.setdefault(key, volumeFingerprint(volumeNode))

    def start(self) -> PropagationStart | None:
        """What the segment was made from."""
        if self.segmentationNode is None:
            return None
        return savedStart(self.segmentationNode.GetSegmentation().GetSegment(self.segmentId))

    def geometry(self) -> VolumeGeometry | None:
        """Of the volume; None when it cannot be used now."""
        try:
            return volumeGeometry(self._session.volumeNode)
        except VelcroError:
            return None

    def whyNot(self, start: PropagationStart | None) -> str:
        """Why the segment cannot be corrected, "" when it can."""
        if start is None or self.segmentationNode is None:
            return _("How {name} was propagated cannot be read; propagate again.").format(
                name=self.name
            )
        geometry = self.geometry()
        known = self._fingerprints.get((self.segmentationNode.GetID(), self.segmentId))
        same = known == volumeFingerprint(self._session.volumeNode)
        if geometry is None or not same or not start.isAt(geometry.ijkToWorld):
            return _("The volume has changed since {name} was propagated; propagate again.").format(
                name=self.name
            )
        return ""

    def _watch(self, segmentationNode: Any | None) -> None:
        self.removeObservers(self._onSegmentsChanged)
        self.segmentationNode = segmentationNode
        if segmentationNode is None:
            return
        for event in SEGMENT_EVENTS:
            self.addObserver(segmentationNode.GetSegmentation(), event, self._onSegmentsChanged)

    def _onNodeRemoved(self, _caller: Any, _event: Any) -> None:
        if not slicer.mrmlScene.IsClosing():
            self._nodeRemoved()

    def _onSegmentsChanged(self, _caller: Any, _event: Any) -> None:
        self._segmentsChanged()
