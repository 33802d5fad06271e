"""Text embeddings of knowledge-base entries, computed once per model and text.

The model folder brings those of the bundled knowledge base; what is missing is embedded and kept in
the user's cache, so a changed or added entry costs its own embedding only.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .errors import InputError
from .knowledge_base import KnowledgeBase, text
from .resources import atomic_path, user_data_folder
from .runtime import Runtime

BATCH = 32
Known = dict[bytes, np.ndarray]


def text_key(entry_text: str) -> bytes:
    """16 bytes under which the embedding of a text is kept."""
    return hashlib.blake2b(entry_text.encode("utf-8"), digest_size=16).digest()


def entry_embeddings(
    runtime: Runtime,
    knowledge_base: KnowledgeBase,
    bundled: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> np.ndarray:
    """N x D float32, unit length, in the order of `knowledge_base.entries`.

    bundled: file of `write_embeddings` that came with the model. A cache that cannot be read or
    written is logged and does not stop the work.
    """
    texts = [text(entry) for entry in knowledge_base.entries]
    keys = [text_key(t) for t in texts]
    known: Known = {}
    for path in (bundled, _cache_path(runtime)):
        if path is not None and path.is_file() and not known.keys() >= set(keys):
            known |= read_embeddings(path)
    missing = [n for n, key in enumerate(keys) if key not in known]
    for start in range(0, len(missing), BATCH):
        if progress is not None:
            progress(start / len(missing), "Reading the knowledge base")
        batch = missing[start : start + BATCH]
        for n, vector in zip(batch, runtime.embed_text([texts[n] for n in batch]), strict=True):
            known[keys[n]] = np.asarray(vector, dtype=np.float32)
    if missing:
        _remember(runtime, {key: known[key] for key in keys})
    return np.stack([known[key] for key in keys]).astype(np.float32)


def read_embeddings(path: Path) -> Known:
    """Text key -> D float32 of an .npz file; empty, with a line in the log, if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            keys, vectors = stored["keys"], stored["vectors"].astype(np.float32)
        if keys.ndim != 2 or vectors.ndim != 2 or len(keys) != len(vectors):
            raise ValueError("keys and vectors do not agree")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logging.warning("The embedding cache %s is ignored: %r", path, error)
        return {}
    return {
        key.tobytes(): vector for key, vector in zip(keys.astype(np.uint8), vectors, strict=True)
    }


def write_embeddings(path: Path, known: Known, dtype: type = np.float32) -> None:
    """Inverse of `read_embeddings`, atomic. float16 halves the file at no loss for cosines."""
    keys = np.array([np.frombuffer(key, dtype=np.uint8) for key in known])
    vectors = np.array(list(known.values())).astype(dtype)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, keys=keys, vectors=vectors)


def _cache_path(runtime: Runtime) -> Path | None:
    try:
        folder = user_data_folder() / "cache"
        folder.mkdir(exist_ok=True)
    except (OSError, InputError) as error:
        logging.warning("No embedding cache: %r", error)
        return None
    return folder / f"embeddings-{runtime.fingerprint[:32]}.npz"


def _remember(runtime: Runtime, known: Known) -> None:
    path = _cache_path(runtime)
    if path is None:
        return
    try:
        write_embeddings(path, known)
    except OSError as error:
        logging.warning("The embedding cache %s was not written: %r", path, error)
