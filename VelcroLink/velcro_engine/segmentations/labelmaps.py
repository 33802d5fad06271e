"""Label maps and `.seg.nrrd` files, with the names of their labels.

Fields of `.seg.nrrd`: 3D Slicer's developer guide, "Segmentations", file format. Older files lack
`LabelValue` and `Layer`: there each segment is a component of its own with the value 1.
A table of names is a 3D Slicer colour table (`.ctbl`, `.txt`: number name R G B A), or JSON:
{"17": {"name", "side", "entity"}} or {"17": "name"}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..imaging.reading import read_volume
from ..imaging.volume import LPS_TO_RAS
from ..knowledge_base.entry import Code
from .stored import NamedSegment, StoredSegmentation

LEFT_CODES = {"7771000", "G-A101"}
RIGHT_CODES = {"24028007", "G-A100"}
TABLE_SUFFIXES = (".ctbl", ".txt", ".json")
# an image, not a label map: more values than this, fewer equal neighbours than that
GREY_LEVELS, LEAST_SAME_NEIGHBOURS = 20, 0.4
_SEGMENT_FIELD = re.compile(r"Segment(\d+)_(.+)\Z")


def read_labelmap(path: Path, labels: Path | None = None) -> StoredSegmentation:
    """Segments of a `.seg.nrrd` or of a label map. Raises InputError."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    if not path.name.lower().endswith((".seg.nrrd", ".seg.nhdr")):
        # every way in which an image file can be wrong is found there, with its message
        read_volume(path, frame=0)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(
            f"'{path}' cannot be read as a segmentation; export or copy it again.", str(error)
        ) from error
    array = sitk.GetArrayFromImage(image)
    if image.GetDimension() == 2:
        array = array[np.newaxis]
    if image.GetDimension() == 4:
        array = np.moveaxis(array, 0, -1)
    components = array.ndim == 4
    if array.ndim not in (3, 4):
        raise InputError(f"'{path}' is not a label map; give one volume of whole numbers.")
    layers = [
        _whole_numbers(array[..., n] if components else array, path)
        for n in range(array.shape[-1] if components else 1)
    ]
    matrix = np.eye(4)
    n = min(image.GetDimension(), 3)
    direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:n, :n]
    matrix[:n, :n] = direction * np.array(image.GetSpacing()[:n])
    matrix[:n, 3] = image.GetOrigin()[:n]
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    notices: list[str] = []
    segments = segments_of_fields(fields, len(layers))
    if not segments:
        segments = _segments_of_table(layers, path, labels, notices)
    ijk_to_ras = LPS_TO_RAS @ matrix
    return StoredSegmentation(tuple(segments), tuple(layers), ijk_to_ras, path.name, tuple(notices))


