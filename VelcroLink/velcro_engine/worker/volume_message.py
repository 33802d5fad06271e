"""Volumes and label layers as frames of the protocol, for the messages that need a whole volume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..imaging.volume import Volume, make_volume
from ..messages.protocol import VOLUME_DTYPES
from ..messages.request import MAXIMUM_VOXELS


def volume_of(
    header: dict[str, Any], payload: bytes, session: dict[str, Any]
) -> tuple[Volume, bytes]:
    """(volume, rest of the payload) of a request's "volume".

    {"path"}; or {"id"} of a volume sent before in this session; or {"id", "shape": [K, J, I],
    "dtype", "ijk_to_ras", "modality", "name"} with its voxels, little endian, at the payload's
    start. The last volume stays in the session under its id. Raises InputError.
    """
    told = header.get("volume")
    if not isinstance(told, dict):
        raise InputError("The request names no volume.")
    if "path" in told:
        from ..imaging.reading import read_volume

        return read_volume(Path(str(told["path"]))), payload
    identifier = told.get("id")
    if "shape" not in told:
        known = session.get("volume")
        if known is None or identifier is None or known[0] != identifier:
            raise InputError("The worker does not have this volume any more; send it again.")
        return known[1], payload
    array, rest = array_of(told, payload)
    try:
        volume = make_volume(
            array,
            np.asarray(told["ijk_to_ras"], dtype=np.float64),
            told.get("modality"),
            name=str(told.get("name", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("The volume's position is incomplete.", repr(error)) from error
    session["volume"] = (identifier, volume)
    return volume, rest


def array_of(told: dict[str, Any], payload: bytes) -> tuple[np.ndarray, bytes]:
    """(K x J x I array described by "shape" and "dtype", rest of the payload)."""
    try:
        shape = tuple(int(n) for n in told["shape"])
        name = str(told["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("A volume's size or type is missing.", repr(error)) from error
    if (
        len(shape) != 3
        or min(shape) < 1
        or math.prod(shape) > MAXIMUM_VOXELS
        or name not in VOLUME_DTYPES
    ):
        raise InputError("A volume's size or type cannot be used.")
    dtype = np.dtype(name).newbyteorder("<")
    size = math.prod(shape) * dtype.itemsize
    if len(payload) < size:
        raise InputError("A volume's voxels are incomplete.")
    array = np.frombuffer(payload[:size], dtype=dtype).reshape(shape).astype(name, copy=True)
    return array, payload[size:]
