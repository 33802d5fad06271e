"""Corrections of a propagated segment: points on any slice, one button, and it is grown again.

A frame below Propagate, there only while the chosen volume has a segment that was propagated. What
is sent is the segment's start with all of its points, so that the worker, also one that was
restarted meanwhile, needs to remember nothing. The segment's voxels are changed by an answer and by
nothing else: after Cancel or an error they are as they were.
"""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from velcro_engine.errors import VelcroError

from ..frame.link_session import LinkSession
from ..frame.tab_widgets import offer, setQuietly
from ..scene.mask_voxels import VoxelMask
from ..scene.volume_geometry import volumeGeometry
from .action import PropagateAction
from .correction_frame import CorrectionFrame
from .correction_marks import (
    correctionFields,
    isInVolume,
    layersOf,
    marksMissed,
    marksOf,
    sameMarks,
)
from .correction_nodes import INSIDE, OUTSIDE, Point, removeOrphans
from .correction_points import CorrectionPoints
from .correction_target import CorrectionTarget
from .segment import measuredText, recordResult, replaceVoxels
from .start import PropagationStart, isPropagated


class PropagateCorrections:
    """Shows the frame below `layout`'s widgets and corrects with the run of `action`."""

    def __init__(
        self, parent: Any, layout: Any, session: LinkSession, action: PropagateAction
    ) -> None:
        self._session = session
        self._action = action
        self._running: tuple[Any, str] | None = None  # segmentation and segment being corrected
        # Removing nodes must wait until the scene has done with what it tells about.
        self._tidyTimer = qt.QTimer()
        self._tidyTimer.setSingleShot(True)
        self._tidyTimer.setInterval(0)
        self._tidyTimer.connect("timeout()", self._tidy)
        self.target = CorrectionTarget(session, self._onNodeRemoved, self._tidySoon)
        self.points = CorrectionPoints(self.render, self._onRefused, self._isInVolume)
        self.frame = frame = CorrectionFrame(parent, layout)
        frame.selector.connect("currentIndexChanged(int)", self._onChosen)
        frame.insideButton.connect("clicked(bool)", lambda on: self._onPlace(on, INSIDE))
        frame.outsideButton.connect("clicked(bool)", lambda on: self._onPlace(on, OUTSIDE))
        frame.takeBackButton.connect("clicked(bool)", lambda _on: self.points.takeBack())
        frame.clearButton.connect("clicked(bool)", lambda _on: self.points.clear())
        frame.applyButton.connect("clicked(bool)", lambda _on: self.apply())
        session.changed.connect(self.render)
        action.run.changed.connect(self.render)
        action.made.connect(self.target.made)
        self.render()

    def close(self) -> None:
        """Let go of the scene; points and segments stay in it."""
        self._session.changed.disconnect(self.render)
        self._action.run.changed.disconnect(self.render)
        self._action.made.disconnect(self.target.made)
        self._tidyTimer.stop()
        self.points.close()
        self.target.close()

    # --- drawing ----------------------------------------------------------------------------------
    def render(self) -> None:
        target, frame = self.target, self.frame
        target.follow()
        self.points.follow(target.segmentationNode, target.segmentId)
        self._followRun()
        frame.showSegments(target.names, target.segmentId)
        if not target.segmentId:
            return
        name, start, points = target.name, target.start(), self.points.points()
        reason = target.whyNot(start)
        inside = _("Then click on what belongs to {name}, on any slice.").format(name=name)
        outside = _("Then click on what does not belong to {name}, on any slice.").format(name=name)
        for button, label, tip in (
            (frame.insideButton, INSIDE, inside),
            (frame.outsideButton, OUTSIDE, outside),
        ):
            offer(button, reason, tip)
            setQuietly(button, "checked", self.points.placing == label)
        none = "" if points else _("There are no points yet.")
        offer(frame.takeBackButton, none, _("Remove the last point."))
        offer(frame.clearButton, none, _("Remove all points of this segment."))
        offer(
            frame.applyButton,
            self._whyNotApply(start, points),
            _(
                "Propagate {name} again from where it started, with these points. It is replaced, "
                "also what was edited in it by hand."
            ).format(name=name),
        )
        frame.label.text = self._stateText(start, points, reason)

    def _whyNotApply(self, start: PropagationStart | None, points: list[Point]) -> str:
        if self._action.run.isRunning:
            return _("A propagation is under way.")
        reason = self.target.whyNot(start)
        if reason or start is None or not sameMarks(marksOf(points), start.corrections):
            return reason
        if not points:
            return _("Click points first, where the segment is wrong.")
        return _("It was propagated with these points.")

    def _stateText(self, start: PropagationStart | None, points: list[Point], reason: str) -> str:
        if reason or start is None:
            return reason
        if self.points.placing == INSIDE:
            return _("Click on what belongs to it, on any slice. Esc leaves it.")
        if self.points.placing == OUTSIDE:
            return _("Click on what does not belong to it, on any slice. Esc leaves it.")
        done = sameMarks(marksOf(points), start.corrections)
        if not points:
            if not done:
                return _("Propagate again to take the corrections back.")
            return _("Where it is wrong, mark what belongs to it and what does not.")
        inside = sum(point.label == INSIDE for point in points)
        text = _("{inside} inside, {outside} outside; {plane} slices: {slices}.").format(
            inside=inside,
            outside=len(points) - inside,
            plane=start.plane,
            slices=len(layersOf(points, self.target.geometry(), start.plane)),
        )
        if self._running is not None:
            return text
        return text + " " + (_("Propagated.") if done else _("Not propagated yet."))

    # --- what the user does -----------------------------------------------------------------------
    def _onChosen(self, index: int) -> None:
        self.target.choose(self.frame.segmentAt(index))
        self.render()

    def _onPlace(self, on: bool, label: int) -> None:
        if on:
            if self._session.isPlacing:
                self._session.stopPlacing()
            self._session.client.start()  # the model loads meanwhile
            self.points.place(label)
        else:
            self.points.stopPlacing()
        self.render()

    def apply(self) -> None:
        """Propagate the segment again with its points."""
        self.points.stopPlacing()
        self.target.follow()
        start, points = self.target.start(), self.points.points()
        geometry = self.target.geometry()
        if start is None or geometry is None or self._whyNotApply(start, points):
            self.render()
            return
        if not all(isInVolume(point.ras, geometry) for point in points):
            self._session.notify(
                "warning",
                _("A point lies outside the volume; drag it into the image or take it back."),
            )
            return
        new = start.withCorrections(marksOf(points))
        corrections = correctionFields(layersOf(points, geometry, start.plane))
        self._session.notify("", "")
        self._running = (self.target.segmentationNode, self.target.segmentId)
        self._action.run.start(
            self._session.volumeNode,
            start.fields | {"corrections": corrections},
            onVoxels=lambda result, voxels: self._replace(new, result, voxels),
            onFailed=self._session.notify,
            sentBefore=True,
        )

    # --- answers ----------------------------------------------------------------------------------
    def _replace(self, start: PropagationStart, result: dict[str, Any], voxels: VoxelMask) -> None:
        run = self._action.run
        volumeNode, running = run.volumeNode, self._running
        run.stop(tellWorker=False)
        if running is None:
            return
        try:
            replaceVoxels(volumeNode, running[1], voxels)
            name = recordResult(volumeNode, running[1], start, result)
        except VelcroError as error:
            self._session.notify("warning", error.message)
            return
        text = _("Corrected: {what}.").format(what=measuredText(name, result))
        missed = marksMissed(start.corrections, voxels, volumeGeometry(volumeNode))
        if missed:
            text += " " + _(
                "Points not followed: {missed} of {count}; some contradict each other."
            ).format(missed=missed, count=len(start.corrections))
        self._session.notify("warning" if missed else "information", text)

    def _followRun(self) -> None:
        """Stop correcting a segment that was deleted meanwhile."""
        if self._running is None:
            return
        node, segmentId = self._running
        if not self._action.run.isRunning:
            self._running = None
        elif not slicer.mrmlScene.IsNodePresent(node) or (
            node.GetSegmentation().GetSegment(segmentId) is None
        ):
            self._running = None
            self._action.run.stop(tellWorker=True)
            self._session.notify(
                "information", _("The segment was removed; its propagation was stopped.")
            )

    # --- scene ------------------------------------------------------------------------------------
    def _isInVolume(self, ras: Any) -> bool:
        geometry = self.target.geometry()
        # Without one there is nothing to compare with; what is wrong is said when it is sent.
        return geometry is None or isInVolume(ras, geometry)

    def _onRefused(self) -> None:
        self._session.notify(
            "warning", _("That point lies outside the volume; click inside the image.")
        )

    def _onNodeRemoved(self) -> None:
        self.points.forgetRemoved()
        self._tidySoon()

    def _tidySoon(self) -> None:
        self._tidyTimer.start()

    def _tidy(self) -> None:
        if self._session.parameters is not None:
            removeOrphans(isPropagated)
            self.render()
