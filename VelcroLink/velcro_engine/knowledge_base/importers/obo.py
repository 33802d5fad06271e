"""OBO ontologies, for instance a subset of UBERON: terms with names, definitions and parents.

Read are name, def, synonym (EXACT ones), xref, is_a, relationship part_of and is_obsolete of
[Term] stanzas; the format is that of OBO 1.2 / 1.4. Terms get ids made from their names; a term
whose code the active knowledge base has keeps that entry's id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..entry import MAXIMUM_NAME
from ..rows import ImportResult, Rows, read_text, root_parent, sentence_case, slug
from ..store import KnowledgeBase

_SCHEME_OF_PREFIX = {
    "UBERON": "UBERON",
    "FMA": "FMA",
    "MESH": "MESH",
    "MSH": "MESH",
    "SCTID": "SCT",
    "SNOMEDCT": "SCT",
    "UMLS": "UMLS",
    "RADLEX": "RADLEX",
    "RID": "RADLEX",
    "TA2": "TA2",
}
_TAG = re.compile(r"([A-Za-z0-9_-]+):\s*(.*)\Z")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(.*)\Z')
_SYNONYMS_KEPT = 20


@dataclass
class _Term:
    line: int
    id: str = ""
    name: str = ""
    definition: str = ""
    exact: list[str] = field(default_factory=list)
    latin: list[str] = field(default_factory=list)
    abbreviations: list[str] = field(default_factory=list)
    is_a: list[str] = field(default_factory=list)
    part_of: list[str] = field(default_factory=list)
    xrefs: list[str] = field(default_factory=list)
    obsolete: bool = False


def import_obo(path: Path, kb: KnowledgeBase, kind: str = "anatomy") -> ImportResult:
    """Entries of an OBO file. Parents outside the file and the active knowledge base are left out
    and noted; an entry without any goes under the root of its kind."""
    rows = Rows(path, kb)
    terms = _read(read_text(path), rows)
    ids: dict[str, str] = {}
    for term in terms:
        scheme, value = _code(term.id)
        known = kb.find_code(scheme, value)
        taken = {*ids.values(), *kb.by_id}
        ids[term.id] = (
            known[0].id
            if known and known[0].id not in ids.values()
            else slug(term.name, taken if not known else {*taken, known[0].id})
        )
    dropped = 0
    for term in terms:
        parents: dict[str, list[str]] = {"is_a": [], "part_of": []}
        for name in parents:
            for other in dict.fromkeys(getattr(term, name)):
                target = ids.get(other) or _known(other, kb)
                if target is None:
                    dropped += 1
                elif target != ids[term.id]:
                    parents[name].append(target)
        if not parents["is_a"] and not parents["part_of"]:
            parents["is_a"] = [p for p in root_parent(kind, kb) if p != ids[term.id]]
        rows.add(f"line {term.line}", _record(term, ids[term.id], kind, parents))
    if dropped:
        rows.notes.append(f"{dropped} parents left out: neither in the file nor known here")
    return rows.finish()


def _record(term: _Term, identifier: str, kind: str, parents: dict[str, list[str]]) -> dict:
    codes: dict[tuple[str, str], dict[str, str]] = {}
    for curie in (term.id, *term.xrefs):
        scheme, value = _code(curie)
        if scheme in _SCHEME_OF_PREFIX.values() or curie == term.id:
            codes.setdefault(
                (scheme, value), {"scheme": scheme, "value": value, "meaning": term.name}
            )
    number = term.id.partition(":")[2]
    is_uberon = term.id.startswith("UBERON:")
    name = sentence_case(term.name)
    return {
        "id": identifier,
        "name": name,
        "definition": term.definition,
        "kind": kind,
        "synonyms": _distinct(term.exact, name),
        "latin": _distinct(term.latin),
        "abbreviations": _distinct(term.abbreviations),
        **parents,
        "codes": list(codes.values()),
        "links": [f"http://purl.obolibrary.org/obo/UBERON_{number}"] if is_uberon else [],
    }


def _distinct(names: list[str], besides: str = "") -> list[str]:
    found: dict[str, str] = {}
    for name in names:
        if name and len(name) <= MAXIMUM_NAME and name.casefold() != besides.casefold():
            found.setdefault(name.casefold(), name)
    return list(found.values())[:_SYNONYMS_KEPT]


def _read(content: str, rows: Rows) -> list[_Term]:
    """All terms that are not obsolete; faults are noted in `rows`."""
    terms: list[_Term] = []
    term: _Term | None = None
    obsolete = 0
    for number, raw in enumerate(content.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("["):
            term = None
            if line == "[Term]":
                term = _Term(number)
                terms.append(term)
            continue
        if not line or line.startswith("!") or term is None:
            continue
        match = _TAG.match(line)
        if match is None:
            rows.bad(f"line {number}", f"'{line[:60]}' is not 'tag: value'")
            continue
        fault = _take(term, match.group(1), match.group(2))
        if fault:
            rows.bad(f"line {number}", fault)
    kept: dict[str, _Term] = {}
    for one in terms:
        if one.obsolete:
            obsolete += 1
        elif not one.id or not one.name:
            rows.bad(f"line {one.line}", f"a term without {'id' if not one.id else 'name'}")
        elif one.id in kept:
            rows.bad(f"line {one.line}", f"{one.id} already stands at line {kept[one.id].line}")
        else:
            kept[one.id] = one
    if obsolete:
        rows.notes.append(f"{obsolete} obsolete terms left out")
    return list(kept.values())


def _take(term: _Term, tag: str, value: str) -> str | None:
    """Put one tag's value into the term; returns what is wrong with it, None when nothing is."""
    if tag in ("def", "synonym"):
        match = _QUOTED.match(value)
        if match is None:
            return f"{tag}: needs a text in double quotes"
        quoted = " ".join(_unescaped(match.group(1)).split())
        if tag == "def":
            term.definition = quoted
        else:
            _take_synonym(term, quoted, match.group(2))
        return None
    plain = _unescaped(_without_comment(value))
    if tag == "id":
        term.id = plain
    elif tag == "name":
        term.name = " ".join(plain.split())
    elif tag == "is_a":
        term.is_a.append(_first_word(plain))
    elif tag == "relationship":
        words = plain.split()
        if len(words) < 2:
            return "relationship: needs a name and a term"
        if words[0] in ("part_of", "BFO:0000050"):
            term.part_of.append(words[1])
    elif tag == "xref":
        term.xrefs.append(_first_word(plain))
    elif tag == "is_obsolete":
        term.obsolete = plain.lower() == "true"
    return None


