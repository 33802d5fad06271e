"""What the panel asks of the engine: one slice, where it lies, and a region of interest on it.

Both floors build `SliceRequest` with the rules in this file, so a slice cut by 3D Slicer and the
same slice cut by `slices.py` ask the same question. Only numpy is needed here.

Coordinates: pixel (x, y) is (column, row) with (0, 0) at the *centre* of the first pixel; a box is
XYXY in these coordinates, covering the pixel edges (a box around the single pixel (3, 4) is
(2.5, 3.5, 3.5, 4.5)). World coordinates are RAS in mm.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import GeometryError, InputError

MAXIMUM_PIXELS = 4096 * 4096
MAXIMUM_VOXELS = 500_000_000  # about 800^3; more is a damaged header more often than an image
SAMPLES_PER_AXIS = 64  # window and foreground are read from at most 64 samples along each axis
PLANES = ("axial", "coronal", "sagittal", "oblique")
MODALITIES = ("CT", "MR", "XR", "US", "other")

# CT in Hounsfield units is shown through one monotonic tone curve that keeps lung, soft tissue and
# bone apart at once, so that no window has to be guessed from the anatomy.
CT_CURVE_HU = (-1000.0, -200.0, -20.0, 120.0, 300.0, 1500.0)
CT_CURVE_GREY = (0.0, 60.0, 100.0, 190.0, 220.0, 255.0)
CT_AIR_HU = -300.0


Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Foreground:
    """Where the body lies in a volume: centre (RAS) and half extents along its R, A, S axes in mm.

    Half extents reach from the 1st to the 99th percentile of the foreground voxels' coordinates,
    so a table edge or a bright speck does not move them. axes: the body's own right, anterior and
    superior as unit vectors in RAS; those of the scanner unless a head's were found (`head.frame`).
    """

    centre: Triple
    half_extent: Triple
    axes: tuple[Triple, Triple, Triple] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    @property
    def is_head(self) -> bool:
        """Whether this is the frame of a head that was found, not the extent of all that is bright."""
        return self.axes != Foreground.axes

    def relative(self, ras: np.ndarray) -> np.ndarray:
        """Points (..., 3) in RAS mm -> along the body's axes, 0 at its centre, +-1 at its edges."""
        along = (np.asarray(ras) - np.asarray(self.centre)) @ np.asarray(self.axes).T
        return np.asarray(along / np.asarray(self.half_extent))

    def to_message(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "centre": list(self.centre),
            "half_extent": list(self.half_extent),
            "axes": [list(axis) for axis in self.axes],
        }

    @classmethod
    def from_message(cls, told: dict[str, Any]) -> Foreground:
        """Inverse of `to_message`. Raises KeyError, TypeError or ValueError."""
        axes = told.get("axes")
        if axes is None:
            return cls(_triple(told["centre"]), _triple(told["half_extent"]))
        right, anterior, superior = (_triple(axis) for axis in axes)
        return cls(
            _triple(told["centre"]), _triple(told["half_extent"]), (right, anterior, superior)
        )


