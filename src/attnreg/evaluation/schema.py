"""The tables of a run's database, and how a connection to it is opened.

SQLite in WAL mode, not DuckDB: a run is many small writes from several processes (one row a picture, a claim before it
and a heartbeat while it is drawn), which is what SQLite's journal and locks are made for, while DuckDB lets one process
write at a time and is made for scans of millions of rows, of which there are none. SQLite also comes with Python: a
report needs nothing else.

WAL needs shared memory, so that all processes that write to a run must be on one machine; several machines work on it
through `attnreg.evaluation.ray_executor`, where only the driver writes.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from attnreg.errors import AttnregError

DATABASE = "run.sqlite"
VERSION = 1
PATIENCE = 60.0
"""Seconds to wait for another process's write."""

CELL = "prompt TEXT NOT NULL, seed INTEGER NOT NULL, method TEXT NOT NULL, model TEXT NOT NULL"
KEY = "prompt, seed, method, model"
TABLES = {
    # Settings and digests that hold for the whole run, as JSON.
    "facts": "(name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # One row each time someone asked for something: when, with which command, configuration and releases.
    "sittings": "(began TEXT NOT NULL, command TEXT NOT NULL, config TEXT NOT NULL, versions TEXT NOT NULL)",
    # The prompts with their meaning, as JSON of `attnreg.measure.asked.Prompt`.
    "prompts": "(text TEXT PRIMARY KEY, place INTEGER NOT NULL, body TEXT NOT NULL)",
    # What was asked for: the union of all sittings. `place` orders them.
    "wanted": f"({CELL}, place INTEGER NOT NULL, PRIMARY KEY ({KEY})) WITHOUT ROWID",
    # What was drawn. `attention` is JSON: target -> mean attention before and after.
    "drawings": f"({CELL}, picture TEXT NOT NULL, seconds REAL NOT NULL, peak_bytes INTEGER, attention TEXT NOT NULL,"
    f" PRIMARY KEY ({KEY})) WITHOUT ROWID",
    # Where attention lay, of pictures for which that was asked: target -> rows of positions without and with the edit,
    # as JSON. Like a verdict, void for another picture than the present one.
    "maps": f"({CELL}, picture TEXT NOT NULL, maps TEXT NOT NULL, PRIMARY KEY ({KEY}))",
    # Passes of the denoiser that a picture took, where they were counted; void for another picture, as maps are.
    "passes": f"({CELL}, picture TEXT NOT NULL, passes INTEGER NOT NULL, PRIMARY KEY ({KEY})) WITHOUT ROWID",
    # What a method could not draw, and why.
    "failures": f"({CELL}, error TEXT NOT NULL, PRIMARY KEY ({KEY})) WITHOUT ROWID",
    # What a judge said of one picture, and of which: a verdict on another picture than the present one is void.
    "verdicts": f"({CELL}, judge TEXT NOT NULL, weights TEXT NOT NULL, picture TEXT NOT NULL, unmodified TEXT,"
    f" scores TEXT NOT NULL, PRIMARY KEY ({KEY}, judge)) WITHOUT ROWID",
    # Who works on what, and until when that holds unless renewed (seconds of the epoch).
    "claims": "(task TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID",
}
LATER = ("maps", "passes")
"""Tables that runs of this version made by an earlier release lack. Who only reads does without them."""


DAMAGE = (sqlite3.Error, UnicodeDecodeError, json.JSONDecodeError)
"""What reading or writing a database raises that is full, damaged, or was written by something else."""


class NoRunError(AttnregError):
    """There is no run in a folder, or none yet: it was stopped while its database was being made."""


@contextmanager
def reported(database: Path | str) -> Iterator[None]:
    """Turns the errors of a run's database into one `AttnregError` that says what to do: make room, or restore it."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, sqlite3.OperationalError):
            advice = "make room or check the disk, then give the same command again: what is drawn is kept"
            raise AttnregError(
                f"expected a run's database that can be used, got {database} ({error}); {advice}"
            ) from error
        raise AttnregError(
            f"expected a run's database that is whole, got {database} ({error}); restore it, or start a new folder"
        ) from error


def connect(database: Path) -> sqlite3.Connection:
    """A connection that may write; the tables are made if they are not there, or were not when it was stopped.

    Raises `AttnregError` if the file is no database, or one of another version of the library.
    """
    if database.exists() and not database.is_file():
        raise AttnregError(f"expected a run's database, got {database}, which is no file; choose another folder")
    try:
        connection = sqlite3.connect(database, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection)
            check_version(connection, database)
        except BaseException:
            connection.close()
            raise
    except DAMAGE as error:
        raise AttnregError(
            f"expected a run's database that can be written, got {database} ({error}); "
            "check the disk, or choose another folder"
        ) from error
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Make what tables are missing."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    if not _has_tables(connection):
        for name, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {name} {columns}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    elif connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
        # Inside the transaction, so that of several processes one makes them; releases that do not know them, and
        # may be at work on the run, never look at them.
        for name in LATER:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} {TABLES[name]}")
    connection.execute("COMMIT")


def connect_to_read(database: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises `NoRunError` if there is no run, `AttnregError` if it cannot be read."""
    if not database.is_file():
        raise NoRunError(
            f"expected a run's folder, got {database.parent}, which holds no {DATABASE}; "
            "make one with attnreg bench run, or check the path"
        )
    try:
        connection = _opened(database)
        try:
            if not _has_tables(connection):
                raise NoRunError(
                    f"expected a run's folder, got {database.parent}, whose {DATABASE} was never finished; "
                    "give attnreg bench run again"
                )
            check_version(connection, database)
        except BaseException:
            connection.close()
            raise
    except (*DAMAGE, OSError) as error:
        raise AttnregError(f"expected a run's database, got {database} ({error}); restore that file") from error
    return connection


def _opened(database: Path) -> sqlite3.Connection:
    """The database to be read, also where nothing can be made beside it, not even a lock."""
    try:
        return _tried(database, "mode=ro")
    except sqlite3.OperationalError:
        journal = database.with_name(f"{DATABASE}-wal")
        if not (journal.is_file() and journal.stat().st_size):
            return _tried(database, "immutable=1")
    # What a killed process wrote last is in its journal alone, which SQLite reads only where it may write.
    with tempfile.TemporaryDirectory() as scratch:
        for file in (database, journal):
            shutil.copyfile(file, Path(scratch) / file.name)
        connection = sqlite3.connect(":memory:")
        with closing(_tried(Path(scratch) / DATABASE, "mode=rw")) as copied:
            copied.execute("PRAGMA journal_mode = DELETE")
            copied.backup(connection)
    return connection


def _tried(database: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?{how}", uri=True, timeout=PATIENCE)
    try:
        _has_tables(connection)
    except DAMAGE:
        connection.close()
        raise
    return connection


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def has_table(connection: sqlite3.Connection, name: str, schema: str = "main") -> bool:
    """Whether a database holds a table: those in `LATER` may be missing."""
    query = f"SELECT 1 FROM {schema}.sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def check_version(connection: sqlite3.Connection, database: Path) -> None:
    """Raises `AttnregError` unless the database is of this version of the tables."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != VERSION:
        raise AttnregError(
            f"expected a run of version {VERSION}, got {database} of version {found}; "
            "use the release of attnreg that made it, or start a new folder"
        )
