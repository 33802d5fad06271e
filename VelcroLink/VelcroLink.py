"""The VelcroLink module of 3D Slicer: wiring between Slicer and VelcroLinkLib."""

import os
from typing import Annotated

import vtk

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin
from slicer.parameterNodeWrapper import parameterNodeWrapper, WithinRange

from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode


class VelcroLink(ScriptedLoadableModule):
    """Uses ScriptedLoadableModule base class."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("VelcroLink")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Markups", "Segmentations", "Terminologies", "Volumes"]
        self.parent.contributors = ["VelcroLink contributors"]
        self.parent.helpText = _(
            "Draw a region of interest in a slice view and read what it is: the mask, the linked "
            "entries of a knowledge base, and their sources. For research and teaching; not for "
            "clinical use."
        )
        self.parent.acknowledgementText = _(
            "The method is VELCRO: Carbone, Hebert, Cohen, Golab, Visual Medical Entity Linking "
            "with VELCRO, ML4H 2025, PMLR 297:1126-1140 (2026)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer Slicer's own samples under VelcroLink in the Sample Data module."""
    try:
        import SampleData  # noqa: F401
    except ImportError:
        return  # a Slicer that was built without the Sample Data module
    from VelcroLinkLib.scene.sample_data import registerSampleData as register

    register()


@parameterNodeWrapper
class VelcroLinkParameterNode:
    """What is saved with the scene.

    volume - the image to link in.
    roi, point - the region of interest, or the point clicked on; one of them at a time.
    threshold - below this confidence no entry matches.
    """

    volume: vtkMRMLScalarVolumeNode
    roi: vtkMRMLMarkupsROINode
    point: vtkMRMLMarkupsFiducialNode
    threshold: Annotated[float, WithinRange(0.0, 0.95)] = 0.0


class VelcroLinkWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's small panel at the left; it opens the docked panel at the right."""

    usesDock = True

    def __init__(self, parent=None) -> None:
        self.logic = self.panel = self.dock = None
        self._parameterNode = self._parameterNodeGuiTag = None
        VTKObservationMixin.__init__(self)
        # Last: without a parent this calls setup() already.
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self) -> None:
        """Called when the user opens the module the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/VelcroLink.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = VelcroLinkLogic()

        scene = slicer.mrmlScene
        for event in (scene.StartCloseEvent, scene.StartImportEvent):
            self.addObserver(scene, event, self.onSceneAboutToChange)
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self.onSceneChanged)
        self.ui.showPanelButton.connect("toggled(bool)", self.onShowPanel)
        for name in ("MRHead", "MRBrainTumor1", "CTChest"):
            button = getattr(self.ui, f"sample{name}Button")
            button.connect("clicked(bool)", lambda _c, name=name: self.onSample(name))

    def cleanup(self) -> None:
        """Called when the application closes, and before a reload."""
        self.removeObservers()
        self.setParameterNode(None)
        if self.dock is not None:
            self.dock.close()
        if self.panel is not None:
            self.panel.close()
        self.dock = self.panel = None
        if self.logic is not None:
            self.logic.close()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        if self.panel is None:
            self.ui.showPanelButton.checked = True
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called when the user opens another module: the docked panel goes on working."""

    def onReload(self) -> None:
        """Reload the packages too; Slicer itself reloads this file only."""
        import sys

        for name in list(sys.modules):
            if name.split(".")[0] in ("VelcroLinkLib", "velcro_engine"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onShowPanel(self, show: bool) -> None:
        """Show or hide the panel; it is made when it is shown for the first time."""
        if show and self.panel is None:
            self.makePanel()
        if self.dock is not None:
            self.dock.setVisible(show)
        elif self.panel is not None:
            self.panel.widget.setVisible(show)
        if show:
            self.initializeParameterNode()

    def makePanel(self) -> None:
        """The panel in a dock, or in this module's panel when there is no main window."""
        from VelcroLinkLib.panel import PanelDock, VelcroLinkPanel

        self.panel = VelcroLinkPanel(self.resourcePath, self.logic.session, self.logic.decisions)
        if self.usesDock and slicer.util.mainWindow() is not None:
            self.dock = PanelDock(self.panel, self.onDockVisibility)
        else:
            self.layout.addWidget(self.panel.widget)

    def onDockVisibility(self, visible: bool) -> None:
        self.ui.showPanelButton.checked = visible

    def onSample(self, name: str) -> None:
        """Download a sample and show it; the user has just asked for it."""
        from velcro_engine.errors import InputError
        from VelcroLinkLib.scene.sample_data import loadSample

        self.ui.showPanelButton.checked = True  # says what went wrong, if anything does
        try:
            self._parameterNode.volume = loadSample(name)
        except InputError as error:
            self.logic.session.notify("warning", error.message)

    def onSceneAboutToChange(self, caller, event) -> None:
        """The scene closes or loads: the parameter node may go, nothing may use it meanwhile."""
        self.setParameterNode(None)

    def onSceneChanged(self, caller, event) -> None:
        """The scene was closed or loaded; a hidden panel looks at it when it is shown again."""
        if self.ui.showPanelButton.checked and not slicer.mrmlScene.IsImporting():
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Make sure that the scene's parameter node exists and is shown."""
        if self.panel is not None:
            self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, inputParameterNode: VelcroLinkParameterNode | None) -> None:
        """Bind the panel and the session to a parameter node, or let go of the one before."""
        same = self._parameterNode is not None and inputParameterNode is not None
        if same and self._parameterNode.parameterNode is inputParameterNode.parameterNode:
            return
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.logic.session.detach()
        self._parameterNode = inputParameterNode
        if self._parameterNode is not None:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.panel.ui)
            self.logic.session.attach(self._parameterNode)


