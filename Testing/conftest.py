"""What every test needs."""

import ctypes
import sys


def pytest_configure(config):
    """Keep True alive: PySide6 6.12 gives up a reference to it with every signal declared in
    Python, and CPython 3.11 aborts at its end when none is left (3.12 made True immortal)."""
    if sys.version_info < (3, 12):
        increase, true = ctypes.pythonapi.Py_IncRef, ctypes.py_object(True)
        for _ in range(1_000_000):
            increase(true)
