"""`slicer.ScriptedLoadableModule`: base classes of a scripted module, as Slicer documents them."""

from __future__ import annotations

import importlib
import os
import types
import unittest
from typing import Any

import slicer

from .ctk_widgets import ctk
from .pythonqt import qt


class ScriptedLoadableModule:
    """The module itself: title, categories, icon from Resources/Icons, its self-test."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        for name, value in {
            "title": "",
            "categories": [],
            "dependencies": [],
            "contributors": [],
            "helpText": "",
            "acknowledgementText": "",
        }.items():
            setattr(parent, name, value)
        for extension in (".svg", ".png"):
            icon = self.resourcePath(f"Icons/{self.moduleName}{extension}")
            if os.path.isfile(icon):
                parent.icon = qt.QIcon(icon)
                break

    def resourcePath(self, name: str) -> str:  # noqa: N802
        return os.path.join(os.path.dirname(self.parent.path), "Resources", name)

    def getDefaultModuleDocumentationLink(self, page: str | None = None) -> str:  # noqa: N802
        return f'<p>For more information, see the <a href="{page or ""}">documentation</a>.</p>'

    def runTest(self, msec: int = 100, **options: Any) -> None:  # noqa: N802
        module = importlib.import_module(type(self).__module__)
        test = getattr(module, self.moduleName + "Test")()
        test.messageDelay = msec
        test.runTest(**options)


class ScriptedLoadableModuleWidget:
    """The module panel; `parent` is a qMRMLWidget with a vertical layout."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue(
            "Developer/DeveloperMode", False, converter=slicer.util.toBool
        )
        made_here = parent is None
        if made_here:
            parent = slicer.qMRMLWidget()
            parent.setLayout(qt.QVBoxLayout())
            parent.setMRMLScene(slicer.mrmlScene)
        self.parent = parent
        self.layout = parent.layout()
        if made_here:
            self.setup()
            parent.show()
        slicer.app.moduleManager().connect(
            "moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded
        )

    def resourcePath(self, name: str) -> str:  # noqa: N802
        folder = os.path.dirname(slicer.util.modulePath(self.moduleName))
        return os.path.join(folder, "Resources", name)

    def setup(self) -> None:
        if self.developerMode:
            section = ctk.ctkCollapsibleButton("Reload && Test")
            self.layout.addWidget(section)
            row = qt.QFormLayout(section)
            self.reloadButton = qt.QPushButton("Reload")
            self.reloadButton.connect("clicked()", self.onReload)
            row.addRow(self.reloadButton)

    def cleanup(self) -> None:
        """Overridden by modules."""

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:  # noqa: N802, N803
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect(
                "moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded
            )

    def onReload(self) -> None:  # noqa: N802
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    """Logic with one vtkMRMLScriptedModuleNode for each module in the scene."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:  # noqa: N802
        for node in self.getAllParameterNodes():
            return node
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[Any]:  # noqa: N802
        return [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
            if self.moduleName in (node.GetAttribute("ModuleName"), node.GetSingletonTag())
        ]

    def createParameterNode(self) -> Any:  # noqa: N802
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """The self-test: `runTest` runs every method with "test" in its name."""

    messageDelay = 100

    def delayDisplay(self, message: str, requestedDelay: Any = None, msec: Any = None):  # noqa: N802, N803
        slicer.util.delayDisplay(message, self.messageDelay)

    def runTest(self) -> None:  # noqa: N802
        for name in dir(self):
            if name.startswith("test") and callable(getattr(self, name)):
                self.setUp()
                getattr(self, name)()
                self.tearDown()


def as_module() -> types.ModuleType:
    """What `from slicer.ScriptedLoadableModule import *` gives."""
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    module.__all__ = []
    for cls in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(module, cls.__name__, cls)
        module.__all__.append(cls.__name__)
    return module
