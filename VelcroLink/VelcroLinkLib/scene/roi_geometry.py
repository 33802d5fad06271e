"""The region of interest as Slicer draws it: markups ROI nodes and slice views in RAS (mm).

A ROI is a box with its own axes: its eight corners go through `GetObjectToWorldMatrix` (or, under a
non-linear transform, one by one through that transform). Two corners would not do: on a volume
tilted by 10 degrees a box of 40 voxels comes out 18 voxels too wide.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import vtk

from velcro_engine.errors import GeometryError

# Under a non-linear transform the edges of the box are bent: each is followed in this many steps.
EDGE_STEPS = 8
ON_PLANE_MM = 1e-3
_UNIT_CORNERS = np.array(list(product((-0.5, 0.5), repeat=3)))
# Pairs of corners that differ along one axis only: the twelve edges of a box.
_EDGES = [
    (a, b)
    for a in range(8)
    for b in range(a + 1, 8)
    if np.count_nonzero(_UNIT_CORNERS[a] != _UNIT_CORNERS[b]) == 1
]


def matrixFromVtk(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """vtkMatrix4x4 -> 4 x 4 array."""
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def matrixToVtk(array: np.ndarray) -> vtk.vtkMatrix4x4:
    """4 x 4 array -> vtkMatrix4x4."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(v) for v in np.asarray(array).ravel()])
    return matrix


def transformToWorld(node: Any) -> np.ndarray | vtk.vtkGeneralTransform:
    """From a transformable node's own space to world RAS: a 4 x 4 array, or a vtkGeneralTransform
    when a parent transform is not linear."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if parent.IsTransformToWorldLinear():
        matrix = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformToWorld(matrix)
        return matrixFromVtk(matrix)
    general = vtk.vtkGeneralTransform()
    parent.GetTransformToWorld(general)
    return general


def transformPoints(
    transform: np.ndarray | vtk.vtkGeneralTransform, points: np.ndarray
) -> np.ndarray:
    """N x 3 points through a 4 x 4 array or any vtk transform."""
    points = np.asarray(points, dtype=np.float64)
    if isinstance(transform, np.ndarray):
        return points @ transform[:3, :3].T + transform[:3, 3]
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    before, after = vtk.vtkPoints(), vtk.vtkPoints()
    before.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=True))
    after.SetDataTypeToDouble()
    transform.Update()
    transform.TransformPoints(before, after)
    return vtk_to_numpy(after.GetData()).reshape(-1, 3).copy()


def sliceAxes(sliceNode: Any) -> np.ndarray:
    """3 x 3 right-handed unit axes of a slice view as columns: across, up, normal (RAS)."""
    axes = matrixFromVtk(sliceNode.GetSliceToRAS())[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    if np.linalg.det(axes) < 0:
        # Slicer's axial view is left-handed (its x axis points to the patient's left). A box is the
        # same when an axis is turned round, and ROI widgets expect a right-handed frame.
        axes[:, 0] *= -1
    return axes


def alignRoiWithSlice(roiNode: Any, sliceNode: Any) -> None:
    """Give a *new* ROI the rotation of the slice view, before its first point is placed.

    Slicer aligns a new ROI with RAS, so that it looks tilted on an oblique slice; placing keeps
    the rotation set here. A linear parent transform of the ROI is taken into account.
    """
    toWorld = np.eye(4)
    toWorld[:3, :3] = sliceAxes(sliceNode)
    nodeToWorld = transformToWorld(roiNode)
    if isinstance(nodeToWorld, np.ndarray):
        rotation = np.linalg.inv(nodeToWorld[:3, :3]) @ toWorld[:3, :3]
        toWorld[:3, :3] = rotation / np.linalg.norm(rotation, axis=0)
    toWorld[:3, 3] = matrixFromVtk(roiNode.GetObjectToNodeMatrix())[:3, 3]
    roiNode.SetAndObserveObjectToNodeMatrix(matrixToVtk(toWorld))


def clampRoiDepth(roiNode: Any, sliceNode: Any, minimumDepthMm: float) -> bool:
    """Make the ROI at least `minimumDepthMm` thick along the slice normal; True if it was thinner.

    Placing on an oblique slice can leave a depth of 7e-15 mm, which no view can show and no matrix
    can be inverted with. The centre stays where it is.
    """
    size = np.array(roiNode.GetSize(), dtype=float)
    if not np.isfinite(size).all():
        return False
    axes = matrixFromVtk(roiNode.GetObjectToWorldMatrix())[:3, :3]
    normal = sliceAxes(sliceNode)[:, 2]
    lengths = np.linalg.norm(axes, axis=0)
    along = np.abs(normal @ axes) / np.where(lengths > 0, lengths, 1.0)
    depthAxis = int(np.argmax(along))
    scale = lengths[depthAxis] if lengths[depthAxis] > 0 else 1.0
    if size[depthAxis] * scale >= minimumDepthMm:
        return False
    size[depthAxis] = minimumDepthMm / scale
    roiNode.SetSize(*size)
    return True


def roiIsPlaced(roiNode: Any) -> bool:
    """True once both corners of the ROI have been clicked (or its size was set)."""
    return roiNode is not None and bool(np.count_nonzero(np.array(roiNode.GetSize())) >= 2)


def roiCornersRas(roiNode: Any) -> np.ndarray:
    """8 x 3 corners in world RAS (mm), linear and non-linear parent transforms honoured.

    Raises GeometryError for a ROI that is not placed yet, has zero size or is not finite.
    """
    return _roiPointsRas(roiNode, _UNIT_CORNERS)


def _roiPointsRas(roiNode: Any, unitPoints: np.ndarray) -> np.ndarray:
    """Points given in the unit box (-0.5 .. 0.5 along each axis of the ROI) -> world RAS."""
    if roiNode is None:
        raise GeometryError("No region of interest is selected; place one with 'Place RoI'.")
    size = np.array(roiNode.GetSize(), dtype=float)
    if not np.isfinite(size).all():
        raise GeometryError(
            "The region of interest has no finite size; delete it and draw it anew."
        )
    if np.count_nonzero(np.abs(size) > 1e-9) < 2:
        raise GeometryError(
            "The region of interest has no size; click two opposite corners around the structure."
        )
    nodeToWorld = transformToWorld(roiNode)
    if isinstance(nodeToWorld, np.ndarray):
        points = transformPoints(
            matrixFromVtk(roiNode.GetObjectToWorldMatrix()), unitPoints * np.abs(size)
        )
    else:
        # GetObjectToWorldMatrix linearises at one point; here every point is taken on its own.
        objectToNode = matrixFromVtk(roiNode.GetObjectToNodeMatrix())
        points = transformPoints(
            nodeToWorld, transformPoints(objectToNode, unitPoints * np.abs(size))
        )
    if not np.isfinite(points).all():
        raise GeometryError(
            "The region of interest has no finite position; delete it and draw it anew."
        )
    return points


def _roiEdgesRas(roiNode: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both ends (N x 3 each, world RAS) of the straight pieces that make up the twelve edges."""
    corners = _UNIT_CORNERS
    if isinstance(transformToWorld(roiNode), np.ndarray):
        points = _roiPointsRas(roiNode, corners)
        starts, ends = (points[[edge[i] for edge in _EDGES]] for i in (0, 1))
        return starts, ends
    steps = np.linspace(0.0, 1.0, EDGE_STEPS + 1)[:, None]
    lines = [corners[a] + steps * (corners[b] - corners[a]) for a, b in _EDGES]
    points = _roiPointsRas(roiNode, np.concatenate(lines)).reshape(len(lines), -1, 3)
    return points[:, :-1].reshape(-1, 3), points[:, 1:].reshape(-1, 3)


