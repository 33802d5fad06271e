"""How a head lies in a volume: tilt, extents, middle plane (decision 15)."""

__all__ = [
    "frame",
    "turns",
]
