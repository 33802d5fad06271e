"""What every test needs."""

import ctypes
import os
import shutil
import sys
import tempfile

HOME = "VELCROLINK_HOME"


def pytest_configure(config):
    """No test reads or writes what the person who runs it keeps in VelcroLink.

    And True stays alive: PySide6 6.12 gives up a reference to it with every signal declared in
    Python, and CPython 3.11 aborts at its end when none is left (3.12 made True immortal)."""
    config.velcrolink_home = os.environ.get(HOME), tempfile.mkdtemp(prefix="velcrolink-tests-")
    os.environ[HOME] = config.velcrolink_home[1]
    if sys.version_info < (3, 12):
        increase, true = ctypes.pythonapi.Py_IncRef, ctypes.py_object(True)
        for _ in range(1_000_000):
            increase(true)


def pytest_unconfigure(config):
    """The data folder of the tests goes; the environment is as it was."""
    before, made = config.velcrolink_home
    if before is None:
        os.environ.pop(HOME, None)
    else:
        os.environ[HOME] = before
    shutil.rmtree(made, ignore_errors=True)
