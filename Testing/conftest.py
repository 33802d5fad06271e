"""What every test needs."""

import ctypes
import os
import shutil
import sys
import tempfile

HOME = "VELCROLINK_HOME"


def pytest_configure(config):
    """No test reads or writes what the person who runs it keeps in VelcroLink.

    And True and None stay alive: PySide6 6.12 gives up a reference to True with every signal
    declared in Python and one to None with every call that returns nothing, and CPython 3.11 aborts
    when none is left (3.12 made both immortal)."""
    config.velcrolink_home = os.environ.get(HOME), tempfile.mkdtemp(prefix="velcrolink-tests-")
    os.environ[HOME] = config.velcrolink_home[1]
    if sys.version_info < (3, 12):
        for kept in (True, None):
            ctypes.c_ssize_t.from_address(id(kept)).value += 1 << 40


def pytest_unconfigure(config):
    """The data folder of the tests goes; the environment is as it was."""
    before, made = config.velcrolink_home
    if before is None:
        os.environ.pop(HOME, None)
    else:
        os.environ[HOME] = before
    shutil.rmtree(made, ignore_errors=True)
