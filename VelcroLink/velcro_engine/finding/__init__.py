"""A phrase to regions of a slice."""

__all__ = [
    "document",
    "grounding",
    "phrases",
]
