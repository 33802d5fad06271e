"""Python code in a process of its own, as a user's machine runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENGINE = Path(__file__).parents[2] / "VelcroLink"


def printed(code: str) -> str:
    """What the code prints; fails when it fails."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ENGINE)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
