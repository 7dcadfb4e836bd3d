"""Write to a run's folder: what is asked for, who works on it, what came of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attnreg.errors import AttnregError
from attnreg.evaluation.claims import LEASE_SECONDS, Claims, Taken, transaction
from attnreg.evaluation.pictures import Pictures
from attnreg.evaluation.places import database_here, is_remote, run_folder
from attnreg.evaluation.schema import DAMAGE, KEY, connect, reported
from attnreg.evaluation.store import Cell
from attnreg.evaluation.tasks import Batch, Drawn
from attnreg.evaluation.working_copy import WorkingCopy
from attnreg.measure.asked import Prompt
from attnreg.measure.judge import Scores

VERDICT = "json_array(weights, picture, unmodified)"
THIS = " AND ".join(f"{name} = ?" for name in KEY.split(", "))


class Ledger:
    """A run's folder, to be written to; made if it is not there. Close it: `with Ledger(folder) as ledger`."""

    def __init__(self, folder: str | Path, lease: float = LEASE_SECONDS) -> None:
        self.folder = run_folder(folder)
        self.pictures = Pictures(self.folder)
        try:
            self.copy = WorkingCopy(self.folder) if is_remote(self.folder) else None
            database = self.copy.database if self.copy else database_here(self.folder)
            database.parent.mkdir(parents=True, exist_ok=True)
            self.connection = connect(database)
            self.claims = Claims(database, lease)
        except OSError as error:
            raise AttnregError(
                f"expected a folder that can be written, got {folder} ({error.strerror or error}); "
                "choose another with --out"
            ) from error
        if self.copy:
            try:
                with reported(self.folder):
                    self.copy.merge(self.connection)
            except BaseException:
                self._close()
                raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Lets go of everything; an error of the database, wherever it came up, becomes an `AttnregError`."""
        try:
            with reported(self.folder):
                try:
                    if self.copy and not isinstance(error, DAMAGE):
                        self.copy.put_back(self.connection, now=True)
                finally:
                    self._close()
        except AttnregError:
            if error is None:
                raise
        if isinstance(error, DAMAGE):
            with reported(self.folder):
                raise error

    def _close(self) -> None:
        try:
            self.claims.close()
        finally:
            self.connection.close()

    def ask(
        self,
        config: dict[str, Any],
        prompts: Sequence[Prompt],
        cells: Sequence[Cell],
        facts: Mapping[str, Any],
        versions: Mapping[str, str],
        command: str,
    ) -> None:
        """Note a sitting and what it asks for.

        facts: what holds for every picture of the run. Raises `AttnregError` if the run has a picture of another.
        """
        with transaction(self.connection):
            if not self.connection.execute("SELECT 1 FROM drawings").fetchone():
                self.connection.execute("DELETE FROM facts")
            for name, value in facts.items():
                self.connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, json.dumps(value)))
                (told,) = self.connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
                if json.loads(told) != value:
                    raise AttnregError(_other(name, json.loads(told), value, self.folder))
            for place, prompt in enumerate(prompts):
                body = json.dumps(asdict(prompt), ensure_ascii=False)
                before = self.connection.execute("SELECT body FROM prompts WHERE text = ?", (prompt.text,)).fetchone()
                if before and before[0] != body:  # the picture is the same, what it is judged by is not
                    self.connection.execute("DELETE FROM verdicts WHERE prompt = ?", (prompt.text,))
                self.connection.execute("REPLACE INTO prompts VALUES (?, ?, ?)", (prompt.text, place, body))
            self.connection.executemany(
                "REPLACE INTO wanted VALUES (?, ?, ?, ?, ?)", ((*cell, place) for place, cell in enumerate(cells))
            )
            self.connection.execute(
                "INSERT INTO sittings VALUES (?, ?, ?, ?)",
                (datetime.now(UTC).isoformat(), command, json.dumps(config), json.dumps(dict(versions))),
            )
        if self.copy:
            self.copy.put_back(self.connection, now=True)  # what cannot be written elsewhere is known before a step

    def drawn(self) -> dict[Cell, tuple[str, float]]:
        """Every picture that is drawn: its digest, and the seconds it took."""
        rows = self.connection.execute(f"SELECT {KEY}, picture, seconds FROM drawings")
        return {Cell(*cell): (picture, seconds) for *cell, picture, seconds in rows}

    def drawn_without_maps(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of the cells whose present picture was drawn when nobody asked where attention lay."""
        query = f"SELECT {KEY} FROM maps JOIN drawings USING ({KEY}, picture)"
        asked, drawn = {Cell(*cell) for cell in self.connection.execute(query)}, self.drawn()
        return [cell for cell in cells if cell in drawn and cell not in asked]

    def failed(self) -> dict[Cell, str]:
        """Every picture that its method could not draw, with the reason."""
        return {Cell(*cell): error for *cell, error in self.connection.execute(f"SELECT {KEY}, error FROM failures")}

    def forget_failures(self, cells: Iterable[Cell]) -> None:
        """Let methods try again."""
        with transaction(self.connection):
            self.connection.executemany(f"DELETE FROM failures WHERE {THIS}", cells)

    def forget_damaged(self, cells: Iterable[Cell]) -> list[Cell]:
        """Read every picture drawn of these; those lost or damaged are forgotten, so that they are drawn again."""
        drawn, wanted = self.drawn(), set(cells)
        damaged = self.pictures.damaged(sha for cell, (sha, _) in drawn.items() if cell in wanted)
        broken = [cell for cell, (sha, _) in drawn.items() if cell in wanted and sha in damaged]
        forgotten = []
        for cell in broken:
            with transaction(self.connection):
                # Looked at once more: another process may have found it first, and drawn it by now.
                if self.pictures.get(drawn[cell][0]) is None:
                    self.connection.execute(f"DELETE FROM drawings WHERE {THIS}", cell)
                    forgotten.append(cell)
        return forgotten

    def claimed(self, cells: Iterable[Cell]) -> Iterator[Cell | None]:
        """Each of the cells that nobody has drawn, claimed; `None` while others are at all that is left."""
        drawn, failed = self.drawn(), self.failed()
        left = [cell for cell in cells if cell not in drawn and cell not in failed]
        while left:
            busy = []
            for cell in left:
                taken = self.claims.take(self.connection, json.dumps(cell), lambda cell=cell: self._is_done(cell))  # type: ignore[misc]
                if taken is Taken.MINE:
                    yield cell
                elif taken is Taken.BUSY:
                    busy.append(cell)
            left = busy
            if left:
                yield None

    def _is_done(self, cell: Cell) -> bool:
        return any(
            self.connection.execute(f"SELECT 1 FROM {table} WHERE {THIS}", cell).fetchone()
            for table in ("drawings", "failures")
        )

    def keep(self, cell: Cell, drawn: Drawn) -> str:
        """Keep a picture, then the row that says so. Gives the picture's digest."""
        sha = self.pictures.put(drawn.png)
        with transaction(self.connection):
            self.connection.execute(
                "REPLACE INTO drawings VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*cell, sha, drawn.seconds, drawn.peak_bytes, json.dumps(drawn.attention)),
            )
            if drawn.maps is not None:
                told = json.dumps(drawn.maps, separators=(",", ":"))
                self.connection.execute("REPLACE INTO maps VALUES (?, ?, ?, ?, ?, ?)", (*cell, sha, told))
            if drawn.passes is not None:
                self.connection.execute("REPLACE INTO passes VALUES (?, ?, ?, ?, ?, ?)", (*cell, sha, drawn.passes))
            self._let_go(json.dumps(cell))
        self._put_back()
        return sha

    def keep_failure(self, cell: Cell, error: str) -> None:
        """Keep why a picture could not be drawn."""
        with transaction(self.connection):
            self.connection.execute("REPLACE INTO failures VALUES (?, ?, ?, ?, ?)", (*cell, error))
            self._let_go(json.dumps(cell))
        self._put_back()

    def unjudged(
        self, cells: Iterable[Cell], judge: str, weights: str, beside: Mapping[Cell, Cell]
    ) -> dict[Cell, tuple[str, str | None]]:
        """Those of the cells that are drawn, and of whose present picture the judge has not spoken, with its digest.

        beside: for judges that compare, the unmodified picture of each, whose digest comes second; a cell of which that
        is not drawn is left out.
        """
        drawn = self.drawn()
        spoken = {
            Cell(*cell): told
            for *cell, told in self.connection.execute(
                f"SELECT {KEY}, {VERDICT} FROM verdicts WHERE judge = ?", (judge,)
            )
        }
        left = {}
        for cell in cells:
            if cell in drawn and (not beside or beside[cell] in drawn):
                pair = (drawn[cell][0], drawn[beside[cell]][0] if beside else None)
                if cell not in spoken or json.loads(spoken[cell]) != [weights, *pair]:
                    left[cell] = pair
        return left

    def claimed_batches(
        self, cells: Iterable[Cell], judge: str, weights: str, beside: Mapping[Cell, Cell], size: int
    ) -> Iterator[dict[Cell, tuple[str, str | None]] | None]:
        """What `unjudged` tells, claimed, so many at a time; `None` while others are at all that is left."""
        while left := self.unjudged(cells, judge, weights, beside):
            batch, any_mine = {}, False
            for cell, pair in left.items():

                def done(cell: Cell = cell, pair: tuple[str, str | None] = pair) -> bool:
                    query = f"SELECT {VERDICT} FROM verdicts WHERE judge = ? AND {THIS}"
                    told = self.connection.execute(query, (judge, *cell)).fetchone()
                    return told is not None and json.loads(told[0]) == [weights, *pair]

                if self.claims.take(self.connection, json.dumps([judge, *cell]), done) is Taken.MINE:
                    batch[cell] = pair
                if len(batch) == size:
                    any_mine = True
                    yield batch
                    batch = {}
            if batch:
                yield batch
            elif not any_mine:
                yield None

    def keep_verdicts(self, batch: Batch, scores: Sequence[Scores]) -> None:
        """Keep what a judge said; a score that is no number is left out."""
        with transaction(self.connection):
            for cell, sha, unmodified, told in zip(
                batch.cells, batch.digests, batch.unmodified_digests, scores, strict=True
            ):
                finite = {name: float(value) for name, value in told.items() if math.isfinite(value)}
                self.connection.execute(
                    "REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*cell, batch.judge, batch.weights, sha, unmodified, json.dumps(finite)),
                )
                self._let_go(json.dumps([batch.judge, *cell]))
        self._put_back()

    def _let_go(self, task: str) -> None:
        self.connection.execute("DELETE FROM claims WHERE task = ? AND owner = ?", (task, self.claims.owner))

    def _put_back(self) -> None:
        if self.copy:
            self.copy.put_back(self.connection)


def _other(name: str, there: object, came: object, folder: str) -> str:
    if isinstance(there, dict) and isinstance(came, dict):
        key = next(key for key in came if there.get(key) != came[key])
        name, there, came = f"{name}: {key}", there.get(key), came[key]
    return (
        f"{name}: expected {there!r}, as for the pictures that {folder} holds, got {came!r}; "
        "choose another folder with --out"
    )