def _whole_numbers(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or not np.array_equal(array, np.rint(array)):
            raise InputError(f"'{path}' holds fractions, not labels; give a map of whole numbers.")
        array = array.astype(np.int32)
    if array.size and (array.min() < 0 or array.max() > 2**31 - 1):
        raise InputError(f"'{path}' holds negative labels; give a map of labels from 0.")
    if array.dtype.itemsize > 4:
        array = array.astype(np.int32)
    return np.ascontiguousarray(array)


def segments_of_fields(fields: Mapping[str, str], layers: int) -> list[NamedSegment]:
    """Segments described by the header fields of a `.seg.nrrd`, in their order."""
    found: dict[int, dict[str, str]] = {}
    for key, text in fields.items():
        match = _SEGMENT_FIELD.match(key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = text
    segments = []
    for number, own in sorted(found.items()):
        if "ID" not in own and "Name" not in own:
            continue
        layer = _number(own.get("Layer"), number if layers > 1 else 0)
        codes, side = terminology(_tag(own.get("Tags", ""), "TerminologyEntry"))
        segments.append(
            NamedSegment(
                own.get("ID", f"Segment_{number}"),
                own.get("Name", own.get("ID", f"Segment_{number}")),
                min(max(layer, 0), layers - 1),
                _number(own.get("LabelValue"), 1),
                codes,
                side,
                colour=_colour(own.get("Color", "")),
            )
        )
    return segments


def terminology(text: str) -> tuple[tuple[Code, ...], str | None]:
    """(codes of type and region, side) of 3D Slicer's serialised terminology entry.

    Seven parts joined by `~`, each `scheme^value^meaning`: context, category, type, its modifier,
    region context, region, its modifier. Empty for text of another form.
    """
    parts = text.split("~")
    codes, side = [], None
    for number in (2, 5):
        code = _code(parts[number]) if len(parts) > number else None
        # what a tool that knows no terminology writes: "tissue" says nothing about the segment
        if code is not None and code.value not in ("85756007", "T-D0050"):
            codes.append(code)
    for number in (3, 6):
        modifier = _code(parts[number]) if len(parts) > number else None
        if modifier is not None and side is None:
            side = side_of_code(modifier)
    return tuple(codes), side


def side_of_code(code: Code) -> str | None:
    """Side that a modifier's code stands for."""
    if code.value in LEFT_CODES or code.meaning.strip().lower() == "left":
        return "left"
    if code.value in RIGHT_CODES or code.meaning.strip().lower() == "right":
        return "right"
    return None


def _code(text: str) -> Code | None:
    parts = text.split("^")
    if len(parts) < 2 or not parts[0].strip() or not parts[1].strip():
        return None
    scheme = {"SRT": "SRT", "SNOMED-CT": "SCT"}.get(parts[0].strip(), parts[0].strip())
    return Code(scheme, parts[1].strip(), parts[2].strip() if len(parts) > 2 else "")


def _tag(tags: str, key: str) -> str:
    for tag in tags.split("|"):
        name, _, text = tag.partition(":")
        if name == key:
            return text
    return ""


def _number(text: str | None, otherwise: int) -> int:
    try:
        return int(str(text))
    except ValueError:
        return otherwise


def _colour(text: str) -> tuple[float, float, float] | None:
    try:
        red, green, blue = (min(max(float(part), 0.0), 1.0) for part in text.split()[:3])
    except ValueError:
        return None
    return red, green, blue


def _segments_of_table(
    layers: list[np.ndarray], path: Path, labels: Path | None, notices: list[str]
) -> list[NamedSegment]:
    for layer in layers:
        _check_not_grey_values(layer, path)
    table_path = labels or _table_beside(path)
    table = {} if table_path is None else read_table(table_path)
    if table_path is None:
        notices.append(
            f"No table of names was found beside '{path.name}'; give one with --labels "
            "(.ctbl or labels.json). The segments are called by their numbers."
        )
    segments, unnamed = [], []
    for number, layer in enumerate(layers):
        for value in np.unique(layer[layer > 0]).tolist():
            row = table.get(value)
            if row is None and table:
                unnamed.append(str(value))
            row = row or {}
            segments.append(
                NamedSegment(
                    f"label_{value}" if number == 0 else f"label_{number}_{value}",
                    row.get("name") or f"Label {value}",
                    number,
                    int(value),
                    side=row.get("side"),
                    entry_id=row.get("entity"),
                    colour=row.get("colour"),
                )
            )
    if len(unnamed) == 1:
        notices.append(f"Label {unnamed[0]} is not in '{table_path}'; it is kept by its number.")
    elif unnamed:
        listed = ", ".join(unnamed[:8]) + (", ..." if len(unnamed) > 8 else "")
        notices.append(
            f"{len(unnamed)} labels ({listed}) are not in '{table_path}'; they are kept by their "
            "numbers."
        )
    return segments


def _check_not_grey_values(layer: np.ndarray, path: Path) -> None:
    """An image given in place of its label map would be reviewed for minutes, grey level by grey
    level. Labels come in pieces, grey values change from voxel to voxel."""
    count = len(np.unique(layer))
    if count <= GREY_LEVELS:
        return
    before, after = layer[..., :-1], layer[..., 1:]
    inside = (before > 0) & (after > 0)
    repeated = int(np.count_nonzero(inside & (before == after)))
    same = repeated / max(1, int(np.count_nonzero(inside)))
    if same < LEAST_SAME_NEIGHBOURS:
        raise InputError(
            f"'{path}' looks like an image, not a segmentation: {count} values that change from "
            "voxel to voxel; give its label map."
        )


def _table_beside(path: Path) -> Path | None:
    stem = path.name
    for suffix in (".gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png"):
        stem = stem.removesuffix(suffix)
    names = [f"{stem}{suffix}" for suffix in TABLE_SUFFIXES] + ["labels.json", "labels.ctbl"]
    places = [folder / name for folder in (path.parent, path.parent.parent) for name in names]
    return next((place for place in places if place.is_file()), None)


def read_table(path: Path) -> dict[int, dict[str, Any]]:
    """{label: {"name", "side", "entity", "colour"}}, all but the name optional. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The table of names '{path}' cannot be read.", repr(error)) from error
    try:
        if path.suffix.lower() == ".json":
            return {int(key): _json_row(row) for key, row in json.loads(text).items()}
        return dict(_colour_rows(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"The table of names '{path}' is not a colour table or a labels.json; correct it.",
            repr(error),
        ) from error


def _json_row(row: Any) -> dict[str, Any]:
    if isinstance(row, str):
        return {"name": row}
    side = row.get("side")
    entity = row.get("entity")
    return {
        "name": str(row["name"]),
        "side": side if side in ("left", "right") else None,
        "entity": entity if isinstance(entity, str) else None,
    }


def _colour_rows(text: str):
    for line in text.splitlines():
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) < 5:
            raise ValueError(f"too few columns: {line[:60]}")
        # names may hold spaces (ITK) or underscores for them (Slicer); the colour comes last
        numbers = 4 if len(parts) >= 6 else 3
        name = " ".join(parts[1:-numbers]).strip('"').replace("_", " ")
        rgb = [min(max(int(float(v)), 0), 255) / 255 for v in parts[-numbers:][:3]]
        yield int(parts[0]), {"name": name, "colour": (rgb[0], rgb[1], rgb[2])}
