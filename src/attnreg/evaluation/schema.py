"""The tables of a run's database, and how a connection to it is opened.

SQLite in WAL mode, not DuckDB: a run is many small writes from several processes (one row a picture, a claim before it
and a heartbeat while it is drawn), which is what SQLite's journal and locks are made for, while DuckDB lets one process
write at a time and is made for scans of millions of rows, of which there are none. SQLite also comes with Python: a
report needs nothing else.

WAL needs shared memory, so that all processes that write to a run must be on one machine; several machines work on it
through `attnreg.evaluation.ray_executor`, where only the driver writes.
"""

from __future__ import annotations

import sqlite3
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
    # What a method could not draw, and why.
    "failures": f"({CELL}, error TEXT NOT NULL, PRIMARY KEY ({KEY})) WITHOUT ROWID",
    # What a judge said of one picture, and of which: a verdict on another picture than the present one is void.
    "verdicts": f"({CELL}, judge TEXT NOT NULL, weights TEXT NOT NULL, picture TEXT NOT NULL, unmodified TEXT,"
    f" scores TEXT NOT NULL, PRIMARY KEY ({KEY}, judge)) WITHOUT ROWID",
    # Who works on what, and until when that holds unless renewed (seconds of the epoch).
    "claims": "(task TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID",
}
LATER = ("maps",)
"""Tables that runs of this version made by an earlier release lack. Who only reads does without them."""


def connect(database: Path) -> sqlite3.Connection:
    """A connection that may write; the tables are made if they are not there.

    Raises `AttnregError` if the file is no database, or one of another version of the library.
    """
    try:
        connection = sqlite3.connect(database, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        fresh = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if fresh:
            for name, columns in TABLES.items():
                connection.execute(f"CREATE TABLE {name} {columns}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
            # Inside the transaction, so that of several processes one makes them; releases that do not know them, and
            # may be at work on the run, never look at them.
            for name in LATER:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {name} {TABLES[name]}")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise AttnregError(
            f"expected a run's database that can be written, got {database} ({error}); "
            "check the disk, or choose another folder"
        ) from error
    check_version(connection, database)
    return connection


def connect_to_read(database: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises `AttnregError` if there is no run."""
    if not database.is_file():
        raise AttnregError(
            f"expected a run's folder, got {database.parent}, which holds no {DATABASE}; "
            "make one with attnreg bench run, or check the path"
        )
    for how in ("mode=ro", "immutable=1"):  # the second for folders in which nothing can be made, not even a lock
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?{how}", uri=True, timeout=PATIENCE)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            connection.close()
            told = error
        else:
            check_version(connection, database)
            return connection
    raise AttnregError(f"expected a run's database, got {database} ({told}); restore that file") from told


def has_table(connection: sqlite3.Connection, name: str, schema: str = "main") -> bool:
    """Whether a database holds a table: those in `LATER` may be missing."""
    query = f"SELECT 1 FROM {schema}.sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def check_version(connection: sqlite3.Connection, database: Path) -> None:
    """Raises `AttnregError` unless the database is of this version of the tables."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != VERSION:
        connection.close()
        raise AttnregError(
            f"expected a run of version {VERSION}, got {database} of version {found}; "
            "use the release of attnreg that made it, or start a new folder"
        )
