"""The Review tab."""

__all__ = [
    "panel",
    "session",
]
