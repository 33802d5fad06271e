"""What is usual for a structure: where it lies, how large and how bright it is.

`expectations.json` (made by `training/measuring/review_expectations.py` from labelled cases, both
halves mirrored onto each other) holds, for each structure and side in one common frame of mm along
R, A, S: mean and covariance of its centre, mean and deviation of the logarithm of its volume and of
its extents along the three axes, its grey level relative to other structures, and where in the frame
it was ever found.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from ..knowledge_base.spelling import fold

SCHEMA = 1


@dataclass(frozen=True)
class Expectation:
    """What is usual for one structure. n: cases it is known from. frame: name of the common frame
    (brain and trunk have one each). centre: mm; covariance 3 x 3 mm^2;
    log_volume, log_volume_sd of mm^3; extents, extents_sd: logarithm of mm, 3 each; grey, grey_sd:
    0..255, None when unknown; found: bool cells of CELL_MM, found_start: index of the first cell."""

    n: int
    frame: str
    centre: np.ndarray
    covariance: np.ndarray
    log_volume: float
    log_volume_sd: float
    extents: np.ndarray
    extents_sd: np.ndarray
    grey: float | None
    grey_sd: float
    found_start: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class Expectations:
    """All structures by key."""

    by_key: dict[str, Expectation]
    source: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    def of(self, keys: Sequence[str]) -> tuple[str, Expectation] | tuple[None, None]:
        """The most specific expectation that is known."""
        for key in keys:
            if key in self.by_key:
                return key, self.by_key[key]
        return None, None


def keys_of(entry_id: str | None, side: str | None, name: str) -> tuple[str, ...]:
    """Keys of a segment: its own wording first (one entry can have several labels), then its entry."""
    where = side or "-"
    words = " ".join(w for w in fold(name).split() if w not in ("left", "right"))
    keys = [f"name:{words}:{where}"]
    if entry_id is not None:
        keys.append(f"entry:{entry_id}:{where}")
    return tuple(keys)


def mirrored_key(key: str) -> str:
    """The same structure of the other side."""
    stem, _, side = key.rpartition(":")
    return f"{stem}:{ {'left': 'right', 'right': 'left'}.get(side, side) }"


@cache
def bundled_expectations() -> Expectations:
    """What ships with VelcroLink."""
    text = resources.files(__package__).joinpath("expectations.json").read_text(encoding="utf-8")
    return read_expectations(json.loads(text))


def read_expectations(data: dict[str, Any]) -> Expectations:
    """From the JSON document; inverse of `expectations_document`."""
    by_key = {}
    for key, row in data["structures"].items():
        shape = tuple(row["found_shape"])
        bits = np.frombuffer(zlib.decompress(base64.b64decode(row["found"])), dtype=np.uint8)
        found = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
        by_key[key] = Expectation(
            int(row["n"]),
            str(row["frame"]),
            np.array(row["centre"], dtype=float),
            np.array(row["covariance"], dtype=float).reshape(3, 3),
            float(row["log_volume"]),
            float(row["log_volume_sd"]),
            np.array(row["extents"], dtype=float),
            np.array(row["extents_sd"], dtype=float),
            row["grey"],
            float(row["grey_sd"]),
            np.array(row["found_start"], dtype=int),
            found,
        )
    return Expectations(by_key, str(data.get("source", "")), dict(data.get("notes", {})))


def expectations_document(expectations: Expectations) -> dict[str, Any]:
    """JSON-able document."""
    rows = {}
    for key, e in sorted(expectations.by_key.items()):
        bits = zlib.compress(np.packbits(e.found).tobytes(), 9)
        rows[key] = {
            "n": e.n,
            "frame": e.frame,
            "centre": np.round(e.centre, 2).tolist(),
            "covariance": np.round(e.covariance, 2).ravel().tolist(),
            "log_volume": round(e.log_volume, 4),
            "log_volume_sd": round(e.log_volume_sd, 4),
            "extents": np.round(e.extents, 4).tolist(),
            "extents_sd": np.round(e.extents_sd, 4).tolist(),
            "grey": None if e.grey is None else round(e.grey, 2),
            "grey_sd": round(e.grey_sd, 2),
            "found_start": e.found_start.tolist(),
            "found_shape": list(e.found.shape),
            "found": base64.b64encode(bits).decode("ascii"),
        }
    return {
        "schema_version": SCHEMA,
        "source": expectations.source,
        "notes": expectations.notes,
        "structures": rows,
    }
