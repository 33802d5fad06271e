"""The case library: regions of interest and report sentences, found again by what and where.

Method: location-conditioned retrieval after Zheng et al., "Anatomy-Aware Conditional Image-Text
Retrieval" (arXiv 2503.07456): a case counts as similar when it shows the same finding in the same
place. Regions and sentences share one embedding space, so all four directions are one search.
"""

from .library import CaseLibrary, library_path
from .record import CaseStore, Finding, Hit, Item, LocationCondition, Place, Query

__all__ = [
    "adding",
    "deidentify",
    "library",
    "library_path",
    "places",
    "qdrant_library",
    "record",
    "rescue",
    "summary",
    "CaseLibrary",
    "CaseStore",
    "Finding",
    "Hit",
    "Item",
    "LocationCondition",
    "Place",
    "Query",
]
