"""Vectors of entry texts: computed once, kept on disk, searched exactly.

A cache file is one .npy of records (key of the text, unit vector), memory-mapped when read, so a
million entries cost their file's pages and no copy. It is named by model and by the texts it
holds; when texts change, vectors of unchanged ones are taken over from the older files.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import ModelError
from ..resources import atomic_path, user_data_folder
from .entry import Entry, text

EmbedText = Callable[[list[str]], np.ndarray]
"""Strings -> (N, D) float vectors, any length."""
Progress = Callable[[float, str], None]
Ranking = list[tuple[str, float]]
"""(entry id, cosine) pairs, best first."""

_KEY_BYTES = 16
_KEPT_FILES = 4
_CHUNK_ROWS = 8192


class VectorIndex(Protocol):
    """What `EmbeddingIndex` and `qdrant.QdrantIndex` have in common."""

    def search(
        self, vectors: np.ndarray, limit: int = 10, among: Collection[str] | None = None
    ) -> list[Ranking]:
        """Nearest entries of each of (Q, D) vectors, or of one (D,) vector; `among`: only these."""
        ...


def text_key(content: str) -> bytes:
    """16-byte key of a text in the cache."""
    return hashlib.blake2b(content.encode("utf-8"), digest_size=_KEY_BYTES).digest()


def model_slug(model_id: str) -> str:
    """A file name for a model's id, distinct for distinct ids."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", model_id)[:48].strip("._") or "model"
    return f"{readable}-{hashlib.blake2b(model_id.encode('utf-8'), digest_size=6).hexdigest()}"