def _take_synonym(term: _Term, name: str, rest: str) -> None:
    words = rest.partition("[")[0].split()
    if "LATIN" in words:
        term.latin.append(name)
    elif "ABBREVIATION" in words or "ACRONYM" in words:
        term.abbreviations.append(name)
    elif "EXACT" in words:
        term.exact.append(name)


def _first_word(value: str) -> str:
    return value.split()[0] if value.split() else ""


def _without_comment(value: str) -> str:
    """The value up to " !" and without a trailing {qualifier} block."""
    return re.sub(
        r"\s*\{[^{}]*\}\s*\Z", "", re.split(r"(?<!\\)\s!\s?", value, maxsplit=1)[0]
    ).strip()


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda m: {"n": " ", "t": " ", "W": " "}.get(m[1], m[1]), value)


def _code(curie: str) -> tuple[str, str]:
    prefix, _, value = curie.partition(":")
    if not value:
        return "OBO", re.sub(r"\s", "_", prefix)[:64] or "none"
    scheme = _SCHEME_OF_PREFIX.get(prefix.upper(), re.sub(r"[^A-Za-z0-9_.-]", "_", prefix)[:32])
    return scheme or "OBO", value[:64]


def _known(curie: str, kb: KnowledgeBase) -> str | None:
    found = kb.find_code(*_code(curie))
    return found[0].id if found else None