class VelcroLinkLogic(ScriptedLoadableModuleLogic):
    """The engine's client and the session that links in the scene; usable without a panel."""

    POLL_MS = 20

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        import qt

        from VelcroLinkLib.engine import setup as engine_setup
        from VelcroLinkLib.link.decisions import Decisions
        from VelcroLinkLib.engine.client import EngineClient
        from VelcroLinkLib.engine.install_check import checkInstall
        from VelcroLinkLib.frame.link_session import LinkSession

        resources = os.path.join(os.path.dirname(__file__), "Resources")
        requirements = os.path.join(resources, "requirements.txt")
        self.client = EngineClient(
            engine_setup.commandLine(),
            engine_setup.environment(),
            engine_setup.EngineSettings.load().loadOptions(),
            isInstalled=lambda: checkInstall(requirements).installed,
            isCurrent=lambda placed: self.session.isCurrent(placed),
        )
        self.session = LinkSession(self.client)
        self.decisions = Decisions(self.session, engine_setup.userDataFolder())
        self._timer = qt.QTimer()
        self._timer.setInterval(self.POLL_MS)
        self._timer.connect("timeout()", self.client.poll)
        self._timer.start()

    def getParameterNode(self):
        return VelcroLinkParameterNode(super().getParameterNode())

    def close(self) -> None:
        """End the worker process and let go of the scene."""
        self._timer.stop()
        self.session.close()
        self.decisions.close()
        self.client.stop(0.0)


class VelcroLinkTest(ScriptedLoadableModuleTest):
    """Runs in Slicer, also with --testing --no-main-window, and without any network."""

    def setUp(self):
        slicer.mrmlScene.Clear(False)

    def runTest(self):
        for test in (self.test_ParameterNode, self.test_RoiToRequest, self.test_Panel):
            self.setUp()
            test()

    def makeVolume(self):
        """A small volume with a bright ball, 2 mm voxels."""
        import numpy as np

        k, j, i = np.mgrid[-16:16, -20:20, -20:20]
        voxels = np.where(k**2 + j**2 + i**2 < 100, 900, 100).astype(np.int16)
        ijkToRas = [[-2, 0, 0, 40], [0, -2, 0, 40], [0, 0, 2, -32], [0, 0, 0, 1]]
        volumeNode = slicer.util.addVolumeFromArray(voxels, np.array(ijkToRas, float), "Ball")
        volumeNode.CreateDefaultDisplayNodes()
        return volumeNode

    def test_ParameterNode(self):
        self.delayDisplay("The parameter node keeps volume and threshold")
        logic = VelcroLinkLogic()
        try:
            parameters = logic.getParameterNode()
            parameters.volume = self.makeVolume()
            parameters.threshold = 0.25
            again = logic.getParameterNode()
            self.assertEqual(again.volume.GetName(), "Ball")
            self.assertAlmostEqual(again.threshold, 0.25)
        finally:
            logic.close()

    def test_RoiToRequest(self):
        self.delayDisplay("A RoI becomes a request for one slice")
        from VelcroLinkLib.scene.slice_request import SliceRequestBuilder

        volumeNode = self.makeVolume()
        sliceNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "VelcroLinkTest")
        sliceNode.SetLayoutName("VelcroLinkTest")
        roiNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
        roiNode.SetCenter(0, 0, 0)
        roiNode.SetSize(40, 30, 10)
        placed = SliceRequestBuilder().fromRoi(sliceNode, volumeNode, roiNode)
        x0, y0, x1, y1 = placed.request.box
        spacing = placed.request.pixel_spacing
        self.assertAlmostEqual((x1 - x0) * spacing, 40, delta=0.01)
        self.assertAlmostEqual((y1 - y0) * spacing, 30, delta=0.01)
        slicer.mrmlScene.RemoveNode(sliceNode)

    def test_Panel(self):
        self.delayDisplay("The panel opens, survives a closed scene, and goes")
        volumeNode = self.makeVolume()
        widget = VelcroLinkWidget()
        widget.usesDock = False  # the dock belongs to the module's own widget
        try:
            widget.enter()
            self.assertIsNotNone(widget.panel)
            self.assertEqual(widget.logic.session.volumeNode, volumeNode)
            self.assertTrue(widget.panel.ui.placeRoiButton.enabled)
            slicer.mrmlScene.Clear(False)
            slicer.app.processEvents()
            self.assertIsNone(widget.logic.session.volumeNode)
        finally:
            widget.cleanup()
            widget.parent.deleteLater()
