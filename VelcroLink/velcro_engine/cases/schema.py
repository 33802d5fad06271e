"""The library's file: its tables, its version, and the checks before anything in it is believed.

A library may come from elsewhere, or be damaged. It is opened so that nothing in it can run
(triggers, views and functions of its schema are refused), and its tables must be exactly ours.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import InputError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x564C434B  # "VLCK"
BUSY_SECONDS = 10
LARGEST_VALUE = 16 * 1024 * 1024
TABLES = {
    "cases": "CREATE TABLE cases (id INTEGER PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE)",
    "models": "CREATE TABLE models (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, "
    "dimension INTEGER NOT NULL)",
    "items": "CREATE TABLE items (id INTEGER PRIMARY KEY AUTOINCREMENT, "
    "case_id INTEGER NOT NULL REFERENCES cases(id) ON DELETE CASCADE, kind TEXT NOT NULL, "
    "entry TEXT, side TEXT, plane TEXT, modality TEXT, accepted INTEGER NOT NULL, "
    "attributes TEXT NOT NULL, text TEXT NOT NULL, digest BLOB NOT NULL UNIQUE)",
    "embeddings": "CREATE TABLE embeddings (item_id INTEGER PRIMARY KEY REFERENCES items(id) "
    "ON DELETE CASCADE, model_id INTEGER NOT NULL REFERENCES models(id), vector BLOB NOT NULL)",
    "places": "CREATE TABLE places (item_id INTEGER NOT NULL REFERENCES items(id) "
    "ON DELETE CASCADE, entry TEXT NOT NULL, side TEXT, zone TEXT NOT NULL)",
    "closure": "CREATE TABLE closure (entry TEXT NOT NULL, ancestor TEXT NOT NULL, "
    "distance INTEGER NOT NULL, PRIMARY KEY (entry, ancestor)) WITHOUT ROWID",
    "findings": "CREATE TABLE findings (item_id INTEGER NOT NULL REFERENCES items(id) "
    "ON DELETE CASCADE, entry TEXT NOT NULL, side TEXT, qualifiers TEXT NOT NULL)",
    "thumbnails": "CREATE TABLE thumbnails (item_id INTEGER PRIMARY KEY REFERENCES items(id) "
    "ON DELETE CASCADE, png BLOB NOT NULL)",
    "changes": "CREATE TABLE changes (id INTEGER PRIMARY KEY CHECK (id = 1), "
    "edits INTEGER NOT NULL)",
    "items_by_case": "CREATE INDEX items_by_case ON items (case_id)",
    "embeddings_by_model": "CREATE INDEX embeddings_by_model ON embeddings (model_id)",
    "places_by_item": "CREATE INDEX places_by_item ON places (item_id)",
    "findings_by_item": "CREATE INDEX findings_by_item ON findings (item_id)",
}
# from version n to n + 1; each runs inside the transaction that also sets the version
MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {}


def damaged(path: Path, detail: object) -> InputError:
    """The error for a file that cannot be believed."""
    return InputError(
        f"The case library '{path}' is damaged; nothing was changed. Save what is readable with "
        f"'velcrolink cases rescue' into a new one.",
        repr(detail),
    )


@contextlib.contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise InputError(
                f"Another program is writing to '{path}'; try again in a moment.", text
            ) from error
        if "full" in text:
            raise InputError(f"The disk of '{path}' is full; make room.", text) from error
        if "readonly" in text or "unable to open" in text:
            raise InputError(
                f"'{path}' cannot be written; check its folder and permissions.", text
            ) from error
        raise damaged(path, error) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise damaged(path, error) from error


def open_file(path: Path) -> sqlite3.Connection:
    """A connection to a library, made when it is missing; readable by its owner only.

    Raises InputError when it is no library, damaged, or of a newer version.
    """
    _prepare_file(path)
    with sqlite_errors(path):
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _configure(connection)
            _check_identity(connection, path)
            _create_or_migrate(connection)
            check_tables(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_damaged(path: Path) -> sqlite3.Connection:
    """A connection to a copy of a damaged library, to read what can be read; its triggers and views
    cannot run. Raises InputError when not even its header can be read."""
    with sqlite_errors(path):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            _configure(connection)
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare_file(path: Path) -> None:
    """Make the file for its owner alone before SQLite does, which gives its helper files the same
    permissions; say what is wrong with a file that is no database."""
    try:
        if path.is_dir():
            raise InputError(f"'{path}' is a folder; give the file of a case library.")
        if not path.exists():
            made = not path.parent.exists()
            path.parent.mkdir(parents=True, exist_ok=True)
            if made:
                path.parent.chmod(0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        elif path.stat().st_size:
            with path.open("rb") as stream:
                if stream.read(16) != b"SQLite format 3\x00":
                    raise InputError(f"'{path}' is not a case library; give another file.")
        if sys.platform != "win32" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise InputError(
            f"The case library '{path}' cannot be opened; check its folder and permissions.",
            repr(error),
        ) from error


def _configure(connection: sqlite3.Connection) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    for pragma in (
        "trusted_schema = OFF",
        "cell_size_check = ON",
        "mmap_size = 0",  # a read error of a mapped file would end the process
        "foreign_keys = ON",
        "recursive_triggers = OFF",
        "synchronous = FULL",
        "secure_delete = ON",  # what is removed is gone from the file
    ):
        connection.execute(f"PRAGMA {pragma}")
    defensive = getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE", None)  # Python 3.12
    if defensive is not None:
        connection.setconfig(defensive, True)  # type: ignore[attr-defined]


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    (kind,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if tables and kind != APPLICATION_ID:
        raise InputError(f"'{path}' is a database of another program; give another file.")
    if version > SCHEMA_VERSION:
        raise InputError(
            f"'{path}' was written by a newer VelcroLink (library version {version}, this one "
            f"reads {SCHEMA_VERSION}); update VelcroLink."
        )


def _create_or_migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        return
    # Readers of another process are not held up by a writer, and a killed writer leaves its last
    # whole transaction. Where WAL cannot be had (network disks) the rollback journal does the same.
    connection.execute("PRAGMA journal_mode = WAL")
    with transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in TABLES.values():
                connection.execute(statement)
            connection.execute("INSERT INTO changes VALUES (1, 0)")
        else:
            for step in range(version, SCHEMA_VERSION):
                MIGRATIONS[step](connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Raises InputError unless the file holds exactly our tables and nothing that could run."""
    found = dict(
        connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        ).fetchall()
    )
    if found != TABLES:
        raise damaged(path, sorted(set(found.items()) ^ set(TABLES.items()))[:3])


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; waits for other writers at its begin."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
