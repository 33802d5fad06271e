"""From the library's tables to items and to the columns of the index. Nothing is believed unchecked."""

from __future__ import annotations

import json
import sqlite3

import numpy as np

from .record import Finding, Item, Place
from .search import Rows

KEPT_DTYPE = "<f2"  # half the size; cosines differ in the fourth decimal
_COLUMNS = "SELECT items.id, pseudonym, kind, entry, plane, modality, accepted"


def read_closure(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """{entry: {what it is a part or kind of: steps}} of all places."""
    found: dict[str, dict[str, int]] = {}
    for entry, ancestor, distance in connection.execute("SELECT * FROM closure"):
        found.setdefault(entry, {})[ancestor] = int(distance)
    return found


def read_rows(connection: sqlite3.Connection, model: str, after: int) -> Rows:
    """Items with a number above `after` that have an embedding of `model`; for "" all items.

    Raises ValueError or TypeError when the tables hold something else than we wrote.
    """
    join = "FROM items JOIN cases ON cases.id = case_id"
    if not model:
        rows = connection.execute(
            f"{_COLUMNS} {join} WHERE items.id > ? ORDER BY items.id", (after,)
        ).fetchall()
        vectors = None
    else:
        rows = connection.execute(
            f"{_COLUMNS}, vector {join} JOIN embeddings ON embeddings.item_id = items.id "
            "JOIN models ON models.id = model_id AND fingerprint = ? "
            "WHERE items.id > ? ORDER BY items.id",
            (model, after),
        ).fetchall()
        vectors = _vectors(connection, model, [row[7] for row in rows])
    number_of = {row[0]: n for n, row in enumerate(rows)}
    places = _rows_of(connection, "places", "entry, side, zone", after, number_of)
    findings = _rows_of(connection, "findings", "entry", after, number_of)
    return Rows(
        ids=[row[0] for row in rows],
        cases=[row[1] for row in rows],
        kinds=[row[2] for row in rows],
        entries=[row[3] for row in rows],
        planes=[row[4] for row in rows],
        modalities=[row[5] for row in rows],
        accepted=[row[6] for row in rows],
        vectors=vectors,
        place_row=[row[0] for row in places],
        place_entry=[row[1] for row in places],
        place_side=[row[2] for row in places],
        place_zone=[row[3] for row in places],
        finding_row=[row[0] for row in findings],
        finding_entry=[row[1] for row in findings],
    )


def _vectors(connection: sqlite3.Connection, model: str, kept: list[bytes]) -> np.ndarray | None:
    if not kept:
        return None
    (dimension,) = connection.execute(
        "SELECT dimension FROM models WHERE fingerprint = ?", (model,)
    ).fetchone()
    vectors = np.frombuffer(b"".join(kept), dtype=KEPT_DTYPE)
    if vectors.size != len(kept) * int(dimension):
        raise ValueError("embeddings of another size")
    matrix = vectors.reshape(len(kept), int(dimension)).astype(np.float32)
    lengths = np.einsum("nd,nd->n", matrix, matrix)
    if not (np.abs(lengths - 1) < 0.02).all():  # not a number included
        raise ValueError("embeddings that are not of unit length")
    return matrix


def _rows_of(
    connection: sqlite3.Connection, table: str, columns: str, after: int, number_of: dict[int, int]
) -> list[tuple]:
    return [
        (number_of[item], *values)
        for item, *values in connection.execute(
            f"SELECT item_id, {columns} FROM {table} WHERE item_id > ?", (after,)
        )
        if item in number_of
    ]


def item_of(
    row: tuple,
    places: dict[int, list[tuple]],
    findings: dict[int, list[tuple]],
    pictures: dict[int, bytes],
    vectors: dict[int, tuple[str, bytes]],
) -> Item:
    """The item of a row of `items` and what the other tables hold of it, by item number."""
    identifier, case, kind, entry, side, plane, modality, accepted, attributes, text = row
    fingerprint, vector = vectors.get(identifier, ("", None))
    measured = json.loads(attributes)
    if not isinstance(measured, dict) or not isinstance(text, str):
        raise ValueError("attributes or text of another kind")
    return Item(
        case=case,
        kind=kind,
        entry=entry,
        side=side,
        embedding=None if vector is None else np.frombuffer(vector, dtype=KEPT_DTYPE),
        model=fingerprint,
        places=tuple(Place(*values) for values in places.get(identifier, ())),
        findings=tuple(
            Finding(e, s, tuple(json.loads(words))) for e, s, words in findings.get(identifier, ())
        ),
        attributes=measured,
        text=text,
        thumbnail=pictures.get(identifier, b""),
        plane=plane,
        modality=modality,
        accepted=bool(accepted),
        identifier=int(identifier),
    ).checked()
