"""Words as they are compared: folded case, accents and spelling variants, and typing distance."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_NOT_WORD = re.compile(r"[^0-9a-z]+")
_POSSESSIVE = re.compile(r"['’]s\b")
_WHOLE_WORDS = {
    "grey": "gray",
    "centre": "center",
    "fibre": "fiber",
    "fibres": "fiber",
    "litre": "liter",
    "i": "1",
    "ii": "2",
    "iii": "3",
    "iv": "4",
    "v": "5",
    "vi": "6",
    "vii": "7",
    "viii": "8",
    "ix": "9",
    "x": "10",
    "xi": "11",
    "xii": "12",
}


# What people say and what entries are called: (plain word, words of the names), read both ways
# unless the plain word is a verb form.
_BOTH_WAYS = (
    ("kidney", "renal"),
    ("liver", "hepatic"),
    ("lung", "pulmonary"),
    ("heart", "cardiac"),
    ("brain", "cerebral"),
    ("stomach", "gastric"),
    ("spleen", "splenic"),
    ("gut", "bowel"),
    ("bowel", "intestinal"),
    ("belly", "abdominal"),
    ("womb", "uterus"),
    ("stone", "calculus"),
    ("clot", "thrombosis"),
    ("bleed", "hemorrhage"),
    ("cancer", "carcinoma"),
    ("narrowing", "stenosis"),
    ("widening", "dilatation"),
    ("swelling", "edema"),
)
_ONE_WAY = {
    "broken": ("fracture",),
    "torn": ("tear",),
    "ruptured": ("rupture",),
    "bleeding": ("hemorrhage",),
    "blocked": ("obstruction",),
    "blockage": ("obstruction",),
    "clogged": ("obstruction",),
    "narrowed": ("stenosis",),
    "widened": ("dilatation",),
    "swollen": ("enlarged", "edema"),
    "inflamed": ("inflammation",),
}
_FILLERS = frozenset({"of", "the", "in", "on", "and", "with", "to", "at", "by", "for", "within"})


@lru_cache(maxsize=1)
def same_word_table() -> dict[str, tuple[str, ...]]:
    """Folded word -> folded words that say the same in the names of entries."""
    same: dict[str, list[str]] = {word: list(others) for word, others in _ONE_WAY.items()}
    for plain, learned in _BOTH_WAYS:
        same.setdefault(plain, []).append(learned)
        same.setdefault(learned, []).append(plain)
    return {word: tuple(others) for word, others in same.items()}


def same_words(word: str) -> tuple[str, ...]:
    """Words that say the same in the names of entries: "kidney" -> ("renal",). Folded both."""
    return same_word_table().get(word, ())


def content_words(text: str) -> list[str]:
    """Folded words without fillers such as "of"; with them when there is nothing else."""
    words = fold(text).split()
    return [word for word in words if word not in _FILLERS] or words


def fold(text: str) -> str:
    """Text as compared: words of a-z and 0-9 with single spaces between them.

    British and American spelling (oedema, edema; tumour, tumor), Latin ligatures, accents, Roman
    numerals and the possessive s fall together.
    """
    plain = _POSSESSIVE.sub("", text.casefold())
    if not plain.isascii():
        plain = plain.replace("æ", "e").replace("œ", "e").replace("ß", "ss")
        letters = unicodedata.normalize("NFKD", plain)
        plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(_fold_word(word) for word in _NOT_WORD.split(plain) if word)


@lru_cache(maxsize=65536)
def _fold_word(word: str) -> str:
    whole = _WHOLE_WORDS.get(word)
    if whole is not None:
        return whole
    word = word.replace("ae", "e").replace("oe", "e")
    if len(word) >= 5 and word.endswith(("our", "ours")):
        word = word.replace("our", "or")
    return word


def typing_distance(first: str, second: str) -> int:
    """Number of insertions, deletions, replacements and swaps of neighbours between two words.

    Optimal string alignment, computed with whole columns as bits of one integer (Hyyrö, "A
    bit-vector algorithm for computing Levenshtein and Damerau edit distances", 2003).
    """
    if first == second:
        return 0
    if not first or not second:
        return len(first) or len(second)
    masks: dict[str, int] = {}
    for position, character in enumerate(first):
        masks[character] = masks.get(character, 0) | (1 << position)
    full = (1 << len(first)) - 1
    last = 1 << (len(first) - 1)
    positive, negative, diagonal, previous = full, 0, 0, 0
    distance = len(first)
    for character in second:
        mask = masks.get(character, 0)
        swapped = ((~diagonal & mask) << 1) & previous
        diagonal = (
            swapped | ((((mask & positive) + positive) ^ positive) & full) | mask | negative
        ) & full
        rising = (negative | ~(diagonal | positive)) & full
        falling = diagonal & positive
        if rising & last:
            distance += 1
        if falling & last:
            distance -= 1
        rising = ((rising << 1) | 1) & full
        falling = (falling << 1) & full
        positive = (falling | ~(diagonal | rising)) & full
        negative = rising & diagonal
        previous = mask
    return distance


def similarity(first: str, second: str) -> float:
    """1 for equal words down to 0: one minus typing distance over the longer length."""
    longer = max(len(first), len(second))
    return 1.0 - typing_distance(first, second) / longer if longer else 1.0
