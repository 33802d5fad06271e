"""Corrections the user made, kept as JSON lines in the user's data folder and never lost."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from velcro_engine.errors import InputError
from velcro_engine.messages.result import LinkResult

from ..scene.slice_request import PlacedRequest

FILE_NAME = "corrections.jsonl"


@dataclass(frozen=True)
class Correction:
    """What the engine linked and what it should have been.

    linkedEntryId: the engine's first entry, "" when it named none. embedding: of the region, unit
    length, so that a correction can teach without the image; no image and no patient data is kept.
    """

    sliceId: str
    linkedEntryId: str
    linkedConfidence: float
    rightEntryId: str
    side: str | None
    plane: str | None
    modality: str | None
    model: str
    knowledgeBase: str
    embedding: tuple[float, ...] = ()
    note: str = ""


def correctionOf(
    placed: PlacedRequest,
    result: LinkResult,
    rightEntryId: str,
    side: str | None,
    note: str = "",
) -> Correction:
    """The correction "this region is `rightEntryId`" of a shown result."""
    best = result.entries[0] if result.entries else None
    embedding: Sequence[float] = () if result.embedding is None else result.embedding.tolist()
    return Correction(
        sliceId=placed.request.slice_id,
        linkedEntryId=best.id if best is not None else "",
        linkedConfidence=float(best.confidence) if best is not None else 0.0,
        rightEntryId=rightEntryId,
        side=side,
        plane=placed.request.plane,
        modality=placed.request.modality,
        model=result.model,
        knowledgeBase=result.knowledge_base,
        embedding=tuple(float(v) for v in embedding),
        note=note,
    )


class CorrectionFile:
    """Append-only JSON lines; a line cut off by a killed process spoils only itself."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / FILE_NAME

    def append(self, correction: Correction) -> None:
        """Add one line and have it on the disk when this returns.

        Raises InputError with what to do when the folder cannot be written.
        """
        line = json.dumps(asdict(correction), ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab+") as stream:
                stream.seek(0, os.SEEK_END)
                if stream.tell() > 0:
                    stream.seek(-1, os.SEEK_END)
                    if stream.read(1) != b"\n":
                        line = "\n" + line  # the line before was cut off; do not join them
                # One write in append mode: two Slicers writing at once do not mix their lines.
                stream.write(line.encode("utf-8"))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise InputError(
                f"The correction could not be saved in '{self.path.parent}'; check that the folder "
                "can be written.",
                repr(error),
            ) from error

    def read(self) -> list[Correction]:
        """All whole lines in the order in which they were made; damaged ones are skipped and
        named in the log. Raises InputError when the file cannot be read."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(
                f"The corrections in '{self.path}' cannot be read; check its permissions.",
                repr(error),
            ) from error
        corrections = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                corrections.append(_fromJson(json.loads(line.decode("utf-8"))))
            except (UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
                logging.warning("%s, line %d is damaged and skipped: %r", self.path, number, error)
        return corrections


def _fromJson(values: Any) -> Correction:
    if not isinstance(values, dict):
        raise TypeError("a correction is a JSON object")
    known = {field.name for field in fields(Correction)}
    kept = {name: value for name, value in values.items() if name in known}
    kept["embedding"] = tuple(float(v) for v in kept.get("embedding", ()))
    return Correction(**kept)
