"""Frames between panel and worker over stdin / stdout.

Frame = 4 bytes magic "VLK1", uint32 header length, uint32 payload length (little endian), header
(JSON object, UTF-8), payload (raw bytes). Every header has "type"; a request has "id" (int, rising)
and every answer to it repeats the id.

Worker -> client, unasked: {"type": "hello", "protocol": 1, "engine": version, "pid": n}.
Client -> worker                                  Worker -> client (final answer)
  load   {model, knowledge_bases: [...], data,      ready   {model, knowledge_base, entries: n,
          device: "cpu" | "gpu"}                            device}
  link   SliceRequest (header key "request")        linked  LinkResult (header key "result")
  head   {request, first, last}: one slice of a     head    {}; with the last slice {foreground: how
          volume                                             the head lies, far: look again with it}
  entry  {entry_id}                                 entry   {entry}: the whole KB entry as a dict
  search {text, limit}                              found   {entries: [{id, name, score}]}
  ground, cases, draft, review, propagate, correct  same type with "result"
  cancel {cancel_id}: no answer of its own; the cancelled request ends with error kind "cancelled"
  bye: the worker leaves
Meanwhile: {"type": "progress", "id", "fraction", "message", "remaining_s"}.
Failure:   {"type": "error", "id", "kind", "message", "detail"}; kinds are those of errors.py.
A newer "link" makes older unstarted ones end as "cancelled". The worker leaves when stdin closes.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

from ..errors import ProtocolError

PROTOCOL_VERSION = 1
MAGIC = b"VLK1"
_HEAD = struct.Struct("<4sII")
MAXIMUM_HEADER = 16 * 1024 * 1024
# numpy types in which a whole volume may be sent
VOLUME_DTYPES = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "float32",
    "float64",
)
MAXIMUM_PAYLOAD = 1024 * 1024 * 1024


def encode_frame(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """One frame as bytes. Raises ProtocolError when it is too large or not JSON-able."""
    return frame_head(header, len(payload)) + payload


def frame_head(header: dict[str, Any], payload_size: int) -> bytes:
    """All of a frame but its payload, so that a large one need not be copied.

    Raises ProtocolError when the frame is too large or its header not JSON-able.
    """
    try:
        text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ProtocolError("A message cannot be written as JSON.", repr(error)) from error
    if len(text) > MAXIMUM_HEADER or payload_size > MAXIMUM_PAYLOAD:
        raise ProtocolError("A message is too large.")
    return _HEAD.pack(MAGIC, len(text), payload_size) + text


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Next frame of a blocking stream, None at its clean end.

    Raises ProtocolError when the stream ends inside a frame or holds something else.
    """
    head = _read_exactly(stream, _HEAD.size, at_boundary=True)
    if head is None:
        return None
    magic, header_size, payload_size = _HEAD.unpack(head)
    if magic != MAGIC:
        raise ProtocolError("The stream holds something that is not a VelcroLink message.")
    if header_size > MAXIMUM_HEADER or payload_size > MAXIMUM_PAYLOAD:
        raise ProtocolError("A message announces more data than is allowed.")
    text = _read_exactly(stream, header_size) or b""
    payload = _read_exactly(stream, payload_size) or b""
    try:
        header = json.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ProtocolError("A message's header is not JSON.", repr(error)) from error
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise ProtocolError("A message's header has no type.")
    return header, payload


def _read_exactly(stream: BinaryIO, size: int, at_boundary: bool = False) -> bytes | None:
    parts: list[bytes] = []
    left = size
    while left:
        part = stream.read(min(left, 1 << 20))
        if not part:
            if at_boundary and left == size:
                return None
            raise ProtocolError("The stream ended inside a message.")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
