"""The Find tab: a phrase, its regions outlined."""

__all__ = [
    "panel",
]
