"""Draft reports in which every sentence names its source."""

__all__ = [
    "check",
    "draft",
    "language_model",
    "similar",
]
