"""Scenes, volumes, views and regions of interest for the tests, made of real MRML nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

# Columns of SliceToRAS: to the right of the view, up, normal.
VIEWS = {
    "axial": [(-1, 0, 0), (0, 1, 0), (0, 0, 1)],
    "sagittal": [(0, -1, 0), (0, 0, 1), (1, 0, 0)],
    "coronal": [(-1, 0, 0), (0, 0, 1), (0, 1, 0)],
}


@dataclass
class MadeScene:
    """A scene and what must live as long as it does."""

    scene: Any
    logics: list[Any]

    def close(self) -> None:
        self.scene.Clear(1)
        for logic in self.logics:
            logic.SetMRMLScene(None)


def makeScene() -> MadeScene:
    scene = slicer.vtkMRMLScene()
    # Makes the selection and interaction nodes that the markups logic asks for.
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    logics = [application]
    for cls in (
        slicer.vtkSlicerVolumesLogic,
        slicer.vtkSlicerSegmentationsModuleLogic,
        slicer.vtkSlicerMarkupsLogic,
        slicer.vtkSlicerSubjectHierarchyModuleLogic,
        slicer.vtkSlicerSequencesLogic,
    ):
        logic = cls()
        logic.SetMRMLScene(scene)
        logics.append(logic)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return MadeScene(scene, logics)


def rotation(axis: str, degrees: float) -> np.ndarray:
    """3 x 3 rotation about R, A or S."""
    a = np.deg2rad(degrees)
    c, s = np.cos(a), np.sin(a)
    return {
        "R": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "A": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "S": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]


def ijkToRas(directions: np.ndarray, spacing: Any, shapeIjk: Any) -> np.ndarray:
    """4 x 4 of a volume whose middle lies at (3, -5, 7) mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(directions, dtype=float) * np.asarray(spacing, dtype=float)
    middle = (np.array(shapeIjk) - 1) / 2
    matrix[:3, 3] = np.array([3.0, -5.0, 7.0]) - matrix[:3, :3] @ middle
    return matrix


def addVolume(
    scene: Any, array: np.ndarray, matrix: np.ndarray, name: str = "volume", cls: str = ""
) -> Any:
    """Volume node of a K x J x I (x C) array and its 4 x 4 IJK-to-RAS matrix."""
    isColour = array.ndim == 4
    cls = cls or ("vtkMRMLVectorVolumeNode" if isColour else "vtkMRMLScalarVolumeNode")
    node = scene.AddNewNodeByClass(cls, name)
    node.SetAndObserveImageData(imageData(array))
    node.SetIJKToRASMatrix(toVtk(matrix))
    return node


def imageData(array: np.ndarray) -> vtk.vtkImageData:
    isColour = array.ndim == 4
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[2::-1])
    flat = np.ascontiguousarray(array).reshape(-1, array.shape[3] if isColour else 1)
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))
    return image


def toVtk(array: np.ndarray) -> vtk.vtkMatrix4x4:
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(v) for v in np.asarray(array).ravel()])
    return matrix


def setView(sliceNode: Any, directions: Any, through: Any, zoom: float = 1.0) -> np.ndarray:
    """Orient a slice node: columns right, up, normal; returns its 4 x 4 SliceToRAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(directions, dtype=float)
    matrix[:3, 3] = through
    sliceNode.GetSliceToRAS().DeepCopy([float(v) for v in matrix.ravel()])
    sliceNode.UpdateMatrices()
    sliceNode.SetFieldOfView(250 * zoom, 200 * zoom, 1)
    return matrix


def viewDirections(name: str) -> np.ndarray:
    """3 x 3 columns of a named view."""
    return np.array(VIEWS[name], dtype=float).T


def addRoi(
    scene: Any, centre: Any, size: Any, directions: np.ndarray | None = None, parent: Any = None
) -> Any:
    """Markups ROI with its axes along `directions` (right-handed 3 x 3), in the parent's space."""
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "RoI")
    matrix = np.eye(4)
    if directions is not None:
        matrix[:3, :3] = directions
    matrix[:3, 3] = centre
    roi.SetAndObserveObjectToNodeMatrix(toVtk(matrix))
    roi.SetSize(*[float(s) for s in size])
    if parent is not None:
        roi.SetAndObserveTransformNodeID(parent.GetID())
    return roi


def addLinearTransform(scene: Any, matrix: np.ndarray) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    node.SetMatrixTransformToParent(toVtk(matrix))
    return node


def addBentTransform(scene: Any, amount: float = 4.0, spread: float = 60.0) -> Any:
    """Thin-plate spline that keeps the corners of a cube and moves its middle by `amount` mm."""
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for x in (-spread, 0.0, spread):
        for y in (-spread, 0.0, spread):
            for z in (-spread, 0.0, spread):
                source.InsertNextPoint(x, y, z)
                isMiddle = x == y == z == 0.0
                target.InsertNextPoint(x + amount * isMiddle, y - amount * isMiddle, z)
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "bent")
    node.SetAndObserveTransformToParent(spline)
    return node


def segmentArray(segmentationNode: Any, segmentId: str, shapeIjk: Any) -> np.ndarray:
    """bool K x J x I of one segment on the volume's whole grid."""
    from vtk.util.numpy_support import vtk_to_numpy

    image = slicer.vtkOrientedImageData()
    whole = np.zeros(tuple(reversed(shapeIjk)), dtype=bool)
    if not segmentationNode.GetBinaryLabelmapRepresentation(segmentId, image):
        return whole
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    if i1 < i0:
        return whole
    part = vtk_to_numpy(image.GetPointData().GetScalars())
    part = part.reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
    whole[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = part > 0
    return whole


def dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0
