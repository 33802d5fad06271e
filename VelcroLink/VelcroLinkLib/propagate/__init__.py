"""The Propagate section of the Link tab: run, corrections, the segment it makes."""

__all__ = [
    "action",
    "panel",
]