class EmbeddingIndex:
    """Exact cosine search over an (N, D) matrix of unit rows, float32 or float16.

    The matrix may be memory-mapped. `workers` threads share the rows; numpy's product lets go of
    the interpreter, so they run at once.
    """

    def __init__(self, ids: Sequence[str], matrix: np.ndarray, workers: int | None = None) -> None:
        if matrix.ndim != 2 or len(ids) != len(matrix):
            raise ModelError("The embedding matrix does not fit the list of entries.")
        self.ids = ids
        self.matrix = matrix
        self.workers = workers or min(2, os.cpu_count() or 1)
        self._row_of: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.matrix.shape[1])

    @classmethod
    def build(
        cls,
        entries: Sequence[Entry],
        embed_text: EmbedText,
        model_id: str,
        folder: Path | None = None,
        *,
        dtype: str = "float32",
        batch: int = 64,
        progress: Progress | None = None,
    ) -> EmbeddingIndex:
        """Index of the entries' texts; only texts never embedded by this model are embedded now.

        folder: where the cache lies, the user's data folder by default. dtype "float16" halves the
        file. Raises ModelError when the model's vectors are not finite or not (N, D).
        """
        home = folder or user_data_folder() / "embeddings"
        cache = home / f"{model_slug(model_id)}-{np.dtype(dtype).name}"
        keys = np.frombuffer(
            b"".join(text_key(text(entry)) for entry in entries), dtype=f"V{_KEY_BYTES}"
        )
        name = hashlib.blake2b(keys.tobytes(), digest_size=12).hexdigest()
        path = cache / f"{name}.npy"
        records = _open_records(path, dtype)
        if records is None or not _same_keys(records["key"], keys):
            records = None  # a damaged file is unmapped before it is replaced
            _write_records(path, entries, keys, embed_text, dtype, batch, progress)
            _drop_old_files(cache)
            records = _open_records(path, dtype)
            if records is None:
                raise ModelError(f"The embeddings written to '{path}' cannot be read back.")
        return cls([entry.id for entry in entries], records["vector"])

    @classmethod
    def open(cls, path: Path, ids: Sequence[str], dtype: str = "float32") -> EmbeddingIndex:
        """Index over a cache file. Raises ModelError when it is damaged or of another length."""
        records = _open_records(path, dtype)
        if records is None:
            raise ModelError(f"'{path}' is not a file of {dtype} embeddings.")
        return cls(ids, records["vector"])

    def search(
        self, vectors: np.ndarray, limit: int = 10, among: Collection[str] | None = None
    ) -> list[Ranking]:
        """Nearest entries of each of (Q, D) vectors, or of one (D,) vector, by cosine.

        among: rank only these ids; unknown ones are ignored. Ties keep the entries' order.
        """
        queries = unit_rows(np.atleast_2d(np.asarray(vectors, dtype=np.float32)))
        if queries.shape[1] != self.dimension:
            raise ModelError(
                f"A vector of length {queries.shape[1]} cannot be compared with embeddings of "
                f"length {self.dimension}; they come from another model."
            )
        rows = None if among is None else self._rows(among)
        count = len(self) if rows is None else len(rows)
        if not count or limit < 1:
            return [[] for _ in queries]
        spans = [(a, min(a + _CHUNK_ROWS, count)) for a in range(0, count, _CHUNK_ROWS)]
        workers = min(self.workers, len(spans))
        if workers == 1:
            parts = [self._scan(queries, spans, rows, limit)]
        else:
            with ThreadPoolExecutor(workers) as pool:
                size = -(-len(spans) // workers)
                shares = [spans[n : n + size] for n in range(0, len(spans), size)]
                parts = list(pool.map(lambda s: self._scan(queries, s, rows, limit), shares))
        indices = np.concatenate([part[0] for part in parts], axis=1)
        scores = np.concatenate([part[1] for part in parts], axis=1)
        return [self._ranking(indices[q], scores[q], limit) for q in range(len(queries))]

    def _scan(
        self,
        queries: np.ndarray,
        spans: list[tuple[int, int]],
        rows: np.ndarray | None,
        limit: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best rows of some spans: (Q, K) row numbers and (Q, K) cosines."""
        columns = np.ascontiguousarray(queries.T)
        wide = self.matrix.dtype == np.float32
        buffer = None if wide else np.empty((_CHUNK_ROWS, self.dimension), dtype=np.float32)
        found, found_scores = [], []
        for start, stop in spans:
            block = self.matrix[start:stop] if rows is None else self.matrix[rows[start:stop]]
            if buffer is not None:
                np.copyto(buffer[: stop - start], block)
                block = buffer[: stop - start]
            if len(queries) == 1:
                scores = (block @ columns[:, 0])[None, :]
            else:
                scores = (block @ columns).T
            best = _best_columns(scores, limit)
            found_scores.append(np.take_along_axis(scores, best, axis=1))
            found.append(best + start if rows is None else rows[start:stop][best])
        return np.concatenate(found, axis=1), np.concatenate(found_scores, axis=1)

    def _ranking(self, indices: np.ndarray, scores: np.ndarray, limit: int) -> Ranking:
        order = np.lexsort((indices, -scores))[:limit]
        return [(self.ids[int(indices[i])], float(scores[i])) for i in order]

    def _rows(self, among: Collection[str]) -> np.ndarray:
        if self._row_of is None:
            self._row_of = {identifier: row for row, identifier in enumerate(self.ids)}
        rows = {self._row_of[i] for i in among if i in self._row_of}
        return np.array(sorted(rows), dtype=np.int64)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32. Raises ModelError on values that are not finite."""
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ModelError("The model gave embeddings that are not finite vectors.")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _best_columns(scores: np.ndarray, limit: int) -> np.ndarray:
    if scores.shape[1] <= limit:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(scores, -limit, axis=1)[:, -limit:]


def _record_type(dimension: int, dtype: str) -> np.dtype:
    return np.dtype([("key", f"V{_KEY_BYTES}"), ("vector", np.dtype(dtype), (dimension,))])


def _open_records(path: Path, dtype: str) -> np.ndarray | None:
    """Memory-mapped records, None when there is no such file or it is damaged."""
    try:
        records = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    names = records.dtype.names
    if records.ndim != 1 or names != ("key", "vector"):
        return None
    vector = records.dtype["vector"]
    good = vector.base == np.dtype(dtype) and len(vector.shape) == 1
    return records if good else None


def _same_keys(stored: np.ndarray, keys: np.ndarray) -> bool:
    return len(stored) == len(keys) and stored.tobytes() == keys.tobytes()


def _write_records(
    path: Path,
    entries: Sequence[Entry],
    keys: np.ndarray,
    embed_text: EmbedText,
    dtype: str,
    batch: int,
    progress: Progress | None,
) -> None:
    known = _known_vectors(path.parent, keys, dtype, skip=path)
    missing = [row for row in range(len(entries)) if row not in known]
    dimension = next((len(vector) for vector in known.values()), None)
    first = None
    if missing or dimension is None:
        probe = [text(entries[row]) for row in missing[:batch]] or ["[TITLE][BODY]"]
        first = _embedded(embed_text, probe)
        if dimension is not None and dimension != first.shape[1]:
            known, missing = {}, list(range(len(entries)))
            first = _embedded(embed_text, [text(entries[row]) for row in missing[:batch]])
        dimension = first.shape[1]
    with atomic_path(path) as temporary:
        records = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=_record_type(dimension, dtype), shape=(len(entries),)
        )
        records["key"] = keys
        for row, vector in known.items():
            records["vector"][row] = vector
        for start in range(0, len(missing), batch):
            rows = missing[start : start + batch]
            if start or first is None:
                first = _embedded(embed_text, [text(entries[row]) for row in rows])
            if first.shape != (len(rows), dimension):
                raise ModelError("The model gave another number of embeddings than texts.")
            records["vector"][rows] = first
            if progress:
                done = (start + len(rows)) / len(missing)
                progress(done, f"Reading the knowledge base: {start + len(rows)} entries")
        records.flush()
        del records  # Windows cannot rename a mapped file


def _embedded(embed_text: EmbedText, texts: list[str]) -> np.ndarray:
    vectors = np.asarray(embed_text(texts))
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ModelError("The model gave another number of embeddings than texts.")
    return unit_rows(vectors)


def _known_vectors(folder: Path, keys: np.ndarray, dtype: str, skip: Path) -> dict[int, np.ndarray]:
    """Vectors of these keys that other files of the folder hold, by row."""
    wanted: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        wanted.setdefault(key.tobytes(), []).append(row)
    found: dict[int, np.ndarray] = {}
    for path in _files(folder):
        records = None if path == skip else _open_records(path, dtype)
        if records is None:
            continue
        stored = records["key"].tobytes()
        for position in range(len(records)):
            rows = wanted.get(stored[position * _KEY_BYTES : (position + 1) * _KEY_BYTES])
            if rows and rows[0] not in found:
                vector = np.array(records["vector"][position])
                found.update(dict.fromkeys(rows, vector))
    return found


def _files(folder: Path) -> list[Path]:
    """Cache files, newest first."""
    if not folder.is_dir():
        return []
    return sorted(folder.glob("*.npy"), key=lambda p: p.stat().st_mtime, reverse=True)


def _drop_old_files(folder: Path) -> None:
    for path in _files(folder)[_KEPT_FILES:]:
        try:
            path.unlink()
        except OSError:  # another process has it mapped; the next build tries again
            continue
