"""How far a long command is, on stderr."""

from __future__ import annotations

import sys
import time


class Progress:
    """Share done and remaining time on one line of stderr (many lines when it is no terminal)."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.said = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - self.said < (0.2 if terminal else 20) and done < total:
            return
        self.said = now
        left = (now - self.started) / done * (total - done) if done else float("nan")
        text = f"{done}/{total} {what}" + (f", {left:.0f} s left" if done else "")
        print(
            f"\r\x1b[K{text}" if terminal else text,
            end="" if terminal else "\n",
            file=sys.stderr,
            flush=True,
        )

    def clear(self) -> None:
        """Take the line away from a terminal, for what is printed next."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
