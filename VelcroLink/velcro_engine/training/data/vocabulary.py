"""Learning the small byte-pair vocabulary of the bundled text tower.

CLIP's 49,000 words would weigh more than the rest of the model; a vocabulary learnt on the knowledge
base keeps "hippocampus" in two or three tokens with a tenth of them.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ...model.text_tokenizer import _PIECES, byte_alphabet, normalise_text

Pair = tuple[str, str]


def learn_merges(texts: Iterable[str], count: int) -> list[Pair]:
    """The `count` most frequent merges (Sennrich et al., 2016), ties broken by spelling."""
    alphabet = byte_alphabet()
    words: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        for piece in _PIECES.findall(normalise_text(text)):
            spelling = [alphabet[b] for b in piece.encode("utf-8")]
            words[(*spelling[:-1], spelling[-1] + "</w>")] += 1
    merges: list[Pair] = []
    spelled = dict(words)
    while len(merges) < count:
        pairs: Counter[Pair] = Counter()
        for letters, n in spelled.items():
            for pair in zip(letters, letters[1:], strict=False):
                pairs[pair] += n
        if not pairs:
            break
        # several merges a round: they cannot overlap when they share no symbol
        used: set[str] = set()
        chosen: list[Pair] = []
        for pair, n in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
            if n < 2 or len(chosen) >= 40 or len(merges) + len(chosen) >= count:
                break
            if pair[0] in used or pair[1] in used:
                break
            used |= set(pair)
            chosen.append(pair)
        if not chosen:
            break
        merges += chosen
        wanted = set(chosen)
        spelled = _apply(spelled, wanted)
    return merges


def _apply(spelled: dict[tuple[str, ...], int], wanted: set[Pair]) -> dict[tuple[str, ...], int]:
    out: dict[tuple[str, ...], int] = {}
    for letters, n in spelled.items():
        merged: list[str] = []
        i = 0
        while i < len(letters):
            if i + 1 < len(letters) and (letters[i], letters[i + 1]) in wanted:
                merged.append(letters[i] + letters[i + 1])
                i += 2
            else:
                merged.append(letters[i])
                i += 1
        key = tuple(merged)
        out[key] = out.get(key, 0) + n
    return out


def write_merges(path: Path, merges: list[Pair]) -> None:
    """Merges file as open_clip's SimpleTokenizer reads it: gzip, one header line, a pair a line."""
    lines = ["#version: velcrolink", *(" ".join(m) for m in merges)]
    path.write_bytes(gzip.compress("\n".join(lines).encode("utf-8"), mtime=0))
