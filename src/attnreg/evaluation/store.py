"""Read a run's folder: its records, prompts, pictures, failures. Loads neither torch nor diffusers."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from attnreg.errors import AttnregError
from attnreg.evaluation.pictures import Pictures
from attnreg.evaluation.places import database_here, is_remote, run_folder
from attnreg.evaluation.schema import NoRunError, connect_to_read, has_table, reported
from attnreg.evaluation.working_copy import fetch
from attnreg.measure.asked import Prompt, Relation, Thing
from attnreg.reading import RECIPE, json_of
from attnreg.records import Map, Record
from attnreg.shown import told


class Cell(NamedTuple):
    """One picture that is asked for: everything that decides it within a run."""

    prompt: str
    seed: int
    method: str
    """With its settings where they are not the defaults: "attention-regulation(strength=0.5)"."""
    model: str


class Failed(NamedTuple):
    """A picture that a method could not draw."""

    cell: Cell
    error: str


class Sitting(NamedTuple):
    """One time that someone asked for something of a run."""

    began: str
    """Coordinated universal time, ISO 8601."""
    command: str
    config: dict[str, Any]
    versions: dict[str, str]


class Store:
    """A run's folder, to be read while others write to it; every call sees what is there at that moment."""

    def __init__(self, folder: str | Path) -> None:
        """folder: a path, or for runs kept elsewhere what fsspec understands, such as "s3://bucket/run".

        Raises `AttnregError` if there is no run.
        """
        self.folder = run_folder(folder)
        self.pictures = Pictures(self.folder)
        with self._reading():
            pass

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection, and around it what is made of its rows: whatever is wrong with them is told in one line."""
        with reported(self.folder), _rows_of(self.folder), ExitStack() as stack:
            if is_remote(self.folder):
                database = fetch(self.folder, Path(stack.enter_context(TemporaryDirectory())))
            else:
                database = database_here(self.folder)
            yield stack.enter_context(closing(connect_to_read(database)))

    def records(self) -> list[Record]:
        """Every picture that was asked for and drawn, in the order of the plan, with all that was said about it."""
        with self._reading() as connection:
            scores: dict[Cell, dict[str, float]] = {}
            for *cell, judge, told in connection.execute(
                "SELECT prompt, seed, method, model, judge, scores FROM verdicts JOIN drawings "
                "USING (prompt, seed, method, model, picture) ORDER BY judge"
            ):
                given = scores.setdefault(Cell(*cell), {})
                given.update({f"{judge}/{name}": _number(value) for name, value in _read(told).items()})
            column, beside = "NULL", ""
            if has_table(connection, "passes"):  # else drawn by a release that counted none
                column, beside = "passes", "LEFT JOIN passes USING (prompt, seed, method, model, picture)"
            rows = connection.execute(
                f"SELECT prompt, seed, method, model, picture, seconds, peak_bytes, body, {column} "
                "FROM wanted JOIN drawings USING (prompt, seed, method, model) JOIN prompts ON text = prompt "
                f"{beside} ORDER BY wanted.place"
            )
            return [
                Record(
                    prompt=prompt,
                    category=prompt_of(body).category,
                    seed=seed,
                    method=method,
                    model=model,
                    picture=picture,
                    seconds=_number(seconds),
                    peak_bytes=peak if peak is None else int(_number(peak)),
                    passes=passes if passes is None else int(_number(passes)),
                    scores=scores.get(Cell(prompt, seed, method, model), {}),
                )
                for prompt, seed, method, model, picture, seconds, peak, body, passes in rows
            ]

    def prompts(self) -> list[Prompt]:
        """Every prompt of the run, with what is known of its meaning."""
        with self._reading() as connection:
            return [prompt_of(body) for body in _bodies(connection)]

    def prompt_objects(self) -> list[Mapping[str, Any]]:
        """The same as plain JSON objects."""
        with self._reading() as connection:
            return [{**_read(body), "text": prompt_of(body).text} for body in _bodies(connection)]

    def picture(self, sha: str) -> bytes | None:
        """The picture of a record.

        Args:
            sha: the record's `picture`.

        Returns:
            The PNG's bytes; `None` if it is lost or damaged (the next `bench run` draws it again).
        """
        return self.pictures.get(sha)

    def attention(self) -> dict[Cell, dict[str, tuple[float, float]]]:
        """For each regulated picture: target -> its mean attention without and with the edit."""
        with self._reading() as connection:
            return {
                Cell(*cell): {name: (_number(before), _number(after)) for name, (before, after) in _read(told).items()}
                for *cell, told in connection.execute(
                    "SELECT prompt, seed, method, model, attention FROM drawings WHERE attention != '{}'"
                )
            }

    def maps(self) -> dict[Cell, dict[str, tuple[Map, Map]]]:
        """For each picture that has some: target -> where its attention lay without and with the edit, by rows."""
        with self._reading() as connection:
            if not has_table(connection, "maps"):  # drawn by a release that kept none
                return {}
            return {
                Cell(*cell): {name: (before, after) for name, (before, after) in _read(told).items()}
                for *cell, told in connection.execute(
                    "SELECT prompt, seed, method, model, maps FROM maps "
                    "JOIN drawings USING (prompt, seed, method, model, picture) WHERE maps != '{}'"
                )
            }

    def failures(self) -> list[Failed]:
        """Every picture that was asked for and that its method could not draw, with the reason."""
        with self._reading() as connection:
            return [
                Failed(Cell(*cell), error)
                for *cell, error in connection.execute(
                    "SELECT prompt, seed, method, model, error FROM wanted "
                    "JOIN failures USING (prompt, seed, method, model) ORDER BY place"
                )
            ]

    def sittings(self) -> list[Sitting]:
        """Who asked for what, and when: the last one holds the configuration and the releases in use now."""
        with self._reading() as connection:
            return [
                Sitting(began, command, _read(config), _read(versions))
                for began, command, config, versions in connection.execute(
                    "SELECT began, command, config, versions FROM sittings ORDER BY rowid"
                )
            ]

    def facts(self) -> dict[str, Any]:
        """What holds for every picture of the run: the settings of the drawing, digests of the models."""
        with self._reading() as connection:
            return {name: _read(value) for name, value in connection.execute("SELECT name, value FROM facts")}

    def left(self) -> int:
        """How many pictures were asked for and are neither drawn nor failed."""
        with self._reading() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM wanted LEFT JOIN drawings USING (prompt, seed, method, model) "
                "LEFT JOIN failures USING (prompt, seed, method, model) WHERE picture IS NULL AND error IS NULL"
            ).fetchone()
            return int(count)


@contextmanager
def _rows_of(folder: str) -> Iterator[None]:
    try:
        yield
    except AttnregError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise AttnregError(
            f"expected a run's database as attnreg writes it, got {folder} with {type(error).__name__}: {error}; "
            "restore it, or start a new folder"
        ) from error


def _bodies(connection: sqlite3.Connection) -> list[str]:
    return [body for (body,) in connection.execute("SELECT body FROM prompts ORDER BY place")]


def _read(text: str) -> Any:
    return json_of(text, "a run's database", RECIPE)


def _number(value: Any) -> float:
    """A number that a report may reckon with. Raises `ValueError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{told(value)} where a number should be")
    return value


def last_config(folder: str | Path) -> dict[str, Any] | None:
    """What was last asked of a run; `None` if there is no run, or nothing was asked yet but to take pictures in."""
    try:
        sittings = Store(folder).sittings()
    except NoRunError:
        return None
    return next((one.config for one in reversed(sittings) if "prompts" in one.config), None)


def prompt_of(body: str) -> Prompt:
    """A prompt from the JSON of its `dataclasses.asdict`."""
    known: dict[str, Any] = _read(body)
    things = tuple(Thing(**{name: _tuples(value) for name, value in thing.items()}) for thing in known.pop("things"))
    relations = tuple(Relation(**relation) for relation in known.pop("relations"))
    return Prompt(things=things, relations=relations, **{name: _tuples(value) for name, value in known.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
