"""From what VelcroLink works with to library items: a link, labelled folders, report tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, VelcroError
from ..knowledge_base import KnowledgeBase
from ..messages.request import SliceRequest
from ..messages.result import LinkResult
from ..model.runtime import Runtime
from ..reports.language.findings import ReadSentence
from ..reports.language.mentions import ABSENT, REMOVED
from ..reports.language.report_file import longest_field
from ..reports.meta_entities import MAXIMUM_CHARACTERS, entry_of, read_report
from .deidentify import check_pseudonym, remove_identifiers
from .places import picture_zone, places_of
from .record import LONGEST_TEXT, CaseStore, Finding, Item, Place
from .thumbnail import thumbnail

TEXT_COLUMNS = ("findings", "impression")
EMBED_AT_ONCE = 256
CSV_FIELD = 4 * 1024 * 1024
KEPT_ATTRIBUTES = 40


@dataclass
class Added:
    """What an addition did. left_out: one line for each thing that was not added, with its reason."""

    cases: int = 0
    items: int = 0
    left_out: list[str] = field(default_factory=list)


def item_of_link(
    case: str,
    request: SliceRequest,
    result: LinkResult,
    runtime: Runtime,
    base: KnowledgeBase,
    entry: str | None = None,
    side: str | None = None,
    text: str = "",
    with_picture: bool = True,
) -> Item:
    """The linked region as an item of `case`.

    entry, side: what a person says it is, instead of the first linked entry; then the item counts
    as accepted. text: the person's own sentence about it. Raises InputError for an empty mask or a
    result without embedding.
    """
    if result.embedding is None or not result.mask.any():
        raise InputError("The link found no region; nothing was added.")
    if entry is None and not result.entries:
        raise InputError("The region has no entry; say which it is.")
    known = base.entry(result.entries[0].id if entry is None else entry)
    if entry is None:
        side = result.entries[0].side
    attributes = dict(list(result.attributes.items())[:KEPT_ATTRIBUTES])
    zone = picture_zone(result.mask, request)
    if zone:
        attributes["picture_zone"] = zone
    findings = (
        () if known.kind == "anatomy" else (Finding(known.id, side, _qualifiers(attributes)),)
    )
    return Item(
        case=check_pseudonym(case),
        kind="roi",
        entry=known.id,
        side=side,
        embedding=result.embedding,
        model=runtime.fingerprint,
        places=places_of(known, side, attributes),
        findings=findings,
        attributes=attributes,
        text=remove_identifiers(text),
        thumbnail=thumbnail(request.pixels, result.mask) if with_picture else b"",
        plane=request.plane,
        modality=request.modality,
        accepted=entry is not None,
    )


def _qualifiers(attributes: dict[str, Any]) -> tuple[str, ...]:
    size = attributes.get("size")
    return (size,) if size in ("small", "large") else ()


def add_reports(
    store: CaseStore,
    path: Path,
    runtime: Runtime,
    base: KnowledgeBase,
    prefix: str = "report",
    progress: Any = None,
) -> Added:
    """Every report of a CSV as a case of its own, every sentence that names a finding as an item.

    Columns `findings` and `impression` (either may be missing); other columns, numbers and dates
    are not read. Cases are numbered PREFIX-1, PREFIX-2, ... by row. Rows that cannot be used are
    left out and told. Raises InputError when the file is no such table.
    """
    check_pseudonym(f"{prefix}-1")
    added = Added()
    waiting: list[Item] = []
    rows = report_rows(path)
    for number, (line, texts) in enumerate(rows, start=1):
        if progress:
            progress(number, len(rows), "reports")
        try:
            found = report_items(f"{prefix}-{number}", texts, base)
        except VelcroError as error:
            added.left_out.append(f"row {line}: {error.message}")
            continue
        added.cases += bool(found)
        waiting += found
        if len(waiting) >= EMBED_AT_ONCE:
            added.items += _add_texts(store, waiting, runtime, base)
            waiting = []
    added.items += _add_texts(store, waiting, runtime, base)
    return added


def _add_texts(
    store: CaseStore, items: Sequence[Item], runtime: Runtime, base: KnowledgeBase
) -> int:
    if not items:
        return 0
    vectors = runtime.embed_text([item.text for item in items])
    embedded = [
        replace(item, embedding=v, model=runtime.fingerprint)
        for item, v in zip(items, vectors, strict=True)
    ]
    return len(set(store.add_many(embedded, base)))


def report_items(
    case: str, texts: dict[str, str], base: KnowledgeBase, modality: str | None = None
) -> list[Item]:
    """Items without embeddings for the sentences of a report that name a finding that is present."""
    length = sum(len(text) for text in texts.values())
    if length > min(LONGEST_TEXT, MAXIMUM_CHARACTERS):
        raise InputError(
            f"the report has {length:,} characters, more than {LONGEST_TEXT:,}; shorten it."
        )
    cleaned = {key: remove_identifiers(text) for key, text in texts.items()}
    report = read_report(cleaned.get("findings", ""), cleaned.get("impression", ""))
    items = [_sentence_item(case, sentence, base, modality) for sentence in report.sentences]
    return [item for item in items if item is not None]


def _sentence_item(
    case: str, sentence: ReadSentence, base: KnowledgeBase, modality: str | None
) -> Item | None:
    findings: list[Finding] = []
    places: list[Place] = []
    for mention in sentence.mentions:
        entry = entry_of(mention.finding) or mention.finding
        if mention.certainty in (ABSENT, REMOVED):
            continue
        side = _one_side(mention.sides)
        findings.append(Finding(entry, side, tuple(sorted(mention.qualifiers))))
        named = [entry_of(place) or place for place in sorted(mention.places)]
        if not named and entry in base.by_id:
            places += places_of(base.by_id[entry], side, {})
        places += [Place(place, side) for place in named]
    if not findings:
        return None
    return Item(
        case=case,
        kind="text",
        entry=findings[0].entry,
        side=findings[0].side,
        places=tuple(dict.fromkeys(places)),
        findings=tuple(dict.fromkeys(findings)),
        attributes={"section": sentence.section},
        text=sentence.text,
        modality=modality,
    )


def _one_side(sides: Any) -> str | None:
    named = {side for side in sides if side in ("left", "right", "bilateral")}
    if "bilateral" in named or len(named) == 2:
        return "bilateral"
    return named.pop() if named else None


def report_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(number of the row, {column: text}) of a CSV with reports.

    UTF-8 (with or without mark), UTF-16 with mark, and otherwise Windows-1252. Raises InputError
    when the file cannot be read, is no table or lacks both columns.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read; check the path.", repr(error)) from error
    if b"\x00" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"'{path}' is not a text table; export it as CSV in UTF-8.")
    text = decode(data)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        with longest_field(CSV_FIELD):
            names = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
            columns = {key: names[key] for key in TEXT_COLUMNS if key in names}
            rows = [
                (reader.line_num, {key: row.get(name) or "" for key, name in columns.items()})
                for row in (reader if columns else ())
            ]
    except csv.Error as error:
        raise InputError(
            f"'{path}' is not a sound CSV at line {reader.line_num}: {error}."
        ) from error
    if not columns:
        raise InputError(f"'{path}' has no column 'findings' or 'impression'; name one so.")
    return rows


def decode(data: bytes) -> str:
    """Bytes of a text file of unknown encoding as text; every byte of Windows-1252 has a meaning or
    becomes a replacement character, so nothing is refused for its encoding alone."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
