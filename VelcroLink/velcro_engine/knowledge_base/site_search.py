"""The data that the atlas pages search in: names.js, read by Resources/KnowledgeBase/site."""

from __future__ import annotations

import json
from collections import defaultdict

from .spelling import content_words, same_word_table
from .store import KnowledgeBase

_LEAST_LETTERS = 4


def names_js(kb: KnowledgeBase, kinds: dict[str, str]) -> str:
    """JavaScript constants: NAMES, SAME and RARE.

    NAMES: [id, kind as shown, [preferred name, other names ...], [abbreviations]] of every entry.
    SAME: word -> words that say the same. RARE: word that one definition has and no name ->
    number of that entry. kinds: title of each kind.
    """
    rows = [
        [e.id, kinds[e.kind], list(dict.fromkeys(e.terms)), list(e.abbreviations)]
        for e in kb.entries
    ]
    constants = {"NAMES": rows, "SAME": same_word_table(), "RARE": _rare_words(kb)}
    # Every letter that could end a script or a line in JavaScript is written as an escape.
    return "".join(
        f"const {name}={json.dumps(value, ensure_ascii=True, separators=(',', ':'))};\n".replace(
            "<", "\\u003c"
        )
        for name, value in constants.items()
    )


def _rare_words(kb: KnowledgeBase) -> dict[str, int]:
    named = {word for entry in kb.entries for name in entry.terms for word in content_words(name)}
    owners: dict[str, set[int]] = defaultdict(set)
    for number, entry in enumerate(kb.entries):
        for word in content_words(entry.definition):
            if len(word) >= _LEAST_LETTERS and word.isalpha() and word not in named:
                owners[word].add(number)
    return {word: next(iter(who)) for word, who in sorted(owners.items()) if len(who) == 1}
