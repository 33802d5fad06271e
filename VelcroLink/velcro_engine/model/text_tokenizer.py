"""Byte-pair tokenizer of the bundled text tower, in plain Python.

It gives the same tokens as open_clip's `SimpleTokenizer` with the same merges file (a test compares
both), but needs neither open_clip nor `regex`, so that it runs inside 3D Slicer. Byte-pair
encoding: Sennrich et al., ACL 2016; byte alphabet as in GPT-2 / CLIP.
"""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import ModelError

_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


def byte_alphabet() -> dict[int, str]:
    """A printable character for each byte, in CLIP's order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    hidden = [byte for byte in range(256) if byte not in table]
    table |= {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return table


def normalise_text(text: str) -> str:
    """Entities unescaped twice, white space folded, lower case."""
    return _SPACE.sub(" ", html.unescape(html.unescape(text))).strip().lower()


class TextTokenizer:
    """Text -> token ids. `merges`: pairs in order of rank."""

    def __init__(self, merges: Sequence[tuple[str, str]], context_length: int) -> None:
        self.alphabet = byte_alphabet()
        letters = list(self.alphabet.values())
        vocabulary = letters + [c + "</w>" for c in letters] + ["".join(m) for m in merges]
        vocabulary += ["<start_of_text>", "<end_of_text>"]
        self.ids = {token: i for i, token in enumerate(vocabulary)}
        self.ranks = {pair: i for i, pair in enumerate(merges)}
        self.size = len(vocabulary)
        self.start, self.end = self.size - 2, self.size - 1
        self.context_length = context_length
        self._known: dict[str, list[int]] = {}

    @classmethod
    def from_file(cls, path: Path, context_length: int) -> TextTokenizer:
        """Read a gzip'd merges file (one header line, then a pair a line). Raises ModelError."""
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                lines = file.read().split("\n")[1:]
            merges = [(a, b) for a, b in (line.split() for line in lines if line)]
        except (OSError, ValueError, EOFError) as error:
            raise ModelError(f"The model's vocabulary '{path}' is damaged.", repr(error)) from error
        return cls(merges, context_length)

    def _word(self, word: str) -> list[int]:
        known = self._known.get(word)
        if known is not None:
            return known
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            ranked = [
                (self.ranks[pair], n)
                for n, pair in enumerate(zip(pieces, pieces[1:], strict=False))
                if pair in self.ranks
            ]
            if not ranked:
                break
            best = pieces[min(ranked)[1]], pieces[min(ranked)[1] + 1]
            merged, n = [], 0
            while n < len(pieces):
                if n + 1 < len(pieces) and (pieces[n], pieces[n + 1]) == best:
                    merged.append(best[0] + best[1])
                    n += 2
                else:
                    merged.append(pieces[n])
                    n += 1
            pieces = merged
        ids = [self.ids[p] for p in pieces]
        if len(self._known) < 100_000:
            self._known[word] = ids
        return ids

    def encode(self, text: str) -> list[int]:
        """Token ids without start and end."""
        out: list[int] = []
        for piece in _PIECES.findall(normalise_text(text)):
            out += self._word("".join(self.alphabet[b] for b in piece.encode("utf-8")))
        return out

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """N texts -> N x context_length int64, cut at the end, padded with 0."""
        out = np.zeros((len(texts), self.context_length), dtype=np.int64)
        for row, text in enumerate(texts):
            ids = [self.start, *self.encode(text)][: self.context_length - 1] + [self.end]
            out[row, : len(ids)] = ids
        return out
