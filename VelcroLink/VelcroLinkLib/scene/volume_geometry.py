"""What the module needs to know of a volume node: where its voxels lie, what they hold, whether it
has changed.

Everything here is read on the main thread and copies no volume: voxels are numpy views on VTK's
memory, valid as long as the node keeps its image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk

from velcro_engine.errors import GeometryError, InputError
from velcro_engine.messages.request import (
    Foreground,
    IntensityWindow,
    foreground,
    intensity_window,
    strided_sample,
)

from .roi_geometry import matrixFromVtk, transformPoints, transformToWorld

DICOM_MODALITIES = {"CT": "CT", "MR": "MR", "US": "US", "CR": "XR", "DX": "XR", "DR": "XR"}
HOUNSFIELD_CODE = "[hnsf'U]"  # UCUM, as Slicer's DICOM scalar volume plugin sets it
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def volumeFingerprint(volumeNode: Any) -> str:
    """Cheap identity of a volume's voxels and place: node id, MTime of the image data, IJK-to-RAS
    matrix, MTime of the parent transforms. Changes when any of them changes; "" for None.

    A sequence browser that moves on gives its proxy volume another image, hence another MTime.
    """
    image = volumeNode.GetImageData() if volumeNode is not None else None
    if image is None or image.GetPointData().GetScalars() is None:
        return ""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    place = hash(tuple(np.round(matrixFromVtk(matrix), 9).ravel()))
    parent = volumeNode.GetParentTransformNode()
    transformTime = parent.GetTransformToWorldMTime() if parent is not None else 0
    parentId = parent.GetID() if parent is not None else ""
    voxels = f"{image.GetMTime()}:{shownComponent(volumeNode)}"
    return f"{volumeNode.GetID()}:{voxels}:{place}:{parentId}:{transformTime}"


def volumeModality(volumeNode: Any) -> str | None:
    """ "CT", "MR", "XR", "US" as far as Slicer knows it from DICOM or the voxel units, else None."""
    units = volumeNode.GetVoxelValueUnits() if hasattr(volumeNode, "GetVoxelValueUnits") else None
    if units is not None and units.GetCodeValue() == HOUNSFIELD_CODE:
        return "CT"
    return DICOM_MODALITIES.get(_dicomModality(volumeNode) or "")


def _dicomModality(volumeNode: Any) -> str | None:
    """Slicer keeps it at the series' item of the subject hierarchy; some extensions at the node."""
    scene = volumeNode.GetScene()
    hierarchy = scene.GetSubjectHierarchyNode() if scene is not None else None
    told = ""
    if hierarchy is not None and (item := hierarchy.GetItemByDataNode(volumeNode)):
        told = hierarchy.GetItemAttribute(item, "DICOM.Modality")
    return told or volumeNode.GetAttribute("DICOM.Modality")


@dataclass(frozen=True)
class VolumeGeometry:
    """Where the voxels of a volume node lie.

    shapeIjk: number of voxels along I, J, K. ijkToLocal: 4 x 4, index of a voxel's centre -> the
    node's own RAS. localToWorld: 4 x 4 array, or a vtkGeneralTransform under a non-linear parent.
    """

    shapeIjk: tuple[int, int, int]
    ijkToLocal: np.ndarray
    localToWorld: np.ndarray | vtk.vtkGeneralTransform

    @property
    def isLinear(self) -> bool:
        return isinstance(self.localToWorld, np.ndarray)

    @property
    def ijkToWorld(self) -> np.ndarray:
        """4 x 4, index -> world RAS; under a non-linear transform its linear part in the middle of
        the volume, which is good enough to choose a pixel grid but not to place a voxel."""
        if self.isLinear:
            return self.localToWorld @ self.ijkToLocal
        middle = (np.array(self.shapeIjk) - 1) / 2
        probes = middle + np.vstack([np.zeros(3), np.eye(3) * 0.5, np.eye(3) * -0.5])
        world = self.toWorld(probes)
        matrix = np.eye(4)
        matrix[:3, :3] = (world[1:4] - world[4:7]).T
        matrix[:3, 3] = world[0] - matrix[:3, :3] @ middle
        return matrix

    def toWorld(self, ijk: np.ndarray) -> np.ndarray:
        """N x 3 voxel indices -> N x 3 world RAS, exact also under a non-linear transform."""
        return transformPoints(self.localToWorld, transformPoints(self.ijkToLocal, ijk))

    def toIjk(self, ras: np.ndarray) -> np.ndarray:
        """N x 3 world RAS -> N x 3 continuous voxel indices, exact also when not linear."""
        if isinstance(self.localToWorld, np.ndarray):
            return transformPoints(np.linalg.inv(self.localToWorld @ self.ijkToLocal), ras)
        local = transformPoints(self.localToWorld.GetInverse(), ras)
        return transformPoints(np.linalg.inv(self.ijkToLocal), local)


