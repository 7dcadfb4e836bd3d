"""Who works on what: claims that several processes take, renew and give back, and that the dead lose.

A claim holds until its lease runs out, and its owner renews it in the background. Besides, every owner keeps a file of
its own locked as long as it lives, and the kernel lets go of the lock however it dies: so what a killed process had in
hand is free at once, and the lease is for machines that stopped, or have no such locks.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

from attnreg.errors import AttnregError
from attnreg.evaluation.schema import DAMAGE, connect

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEASE_SECONDS = 60.0
WORKERS = "workers"
"""The folder of the locked files, beside the database."""


class Taken(Enum):
    """What came of trying to claim a task."""

    MINE = "claimed now"
    BUSY = "another process is at it"
    DONE = "done meanwhile"


class Claims:
    """The claims of one process on one database. Give them back with `close`."""

    def __init__(self, database: Path, lease: float = LEASE_SECONDS) -> None:
        self.owner, self.lease = uuid.uuid4().hex, lease
        self._database = database
        self._folder = database.parent / WORKERS
        self._folder.mkdir(exist_ok=True)
        for path in self._folder.glob("[!.]*"):
            self._lives(path.name)
        # Locked before it has its name: else another process might take it for one of the dead.
        unnamed = self._folder / f".{self.owner}"
        self._lock = os.open(unnamed, os.O_CREAT | os.O_RDWR)
        if fcntl:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self._folder / self.owner)
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="attnreg claims", daemon=True)
        self._renewing.start()

    def take(self, connection: sqlite3.Connection, task: str, done: Callable[[], bool]) -> Taken:
        """Claim a task, unless it is `done` or someone alive has it."""
        now = time.time()
        with transaction(connection):
            if done():
                return Taken.DONE
            held = connection.execute("SELECT owner, until FROM claims WHERE task = ?", (task,)).fetchone()
            if held and held[1] > now and (held[0] == self.owner or self._lives(held[0])):
                return Taken.BUSY
            connection.execute("REPLACE INTO claims VALUES (?, ?, ?)", (task, self.owner, now + self.lease))
            return Taken.MINE

    def close(self) -> None:
        """Give back every claim, and stop renewing them."""
        self._over.set()
        self._renewing.join()
        try:
            with contextlib.closing(connect(self._database)) as connection:
                connection.execute("DELETE FROM claims WHERE owner = ?", (self.owner,))
        finally:  # without its lock no claim of ours holds, whether it is deleted or not
            (self._folder / self.owner).unlink(missing_ok=True)
            os.close(self._lock)

    def _renew(self) -> None:
        while not self._over.wait(self.lease / 3):
            # Busy: the next time will do, there are two more. Damaged or full: whoever writes next will say so.
            # A connection of its own: SQLite's are not to be shared by threads that write.
            with (
                contextlib.suppress(*DAMAGE, AttnregError),
                contextlib.closing(connect(self._database)) as connection,
            ):
                connection.execute(
                    "UPDATE claims SET until = ? WHERE owner = ?", (time.time() + self.lease, self.owner)
                )

    def _lives(self, owner: str) -> bool:
        """Whether the owner of a claim holds its lock; the file of a dead one is removed."""
        path = self._folder / owner
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            if not fcntl:
                return True
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(handle)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written inside, or nothing; nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back on a full disk
            connection.execute("ROLLBACK")
        raise
