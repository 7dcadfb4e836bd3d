"""Read a run's folder: its records, prompts, pictures, failures. Loads neither torch nor diffusers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from attnreg.evaluation.pictures import Pictures
from attnreg.evaluation.schema import connect_to_read, has_table
from attnreg.evaluation.working_copy import database_here, fetch, is_remote, is_there
from attnreg.measure.asked import Prompt, Relation, Thing
from attnreg.records import Map, Record


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
        self.folder = str(folder)
        self.pictures = Pictures(self.folder)
        with self._reading():
            pass

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with ExitStack() as stack:
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
                given.update({f"{judge}/{name}": value for name, value in json.loads(told).items()})
            rows = connection.execute(
                "SELECT prompt, seed, method, model, picture, seconds, peak_bytes, body FROM wanted "
                "JOIN drawings USING (prompt, seed, method, model) JOIN prompts ON text = prompt ORDER BY wanted.place"
            ).fetchall()
        return [
            Record(
                prompt=prompt,
                category=json.loads(body).get("category", ""),
                seed=seed,
                method=method,
                model=model,
                picture=picture,
                seconds=seconds,
                peak_bytes=peak,
                scores=scores.get(Cell(prompt, seed, method, model), {}),
            )
            for prompt, seed, method, model, picture, seconds, peak, body in rows
        ]

    def prompts(self) -> list[Prompt]:
        """Every prompt of the run, with what is known of its meaning."""
        return [prompt_of(body) for body in self._bodies()]

    def prompt_objects(self) -> list[Mapping[str, Any]]:
        """The same as plain JSON objects."""
        return [json.loads(body) for body in self._bodies()]

    def _bodies(self) -> list[str]:
        with self._reading() as connection:
            return [body for (body,) in connection.execute("SELECT body FROM prompts ORDER BY place")]

    def picture(self, sha: str) -> bytes | None:
        """The PNG of a record's `picture`; `None` if it is lost or damaged (the next `bench run` draws it again)."""
        return self.pictures.get(sha)

    def attention(self) -> dict[Cell, dict[str, tuple[float, float]]]:
        """For each regulated picture: target -> its mean attention without and with the edit."""
        with self._reading() as connection:
            return {
                Cell(*cell): {name: (before, after) for name, (before, after) in json.loads(told).items()}
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
                Cell(*cell): {name: (before, after) for name, (before, after) in json.loads(told).items()}
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
                Sitting(began, command, json.loads(config), json.loads(versions))
                for began, command, config, versions in connection.execute(
                    "SELECT began, command, config, versions FROM sittings ORDER BY rowid"
                )
            ]

    def facts(self) -> dict[str, Any]:
        """What holds for every picture of the run: the settings of the drawing, digests of the models."""
        with self._reading() as connection:
            return {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM facts")}

    def left(self) -> int:
        """How many pictures were asked for and are neither drawn nor failed."""
        with self._reading() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM wanted LEFT JOIN drawings USING (prompt, seed, method, model) "
                "LEFT JOIN failures USING (prompt, seed, method, model) WHERE picture IS NULL AND error IS NULL"
            ).fetchone()
            return int(count)


def last_config(folder: str | Path) -> dict[str, Any] | None:
    """What was last asked of a run; `None` if there is no run, or nothing was asked yet but to take pictures in."""
    there = is_there(str(folder)) if is_remote(str(folder)) else database_here(str(folder)).exists()
    sittings = Store(folder).sittings() if there else []
    return next((one.config for one in reversed(sittings) if "prompts" in one.config), None)


def prompt_of(body: str) -> Prompt:
    """A prompt from the JSON of its `dataclasses.asdict`."""
    told: dict[str, Any] = json.loads(body)
    things = tuple(Thing(**{name: _tuples(value) for name, value in thing.items()}) for thing in told.pop("things"))
    relations = tuple(Relation(**relation) for relation in told.pop("relations"))
    return Prompt(things=things, relations=relations, **{name: _tuples(value) for name, value in told.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
