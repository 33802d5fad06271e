"""HTML pages that commands and worker write; they load nothing."""

__all__ = [
    "link",
    "review",
]
