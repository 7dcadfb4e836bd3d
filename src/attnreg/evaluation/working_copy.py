"""A run kept where no database can live (S3 and the like): work on a copy, and put snapshots of it back.

An object store holds whole objects, and SQLite needs a file that grows. So the driver works on a copy of the database
in the user's cache folder, takes over at the start what the stored one knows and the copy does not, and puts a snapshot
back every `SNAPSHOT_SECONDS` and at the end. The copy outlives a killed driver, so that on the same machine nothing is
lost; on another one, what was drawn since the last snapshot is drawn again. One driver at a time: an object store has
no locks, and the later snapshot replaces the earlier.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

from attnreg.evaluation.pictures import digest
from attnreg.evaluation.places import place_of, reaching
from attnreg.evaluation.schema import DATABASE, TABLES, NoRunError, check_version, has_table
from attnreg.reading import path_of

SNAPSHOT_SECONDS = 30.0
LOCAL_ONLY = ("claims",)
"""Tables that mean something only on the machine where they were written."""


def cache_folder() -> Path:
    """Where working copies lie: `$XDG_CACHE_HOME/attnreg/runs`, by default under `~/.cache`."""
    return path_of(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "attnreg" / "runs"


def fetch(folder: str, into: Path) -> Path:
    """The stored database, copied into a folder of this machine, to be read. Raises `AttnregError` if there is none."""
    content = _stored(folder)
    if content is None:
        raise NoRunError(
            f"expected a run's folder, got {folder}, which holds no {DATABASE}; check the address, or make a run there"
        )
    path = into / DATABASE
    path.write_bytes(content)
    return path


class WorkingCopy:
    """The copy of a remote run's database on this machine."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        home = cache_folder() / digest(folder.rstrip("/").encode())[:16]
        home.mkdir(parents=True, exist_ok=True)
        self.database = home / DATABASE
        self._last = time.monotonic()

    def merge(self, connection: sqlite3.Connection) -> None:
        """Take over from the stored database whatever this one has not."""
        if (content := _stored(self.folder)) is None:
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / DATABASE
            path.write_bytes(content)
            with closing(sqlite3.connect(path)) as other:
                check_version(other, path)
            connection.execute("ATTACH DATABASE ? AS stored", (str(path),))
            try:
                connection.execute("BEGIN IMMEDIATE")
                for table in TABLES:
                    if table not in (*LOCAL_ONLY, "sittings") and has_table(connection, table, "stored"):
                        connection.execute(f"INSERT OR IGNORE INTO {table} SELECT * FROM stored.{table}")
                connection.execute(
                    "INSERT INTO sittings SELECT * FROM stored.sittings EXCEPT SELECT * FROM sittings ORDER BY began"
                )
                # Another sitting may have drawn what failed here.
                connection.execute(
                    "DELETE FROM failures WHERE (prompt, seed, method, model) IN "
                    "(SELECT prompt, seed, method, model FROM drawings)"
                )
                connection.execute("COMMIT")
            finally:
                connection.execute("DETACH DATABASE stored")

    def put_back(self, connection: sqlite3.Connection, *, now: bool = False) -> None:
        """Store a snapshot, if the last one is old enough or `now`."""
        if not now and time.monotonic() - self._last < SNAPSHOT_SECONDS:
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / DATABASE
            with closing(sqlite3.connect(path)) as snapshot:
                connection.backup(snapshot)
                for table in LOCAL_ONLY:
                    snapshot.execute(f"DELETE FROM {table}")
                snapshot.commit()
                snapshot.execute("PRAGMA journal_mode = DELETE")
            system, root = place_of(self.folder)
            with reaching(self.folder):
                system.pipe_file(f"{root.rstrip('/')}/{DATABASE}", path.read_bytes())
        self._last = time.monotonic()


def _stored(folder: str) -> bytes | None:
    system, root = place_of(folder)
    try:
        with reaching(folder):
            content: bytes = system.cat_file(f"{root.rstrip('/')}/{DATABASE}")
    except FileNotFoundError:
        return None
    return content