def volumeGeometry(volumeNode: Any) -> VolumeGeometry:
    """Geometry of a volume node. Raises InputError without voxels, GeometryError when singular."""
    image = volumeNode.GetImageData() if volumeNode is not None else None
    if volumeNode is None:
        raise InputError("No volume is selected; choose the volume that is shown.")
    if image is None or image.GetPointData().GetScalars() is None or min(image.GetDimensions()) < 1:
        raise InputError("The selected volume holds no image; load it again or choose another one.")
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    geometry = VolumeGeometry(
        tuple(image.GetDimensions()), matrixFromVtk(matrix), transformToWorld(volumeNode)
    )
    world = geometry.ijkToWorld
    if not np.isfinite(world).all() or abs(np.linalg.det(world[:3, :3])) < 1e-12:
        raise GeometryError("The volume's position is singular or not finite; check its transform.")
    return geometry


def volumeArray(volumeNode: Any) -> np.ndarray:
    """View of the voxels, K x J x I x C (C = 1 for most volumes). Not a copy."""
    from vtk.util.numpy_support import vtk_to_numpy

    image = volumeNode.GetImageData()
    scalars = image.GetPointData().GetScalars()
    shape = (*reversed(image.GetDimensions()), scalars.GetNumberOfComponents())
    return vtk_to_numpy(scalars).reshape(shape)


def shownComponent(volumeNode: Any) -> int | None:
    """Which component of a voxel is the grey value; None for a colour volume (luminance).

    Colour is what the engine's reader takes for colour: three or four unsigned 8- or 16-bit
    components. Others (several volumes in one, diffusion) show one of them at a time.
    """
    scalars = volumeNode.GetImageData().GetPointData().GetScalars()
    count = scalars.GetNumberOfComponents()
    if count in (3, 4) and scalars.GetDataType() in (
        vtk.VTK_UNSIGNED_CHAR,
        vtk.VTK_UNSIGNED_SHORT,
    ):
        return None
    display = volumeNode.GetDisplayNode()
    for method in ("GetFrameComponent", "GetDiffusionComponent"):
        if count > 1 and hasattr(display, method):
            return min(max(int(getattr(display, method)()), 0), count - 1)
    return 0


def greyValues(values: np.ndarray, component: int | None) -> np.ndarray:
    """Voxels (..., C) -> grey values (...): one component, or for None the luminance by BT.601."""
    if component is not None:
        return values[..., component]
    return np.asarray(values[..., :3], dtype=np.float32) @ LUMINANCE


@dataclass(frozen=True)
class VolumeStatistics:
    """Window and foreground of a volume; read once for each fingerprint."""

    window: IntensityWindow
    foreground: Foreground | None
    modality: str | None


def volumeStatistics(
    volumeNode: Any, geometry: VolumeGeometry, modality: str | None
) -> VolumeStatistics:
    """Window, foreground and modality by the engine's rules (`velcro_engine.imaging.volume.make_volume`).

    Only a strided sample (at most 64 along each axis) of the voxels is read.
    """
    array = volumeArray(volumeNode)
    _, strides = strided_sample(array[..., 0])
    sample = array[tuple(slice(s // 2, None, s) for s in strides)]
    sample = greyValues(sample, shownComponent(volumeNode))
    window = intensity_window(sample, modality)
    if modality is None and window.kind == "ct":
        modality = "CT"
    if geometry.isLinear:
        where = foreground(sample, strides, geometry.ijkToWorld, window)
    else:
        where = _bentForeground(sample, strides, geometry, window)
    return VolumeStatistics(window, where, modality)


def _bentForeground(
    sample: np.ndarray, strides: tuple[int, ...], geometry: VolumeGeometry, window: IntensityWindow
) -> Foreground | None:
    """Foreground under a non-linear transform: of the linear volume, its box carried to world.

    The half extents only scale positions into the body frame, so the corners and face centres of
    the box are enough; carrying every sample through a B-spline would block the main thread.
    """
    local = foreground(sample, strides, geometry.ijkToLocal, window)
    if local is None:
        return None
    centre, half = np.array(local.centre), np.array(local.half_extent)
    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    world = transformPoints(geometry.localToWorld, centre + steps * half)
    low, high = world.min(axis=0), world.max(axis=0)
    return Foreground(_triple((low + high) / 2), _triple(np.maximum((high - low) / 2, 1.0)))


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
