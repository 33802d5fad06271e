"""`kb site`: the knowledge base as web pages to read offline: search, hierarchy, entry pages.

Pages are static and refer to each other by relative addresses only. A content security policy
forbids them to load anything from elsewhere or to run any script but their own, and everything
that comes from entries is escaped; so a hostile entry shows as text.
"""

from __future__ import annotations

import html
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError
from ..resources import resource_path
from .card import CARD_CSS, card_html
from .entry import Entry
from .site_mentions import Mentions
from .site_search import names_js
from .store import ROOTS, KnowledgeBase

_ASSETS = "KnowledgeBase/site"
_MARKER = "velcrolink-atlas.json"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'"
)
_KINDS = (("anatomy", "Anatomy"), ("pathology", "Findings"), ("device", "Devices"))
_REGIONS = {
    "brain": "Brain",
    "head": "Head",
    "neck": "Neck",
    "spine": "Spine",
    "chest": "Chest",
    "abdomen": "Abdomen",
    "pelvis": "Pelvis",
    "limb": "Limbs",
    "fetus": "Fetus",
    "body": "Anywhere in the body",
}
_LONG = 60
_NOTE = "For research and teaching, not for clinical use. Codes as identifiers only."


def write_site(kb: KnowledgeBase, folder: Path | str) -> Path:
    """Write the atlas into a folder, made new or in place of an earlier atlas; returns index.html.

    The pages are written beside the folder first, so that a failure leaves it as it was. Raises
    InputError when the folder holds something else or cannot be written.
    """
    folder = Path(folder).absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).is_file():
        raise InputError(f"'{folder}' is not empty; name a new folder for the pages.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".atlas-") as made:
            new = Path(made) / "new"
            _write_pages(kb, new)
            if folder.exists():
                folder.rename(Path(made) / "old")
            new.rename(folder)
    except OSError as error:
        raise InputError(
            f"'{folder}' cannot be written; close programs that use it or name another.",
            repr(error),
        ) from error
    return folder / "index.html"


def _write_pages(kb: KnowledgeBase, folder: Path) -> None:
    (folder / "entries").mkdir(parents=True)
    (folder / "assets").mkdir()
    assets = resource_path(_ASSETS)
    style = (assets / "style.css").read_text(encoding="utf-8")
    (folder / "assets" / "style.css").write_text(style + CARD_CSS, encoding="utf-8")
    shutil.copyfile(assets / "search.js", folder / "assets" / "search.js")
    (folder / "assets" / "names.js").write_text(names_js(kb, dict(_KINDS)), encoding="utf-8")
    pages = _Pages(kb)
    for entry in kb.entries:
        (folder / "entries" / f"{entry.id}.html").write_text(pages.entry(entry), encoding="utf-8")
    (folder / "index.html").write_text(pages.index(), encoding="utf-8")
    marker = {"knowledge_base": kb.version, "content": kb.content_hash, "entries": len(kb)}
    (folder / _MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")


class _Pages:
    """Renders the pages of one knowledge base; holds what all of them look up."""

    def __init__(self, kb: KnowledgeBase) -> None:
        self.kb = kb
        self._finding_at: dict[str, list[str]] = defaultdict(list)
        for entry in kb.entries:
            for place in entry.places:
                self._finding_at[place].append(entry.id)
        self._below: dict[str, list[str]] = defaultdict(list)
        for entry in kb.entries:
            above = _above(entry)
            if above:
                self._below[above].append(entry.id)
        self._mentions = Mentions(kb)

    def entry(self, entry: Entry) -> str:
        """Page of one entry, in the folder `entries`."""
        source = self.kb.source_of.get(entry.id)
        shown = f"{source.name} {source.version}, {source.licence}" if source else None
        kinds = [e for e in self.kb.children(entry.id) if entry.id in self.kb.by_id[e].is_a]
        parts = [e for e in self.kb.children(entry.id) if entry.id in self.kb.by_id[e].part_of]
        named = self._mentions.of(entry)
        sections = (
            ("Is a kind of", [e for e in entry.is_a if e not in ROOTS]),
            ("Is part of", entry.part_of),
            ("Lies usually in", entry.places),
            ("Kinds", kinds),
            ("Parts", parts),
            ("Findings and devices here", self._finding_at[entry.id]),
            ("Named in the text", named),
        )
        body = (
            f'<p class="path">{self._path(entry)}</p>'
            f"{card_html(entry, source=shown)}"
            f"{''.join(self._section(title, ids) for title, ids in sections)}"
        )
        return _page(entry.name, body, "../", self.kb)

    def index(self) -> str:
        """First page: search box and the hierarchy of each kind."""
        counts = ", ".join(
            f"{sum(e.kind == kind for e in self.kb.entries)} {title.lower()}"
            for kind, title in _KINDS
        )
        trees = "".join(
            f'<section class="tree"><h2>{title}</h2><ul>{self._trees(kind)}</ul></section>'
            for kind, title in _KINDS
        )
        body = (
            "<h1>Imaging atlas in words</h1>"
            f'<p class="lead">{len(self.kb)} entries: {counts}. Type a name, a synonym, a Latin '
            "name or an abbreviation above (key <b>/</b>), or open the hierarchy below.</p>"
            f'<div class="two">{trees}</div>'
        )
        return _page("Imaging atlas in words", body, "", self.kb)

    def _trees(self, kind: str) -> str:
        """List items of a kind's hierarchy, two levels open; a long one is split by region."""
        tops = [e.id for e in self.kb.entries if e.kind == kind and self._is_top(e)]
        pieces = []
        for top in tops:
            below = [e for e in self._below[top] if self.kb.by_id[e].kind == kind]
            if len(tops) > 1 or not below:
                pieces.append(self._tree(top, open_levels=2))
            elif len(below) <= _LONG:
                pieces += [self._tree(e, open_levels=1) for e in self._by_name(below)]
            else:
                pieces += self._by_region(top)
        return "".join(pieces)

    def _by_region(self, top: str) -> list[str]:
        """All that lies below, each under its own region, hung on kinds of the same region."""
        kind = self.kb.by_id[top].kind
        members: dict[str, list[str]] = defaultdict(list)
        heads: dict[str, list[str]] = defaultdict(list)
        for entry in self.kb.entries:
            if entry.kind != kind or entry.id == top:
                continue
            members[entry.region].append(entry.id)
            above = _above(entry)
            if above in (None, top) or not self._together(above, entry.id):
                heads[entry.region].append(entry.id)
        return [
            f'<li><details><summary>{_REGIONS[region]} <span class="count">{len(members[region])}'
            f"</span></summary><ul>"
            f"{''.join(self._tree(e, by_region=True) for e in self._by_name(heads[region]))}</ul>"
            "</details></li>"
            for region in _REGIONS
            if region in members
        ]

    def _together(self, above: str, below: str) -> bool:
        one, other = self.kb.by_id[above], self.kb.by_id[below]
        return one.kind == other.kind and one.region == other.region

    def _by_name(self, ids: Iterable[str]) -> list[str]:
        return sorted(ids, key=lambda e: self.kb.by_id[e].name.casefold())

    def _is_top(self, entry: Entry) -> bool:
        above = _above(entry)
        return above is None or self.kb.by_id[above].kind != entry.kind

    def _tree(self, identifier: str, open_levels: int = 0, by_region: bool = False) -> str:
        # Iterative, since a chain of kinds and parts in somebody's knowledge base may be long.
        pieces: list[str] = []
        stack: list[tuple[int, str]] = [(1, identifier)]
        while stack:
            level, value = stack.pop()
            if not level:
                pieces.append(value)
                continue
            entry = self.kb.by_id[value]
            below = self._shown_below(entry, by_region)
            if not below:
                pieces.append(f'<li class="leaf">{self._link(value, "entries/")}</li>')
                continue
            opened = " open" if level <= open_levels else ""
            pieces.append(
                f"<li><details{opened}><summary>{self._link(value, 'entries/')} "
                f'<span class="count">{self._count(entry, by_region)}</span></summary><ul>'
            )
            stack.append((0, "</ul></details></li>"))
            stack += [(level + 1, e) for e in reversed(self._by_name(below))]
        return "".join(pieces)

    def _shown_below(self, entry: Entry, by_region: bool) -> list[str]:
        below = [e for e in self._below[entry.id] if self.kb.by_id[e].kind == entry.kind]
        return [e for e in below if self._together(entry.id, e)] if by_region else below

    def _count(self, entry: Entry, by_region: bool) -> int:
        """How many entries the hierarchy shows below one."""
        total, waiting = -1, [entry.id]
        while waiting:
            total += 1
            waiting += self._shown_below(self.kb.by_id[waiting.pop()], by_region)
        return total

    def _path(self, entry: Entry) -> str:
        """Way down to the entry from its top."""
        way: list[str] = []
        above = _above(entry)
        while above is not None and above not in way and len(way) < 30:
            way.append(above)
            above = _above(self.kb.by_id[above])
        return " › ".join(self._link(identifier) for identifier in reversed(way))

    def _section(self, title: str, ids: Sequence[str]) -> str:
        if not ids:
            return ""
        items = "".join(f"<li>{self._link(identifier)}</li>" for identifier in ids)
        return f'<h2>{title}</h2><ul class="columns">{items}</ul>'

    def _link(self, identifier: str, folder: str = "") -> str:
        # Ids are lower snake case, so they need no quoting in an address.
        name = html.escape(self.kb.by_id[identifier].name)
        return f'<a href="{folder}{identifier}.html">{name}</a>'


def _above(entry: Entry) -> str | None:
    """The one parent under which the hierarchy shows the entry: its whole, or its kind."""
    order: Iterable[str] = (
        (*entry.part_of, *entry.is_a) if entry.kind == "anatomy" else (*entry.is_a, *entry.part_of)
    )
    return next(iter(order), None)


def _page(title: str, body: str, root: str, kb: KnowledgeBase) -> str:
    licence = "; ".join(dict.fromkeys(source.licence for source in kb.sources))
    about = html.escape(f"{kb.version}. Licence: {licence}." if licence else kb.version)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>"
        '<link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="{root}assets/style.css"></head>'
        f'<body data-root="{root}"><header><div class="bar"><a href="{root}index.html">'
        'VelcroLink atlas</a><div class="search"><input id="q" type="search" autocomplete="off" '
        'spellcheck="false" placeholder="Search, also with typing errors" '
        'aria-label="Search entries"><ul id="found" hidden></ul></div></div></header>'
        f"<main>{body}</main><footer>{about} {_NOTE}</footer>"
        f'<script src="{root}assets/names.js"></script>'
        f'<script src="{root}assets/search.js"></script></body></html>\n'
    )