def roiBoxOnPlane(
    roiNode: Any, pixelToRas: np.ndarray, slabMm: float
) -> tuple[float, float, float, float]:
    """XYXY box (pixel edges) of the ROI's cut with a plane given by its 4 x 4 pixel-to-RAS matrix.

    The box is cut with the plane itself, so a ROI that stands askew to the plane gives the
    rectangle around its true cross-section. A ROI that misses the plane by no more than half of
    slabMm (mm; the thickness of the shown slice) still counts: a flat ROI does not lie exactly on
    the plane of the view.

    Raises GeometryError when the ROI does not reach the plane or is thinner than a pixel.
    """
    starts, ends = _roiEdgesRas(roiNode)
    rasToPixel = np.linalg.inv(pixelToRas)
    a, b = transformPoints(rasToPixel, starts), transformPoints(rasToPixel, ends)
    for half in (ON_PLANE_MM, max(slabMm / 2, ON_PLANE_MM)):
        cut = _cutWithSlab(a, b, half)
        if len(cut):
            break
    else:
        raise GeometryError(
            "The region of interest does not reach this slice; scroll to it or place a new one."
        )
    low, high = cut[:, :2].min(axis=0), cut[:, :2].max(axis=0)
    if (high - low < 1.0).any():
        raise GeometryError("The region of interest is thinner than one pixel; enlarge it.")
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _cutWithSlab(a: np.ndarray, b: np.ndarray, half: float) -> np.ndarray:
    """Ends of the parts of segments a-b (N x 3) that lie in |z| <= half; M x 3, maybe empty."""
    dz = b[:, 2] - a[:, 2]
    flat = np.abs(dz) < 1e-12
    safe = np.where(flat, 1.0, dz)
    t0, t1 = (-half - a[:, 2]) / safe, (half - a[:, 2]) / safe
    inside = np.abs(a[:, 2]) <= half
    enter = np.where(flat, 0.0, np.clip(np.minimum(t0, t1), 0.0, 1.0))
    leave = np.where(flat, 1.0, np.clip(np.maximum(t0, t1), 0.0, 1.0))
    reaches = np.where(flat, inside, (np.minimum(t0, t1) <= 1.0) & (np.maximum(t0, t1) >= 0.0))
    a, b, enter, leave = a[reaches], b[reaches], enter[reaches, None], leave[reaches, None]
    return np.concatenate([a + enter * (b - a), a + leave * (b - a)])


def pointOnPlane(ras: Any, pixelToRas: np.ndarray) -> tuple[float, float]:
    """(x, y) pixel of a world RAS point projected onto the plane. Raises GeometryError if not
    finite."""
    point = np.asarray(ras, dtype=float).reshape(1, 3)
    if not np.isfinite(point).all():
        raise GeometryError("The point has no finite position; click on the image again.")
    x, y, _ = transformPoints(np.linalg.inv(pixelToRas), point)[0]
    return float(x), float(y)
