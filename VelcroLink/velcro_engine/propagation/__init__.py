"""A region through the volume: from slice to slice, then in three directions."""

__all__ = [
    "propagate",
    "sight",
]
