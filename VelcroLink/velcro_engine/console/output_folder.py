"""Results appear as a whole or not at all: written into a hidden folder that is renamed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError


def check_output_folder(out: str | os.PathLike[str]) -> Path:
    """`out` as a path, checked before long work. Raises InputError when results cannot go there."""
    if not str(out).strip():
        raise InputError("The name of the folder for the results is empty; give --out DIR.")
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise InputError(f"'{target}' is a file; give a folder for the results.")
    existing = next(folder for folder in (target, *target.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(
            f"'{target}' cannot be written; check the disk and the folder's permissions."
        )
    return target


@contextlib.contextmanager
def output_folder(out: str | os.PathLike[str], replaces: Sequence[str] = ()) -> Iterator[Path]:
    """Context manager giving a temporary folder whose files take their place in `out` at the end.

    A new `out` appears in one rename; in one that exists, files of the same name are replaced and
    others stay. replaces: names of results that this run need not have; an older one of that name
    then goes, since it would be taken for this run's. When the body fails, `out` stays as it was.
    Raises InputError when it cannot be written.
    """
    target = check_output_folder(out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target if target.exists() else target.parent  # one that is written in any case
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=beside))
    except OSError as error:
        raise InputError(
            f"'{target}' cannot be written; check the disk and the folder's permissions.",
            repr(error),
        ) from error
    try:
        yield temporary
        outdated = [name for name in replaces if not (temporary / name).exists()]
        _move(temporary, target)
        for name in outdated:
            (target / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"'{target}' cannot be written; check the disk and the folder's permissions.",
            repr(error),
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.chmod(0o777 & ~_umask())
        os.replace(temporary, target)
        return
    for path in sorted(temporary.rglob("*")):
        place = target / path.relative_to(temporary)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            os.replace(path, place)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
