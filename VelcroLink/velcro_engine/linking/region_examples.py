"""Example regions of entries: what a user showed the model once, used beside the entry's text.

An entry that no training image showed is matched by its text. One region that a user named is worth
more than that: the mean of its examples' region embeddings is blended with the text's embedding
(prototypes: Snell et al., "Prototypical networks for few-shot learning", 2017). Nothing is trained.
Embeddings mean something only to the model that made them, so there is one file for each model, by
its fingerprint, in the user's own folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..resources import user_data_folder, write_atomically

SCHEMA = 1
MOST_EXAMPLES = 20  # of one entry; the oldest goes
TRAINED_TEXT_COUNTS = 6.0  # examples that the text of an entry seen in training is worth


@dataclass(frozen=True)
class Example:
    """One region: embedding (D, float32, unit length) and where it was (file and slice)."""

    embedding: np.ndarray
    source: str = ""


Examples = dict[str, tuple[Example, ...]]


def examples_path(fingerprint: str) -> Path:
    """The user's file of examples for one model."""
    return user_data_folder() / "examples" / f"{fingerprint}.json"


def read_examples(fingerprint: str) -> Examples:
    """Examples by entry id; none when the user gave none. Raises InputError for a damaged file."""
    path = examples_path(fingerprint)
    if not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema_version"] != SCHEMA:
            raise ValueError(f"schema {raw['schema_version']}")
        return {
            str(entry): tuple(_example(row) for row in rows)
            for entry, rows in raw["entries"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"Your example regions in '{path}' are damaged; restore the file or delete it.",
            repr(error),
        ) from error


def _example(row: dict[str, Any]) -> Example:
    vector = np.asarray(row["embedding"], dtype=np.float32)
    length = float(np.linalg.norm(vector)) if vector.ndim == 1 else 0.0
    if not np.isfinite(length) or length < 1e-6:
        raise ValueError("an embedding is empty")
    return Example(vector / length, str(row.get("source", "")))


def add_example(fingerprint: str, entry_id: str, example: Example) -> int:
    """Keep an example; returns how many the entry has now. Raises InputError."""
    known = read_examples(fingerprint)
    known[entry_id] = (*known.get(entry_id, ()), example)[-MOST_EXAMPLES:]
    _write(fingerprint, known)
    return len(known[entry_id])


def remove_examples(fingerprint: str, entry_id: str) -> int:
    """Forget an entry's examples; returns how many there were. Raises InputError."""
    known = read_examples(fingerprint)
    gone = known.pop(entry_id, ())
    if gone:
        _write(fingerprint, known)
    return len(gone)


def _write(fingerprint: str, examples: Mapping[str, tuple[Example, ...]]) -> None:
    entries = {
        entry: [
            {"source": e.source, "embedding": [round(float(v), 6) for v in e.embedding]}
            for e in found
        ]
        for entry, found in sorted(examples.items())
    }
    told = {"schema_version": SCHEMA, "fingerprint": fingerprint, "entries": entries}
    write_atomically(examples_path(fingerprint), json.dumps(told) + "\n")


def blended(text: np.ndarray, examples: tuple[Example, ...], trained: bool) -> np.ndarray:
    """Unit vector (D) of an entry from its text's unit embedding and its examples.

    n examples count n + 1 against one for a text alone, which the model may misread; against
    TRAINED_TEXT_COUNTS for an entry it was trained on, so that one odd region spoils nothing.
    Examples of another length than the text are of another model: InputError.
    """
    if any(e.embedding.shape != text.shape for e in examples):
        raise InputError(
            "Your example regions are of another model; remove them and give new ones."
        )
    mean = np.mean([e.embedding for e in examples], axis=0)
    mean /= max(float(np.linalg.norm(mean)), 1e-6)
    n = len(examples)
    share = n / (n + TRAINED_TEXT_COUNTS) if trained else (n + 1) / (n + 2)
    mixed = share * mean + (1 - share) * text
    return (mixed / max(float(np.linalg.norm(mixed)), 1e-6)).astype(np.float32)
