"""One HTML page that shows links: picture, ranked entries, measurements. Loads nothing from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..imaging.overlay import BOX_COLOUR, enlargement, png_bytes, render_overlay
from ..imaging.segmentation_file import colour_of
from ..knowledge_base import KnowledgeBase
from ..knowledge_base.card import CARD_CSS, card_html
from ..messages.request import SliceRequest
from ..messages.result import LinkedEntry, LinkResult
from .frame import framed_page

SHOWN_BELOW = 4  # entries after the first that are listed with their definitions folded away


@dataclass(frozen=True)
class Section:
    """One link to show. title: a heading, for example what was marked."""

    request: SliceRequest
    result: LinkResult
    title: str = ""
    caption: str = ""


def report_page(title: str, sections: Sequence[Section], knowledge_base: KnowledgeBase) -> str:
    """The whole page as text. Everything that came from outside is escaped; the page holds no
    script, and its policy forbids loading anything."""
    body = "\n".join(_section(section, knowledge_base) for section in sections)
    models = ", ".join(sorted({section.result.model for section in sections}))
    footer = f"model {html.escape(models)}; knowledge base {html.escape(knowledge_base.version)}."
    return framed_page(title, body, footer, CARD_CSS)


def _section(section: Section, knowledge_base: KnowledgeBase) -> str:
    result = section.result
    heading = f"<h2>{html.escape(section.title)}</h2>" if section.title else ""
    source = knowledge_base.version
    first = result.entries[0]
    note = ""
    if result.abstained:
        note = (
            '<p class="abstained"><b>No entry matches.</b> '
            f"The nearest is {html.escape(name_with_side(first))}.</p>"
        )
    best = card_html(
        knowledge_base.entry(first.id),
        first.side,
        first.confidence,
        result.attributes,
        source=source,
    )
    others = "".join(
        _folded(entry, knowledge_base) for entry in result.entries[1 : 1 + SHOWN_BELOW]
    )
    seconds = result.seconds.get("total")
    took = "" if seconds is None else f"<p class='minor'>Linked in {seconds * 1000:.0f} ms.</p>"
    return (
        f'<section>{heading}<div class="link"><figure>{picture_svg(section)}'
        f"<figcaption>{html.escape(section.caption)}</figcaption></figure>"
        f"<div>{note}{best}{others}{took}</div></div></section>"
    )


def name_with_side(entry: LinkedEntry) -> str:
    """Name of a linked entry, with its side if it has one."""
    return entry.name if entry.side is None else f"{entry.name}, {entry.side}"


def _folded(entry: LinkedEntry, knowledge_base: KnowledgeBase) -> str:
    percent = 100 * entry.confidence
    return (
        f"<details><summary>{html.escape(name_with_side(entry))} "
        f'<meter min="0" max="1" value="{entry.confidence:.3f}"></meter> {percent:.1f} %</summary>'
        f"{card_html(knowledge_base.entry(entry.id), entry.side, entry.confidence)}</details>"
    )


def picture_svg(section: Section) -> str:
    """The slice with its overlay, the region's name beside it, directions at the edges: one SVG."""
    request, result = section.request, section.result
    first = result.entries[0]
    factor = enlargement(request.pixels.shape)
    picture = render_overlay(request, result.mask, colour_of(first.id), factor)
    height, width = picture.shape[:2]
    data = base64.b64encode(png_bytes(picture)).decode("ascii")
    size = width / 28
    label = name_with_side(first) + (" ?" if result.abstained else "")
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(label)}">',
        f'<image href="data:image/png;base64,{data}" width="{width}" height="{height}"/>',
        _label(label, _anchor(request, result.mask), factor, size, (width, height)),
    ]
    for text, x, y, align in _directions(request, width, height, size):
        parts.append(_text(text, x, y, 0.85 * size, align, "#c9d4e2"))
    return "".join([*parts, "</svg>"])


def _anchor(request: SliceRequest, mask: np.ndarray) -> tuple[float, float, float, float]:
    if request.box is not None:
        return request.box
    if mask.any():
        rows, columns = np.nonzero(mask)
        return (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)
    x, y, _ = request.points[0]
    return x - 1, y - 1, x + 1, y + 1


def _label(
    label: str,
    anchor: tuple[float, float, float, float],
    factor: int,
    size: float,
    extent: tuple[int, int],
) -> str:
    x0, y0, x1, y1 = ((v + 0.5) * factor for v in anchor)
    above = y0 - 0.5 * size > 1.2 * size
    y = y0 - 0.5 * size if above else min(y1 + 1.3 * size, extent[1] - 0.3 * size)
    half = 0.3 * size * len(label)  # about half the width of the text
    x = min(max((x0 + x1) / 2, half), extent[0] - half)
    return _text(label, x, y, size, "middle", "rgb({},{},{})".format(*BOX_COLOUR))


def _text(text: str, x: float, y: float, size: float, align: str, colour: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}" text-anchor="{align}" '
        f'font-family="system-ui,sans-serif" fill="{colour}" stroke="#000" '
        f'stroke-width="{size / 6:.1f}" paint-order="stroke">{html.escape(text)}</text>'
    )


def _directions(
    request: SliceRequest, width: int, height: int, size: float
) -> list[tuple[str, float, float, str]]:
    """Letters of the patient's directions at the four edges; none without position."""
    if request.pixel_to_ras is None:
        return []
    right, down = request.pixel_to_ras[:3, 0], request.pixel_to_ras[:3, 1]
    return [
        (direction_letter(-right), 0.4 * size, height / 2, "start"),
        (direction_letter(right), width - 0.4 * size, height / 2, "end"),
        (direction_letter(-down), width / 2, size, "middle"),
        (direction_letter(down), width / 2, height - 0.4 * size, "middle"),
    ]


def direction_letter(direction: np.ndarray) -> str:
    """R, L, A, P, S or I: the patient's direction closest to a vector in RAS."""
    axis = int(np.argmax(np.abs(direction)))
    return ("RL", "AP", "SI")[axis][0 if direction[axis] > 0 else 1]
