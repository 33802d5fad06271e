"""Review of a whole segmentation: every segment linked, measured and checked, in three dimensions."""

from .run import Review, review_segmentation
from .segmentation import Segmentation, read_segmentation

__all__ = ["Review", "Segmentation", "read_segmentation", "review_segmentation"]
