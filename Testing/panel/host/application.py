"""`slicer.app`, `slicer.modules` and the main window around a real MRML scene."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

for _window in ("vtkEGLRenderWindow",):  # before vtk: no X server is needed
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", _window)
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import shiboken6  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from PySide6 import QtCore, QtGui, QtWidgets  # noqa: E402

from . import mrml_widgets, packaging, parameter_node, scripted_module  # noqa: E402
from .ctk_widgets import ctk  # noqa: E402
from .pythonqt import qt, wrap  # noqa: E402
from .slice_view import SliceRenderer, SliceWidget  # noqa: E402

MODULE_LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}
# Colours of Slicer's themes by role; the second one is for disabled widgets.
THEMES = {
    "light": {
        "Window": "#ffffff",
        "WindowText": "#000000 #bebebe",
        "Base": "#ffffff #ffffff",
        "AlternateBase": "#e4e4fe",
        "ToolTipBase": "#ffffdc",
        "ToolTipText": "#000000",
        "Text": "#000000 #bebebe",
        "PlaceholderText": "#808080",
        "Button": "#fcfcfc",
        "ButtonText": "#000000 #bebebe",
        "Light": "#c8c8c8",
        "Midlight": "#e6e6e6",
        "Dark": "#aaaaaa",
        "Mid": "#c8c8c8",
        "Shadow": "#5a5a5a",
        "Highlight": "#308cc6 #919191",
        "HighlightedText": "#ffffff",
        "Link": "#0000ff",
    },
    "dark": {
        "Window": "#323232",
        "WindowText": "#ffffff #6d6d6d",
        "Base": "#1e1e1e #1e1e1e",
        "AlternateBase": "#323232",
        "ToolTipBase": "#ffffff",
        "ToolTipText": "#323232",
        "Text": "#ffffff #6d6d6d",
        "PlaceholderText": "#c0c0c0",
        "Button": "#323232",
        "ButtonText": "#ffffff #b4b4b4",
        "Light": "#828284",
        "Midlight": "#5a5a5b",
        "Dark": "#232323",
        "Mid": "#2b2b2b",
        "Shadow": "#141414",
        "Highlight": "#3ca4ff #505050",
        "HighlightedText": "#ffffff #6d6d6d",
        "Link": "#3ca4ff",
    },
}
SLICER_PYTHON = os.environ.get("VELCROLINK_SLICER_PYTHON")


class _Notifier:
    """An object of Slicer's with string-connected signals, emitted by the host."""

    def __init__(self) -> None:
        self._slots: dict[str, list] = {}

    def connect(self, signature: str, slot: Any) -> bool:
        self._slots.setdefault(signature, []).append(slot)
        return True

    def disconnect(self, signature: str, slot: Any) -> bool:
        slots = self._slots.get(signature, [])
        if slot in slots:
            slots.remove(slot)
        return True

    def emit(self, signature: str, *arguments: Any) -> None:
        for slot in tuple(self._slots.get(signature, ())):
            slot(*arguments)

    def count(self, signature: str) -> int:
        return len(self._slots.get(signature, ()))


class _Module:
    """`slicer.modules.volumes` and the like: a name and a logic."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name = name
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


class _ScriptedModule:
    """`slicer.modules.velcrolink`: path, metadata set by the module's class, its one widget."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self.widget: Any = None

    def widgetRepresentation(self) -> Any:  # noqa: N802
        return self.widget


class _ModuleManager(_Notifier):
    def __init__(self) -> None:
        super().__init__()
        self.modules: dict[str, Any] = {}

    def module(self, name: str) -> Any:
        return self.modules.get(name)


class _LayoutManager(_Notifier):
    def __init__(self) -> None:
        super().__init__()
        self.widgets: dict[str, SliceWidget] = {}

    def sliceViewNames(self) -> list[str]:  # noqa: N802
        return list(self.widgets)

    def sliceWidget(self, name: str) -> SliceWidget | None:  # noqa: N802
        return self.widgets.get(name)


