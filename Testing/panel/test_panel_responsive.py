"""The panel's event loop, measured in a process of its own (`responsive_measured.py`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MEASURED = Path(__file__).with_name("responsive_measured.py")


def test_the_event_loop_is_never_blocked_over_100_ms(capsys):
    command = [sys.executable, "-m", "pytest", "-q", "-s", str(MEASURED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=MEASURED.parent)
    told = [line for line in done.stdout.splitlines() if "worst beat" in line]
    with capsys.disabled():
        print("", *told, sep="\n")
    assert done.returncode == 0 and told, done.stdout[-3000:] + done.stderr[-1000:]
