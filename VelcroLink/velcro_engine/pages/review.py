"""A review as one HTML page that loads nothing: table, findings, a picture of every segment."""

from __future__ import annotations

import base64
import html

import numpy as np

from ..imaging.overlay import png_bytes
from ..review.links import Picture
from ..review.rows import Row
from ..review.run import Review
from .frame import framed_page

PIXELS = 176  # side of a picture
CONTEXT = 2.4  # of the segment's box
LEAST_MM = 50.0
SEGMENT_COLOUR, MODEL_COLOUR = (255, 214, 64), (80, 200, 255)
REVIEW_CSS = """
body{max-width:100rem}table{border-collapse:collapse;width:100%}
th,td{padding:.35em .5em;border-bottom:1px solid rgba(128,128,128,.35);text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td img{display:block;width:110px;height:110px;background:#000;border-radius:4px}
tr.flagged td:first-child{border-left:4px solid #d18b00}ul{margin:0;padding-left:1.1em}
.key b{padding:0 .35em;border-radius:3px;color:#000}th{position:sticky;top:0;background:Canvas}
"""


def review_page(review: Review) -> str:
    """The whole page as text; everything that came from outside is escaped."""
    flagged = sum(row.flagged for row in review.rows)
    notices = "".join(f'<p class="abstained">{html.escape(text)}</p>' for text in review.notices)
    body = "\n".join(_row(row) for row in review.rows)
    title = f"Review of {review.segmentation}"
    model = html.escape(review.model or "no model")
    content = f"""<p><b>{flagged} of {len(review.rows)} segments need a look.</b> \
Image: {html.escape(review.volume)}.</p>
{notices}
<p class="key minor">Pictures: <b style="background:rgb{SEGMENT_COLOUR}">segment</b>
<b style="background:rgb{MODEL_COLOUR}">model's mask</b></p>
<table>
<thead><tr><th></th><th>Segment</th><th>Needs a look because</th><th>Linked to</th><th>Agreement</th>
<th>Dice</th><th>ml</th><th>Diameters mm</th><th>Pieces / holes</th></tr></thead>
<tbody>
{body}
</tbody>
</table>"""
    version = html.escape(review.knowledge_base)
    footer = f"model {model}; knowledge base {version}; {review.seconds.get('total', 0):.0f} s."
    return framed_page(title, content, footer, REVIEW_CSS)


def _row(row: Row) -> str:
    picture = ""
    if row.picture is not None:
        data = base64.b64encode(picture_png(row.picture)).decode("ascii")
        picture = f'<img src="data:image/png;base64,{data}" alt="{html.escape(row.segment.name)}">'
    findings = "".join(f"<li>{html.escape(f.text)}</li>" for f in row.judgement.findings)
    linked = ""
    if row.linked:
        name = row.linked[0][1] + (f", {row.linked_side}" if row.linked_side else "")
        sure = f"{100 * row.linked[0][2]:.0f} %"
        linked = f"{html.escape(name)}<br><span class='minor'>{sure}</span>"
        if row.abstained:
            linked = f"No entry matches<br><span class='minor'>nearest: {html.escape(name)}</span>"
    own = ", ".join(part for part in (row.own_name, row.meaning.side) if part)
    size = "" if row.longest_mm is None else f"{row.longest_mm:.1f} x {row.perpendicular_mm:.1f}"
    return (
        f'<tr class="{"flagged" if row.flagged else ""}"><td>{picture}</td>'
        f"<td>{html.escape(row.segment.name)}<br><span class='minor'>{html.escape(own)}</span></td>"
        f"<td><ul>{findings}</ul></td><td>{linked}</td><td>{html.escape(row.agreement)}</td>"
        f"<td class='n'>{'' if row.dice is None else f'{row.dice:.2f}'}</td>"
        f"<td class='n'>{row.segment.volume_ml:.2f}</td><td class='n'>{size}</td>"
        f"<td class='n'>{row.components} / {row.holes}</td></tr>"
    )


def picture_png(picture: Picture) -> bytes:
    """The segment in its surroundings with both outlines, as a square PNG."""
    pixels = picture.request.pixels
    rows, columns = np.nonzero(picture.segment)
    spacing = picture.request.pixel_spacing or 1.0
    side = CONTEXT * float(max(np.ptp(rows) + 1, np.ptp(columns) + 1))
    side = float(min(max(side, LEAST_MM / spacing), max(pixels.shape)))
    step = side / PIXELS
    y = (rows.min() + rows.max()) / 2 + (np.arange(PIXELS) - (PIXELS - 1) / 2) * step
    x = (columns.min() + columns.max()) / 2 + (np.arange(PIXELS) - (PIXELS - 1) / 2) * step
    j, i = np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)
    inside = ((j >= 0) & (j < pixels.shape[0]))[:, None] & ((i >= 0) & (i < pixels.shape[1]))[None]
    j, i = np.clip(j, 0, pixels.shape[0] - 1), np.clip(i, 0, pixels.shape[1] - 1)
    grid = np.ix_(j, i)
    grey = np.where(inside, pixels[grid], 0)
    shown = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    for mask, colour in ((picture.model, MODEL_COLOUR), (picture.segment, SEGMENT_COLOUR)):
        shown[_outline(mask[grid] & inside)] = colour
    return png_bytes(shown)


def _outline(mask: np.ndarray) -> np.ndarray:
    inner = mask
    for _ in range(2):  # two pixels wide: one is lost when the page is scaled
        padded = np.pad(inner, 1)
        around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        inner = inner & around
    return mask & ~inner


__all__ = ["picture_png", "review_page"]
