"""Which strings share letters with a query: an index of letter trigrams, built and asked in numpy.

A million names take some seconds to index and a few milliseconds to ask; the caller compares only
the few dozen strings that come back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BUCKET_BITS = 18
_BUCKETS = 1 << _BUCKET_BITS


class TrigramIndex:
    """Cosine similarity of hashed letter trigrams, rare ones weighing more."""

    def __init__(self, strings: Sequence[str]) -> None:
        self.count = len(strings)
        letters, owners = _padded_codes(strings)
        grams, keep = _trigrams(letters)
        pairs = np.unique(owners[:-2][keep].astype(np.int64) << _BUCKET_BITS | grams[keep])
        buckets = (pairs & (_BUCKETS - 1)).astype(np.int32)
        order = np.argsort(buckets, kind="stable")
        self._owners = (pairs >> _BUCKET_BITS).astype(np.int32)[order]
        frequency = np.bincount(buckets, minlength=_BUCKETS)
        self._starts = np.concatenate([[0], np.cumsum(frequency)])
        self._weights = np.log1p(self.count / np.maximum(frequency, 1)).astype(np.float32)
        squares = np.bincount(
            (pairs >> _BUCKET_BITS), self._weights[buckets] ** 2, minlength=self.count
        )
        self._norms = np.sqrt(np.maximum(squares, 1e-12)).astype(np.float32)

    def nearest(self, query: str, limit: int) -> list[int]:
        """Indices of the strings nearest to the query, and of those that hold most of it."""
        if not self.count or not query:
            return []
        letters, _ = _padded_codes([query])
        grams, keep = _trigrams(letters)
        buckets = np.unique(grams[keep])
        spans = [slice(self._starts[b], self._starts[b + 1]) for b in buckets]
        if not spans:
            return []
        owners = np.concatenate([self._owners[span] for span in spans])
        if not len(owners):
            return []
        weights = np.repeat(self._weights[buckets] ** 2, [span.stop - span.start for span in spans])
        touched, inverse = np.unique(owners, return_inverse=True)
        shared = np.bincount(inverse, weights)
        cosine = shared / self._norms[touched]
        best = set(touched[_largest(cosine, limit)].tolist())
        # A short query inside a long name has a small cosine; what is covered of it counts too.
        covered = shared + 1e-3 * cosine
        best.update(touched[_largest(covered, limit // 2)].tolist())
        return sorted(best)


def _padded_codes(strings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Character codes of " string " one after the other, and which string each belongs to."""
    lengths = np.fromiter((len(s) + 2 for s in strings), dtype=np.int64, count=len(strings))
    text = "".join(f" {s} " for s in strings)
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    return codes, np.repeat(np.arange(len(strings), dtype=np.int32), lengths)


def _trigrams(letters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bucket of each run of three letters, and which of them do not cross from string to string."""
    if len(letters) < 3:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
    wide = letters.astype(np.uint64)
    mixed = (wide[:-2] * 0x9E3779B1 + wide[1:-1] * 0x85EBCA77 + wide[2:] * 0xC2B2AE3D) & 0xFFFFFFFF
    mixed ^= mixed >> np.uint64(15)
    blank = letters == 32
    crosses = (blank[:-2] & blank[1:-1]) | (blank[1:-1] & blank[2:])
    return (mixed & np.uint64(_BUCKETS - 1)).astype(np.int64), ~crosses


def _largest(values: np.ndarray, limit: int) -> np.ndarray:
    if len(values) <= limit:
        return np.arange(len(values))
    return np.argpartition(values, len(values) - limit)[-limit:]
