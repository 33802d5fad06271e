"""The Link tab: place a RoI, read the cards, accept or correct."""

__all__ = [
    "decisions",
    "panel",
]
