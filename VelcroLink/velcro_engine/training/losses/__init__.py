"""What a step of training makes smaller."""

__all__ = [
    "alignment_objectives",
    "objectives",
    "regions",
    "triplets",
]
