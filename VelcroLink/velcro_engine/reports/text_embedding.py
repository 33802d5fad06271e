"""A compact text embedding for reports that needs no model: concepts and words, hashed.

A text becomes the findings, places, sides and qualifiers OBER reads in it, weighed above its plain
words; words of sentences that only deny say little and weigh little. Each feature is added with a
sign to two of `DIMENSION` places chosen by its CRC-32, so nothing is fitted and nothing stored. The
text tower of a model offers the same call and may take its place.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from .language.mentions import ABSENT
from .language.sentences import split_words
from .meta_entities import read_report

DIMENSION = 512
FINDING_WEIGHT, ATTRIBUTE_WEIGHT, WORD_WEIGHT, DENIED_WEIGHT = 4.0, 1.5, 0.5, 0.05
_SILENT = frozenset(
    [
        "the",
        "a",
        "an",
        "of",
        "in",
        "is",
        "are",
        "and",
        "or",
        "with",
        "to",
        "for",
        "on",
        "at",
        "be",
        "by",
        "as",
        "this",
        "that",
        "there",
        "it",
        "its",
        "from",
        "has",
        "have",
        "no",
        "not",
        "without",
        "was",
        "were",
        "which",
        "may",
        "can",
        "seen",
        "noted",
        "xxxx",
    ]
)


def embed_text(texts: Sequence[str]) -> np.ndarray:
    """Unit rows, float32, len(texts) x 512; a text without a word gives a row of zeros."""
    rows = np.zeros((len(texts), DIMENSION), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for feature, weight in _features(text).items():
            value = 1.0 + math.log(weight) if weight > 1 else weight
            for salt in ("a", "b"):
                code = zlib.crc32(f"{salt}{feature}".encode())
                row[code % DIMENSION] += value if code & 0x80000000 else -value
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(norms, 1e-12)


def _features(text: str) -> dict[str, float]:
    found: defaultdict[str, float] = defaultdict(float)
    for sentence in read_report(text).sentences:
        present = [m for m in sentence.mentions if m.certainty != ABSENT]
        for mention in present:
            found[f"f:{mention.finding}"] += FINDING_WEIGHT
            for value in mention.places | mention.sides | mention.qualifiers:
                found[f"v:{value}"] += ATTRIBUTE_WEIGHT
        weight = WORD_WEIGHT if present else DENIED_WEIGHT
        for word in split_words(sentence.text):
            if word not in _SILENT:
                found[f"w:{word}"] += weight
    return found
