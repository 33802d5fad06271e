"""What the engine answers: the mask on the slice, ranked entries and measured attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InputError


@dataclass(frozen=True)
class LinkedEntry:
    """One knowledge-base entry with the probability that it is what the region shows.

    side: "left" | "right" | None (midline, or not decidable from the slice).
    """

    id: str
    name: str
    side: str | None
    confidence: float


@dataclass(frozen=True)
class LinkResult:
    """Answer to one `SliceRequest`.

    mask: bool, H x W, on the request's pixels.
    entries: best first. abstained: nothing is similar enough; entries then are the nearest.
    attributes: measured, e.g. {"area_mm2", "longest_diameter_mm", "perpendicular_mm", "zone"}.
    embedding: float32, D, unit length: the RoI embedding, for the case library.
    seconds: {"encode", "decode", "total"}; encode is 0 when the slice was cached.
    """

    mask: np.ndarray
    entries: tuple[LinkedEntry, ...]
    abstained: bool
    attributes: dict[str, Any] = field(default_factory=dict)
    embedding: np.ndarray | None = None
    mask_confidence: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    model: str = ""
    knowledge_base: str = ""
    slice_id: str = ""

    def to_message(self) -> tuple[dict[str, Any], bytes]:
        """(JSON-able header, payload = packed mask bits then float32 embedding)."""
        bits = np.packbits(self.mask.astype(bool)).tobytes()
        vector = (
            b"" if self.embedding is None else np.asarray(self.embedding, dtype="<f4").tobytes()
        )
        header = {
            "shape": list(self.mask.shape),
            "mask_bytes": len(bits),
            "entries": [vars(e) for e in self.entries],
            "abstained": self.abstained,
            "attributes": self.attributes,
            "mask_confidence": self.mask_confidence,
            "seconds": self.seconds,
            "model": self.model,
            "knowledge_base": self.knowledge_base,
            "slice_id": self.slice_id,
        }
        return header, bits + vector

    @classmethod
    def from_message(cls, header: dict[str, Any], payload: bytes) -> LinkResult:
        """Inverse of `to_message`. Raises InputError when header and payload do not agree."""
        try:
            height, width = (int(v) for v in header["shape"])
            split = int(header["mask_bytes"])
            bits = np.frombuffer(payload[:split], dtype=np.uint8)
            mask = np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
            vector = np.frombuffer(payload[split:], dtype="<f4").copy() if payload[split:] else None
            return cls(
                mask=mask,
                entries=tuple(LinkedEntry(**e) for e in header["entries"]),
                abstained=bool(header["abstained"]),
                attributes=dict(header["attributes"]),
                embedding=vector,
                mask_confidence=float(header["mask_confidence"]),
                seconds=dict(header["seconds"]),
                model=str(header["model"]),
                knowledge_base=str(header["knowledge_base"]),
                slice_id=str(header["slice_id"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("The worker's answer is incomplete.", repr(error)) from error