@dataclass(frozen=True)
class IntensityWindow:
    """How raw values become grey levels: the CT tone curve, or a linear window from low to high."""

    kind: str  # "ct" | "linear"
    low: float = 0.0
    high: float = 1.0

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Raw values (any shape; NaN and inf allowed) -> uint8 grey levels of the same shape."""
        finite = np.nan_to_num(
            np.asarray(values, dtype=np.float32), nan=self.low, posinf=self.high, neginf=self.low
        )
        grey: np.ndarray
        if self.kind == "ct":
            grey = np.interp(finite, CT_CURVE_HU, CT_CURVE_GREY)
        else:
            grey = (finite - self.low) * (255.0 / max(self.high - self.low, 1e-12))
        return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def strided_sample(array: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """(K, J, I) array -> (view of at most 64 samples along each axis, stride of each axis)."""
    strides = tuple(max(1, -(-n // SAMPLES_PER_AXIS)) for n in array.shape)
    return array[tuple(slice(s // 2, None, s) for s in strides)], strides


def intensity_window(sample: np.ndarray, modality: str | None = None) -> IntensityWindow:
    """Window of a volume from its strided sample. CT when said so, or when the values can only be
    Hounsfield units (air near -1000, nothing far below -2048, some tissue around 0)."""
    finite = sample[np.isfinite(sample)].astype(np.float32)
    if finite.size == 0:
        return IntensityWindow("linear", 0.0, 1.0)
    if modality == "CT" or (modality is None and _looks_like_hounsfield(finite)):
        return IntensityWindow("ct", CT_CURVE_HU[0], CT_CURVE_HU[-1])
    low = float(np.percentile(finite, 0.5))
    above = finite[finite > low]  # a large black margin must not set the upper end
    high = float(np.percentile(above, 99.5)) if above.size else low
    if high <= low:
        high = low + 1.0
    return IntensityWindow("linear", low, high)


def _looks_like_hounsfield(finite: np.ndarray) -> bool:
    low, high = float(finite.min()), float(finite.max())
    if low > -200 or low < -4096 or high < 50 or high > 40000:
        return False
    tissue = np.mean((finite > -200) & (finite < 400))
    return bool(tissue > 0.02)


def foreground(
    sample: np.ndarray, strides: tuple[int, ...], ijk_to_ras: np.ndarray, window: IntensityWindow
) -> Foreground | None:
    """Where the body lies, from the strided sample (K, J, I) of a volume and its IJK-to-RAS matrix.

    Foreground is above -300 HU in CT, above a tenth of the window elsewhere. None when nothing or
    too little (fewer than 8 samples) is foreground.
    """
    with np.errstate(invalid="ignore"):
        if window.kind == "ct":
            inside = sample > CT_AIR_HU
        else:
            inside = sample > window.low + 0.1 * (window.high - window.low)
    kji = np.argwhere(inside & np.isfinite(sample))
    if len(kji) < 8:
        return None
    kji = kji * np.asarray(strides) + np.asarray([s // 2 for s in strides])
    ras = kji[:, ::-1] @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    low, high = np.percentile(ras, [1.0, 99.0], axis=0)
    half = np.maximum((high - low) / 2, 1.0)
    centre = (high + low) / 2
    return Foreground(_triple(centre), _triple(half))


@dataclass(frozen=True)
class SliceRequest:
    """One slice and one region of interest.

    pixels: uint8, H x W, square pixels, as displayed (radiological convention for the three
        anatomical planes: the patient's right at the image's left, anterior or superior up).
    pixel_to_ras: 4 x 4; (x, y, 0, 1) -> RAS in mm; third column is the unit slice normal. None for
        an image that has no position (PNG, JPEG): then no side can be told from position.
    foreground: of the whole volume, None if unknown.
    box: XYXY in pixels, or None; points: (x, y, label) with label 1 = inside, 0 = outside.
    plane, modality: None when unknown.
    slice_id: fingerprint of the slice; equal ids must mean equal pixels and geometry, since the
        embedding is cached under it.
    """

    pixels: np.ndarray
    pixel_to_ras: np.ndarray | None = None
    foreground: Foreground | None = None
    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float, int], ...] = ()
    plane: str | None = None
    modality: str | None = None
    top_k: int = 10
    slice_id: str = field(default="")

    def __post_init__(self) -> None:
        pixels = np.ascontiguousarray(self.pixels)
        if pixels.ndim != 2 or pixels.dtype != np.uint8 or min(pixels.shape) < 1:
            raise InputError("A slice must be a two-dimensional picture of grey levels.")
        if pixels.size > MAXIMUM_PIXELS:
            raise InputError("The slice is larger than 4096 x 4096 pixels; use a smaller one.")
        object.__setattr__(self, "pixels", pixels)
        if self.pixel_to_ras is not None:
            matrix = np.array(self.pixel_to_ras, dtype=np.float64)
            if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
                raise GeometryError("The slice's position is not a finite 4 x 4 matrix.")
            if abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
                raise GeometryError("The slice's position matrix is singular.")
            object.__setattr__(self, "pixel_to_ras", matrix)
        if self.plane is not None and self.plane not in PLANES:
            raise InputError(f"Unknown plane '{self.plane}'; use one of {', '.join(PLANES)}.")
        if self.modality is not None and self.modality not in MODALITIES:
            raise InputError(f"Unknown modality '{self.modality}'.")
        self._check_prompt()
        if not self.slice_id:
            object.__setattr__(self, "slice_id", self._fingerprint())

    def _check_prompt(self) -> None:
        height, width = self.pixels.shape
        if self.box is None and not self.points:
            raise GeometryError("No region of interest was given: draw a box or click a point.")
        if self.box is not None:
            x0, y0, x1, y1 = (float(v) for v in self.box)
            if not np.isfinite([x0, y0, x1, y1]).all():
                raise GeometryError("The region of interest has no finite position.")
            x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
            if min(x1, y1) < -0.5 or x0 > width - 0.5 or y0 > height - 0.5:
                raise GeometryError("The region of interest lies outside the image; move it.")
            if x1 - x0 < 1.0 or y1 - y0 < 1.0:
                raise GeometryError("The region of interest is thinner than one pixel; enlarge it.")
            clipped = (
                max(x0, -0.5),
                max(y0, -0.5),
                min(x1, width - 0.5),
                min(y1, height - 0.5),
            )
            if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
                raise GeometryError("The region of interest lies outside the image; move it.")
            object.__setattr__(self, "box", clipped)
        for x, y, label in self.points:
            if not (np.isfinite(x) and np.isfinite(y)) or label not in (0, 1):
                raise GeometryError("A point prompt needs a finite position and label 0 or 1.")
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise GeometryError("The point lies outside the image; click on the image.")
        if self.box is None and not any(label == 1 for _, _, label in self.points):
            raise GeometryError("At least one point must lie inside the structure.")

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(self.pixels.tobytes(), digest_size=16)
        digest.update(repr(self.pixels.shape).encode())
        if self.pixel_to_ras is not None:
            digest.update(np.round(self.pixel_to_ras, 6).tobytes())
        digest.update(repr((self.foreground, self.plane, self.modality)).encode())
        return digest.hexdigest()

    @property
    def pixel_spacing(self) -> float | None:
        """Side of the square pixel in mm, None if unknown."""
        if self.pixel_to_ras is None:
            return None
        return float(np.linalg.norm(self.pixel_to_ras[:3, 0]))

    def with_prompt(self, box=None, points=()) -> SliceRequest:
        """The same slice with another region of interest; keeps `slice_id`."""
        return replace(self, box=box, points=tuple(points))

    def to_message(self) -> tuple[dict[str, Any], bytes]:
        """(JSON-able header, payload of raw pixels) for one protocol frame."""
        header: dict[str, Any] = {
            "shape": list(self.pixels.shape),
            "pixel_to_ras": None if self.pixel_to_ras is None else self.pixel_to_ras.tolist(),
            "foreground": None if self.foreground is None else self.foreground.to_message(),
            "box": None if self.box is None else list(self.box),
            "points": [list(p) for p in self.points],
            "plane": self.plane,
            "modality": self.modality,
            "top_k": self.top_k,
            "slice_id": self.slice_id,
        }
        return header, self.pixels.tobytes()

    @classmethod
    def from_message(cls, header: dict[str, Any], payload: bytes) -> SliceRequest:
        """Inverse of `to_message`. Raises InputError when header and payload do not agree."""
        try:
            height, width = (int(v) for v in header["shape"])
            if height < 1 or width < 1 or height * width != len(payload):
                raise InputError("The slice's size and its pixels do not agree.")
            fore = header.get("foreground")
            matrix = header.get("pixel_to_ras")
            box = header.get("box")
            return cls(
                pixels=np.frombuffer(payload, dtype=np.uint8).reshape(height, width),
                pixel_to_ras=None if matrix is None else np.asarray(matrix, dtype=np.float64),
                foreground=None if fore is None else Foreground.from_message(fore),
                box=None if box is None else (box[0], box[1], box[2], box[3]),
                points=tuple((float(x), float(y), int(k)) for x, y, k in header.get("points", ())),
                plane=header.get("plane"),
                modality=header.get("modality"),
                top_k=int(header.get("top_k", 10)),
                slice_id=str(header.get("slice_id", "")),
            )
        except (
            KeyError,
            TypeError,
            ValueError,
            IndexError,
            OverflowError,
            AttributeError,
        ) as error:
            raise InputError("The slice request is incomplete.", repr(error)) from error


def require_contrast(grey: np.ndarray, what: str = "slice") -> None:
    """Raises InputError when all pixels (any shape) are equal: a model asked about nothing would
    name something all the same. what: "slice" or "image", for the message."""
    if grey.min() == grey.max():
        raise InputError(f"The {what} has one grey value only; choose one that shows the body.")


def plane_of(normal: np.ndarray) -> str:
    """Name of a plane by its normal (3, RAS): the anatomical plane within 30 degrees, or oblique."""
    shares = np.abs(np.asarray(normal, dtype=np.float64)) / np.linalg.norm(normal)
    axis = int(np.argmax(shares))
    return ("sagittal", "coronal", "axial")[axis] if shares[axis] > 0.866 else "oblique"


def _triple(values: Any) -> Triple:
    a, b, c = (float(v) for v in values)
    return a, b, c
