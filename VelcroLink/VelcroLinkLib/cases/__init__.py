"""The Cases tab: similar cases in a table."""

__all__ = [
    "panel",
]
