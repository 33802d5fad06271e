"""Report text -> sentences -> clauses -> tokens.

Removed words ("XXXX", "___", "[**name**]") become the token "xxxx", which terms may name. Markup is
dropped, never interpreted. Word forms are folded to one lemma by rules and a list of irregulars, so
that the vocabulary needs no plurals.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass

REMOVED = "xxxx"
MAXIMUM_SENTENCE_TOKENS = 160  # text without full stops is cut, so that work stays linear

_TAG = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[a-zA-Z/!][^<>]{0,500}>",
                  re.I | re.S)  # fmt: skip
_REMOVED = re.compile(
    r"\[\*\*.{0,80}?\*\*\]|_{3,}|\bX{3,}\b|\[(?:redacted|removed|name|date)\]", re.I
)
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+(?:'[a-z]+)?|[.;:,()?!/\n-]")
_WORD = re.compile(r"[^\W\d_]+")
_ABBREVIATION = frozenset(
    "dr mr mrs ms vs st approx eg ie fig no.s cf etc a.m p.m i.e e.g".replace(".", "").split()
)
_SPELLINGS = (("haem", "hem"), ("oedem", "edem"), ("oesoph", "esoph"), ("tumour", "tumor"))
_KEEP_S = ("ss", "us", "is", "as", "os")


@dataclass(frozen=True, slots=True)
class Token:
    """A word: its text in lower case, its lemma, and where it stands in the sentence's text."""

    text: str
    lemma: str
    start: int
    end: int

    @property
    def is_plural(self) -> bool:
        return self.lemma != self.text and self.text.endswith(("s", "ae", "ata", "a", "i"))


@dataclass(frozen=True, slots=True)
class Sentence:
    """Tokens of one sentence; `text` is what a reader sees."""

    text: str
    tokens: tuple[Token, ...]


def clean_text(text: str) -> str:
    """Plain text of a report: markup dropped, entities resolved, removed words as "XXXX"."""
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if "_" in text or "[" in text or "x" in text or "X" in text:
        text = _REMOVED.sub(" XXXX ", text)
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


class Lemmatizer:
    """Folds word forms: "opacities" -> "opacity". Irregular forms come from the vocabulary."""

    def __init__(self, irregular: dict[str, str]) -> None:
        self._known: dict[str, str] = dict(irregular)

    def __call__(self, word: str) -> str:
        known = self._known.get(word)
        if known is None:
            known = self._fold(word)
            if len(self._known) < 100_000:
                self._known[word] = known
        return known

    @staticmethod
    def _fold(word: str) -> str:
        if word.endswith("'s"):
            word = word[:-2]
        for british, american in _SPELLINGS:
            if british in word:
                word = word.replace(british, american)
        if len(word) < 4 or word.endswith(_KEEP_S):
            return word
        if word.endswith("ies") and len(word) > 4:
            return word[:-3] + "y"
        if word.endswith(("sses", "shes", "ches", "xes")):
            return word[:-2]
        return word[:-1] if word.endswith("s") else word


def split_sentences(text: str, lemma: Lemmatizer) -> list[Sentence]:
    """Sentences of cleaned text; a full stop inside a number or after "Dr" ends none."""
    sentences: list[Sentence] = []
    tokens: list[Token] = []
    start = 0
    lower = text.lower()
    if len(lower) != len(text):  # a few letters change length; offsets must hold
        text = lower

    def close(end: int) -> None:
        nonlocal start
        if any(t.text.isalpha() for t in tokens):
            sentences.append(Sentence(" ".join(text[start:end].split()), tuple(tokens)))
        tokens.clear()
        start = end

    for match in _TOKEN.finditer(lower):
        word = match.group()
        if word in ".?!":
            previous = tokens[-1] if tokens else None
            numbered = previous is not None and previous.text.isdigit() and len(tokens) == 1
            if previous is not None and previous.text in _ABBREVIATION:
                continue
            if numbered:  # "1. No effusion": the number belongs to no sentence
                tokens.clear()
                start = match.end()
                continue
            close(match.end())
        elif word == "\n":
            following = lower[match.end() : match.end() + 2]
            if following[:1] in "\n-*•" or (tokens and tokens[-1].text == ":"):
                close(match.end())
        else:
            tokens.append(Token(word, lemma(word), match.start(), match.end()))
            if len(tokens) >= MAXIMUM_SENTENCE_TOKENS:
                close(match.end())
    close(len(text))
    return sentences


def split_words(text: str) -> list[str]:
    """Words of a text in lower case, plural endings folded; numbers and punctuation left out."""
    fold = Lemmatizer._fold
    return [fold(word) for word in _WORD.findall(text.lower())]
