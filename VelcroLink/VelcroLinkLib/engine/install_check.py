"""Is what linking needs installed, what would be installed, and how by hand. Asks nothing itself.

Only package metadata is read, nothing is imported: a DLL that is loaded could not be replaced by
pip on Windows, and importing onnxruntime into Slicer is not needed at all (the worker does it).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from velcro_engine.errors import InputError

REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
# Of the onnxruntime 1.2x wheels and their dependencies (flatbuffers, protobuf), rounded up.
DOWNLOAD_MB = {"linux": 20, "win32": 16, "darwin": 36}
DISK_MB = 85
# The same library for graphics processors; installing the plain one over it would break it.
SAME_IMPORT = {"onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml")}
_LINE = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:>=\s*([0-9][0-9.]*))?")


@dataclass(frozen=True)
class InstallState:
    """missing: requirement lines not satisfied. versions: of what is installed, by name.
    downloadMb: about how much would be downloaded, 0 when nothing is missing."""

    missing: tuple[str, ...]
    versions: dict[str, str]
    downloadMb: int
    requirementsPath: str

    @property
    def installed(self) -> bool:
        return not self.missing

    @property
    def buttonText(self) -> str:
        """What the one inline button says; "" when there is nothing to install."""
        if self.installed:
            return ""
        return f"Install {', '.join(self.missing)} (about {self.downloadMb} MB)"

    @property
    def explanation(self) -> str:
        """One paragraph beside the button."""
        return (
            f"Linking needs {', '.join(self.missing)} in Slicer's Python: about {self.downloadMb} MB "
            f"to download, {DISK_MB} MB on disk. Nothing else is changed, and no image leaves this "
            "computer."
        )

    @property
    def offlineInstructions(self) -> str:
        """How to install where there is no internet: text for a label, lines separated by \\n."""
        tag = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (
            "Without internet:\n"
            "1. On a computer with internet and the same operating system, run\n"
            f"   python -m pip download --only-binary :all: --python-version {tag} "
            f"--dest velcrolink-wheels {_quoted(self.missing)}\n"
            "2. Copy the folder velcrolink-wheels to this computer.\n"
            "3. Press 'Install from a folder' and choose it.\n"
            f"This computer: {platform.system()} {platform.machine()}, Python {tag}. The list of "
            f"packages is {self.requirementsPath}."
        )


def _quoted(requirements: tuple[str, ...]) -> str:
    return " ".join(f'"{line}"' for line in requirements)


def checkInstall(requirementsPath: str | Path | None = None) -> InstallState:
    """Which lines of the requirements file are not satisfied in this Python.

    Raises InputError when the file is missing (a damaged installation of VelcroLink).
    """
    path = Path(requirementsPath) if requirementsPath is not None else REQUIREMENTS
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"'{path}' is missing; install the VelcroLink extension again.", repr(error)
        ) from error
    importlib.invalidate_caches()
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    missing, versions = [], {}
    for line in filter(None, lines):
        match = _LINE.match(line)
        if match is None:
            continue  # a pip option
        name, atLeast = match.group(1), match.group(2)
        version = _installedVersion(name)
        if version is None:
            missing.append(line)
            continue
        versions[name] = version
        if atLeast is not None and _numbers(versions[name]) < _numbers(atLeast):
            missing.append(line)
    downloadMb = DOWNLOAD_MB.get(sys.platform, max(DOWNLOAD_MB.values())) if missing else 0
    return InstallState(tuple(missing), versions, downloadMb, str(path))


def _installedVersion(name: str) -> str | None:
    """Of a package or of one that is imported under the same name; None when none is there."""
    for one in (name, *SAME_IMPORT.get(name, ())):
        try:
            return importlib.metadata.version(one)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """Release numbers of a version: "1.22.0rc1" -> (1, 22, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def install(
    state: InstallState,
    onDone: Callable[[InstallState, str], None],
    onLog: Callable[[str], None] = lambda line: None,
    wheelFolder: str | Path | None = None,
) -> None:
    """Install what is missing, after the user pressed the button; main thread only (pip off the
    main thread has crashed Slicer on macOS).

    onDone(new state, message): message is "" on success, else one line that says what to do.
    onLog(line): pip's output. wheelFolder: install from these wheels, without any network.
    With slicer.packaging (5.12) this returns at once and Slicer stays responsive; without, pip
    runs to its end first. Raises InputError for a folder that holds no suitable wheels.
    """
    arguments = list(state.missing)
    if wheelFolder is not None:
        arguments = ["--no-index", "--find-links", str(_checkedFolder(wheelFolder, state))]
        arguments += state.missing
    # Wheels only: a hospital computer has no compiler, and a source package runs code to build.
    arguments = ["--only-binary", ":all:", *arguments]

    ended = []

    def finished(returnCode: int) -> None:
        ended.append(returnCode)
        after = checkInstall(state.requirementsPath)
        onDone(after, "" if after.installed else _failure(returnCode, wheelFolder is not None))

    if importlib.util.find_spec("slicer.packaging") is not None:
        import slicer.packaging

        try:
            slicer.packaging.pip_install(
                arguments,
                blocking=False,
                show_progress=False,
                requester="VelcroLink",
                logCallback=onLog,
                completedCallback=finished,
            )
        except RuntimeError as error:  # another installation is under way
            onDone(state, f"{error} Try again when it has finished.")
        except subprocess.CalledProcessError as error:
            finished(error.returncode)
        else:
            # With --testing pip runs to its end at once, and nobody is told of it.
            isRunning = getattr(slicer.packaging, "isPipInstallInProgress", lambda: True)
            if not ended and not isRunning():
                finished(0)
        return
    import slicer.util

    if not hasattr(slicer.util, "pip_install"):
        raise InputError("This Slicer cannot install packages; use 3D Slicer 5.12 or newer.")
    try:
        slicer.util.pip_install(arguments)
    except subprocess.CalledProcessError as error:
        finished(error.returncode)
        return
    finished(0)


def _checkedFolder(wheelFolder: str | Path, state: InstallState) -> Path:
    folder = Path(wheelFolder)
    if not folder.is_dir():
        raise InputError(f"'{folder}' is not a folder; choose the folder that holds the wheels.")
    wheels = [wheel.name.lower() for wheel in folder.glob("*.whl")]
    for line in state.missing:
        name = re.split(r"[^A-Za-z0-9._-]", line)[0]
        name = re.sub(r"[-_.]+", "_", name).lower()
        if not any(wheel.startswith(f"{name}-") for wheel in wheels):
            raise InputError(
                f"'{folder}' holds no wheel of {line}; download it as described below."
            )
    return folder


def _failure(returnCode: int, fromFolder: bool) -> str:
    if fromFolder:
        return (
            "Installing from the folder failed: the wheels must be for this operating system and "
            f"Python {sys.version_info.major}.{sys.version_info.minor} (pip exit {returnCode})."
        )
    return (
        "Installing failed; check the internet connection and the proxy, or install from a folder "
        f"of wheels (pip exit {returnCode})."
    )
