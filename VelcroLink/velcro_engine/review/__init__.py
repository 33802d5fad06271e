"""Review of a whole segmentation: every segment linked, measured and checked, in three dimensions."""

from ..segmentations.placing import Segmentation, read_segmentation
from .run import Review, review_segmentation

__all__ = ["Review", "Segmentation", "read_segmentation", "review_segmentation"]
