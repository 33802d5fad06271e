"""Where VelcroLink's own files lie, where the user's files go, and how both are written safely.

The bundled files (`Resources/Models`, `Resources/KnowledgeBase`, ...) are looked up as: the folder
named by the environment variable VELCROLINK_RESOURCES; `Resources` inside this package (an
installed wheel); `Resources` beside the package (a 3D Slicer extension); `Resources` two levels up
(a checkout of the repository).
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

from .errors import InputError

_PACKAGE = Path(__file__).resolve().parent
_REPLACE_ATTEMPTS = 5


def resource_folders() -> list[Path]:
    """The folders in which bundled files are looked for, first hit wins."""
    chosen = os.environ.get("VELCROLINK_RESOURCES")
    if chosen:
        return [Path(chosen)]
    return [
        _PACKAGE / "Resources",
        _PACKAGE.parent / "Resources",
        _PACKAGE.parent.parent / "Resources",
    ]


def resource_path(name: str) -> Path:
    """Path of a bundled file or folder, for instance "KnowledgeBase/velcrolink.json".

    Raises InputError when no installation layout holds it.
    """
    folders = resource_folders()
    for folder in folders:
        candidate = folder / name
        if candidate.exists():
            return candidate
    hint = (
        "correct the environment variable VELCROLINK_RESOURCES"
        if os.environ.get("VELCROLINK_RESOURCES")
        else "install VelcroLink again"
    )
    raise InputError(
        f"The bundled file '{name}' is missing; {hint}.",
        "looked in " + ", ".join(str(folder) for folder in folders),
    )


def user_data_folder() -> Path:
    """The user's own folder for knowledge bases, cases and caches, made on first use.

    VELCROLINK_HOME wins; else %LOCALAPPDATA%, ~/Library/Application Support or XDG_DATA_HOME. Only
    the owner may read it, where the platform has permissions. Raises InputError if it cannot be
    made.
    """
    folder = _user_data_location()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder '{folder}' cannot be made; set VELCROLINK_HOME to one that can.",
            repr(error),
        ) from error
    return folder


def _user_data_location() -> Path:
    chosen = os.environ.get("VELCROLINK_HOME")
    if chosen:
        return Path(chosen).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "VelcroLink"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "VelcroLink"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "velcrolink"


@contextlib.contextmanager
def atomic_path(path: Path | str):
    """Context manager giving a temporary path that takes the place of `path` at its clean end.

    The temporary lies in the same folder, so that the exchange is one rename. When the body fails,
    `path` stays as it was and the temporary is gone. Parent folders are made.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        _replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path | str, data: bytes | str) -> None:
    """Write a whole file (text as UTF-8) so that a crash leaves the old or the new one, no mix.

    Raises InputError when the file cannot be written.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be written; check the disk and the folder's permissions.",
            repr(error),
        ) from error


def _replace(source: Path, target: Path) -> None:
    # On Windows a virus scanner or another reader may hold the target for a moment.
    for attempt in range(_REPLACE_ATTEMPTS):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == _REPLACE_ATTEMPTS - 1:
                raise
            time.sleep(0.05 * (attempt + 1))
