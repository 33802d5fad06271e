"""The matrix the linker compares with: one text embedding for each knowledge-base entry.

A model folder may bring the embeddings of the bundled entries, so that a first start embeds
nothing; texts it does not know go through the text tower once and stay in the user's cache.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..knowledge_base import KnowledgeBase, text
from ..knowledge_base.embeddings import EmbeddingIndex, text_key
from ..model.runtime import Runtime
from ..resources import atomic_path

Known = dict[bytes, np.ndarray]


def entry_embeddings(
    runtime: Runtime,
    knowledge_base: KnowledgeBase,
    progress: Callable[[float, str], None] | None = None,
) -> np.ndarray:
    """N x D float32, unit length, in the order of `knowledge_base.entries`.

    Raises ModelError when the model's own file of embeddings is damaged.
    """
    path = runtime.entry_embeddings_path
    known = {} if path is None else read_entry_embeddings(path)
    found = [known.get(text_key(text(entry))) for entry in knowledge_base.entries]
    bundled = [vector for vector in found if vector is not None]
    if len(bundled) == len(found):
        return np.stack(bundled)

    def embed(texts: list[str]) -> np.ndarray:
        keys = [text_key(t) for t in texts]
        new = [t for t, key in zip(texts, keys, strict=True) if key not in known]
        if new:
            vectors = runtime.embed_text(new)
            known.update((text_key(t), v) for t, v in zip(new, vectors, strict=True))
        return np.stack([known[key] for key in keys])

    index = EmbeddingIndex.build(
        knowledge_base.entries, embed, runtime.fingerprint, progress=progress
    )
    return np.array(index.matrix, dtype=np.float32)


def write_entry_embeddings(path: Path, runtime: Runtime, knowledge_base: KnowledgeBase) -> None:
    """Embed every entry and write the file that goes into a model folder (float16: half the size,
    and cosines that differ in the fourth decimal)."""
    texts = [text(entry) for entry in knowledge_base.entries]
    vectors = np.asarray(runtime.embed_text(texts))
    keys = np.frombuffer(b"".join(text_key(t) for t in texts), dtype=np.uint8).reshape(-1, 16)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, keys=keys, vectors=vectors.astype(np.float16))


def read_entry_embeddings(path: Path) -> Known:
    """Text key -> D float32, unit length, of a file of `write_entry_embeddings`."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            keys, vectors = stored["keys"], stored["vectors"].astype(np.float32)
        if keys.ndim != 2 or keys.dtype != np.uint8 or vectors.ndim != 2:
            raise ValueError("not keys and vectors")
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"'{path}' is damaged; install the model again.", repr(error)) from error
