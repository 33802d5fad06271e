"""`slicer.packaging`, as far as an extension uses it, without ever changing this environment.

`installed` holds what a test pretends about packages: a name mapped to True (there) or False
(missing); other names are looked up in this environment. `pip_install` records what it was asked
for in `calls` and then behaves as a test has set: it marks the packages as installed, or raises.
"""

from __future__ import annotations

import subprocess
import types
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from PySide6 import QtCore

installed: dict[str, bool] = {}
calls: list[Any] = []
declines = False  # the user says no in pip_ensure's question
fails = False  # pip ends with an error, as it does offline


def load_requirements(path: Any) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in Path(path).read_text("utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def pip_check(requirements: Any) -> bool:
    if isinstance(requirements, str):
        requirements = [Requirement(part) for part in requirements.split()]
    elif isinstance(requirements, Requirement):
        requirements = [requirements]
    return all(_satisfied(Requirement(str(requirement))) for requirement in requirements)


def _satisfied(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.name in installed:
        return installed[requirement.name]
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def pip_install(requirements: Any, **options: Any) -> None:
    """With blocking=False the end is told to completedCallback(returnCode), from the event loop."""
    calls.append(("pip_install", requirements, options))
    if options.get("blocking", True) is False:
        completed = options.get("completedCallback") or (lambda code: None)
        QtCore.QTimer.singleShot(50, lambda code=int(fails): completed(code))
        return
    if fails:
        raise subprocess.CalledProcessError(1, "pip install")
    text = requirements if isinstance(requirements, str) else " ".join(map(str, requirements))
    for name in list(installed):
        if name in text:
            installed[name] = True


def pip_ensure(requirements: Any, **options: Any) -> None:
    calls.append(("pip_ensure", requirements, options))
    missing = [r for r in requirements if not pip_check(r)]
    if missing and declines:
        raise RuntimeError("User declined package installation")
    if missing:
        pip_install([str(r) for r in missing], **options)


def reset() -> None:
    """Forget what a test has set."""
    global declines, fails
    installed.clear()
    calls.clear()
    declines = fails = False


def as_module() -> types.ModuleType:
    import sys

    return sys.modules[__name__]
