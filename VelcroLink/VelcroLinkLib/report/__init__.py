"""The Report tab."""

__all__ = [
    "panel",
]