class _App(_Notifier):
    """`slicer.app`."""

    def __init__(self, host: Application) -> None:
        super().__init__()
        self._host = host
        self.temporaryPath = str(host.folder / "temporary")
        self.slicerHome = str(host.folder)
        self.applicationName = "Slicer"
        self._manager = _ModuleManager()

    def moduleManager(self) -> _ModuleManager:  # noqa: N802
        return self._manager

    def layoutManager(self) -> _LayoutManager | None:  # noqa: N802
        return self._host.layout_manager

    def applicationLogic(self) -> Any:  # noqa: N802
        return self._host.application_logic

    def mrmlScene(self) -> Any:  # noqa: N802
        return self._host.scene

    def topLevelWidgets(self) -> list:  # noqa: N802
        return [self._host.window] if self._host.window is not None else []

    def translate(self, _context: str, text: str) -> str:
        return text

    def testingEnabled(self) -> bool:  # noqa: N802
        return True

    def processEvents(self) -> None:  # noqa: N802
        QtWidgets.QApplication.processEvents()

    def settings(self) -> Any:
        return qt.QSettings()

    userSettings = settings  # noqa: N815

    def palette(self) -> Any:
        return QtWidgets.QApplication.palette()

    def pauseRender(self) -> None:  # noqa: N802
        """Rendering is on demand here."""

    def resumeRender(self) -> None:  # noqa: N802
        """Rendering is on demand here."""

    def setOverrideCursor(self, cursor: Any) -> None:  # noqa: N802
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:  # noqa: N802
        QtWidgets.QApplication.restoreOverrideCursor()


class _ModuleWidget(mrml_widgets.qMRMLWidget):
    """The qSlicerScriptedLoadableModuleWidget that holds a module's panel."""

    def __init__(self, host: Application, module_name: str) -> None:
        super().__init__()
        self._host = host
        self._module_name = module_name
        self.isEntered = False

    def reload(self) -> None:
        """Makes the panel anew from the (reloaded) Python module."""
        module = sys.modules[self._module_name]
        panel = getattr(module, self._module_name + "Widget")(self)
        setattr(slicer.modules, self._module_name + "Widget", panel)
        panel.setup()
        if self.isEntered:
            panel.enter()


