"""What the worker does for `review` and `propagate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..imaging.volume import Volume
from ..messages.request import require_contrast
from .context import Context
from .handlers import current_linker
from .volume_message import array_of, volume_of

if TYPE_CHECKING:
    from ..segmentations.stored import Segmentation


def review(
    header: dict[str, Any], payload: bytes, context: Context
) -> tuple[dict[str, Any], bytes]:
    """{volume (see `volume_message`), segmentation} -> the review document under "result".

    segmentation: {"path", "labels"}; or {"name", "segments": [{"id", "name", "terminology", "layer",
    "value", "colour"}], "layers": [{"shape", "dtype"}], "ijk_to_ras"} with the layers' voxels after
    the volume's. terminology: Slicer's serialised entry. {"html": true} adds the page as payload.
    """
    from ..pages.review import review_page
    from ..review import review_segmentation
    from ..review.table import review_document

    volume, rest = volume_of(header, payload, context.session)
    require_contrast(volume.array, "image")
    segmentation = _segmentation(header.get("segmentation"), rest, volume)
    linker = current_linker(context)
    wanted = bool(header.get("html"))
    found = review_segmentation(
        volume, segmentation, linker.knowledge_base, linker, context.progress, pictures=wanted
    )
    page = review_page(found).encode("utf-8") if wanted else b""
    return {"type": "review", "result": review_document(found)}, page


def _segmentation(told: Any, payload: bytes, volume: Volume) -> Segmentation:
    from ..segmentations.labelmaps import terminology
    from ..segmentations.placing import place_on_volume
    from ..segmentations.reading import read_segmentation
    from ..segmentations.stored import NamedSegment, StoredSegmentation

    if not isinstance(told, dict):
        raise InputError("The request names no segmentation.")
    if "path" in told:
        return read_segmentation(Path(str(told["path"])), volume, told.get("labels"))
    layers = []
    try:
        for layer in told["layers"]:
            array, payload = array_of(layer, payload)
            layers.append(array)
        segments = []
        for item in told["segments"]:
            codes, side = terminology(str(item.get("terminology", "")))
            number = int(item.get("layer", 0))
            if not 0 <= number < len(layers):
                raise InputError("A segment names a layer that was not sent.")
            segments.append(
                NamedSegment(
                    str(item["id"]), str(item["name"]), number, int(item["value"]), codes, side
                )
            )
        matrix = np.asarray(told.get("ijk_to_ras", volume.ijk_to_ras), dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise InputError("The segmentation's position is not a finite 4 x 4 matrix.")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError("The segmentation is incomplete.", repr(error)) from error
    name = str(told.get("name", "segmentation"))
    stored = StoredSegmentation(tuple(segments), tuple(layers), matrix, name)
    return place_on_volume(stored, volume)


def propagate(
    header: dict[str, Any], payload: bytes, context: Context
) -> tuple[dict[str, Any], bytes]:
    """{volume, plane, index or at_ras, box, points, mask, corrections, consensus} -> {result}, and
    the voxels (bits of K x J x I, packed as numpy.packbits does) as payload.

    index: layer along the volume's axis; at_ras: a point of the layer, RAS mm, instead. box XYXY and
    points (x, y, label) in pixels of the slice; or corners_ras / points_ras in RAS mm; or mask:
    {"shape": [H, W]} with its bits at the payload's end. corrections: [{"index" or "at_ras",
    "points" or "points_ras": (R, A, S, label)}]. A second request with the same start keeps the
    layers that no new correction touches.
    """
    from ..imaging.slices import cut_plane
    from ..propagation.propagate import propagate as carry
    from ..propagation.sight import layer_of

    volume, rest = volume_of(header, payload, context.session)
    linker = current_linker(context)
    plane = str(header.get("plane", ""))
    try:
        cut, index = _layer(header, volume, plane, cut_plane, layer_of)
        require_contrast(cut.pixels)
        box = header.get("box")
        if header.get("corners_ras") is not None:
            box = cut.box_around(np.asarray(header["corners_ras"], dtype=float))
        points = _points(header, cut)
        mask = _mask(header.get("mask"), rest)
        corrections: dict[int, list[tuple[float, float, int]]] = {}
        for item in header.get("corrections") or ():
            own, number = _layer(item, volume, plane, cut_plane, layer_of)
            corrections[number] = [*corrections.get(number, ()), *_points(item, own)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError("The propagation request is incomplete.", repr(error)) from error
    start = (
        plane,
        index,
        repr(box),
        repr(points),
        None if mask is None else mask.tobytes(),
    )
    on, by, of, last = context.session.get("propagation") or (None, None, None, None)
    found = carry(
        linker,
        volume,
        plane,
        index,
        box,
        points,
        mask,
        corrections,
        before=last if on is volume and by is linker and of == start else None,
        consensus=bool(header.get("consensus", True)),
        progress=context.progress,
    )
    context.session["propagation"] = (volume, linker, start, found)
    entry = linker.knowledge_base.entry(found.entry_id)
    result = found.summary() | {"name": entry.name, "shape": list(found.voxels.shape)}
    return {"type": "propagate", "result": result}, np.packbits(found.voxels).tobytes()


def _layer(item: dict[str, Any], volume: Volume, plane: str, cut_plane, layer_of):
    if item.get("index") is not None:
        index = int(item["index"])
        return cut_plane(volume, plane, index=index), index
    cut = cut_plane(volume, plane, through_ras=[float(v) for v in item["at_ras"]])
    return cut, layer_of(cut, volume)


def _points(item: dict[str, Any], cut) -> list[tuple[float, float, int]]:
    points = [(float(x), float(y), int(k)) for x, y, k in item.get("points") or ()]
    for r, a, s, *label in item.get("points_ras") or ():
        x, y = cut.to_pixels(np.array([[r, a, s]], dtype=float))[0]
        points.append((float(x), float(y), int(label[0]) if label else 1))
    return points


def _mask(told: Any, payload: bytes) -> np.ndarray | None:
    if told is None:
        return None
    height, width = (int(n) for n in told["shape"])
    bits = np.frombuffer(payload, dtype=np.uint8)
    return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
