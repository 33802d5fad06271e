"""The command line: one file a command, `cli` in front."""

__all__ = [
    "cli",
]
