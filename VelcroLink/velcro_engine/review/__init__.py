"""Review of a whole segmentation: every segment linked, measured and checked, in three dimensions."""

from .run import Review, review_segmentation

__all__ = [
    "anatomy",
    "expectations",
    "links",
    "observing",
    "review_segmentation",
    "rows",
    "run",
    "table",
    "Review",
]
