"""One entry as an HTML card: the same in the panel (Qt rich text), the report and the atlas.

Everything that comes from an entry is escaped, so text that looks like markup shows as text. The
card loads nothing; its links are followed on click only.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from .entry import Code, Entry, code_key

SCHEME_NAMES = {
    "SCT": "SNOMED CT",
    "UMLS": "UMLS",
    "UBERON": "UBERON",
    "RADLEX": "RadLex",
    "MESH": "MeSH",
    "FMA": "FMA",
    "TA2": "TA2",
}
# Stable addresses; UMLS and TA2 have none that opens without an account.
_CODE_ADDRESSES = {
    "SCT": "http://snomed.info/id/{}",
    "UBERON": "http://purl.obolibrary.org/obo/UBERON_{}",
    "RADLEX": "https://radlex.org/RID/{}",
    "MESH": "https://id.nlm.nih.gov/mesh/{}",
    "FMA": "http://purl.org/sig/ont/fma/fma{}",
}
_SITE_NAMES = {
    "purl.obolibrary.org": "UBERON",
    "id.nlm.nih.gov": "MeSH",
    "radlex.org": "RadLex",
    "www.radlex.org": "RadLex",
    "en.wikipedia.org": "Wikipedia",
    "snomed.info": "SNOMED CT",
    "purl.org": "FMA",
}
_ATTRIBUTES = {  # key of LinkResult.attributes: (label, unit, decimals)
    "zone": ("Zone", "", 0),
    "region": ("Region", "", 0),
    "area_mm2": ("Area on this slice", "mm²", 0),
    "longest_diameter_mm": ("Longest diameter", "mm", 1),
    "perpendicular_mm": ("Perpendicular diameter", "mm", 1),
    "volume_ml": ("Volume", "ml", 1),
    "plane": ("Plane", "", 0),
    "modality": ("Modality", "", 0),
}
KIND_NAMES = {"anatomy": "anatomy", "pathology": "finding", "device": "device"}

# For pages; Qt rich text keeps the palette of the application instead.
CARD_CSS = """
.vl-card{border:1px solid rgba(128,128,128,.45);border-radius:6px;padding:.8em 1em;margin:.6em 0}
.vl-card h3{margin:0 0 .2em;font-size:1.15em}
.vl-card p{margin:.5em 0;line-height:1.45}
.vl-card .vl-minor{opacity:.75;font-size:.9em}
.vl-card meter{width:11em;height:.9em;vertical-align:middle}
.vl-card table{border-collapse:collapse;margin:.4em 0}
.vl-card th{text-align:left;font-weight:600;white-space:nowrap;padding:.1em 1em .1em 0;vertical-align:top}
.vl-card td{padding:.1em 0;overflow-wrap:anywhere}
"""
_BAR_CELLS = 20
_BAR_FULL, _BAR_EMPTY = "#3a87c8", "#b8bcc2"  # both visible on light and on dark palettes


def card_html(
    entry: Entry,
    side: str | None = None,
    confidence: float | None = None,
    attributes: Mapping[str, Any] | None = None,
    for_qt: bool = False,
    *,
    source: str | None = None,
) -> str:
    """HTML of one card, no document around it.

    side: "left" | "right" | None. confidence: 0..1, None hides the bar. attributes: measured ones
    as in `LinkResult.attributes` (lengths in mm, areas in mm^2). for_qt: only what Qt rich text
    draws; else elements for a browser that `CARD_CSS` lays out. source: name, version and licence
    of the knowledge base, shown small.
    """
    parts = [_heading(entry, side, for_qt)]
    if confidence is not None and math.isfinite(confidence):
        parts.append(_confidence(min(max(float(confidence), 0.0), 1.0), for_qt))
    parts.append(_called(entry))
    if entry.definition:
        parts += [f"<p>{paragraph}</p>" for paragraph in _paragraphs(entry.definition)]
    parts.append(_table(_attribute_rows(attributes or {}) + _fact_rows(entry), for_qt))
    parts.append(_links(entry))
    parts.append(_minor(_footer(entry, source), for_qt))
    body = "".join(part for part in parts if part)
    return body if for_qt else f'<section class="vl-card">{body}</section>'


def code_address(code: Code) -> str | None:
    """Stable web address of a code, None when its vocabulary has none that is open."""
    scheme, value = code_key(code.scheme, code.value)
    address = _CODE_ADDRESSES.get(scheme)
    return address.format(quote(value, safe="")) if address else None


def site_name(link: str) -> str:
    """Short name of the site behind a link, for instance "MeSH"; else its host."""
    host = (urlsplit(link).hostname or "link").lower()
    return _SITE_NAMES.get(host, host)


def anchor(address: str, label: str) -> str:
    """A link that opens outside on click; plain text when the address is not http(s)."""
    if urlsplit(address).scheme not in ("http", "https"):
        return html.escape(label)
    return (
        f'<a href="{html.escape(address, quote=True)}" target="_blank" '
        f'rel="noopener noreferrer">{html.escape(label)}</a>'
    )


def _heading(entry: Entry, side: str | None, for_qt: bool) -> str:
    name = html.escape(entry.name)
    if side in ("left", "right"):
        name += f", {side}"
    return f"<p><b><big>{name}</big></b></p>" if for_qt else f"<h3>{name}</h3>"


def _confidence(confidence: float, for_qt: bool) -> str:
    percent = f"{100 * confidence:.0f}"
    if not for_qt:
        return (
            f'<p><meter min="0" max="1" value="{confidence:.3f}">{percent} %</meter> '
            f"{percent} %</p>"
        )
    # Qt draws neither <meter> nor percentages of a div: two coloured table cells are the bar.
    full = round(confidence * _BAR_CELLS)
    cells = "".join(
        f'<td width="{round(100 * n / _BAR_CELLS)}%" bgcolor="{colour}">&nbsp;</td>'
        for n, colour in ((full, _BAR_FULL), (_BAR_CELLS - full, _BAR_EMPTY))
        if n
    )
    return (
        '<table width="100%" cellspacing="0" cellpadding="0"><tr><td width="75%">'
        '<table width="100%" cellspacing="0" cellpadding="0">'
        f"<tr>{cells}</tr></table></td>"
        f'<td width="25%" style="white-space:nowrap">&nbsp;{percent} %</td></tr></table>'
    )


def _called(entry: Entry) -> str:
    names = [html.escape(name) for name in (*entry.synonyms, *entry.abbreviations)]
    said = {name.casefold() for name in (entry.name, *entry.synonyms)}
    latin = [name for name in entry.latin if name.casefold() not in said]
    names += [f"<i>{html.escape(name)}</i>" for name in latin]
    return f"<p>Also: {', '.join(names)}</p>" if names else ""


def _paragraphs(definition: str) -> list[str]:
    blocks = [block.strip() for block in definition.replace("\r\n", "\n").split("\n\n")]
    return [html.escape(block).replace("\n", "<br>") for block in blocks if block]


def _attribute_rows(attributes: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, value in attributes.items():
        if value is None or key == "side":
            continue
        label, unit, decimals = _ATTRIBUTES.get(
            key, (str(key).replace("_", " ").capitalize(), "", 1)
        )
        if isinstance(value, bool):
            shown = "yes" if value else "no"
        elif isinstance(value, (int, float)):
            if not math.isfinite(value):
                continue
            shown = f"{value:.{decimals}f}"
        elif isinstance(value, (list, tuple)):
            shown = ", ".join(str(item) for item in value)
        else:
            shown = str(value)
        rows.append((html.escape(label), html.escape(f"{shown} {unit}".strip())))
    return rows


def _fact_rows(entry: Entry) -> list[tuple[str, str]]:
    rows = []
    if entry.modalities:
        rows.append(("Seen on", html.escape(", ".join(entry.modalities))))
    if entry.size_mm:
        low, high = (f"{value:g}" for value in entry.size_mm)
        size = low if low == high else f"{low} to {high}"
        rows.append(("Usual size", html.escape(f"{size} mm")))
    if entry.codes:
        rows.append(("Codes", "<br>".join(_code(code) for code in entry.codes)))
    return rows


def _code(code: Code) -> str:
    scheme, value = code_key(code.scheme, code.value)
    label = f"{SCHEME_NAMES.get(scheme, code.scheme)} {value}"
    address = code_address(code)
    shown = anchor(address, label) if address else html.escape(label)
    return f"{shown} ({html.escape(code.meaning)})" if code.meaning else shown


def _table(rows: list[tuple[str, str]], for_qt: bool) -> str:
    if not rows:
        return ""
    if for_qt:
        cells = "".join(
            f'<tr><td valign="top"><b>{label}</b>&nbsp;&nbsp;</td><td>{value}</td></tr>'
            for label, value in rows
        )
        return f'<table cellspacing="0" cellpadding="1">{cells}</table>'
    cells = "".join(
        f'<tr><th scope="row">{label}</th><td>{value}</td></tr>' for label, value in rows
    )
    return f"<table>{cells}</table>"


def _links(entry: Entry) -> str:
    if not entry.links:
        return ""
    return f"<p>Read on: {' · '.join(anchor(link, site_name(link)) for link in entry.links)}</p>"


def _footer(entry: Entry, source: str | None) -> str:
    parts = [KIND_NAMES.get(entry.kind, entry.kind), entry.id, *([source] if source else [])]
    return html.escape(" · ".join(parts))


def _minor(escaped: str, for_qt: bool) -> str:
    return f"<p><small>{escaped}</small></p>" if for_qt else f'<p class="vl-minor">{escaped}</p>'
