"""A region of interest to mask, entries, side and confidence."""

__all__ = [
    "attributes",
    "entry_embeddings",
    "linker",
    "point_rules",
    "ranking",
    "region_examples",
    "region_mask",
]
