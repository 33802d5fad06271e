"""The worker as Slicer sees it: start, ask, stop, install."""

__all__ = [
    "client",
    "head_frames",
    "install_check",
    "observable",
    "setup",
    "state",
]