class Application:
    """One running stand-in for Slicer. There can be one in a process; tests share it.

    folder: for settings and temporary files. views: names of the slice views; with none there is
    neither main window nor layout manager, as with --no-main-window.
    """

    def __init__(
        self,
        folder: Path,
        views: tuple[str, ...] = ("Red", "Yellow", "Green"),
        theme: str = "light",
    ) -> None:
        self.folder = folder
        (folder / "temporary").mkdir(parents=True, exist_ok=True)
        self.qapp = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
        QtCore.qInstallMessageHandler(_qt_message)
        self.qapp.setApplicationName("Slicer")
        self.qapp.setOrganizationName("VelcroLinkHost")
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
        QtCore.QSettings.setPath(
            QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, str(folder)
        )
        QtCore.QStandardPaths.setTestModeEnabled(True)
        self.set_theme(theme)
        self._make_scene()
        self.layout_manager: _LayoutManager | None = None
        self.window: Any = None
        self._fill_slicer_namespace()
        if views:
            self._make_window(views)

    # --- MRML -------------------------------------------------------------------------------
    def _make_scene(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        # Reading a scene asks these two where files from the network would go.
        self._cache = slicer.vtkCacheManager()
        self._cache.SetRemoteCacheDirectory(str(self.folder / "temporary"))
        self._data_io = slicer.vtkDataIOManager()
        self._data_io.SetCacheManager(self._cache)
        self.scene.SetCacheManager(self._cache)
        self.scene.SetDataIOManager(self._data_io)
        self.application_logic = slicer.vtkMRMLApplicationLogic()
        self.application_logic.SetMRMLScene(self.scene)
        self.application_logic.GetColorLogic().SetMRMLScene(self.scene)
        self.application_logic.GetColorLogic().AddDefaultColorNodes()
        self.application_logic.SetSliceLogics(vtk.vtkCollection())
        self.application_logic.SetViewLogics(vtk.vtkCollection())
        self.application_logic.SetTemporaryPath(str(self.folder / "temporary"))
        self.logics = {}
        for name, class_name in MODULE_LOGICS.items():
            logic = self.logics[name] = getattr(slicer, class_name)()
            if name == "Terminologies":
                # Slicer ships its type lists in a share folder; this one has a few of each.
                logic.SetModuleShareDirectory(str(Path(__file__).parent / "terminology"))
            logic.SetMRMLScene(self.scene)
            logic.SetMRMLApplicationLogic(self.application_logic)
            self.application_logic.SetModuleLogic(name, logic)
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)
        self.scene.SetUndoOn()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)

    def _fill_slicer_namespace(self) -> None:
        slicer.mrmlScene = self.scene
        slicer.app = _App(self)
        slicer.modules = types.SimpleNamespace()
        for name, logic in self.logics.items():
            module = _Module(name, logic)
            setattr(slicer.modules, name.lower(), module)
            slicer.app.moduleManager().modules[name] = module
        slicer.qMRMLWidget = mrml_widgets.qMRMLWidget
        slicer.qMRMLNodeComboBox = mrml_widgets.qMRMLNodeComboBox
        slicer.qSlicerScriptedLoadableModule = _ScriptedModule
        i18n = types.ModuleType("slicer.i18n")
        i18n.tr = lambda text: text
        i18n.translate = lambda _context, text: text
        sys.modules["slicer.i18n"] = slicer.i18n = i18n
        stand_ins = {"packaging": packaging}  # always: a test never installs anything
        if SLICER_PYTHON:
            slicer.__path__.append(SLICER_PYTHON)
            slicer.__getattr__ = _widget_class_for_slicers_own_code
        else:
            stand_ins["ScriptedLoadableModule"] = scripted_module
            stand_ins["parameterNodeWrapper"] = parameter_node
        for name, source in stand_ins.items():
            module = source.as_module()
            sys.modules[f"slicer.{name}"] = module
            setattr(slicer, name, module)

    # --- window -----------------------------------------------------------------------------
    def _make_window(self, views: tuple[str, ...]) -> None:
        self.layout_manager = _LayoutManager()
        self.window = wrap(QtWidgets.QMainWindow)()
        self.window.setObjectName("qSlicerMainWindow")
        self.window.setWindowTitle("3D Slicer (test host)")
        centre = wrap(QtWidgets.QWidget)()
        grid = QtWidgets.QGridLayout(centre)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        for index, name in enumerate(views):
            renderer = SliceRenderer(self.scene, self.application_logic, name, (320, 320))
            widget = SliceWidget(renderer, name)
            self.layout_manager.widgets[name] = widget
            place = (0, 0, 2, 1) if index == 0 else (index - 1, 1, 1, 1)
            grid.addWidget(widget, *place)
        grid.setColumnStretch(0, 2)
        grid.setColumnStretch(1, 1)
        self.reset_views()
        self.window.setCentralWidget(centre)
        self.window.resize(1280, 800)
        self.window.show()
        self.process_events()

    def set_theme(self, theme: str) -> None:
        """ "light" or "dark": the Fusion style with the colours of Slicer's two themes."""
        self.qapp.setStyle("Fusion")
        palette = QtGui.QPalette()
        for name, colours in THEMES[theme].items():
            role = getattr(QtGui.QPalette.ColorRole, name)
            normal, *disabled = colours.split()
            palette.setColor(role, QtGui.QColor(normal))
            for colour in disabled:
                palette.setColor(QtGui.QPalette.ColorGroup.Disabled, role, QtGui.QColor(colour))
        self.qapp.setPalette(palette)

    # --- modules ----------------------------------------------------------------------------
    def load_module(self, path: Path) -> Any:
        """Load a scripted module and open its panel, as selecting it in Slicer does."""
        name = path.stem
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        module = importlib.import_module(name)
        scripted = _ScriptedModule(name, str(path))
        setattr(slicer.modules, name.lower(), scripted)
        slicer.app.moduleManager().modules[name] = scripted
        self.module = getattr(module, name)(scripted)
        slicer.app.emit("startupCompleted()")
        parent = _ModuleWidget(self, name)
        parent.setLayout(wrap(QtWidgets.QVBoxLayout)())
        parent.setMRMLScene(self.scene)
        scripted.widget = parent
        parent.reload()
        self.enter(name)
        return getattr(slicer.modules, name + "Widget")

    def panel(self, name: str) -> Any:
        """The module's current panel object (another one after a reload)."""
        return getattr(slicer.modules, name + "Widget")

    def enter(self, name: str) -> None:
        getattr(slicer.modules, name.lower()).widget.isEntered = True
        self.panel(name).enter()

    def leave(self, name: str) -> None:
        getattr(slicer.modules, name.lower()).widget.isEntered = False
        self.panel(name).exit()

    def unload_module(self, name: str) -> None:
        """What happens to a module when the application quits."""
        slicer.app.moduleManager().emit("moduleAboutToBeUnloaded(QString)", name)
        scripted = getattr(slicer.modules, name.lower())
        scripted.widget.hide()
        scripted.widget.deleteLater()
        delattr(slicer.modules, name + "Widget")
        delattr(slicer.modules, name.lower())
        slicer.app.moduleManager().modules.pop(name)
        self.process_events()

    def close(self) -> None:
        """Take everything apart in an order that suits Qt, VTK and Python: widgets first, then the
        renderers, then the logics, then the scene. Left to the interpreter's end, the order is
        arbitrary and VTK or PySide may touch what is gone."""
        if self.window is not None:
            views = list(self.layout_manager.widgets.values())
            self.layout_manager.widgets.clear()
            for view in views:
                view.slice.managers.RemoveObserver(view.tag)
            self.window.hide()
            shiboken6.delete(self.window)
            for view in views:
                view.slice.close()
            del views
            self.window = None
        self.process_events()
        self.scene.Clear(True)
        for logic in self.logics.values():
            logic.SetMRMLScene(None)
        self.logics.clear()
        self.application_logic.SetMRMLScene(None)
        for name in ("app", "modules", "mrmlScene"):
            setattr(slicer, name, None)
        gc.collect()

    # --- everyday actions -------------------------------------------------------------------
    def process_events(self, seconds: float = 0.0) -> None:
        """Run the event loop (at least once; for `seconds` if given), as Slicer's own does."""
        deadline = QtCore.QElapsedTimer()
        deadline.start()
        while True:
            QtWidgets.QApplication.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 20)
            QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
            if deadline.elapsed() >= seconds * 1000:
                return
            QtCore.QThread.msleep(2)

    def show_volume(self, volume: Any) -> None:
        """Show a volume in all slice views, as loading it in Slicer does."""
        self.application_logic.GetSelectionNode().SetActiveVolumeID(volume.GetID())
        for widget in self.layout_manager.widgets.values():
            widget.slice.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
            widget.slice.logic.FitSliceToBackground()
            widget.slice.logic.SnapSliceOffsetToIJK()
        self.process_events()

    def save_scene(self, path: Path) -> None:
        if not self.scene.WriteToMRB(str(path)):
            raise RuntimeError(f"could not save {path}")

    def load_scene(self, path: Path) -> None:
        """Open a .mrb in place of the current scene, as File / Open does."""
        messages = slicer.vtkMRMLMessageCollection()
        if not self.scene.ReadFromMRB(str(path), True, messages):
            raise RuntimeError(messages.GetAllMessagesAsString())
        self.process_events()

    def reset_views(self) -> None:
        """Axial, sagittal and coronal through the origin, as after Slicer's start."""
        orientations = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
        for name, widget in self.layout_manager.widgets.items():
            widget.slice.node.SetOrientation(orientations.get(name, "Axial"))
            widget.slice.node.SetSliceOffset(0.0)

    def close_scene(self) -> None:
        self.scene.Clear(False)
        self.process_events()


# The off-screen platform, and .ui connections to a signal that only Slicer's C++ widgets have.
_EXPECTED_OF_QT = ("propagateSizeHints", "mrmlSceneChanged", "name:   'VelcroLink", "Selector')")


def _qt_message(_kind: Any, _context: Any, text: str) -> None:
    if not any(part in text for part in _EXPECTED_OF_QT):
        print(f"Qt: {text}", file=sys.stderr)


def _widget_class_for_slicers_own_code(name: str) -> Any:
    """Slicer's parameterNodeWrapper compares widget types with many classes by name."""
    if name.startswith(("qMRML", "qSlicer")):
        return getattr(ctk, "ctk" + name)
    raise AttributeError(f"module 'slicer' has no attribute '{name}'")
