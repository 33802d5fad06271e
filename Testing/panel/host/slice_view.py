"""A slice view: Slicer's own slice logic, displayable managers and interactor style, drawn off
screen by VTK and painted into a Qt widget that passes the mouse and the wheel on."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from vtk.util.numpy_support import vtk_to_numpy

from .pythonqt import wrap

DISPLAYABLE_MANAGERS = (
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)


class SliceRenderer:
    """Render window, interactor and slice logic of one view, without any widget."""

    def __init__(self, scene: Any, application_logic: Any, name: str, size: tuple[int, int]):
        self.renderer = vtk.vtkRenderer()
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.AddRenderer(self.renderer)
        self.window.SetSize(*size)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self.interactor.Initialize()

        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application_logic)
        for manager in DISPLAYABLE_MANAGERS:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.SetRenderer(self.renderer)
        self.managers.Initialize(factory, self.renderer)

        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetSliceLogics().AddItem(self.logic)
        self.style = slicer.vtkMRMLSliceViewInteractorStyle()
        self.style.SetSliceLogic(self.logic)
        self.style.SetDisplayableManagers(self.managers)
        self.logic.SetMRMLScene(scene)
        self.node = self.logic.AddSliceNode(name)
        self.managers.SetMRMLDisplayableNode(self.node)
        self.style.SetInteractor(self.interactor)

        self.mapper = vtk.vtkImageMapper()
        self.mapper.SetColorWindow(255)
        self.mapper.SetColorLevel(127.5)
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(self.mapper)
        self.actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(self.actor)
        self.resize(*size)

    def resize(self, width: int, height: int) -> None:
        self.window.SetSize(width, height)
        self.interactor.UpdateSize(width, height)
        self.logic.ResizeSliceNode(width, height)

    def close(self) -> None:
        """Let go of the scene and of the graphics context."""
        self.style.SetInteractor(None)
        self.managers.SetMRMLDisplayableNode(None)
        self.logic.SetMRMLScene(None)
        self.renderer.RemoveAllViewProps()
        self.window.Finalize()

    drawing = 0.0  # thread seconds that all views spent on drawing in software

    def picture(self) -> np.ndarray:
        """The view as uint8, height x width x 4, top row first."""
        begun = time.thread_time()
        try:
            return self._drawn()
        finally:
            SliceRenderer.drawing += time.thread_time() - begun

    def _drawn(self) -> np.ndarray:
        image = self.logic.GetImageDataConnection()
        if image:
            self.mapper.SetInputConnection(image)
        self.actor.SetVisibility(bool(image))
        self.window.Render()
        pixels = vtk.vtkUnsignedCharArray()
        width, height = self.window.GetSize()
        self.window.GetRGBACharPixelData(0, 0, width - 1, height - 1, 0, pixels)
        return np.ascontiguousarray(vtk_to_numpy(pixels).reshape(height, width, 4)[::-1])


_PRESS = {
    QtCore.Qt.MouseButton.LeftButton: ("LeftButtonPressEvent", "LeftButtonReleaseEvent"),
    QtCore.Qt.MouseButton.MiddleButton: ("MiddleButtonPressEvent", "MiddleButtonReleaseEvent"),
    QtCore.Qt.MouseButton.RightButton: ("RightButtonPressEvent", "RightButtonReleaseEvent"),
}


class SliceWidget(wrap(QtWidgets.QWidget)):
    """Paints a `SliceRenderer` and forwards mouse, wheel and keys to it, as qMRMLSliceView does."""

    def __init__(self, renderer: SliceRenderer, name: str) -> None:
        super().__init__()
        self.slice = renderer
        self.setObjectName(f"qMRMLSliceWidget{name}")
        self.setMouseTracking(True)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        self.setMinimumSize(60, 60)
        self.tag = renderer.managers.AddObserver("UpdateEvent", lambda *_: self.update())

    # --- qMRMLSliceWidget's interface ---------------------------------------------------------
    def mrmlSliceNode(self) -> Any:  # noqa: N802
        return self.slice.node

    def sliceLogic(self) -> Any:  # noqa: N802
        return self.slice.logic

    def sliceView(self) -> Any:  # noqa: N802
        return self

    def fitSliceToBackground(self) -> None:  # noqa: N802
        self.slice.logic.FitSliceToBackground()

    # --- painting and events ------------------------------------------------------------------
    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        size = event.size()
        self.slice.resize(max(size.width(), 1), max(size.height(), 1))

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        pixels = self.slice.picture()
        height, width = pixels.shape[:2]
        image = QtGui.QImage(
            pixels.data, width, height, 4 * width, QtGui.QImage.Format.Format_RGBX8888
        )
        painter = QtGui.QPainter(self)
        painter.drawImage(0, 0, image)
        painter.end()

    def _send(self, event: Any, name: str) -> None:
        position = event.position()
        y = self.slice.window.GetSize()[1] - 1 - int(position.y())
        self.slice.interactor.SetEventInformation(int(position.x()), y, 0, 0, "\0", 0, None)
        self.slice.interactor.InvokeEvent(name)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        self._send(event, _PRESS[event.button()][0])

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: N802
        self._send(event, _PRESS[event.button()][1])

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802
        self._send(event, "MouseMoveEvent")

    def wheelEvent(self, event: Any) -> None:  # noqa: N802
        forward = event.angleDelta().y() > 0
        self._send(event, "MouseWheelForwardEvent" if forward else "MouseWheelBackwardEvent")

    def enterEvent(self, _event: Any) -> None:  # noqa: N802
        self.slice.interactor.InvokeEvent("EnterEvent")

    def leaveEvent(self, _event: Any) -> None:  # noqa: N802
        self.slice.interactor.InvokeEvent("LeaveEvent")

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        key = event.text() or "\0"
        name = QtGui.QKeySequence(event.key()).toString()
        self.slice.interactor.SetKeyEventInformation(0, 0, key, 0, name)
        self.slice.interactor.InvokeEvent("KeyPressEvent")
        self.slice.interactor.InvokeEvent("CharEvent")

    def position_of(self, ras: Any) -> QtCore.QPoint:
        """The widget's pixel under a world position (mm, RAS)."""
        xy_to_ras = slicer.util.arrayFromVTKMatrix(self.slice.node.GetXYToRAS())
        x, y, _z, _w = np.linalg.inv(xy_to_ras) @ np.append(np.asarray(ras, float), 1.0)
        return QtCore.QPoint(round(x), self.slice.window.GetSize()[1] - 1 - round(y))

    def ras_of(self, point: QtCore.QPoint) -> np.ndarray:
        """World position (mm, RAS) under a pixel of the widget."""
        xy_to_ras = slicer.util.arrayFromVTKMatrix(self.slice.node.GetXYToRAS())
        y = self.slice.window.GetSize()[1] - 1 - point.y()
        return (xy_to_ras @ [point.x(), y, 0.0, 1.0])[:3]
