"""train, export, calibrate, evaluate, compare, ablate."""

__all__ = [
    "cli",
]
