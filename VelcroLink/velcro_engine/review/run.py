"""Review one segmentation of one image: link, measure, compare, judge, sort."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..imaging.volume import Volume
from ..knowledge_base import KnowledgeBase
from ..linking.linker import Linker
from ..segmentations.names import Meaning, NameReader
from ..segmentations.shapes import cut_out, measure_overlaps, measure_shape
from ..segmentations.stored import Segmentation
from .expectations import Expectations
from .links import RegionMemory, Votes, link_segments
from .rows import Row, fits_of, rows_of

MEASURING = 0.15  # share of the time that measuring takes, for the progress
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Review:
    """Rows, those that need a look first. seconds: {"measure", "link", "total"}."""

    rows: tuple[Row, ...]
    volume: str
    segmentation: str
    notices: tuple[str, ...]
    model: str
    knowledge_base: str
    seconds: dict[str, float] = field(default_factory=dict)


def review_segmentation(
    volume: Volume,
    segmentation: Segmentation,
    knowledge_base: KnowledgeBase,
    linker: Linker | None = None,
    progress: Progress = lambda fraction, message: None,
    expectations: Expectations | None = None,
    pictures: bool = True,
    memory: RegionMemory | None = None,
) -> Review:
    """Review every segment. linker: None leaves the model out and judges by geometry alone.

    progress(fraction, message) is called often and may raise Cancelled. expectations: the bundled
    ones unless given.
    """
    start = time.perf_counter()
    reader = NameReader(knowledge_base)
    meanings = [reader.read(segment) for segment in segmentation.segments]
    shapes = cut_out(segmentation)
    for n, shape in enumerate(shapes):
        progress(MEASURING * n / len(shapes), f"measuring segment {n + 1} of {len(shapes)}")
        measure_shape(shape, volume)
    measure_overlaps(segmentation, shapes)
    fits = fits_of(volume, segmentation, meanings, shapes, expectations)
    measured = time.perf_counter()
    scattered = [_is_scattered(m, knowledge_base) for m in meanings]
    votes = [Votes() for _ in shapes]
    if linker is not None:
        votes = link_segments(
            linker,
            volume,
            segmentation,
            shapes,
            lambda f, text: progress(MEASURING + (1 - MEASURING) * f, text),
            scattered,
            pictures,
            memory,
        )
    linked = time.perf_counter()
    rows = rows_of(volume, segmentation, knowledge_base, linker, meanings, shapes, fits, votes)
    notices = list(segmentation.notices)
    if reader.unknown_schemes:
        notices.append(
            "Coding schemes that the knowledge base does not use: "
            f"{', '.join(sorted(reader.unknown_schemes))}; those segments were matched by name."
        )
    sided = [row for row in rows if row.meaning.side is not None and row.side_lies is not None]
    wrong = [row for row in sided if row.side_mm is not None]
    if len(sided) >= 4 and len(wrong) > 0.8 * len(sided):
        notices.append(
            "Nearly all sides are exchanged: the image or the segmentation may be mirrored."
        )
    progress(1.0, "reviewed")
    done = time.perf_counter()
    return Review(
        tuple(sorted(rows, key=lambda row: (-row.judgement.score, row.segment.name))),
        volume.name,
        segmentation.name,
        tuple(notices),
        "" if linker is None else linker.runtime.name,
        knowledge_base.version,
        {"measure": measured - start, "link": linked - measured, "total": done - start},
    )


def _is_scattered(meaning: Meaning, base: KnowledgeBase) -> bool:
    """Findings may lie in many pieces; a structure of the body is mostly one."""
    return meaning.entry_id is not None and base.by_id[meaning.entry_id].kind != "anatomy"
