"""Runs that were stopped while being made, copied, damaged, or that lie where nothing can be written."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes import FakeJudges, FakeModels
from sittings import outcome, sit

from attnreg.cli import cli
from attnreg.errors import AttnregError
from attnreg.evaluation.bench import run
from attnreg.evaluation.checks import check_call
from attnreg.evaluation.config import Config, config_of
from attnreg.evaluation.ledger import Ledger
from attnreg.evaluation.places import run_folder
from attnreg.evaluation.store import Store, last_config
from writers import full_after

CONFIG = {"judges": ("colour", "moved")}


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    sit(str(folder / "run"), str(folder / "log"), 3, CONFIG)
    return folder / "run"


def unfinished(folder: Path, how: str) -> None:
    """A run whose database was being made when its process was killed."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / "run.sqlite", isolation_level=None)) as connection:
        if how != "empty file":
            connection.execute("PRAGMA journal_mode = WAL")
        if how == "within the transaction":
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE facts (name TEXT)")
    (folder / "run.sqlite").touch()


@pytest.mark.parametrize("how", ["empty file", "after the journal", "within the transaction"])
def test_a_run_killed_while_its_database_was_made_is_made_again(how: str, tmp_path: Path, log: str) -> None:
    folder = tmp_path / "run"
    unfinished(folder, how)
    assert last_config(folder) is None, "there is nothing to go on with"
    with pytest.raises(AttnregError, match="was never finished; give attnreg bench run again"):
        Store(folder)
    done = CliRunner().invoke(cli, ["bench", "run", "--out", str(folder)])
    assert "expected CONFIG or --prompts" in done.output, "the command asks for what it needs, as for a new folder"
    sit(str(folder), log, 2, CONFIG)
    sit(str(tmp_path / "other"), log, 2, CONFIG)
    assert outcome(folder) == outcome(tmp_path / "other")


def read_as_nobody(folder: Path) -> list[int]:
    """How many records a process without any rights sees, and how many pictures are left."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        told = b"failed"
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            with pytest.raises(OSError, match=r"denied|Read-only"):
                (folder / "x").touch()
            store = Store(folder)
            told = f"{len(store.records())} {store.left()}".encode()
        except BaseException as error:
            told = repr(error).encode()
        finally:
            os.write(write, told)
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    assert told.replace(" ", "").isdigit(), told
    return [int(part) for part in told.split()]


def test_a_copy_that_cannot_be_written_is_read_with_its_journal(tmp_path_factory: pytest.TempPathFactory) -> None:
    top = Path("/tmp") / f"attnreg-{os.getpid()}"  # pytest's own folders are closed to others
    folder, copy = top / "run", top / "copy"
    top.mkdir()
    try:
        sit(str(folder), str(top / "log"), 2, {})
        with closing(sqlite3.connect(folder / "run.sqlite", isolation_level=None)) as late:
            late.execute("PRAGMA wal_autocheckpoint = 0")
            late.execute("DELETE FROM drawings WHERE method = 'none'")
            assert (folder / "run.sqlite-wal").stat().st_size
            copy.mkdir()
            for name in ("run.sqlite", "run.sqlite-wal"):  # as a process that is killed now would leave them
                shutil.copy(folder / name, copy)
        for path in (top, copy, *copy.iterdir()):
            path.chmod(0o555)
        assert read_as_nobody(copy) == [2, 2], "without the journal it would be 4 records and 0 left"
    finally:
        top.chmod(0o755)
        copy.chmod(0o755)
        shutil.rmtree(top)


def test_a_run_of_a_relative_file_is_taken_up_from_elsewhere(
    tmp_path: Path, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, folder = tmp_path / "here", tmp_path / "there", tmp_path / "run"
    here.mkdir()
    there.mkdir()
    (here / "mine.txt").write_text("a cat and a dog\na bird and a car\n")
    fake: dict[str, Any] = {"open_model": FakeModels(log), "open_judge": FakeJudges(log)}
    monkeypatch.chdir(here)
    run(Config(prompts=("mine.txt",)), folder, **fake)
    monkeypatch.chdir(there)
    (there / "mine.txt").write_text("something else\n")
    asked = config_of(last_config(folder), "run").with_more(seeds="1")
    assert run(asked, folder, **fake).drawn == 4, "the file that was meant, not one of the same name"
    assert {record.prompt for record in Store(folder).records()} == {"a cat and a dog", "a bird and a car"}
    (here / "mine.txt").unlink()
    said: list[str] = []
    asked = config_of(last_config(folder), "run").with_more(seeds="2", prompts=("similar-subjects",), limit=1)
    assert run(asked, folder, say=said.append, **fake).drawn == 10
    assert f"{here / 'mine.txt'} is not here any more; the prompts that the run holds are taken" in said
    with pytest.raises(AttnregError, match="does not exist"):
        run(Config(prompts=("never.txt",)), folder, **fake)


def read_everything(folder: Path) -> None:
    store = Store(folder)
    store.records(), store.prompts(), store.prompt_objects(), store.attention(), store.maps(), store.failures()
    store.sittings(), store.facts(), store.left(), last_config(folder)


@pytest.mark.parametrize("seed", range(24))
def test_a_damaged_database_is_one_line(seed: int, whole: Path, tmp_path: Path, log: str) -> None:
    """Bytes overwritten or lost anywhere: it is read, or refused by the library's own error; never anything else."""
    lot = random.Random(seed)
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "run.sqlite"
    content = bytearray(path.read_bytes())
    if seed % 4 == 0:
        del content[lot.randrange(len(content)) :]
    for _ in range(10 ** lot.randrange(4)):
        if content:
            content[lot.randrange(len(content))] = lot.randrange(256)
    path.write_bytes(content)
    for work in (lambda: read_everything(tmp_path / "run"), lambda: sit(str(tmp_path / "run"), log, 4, CONFIG)):
        try:
            work()
        except AttnregError as error:
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE verdicts SET scores = '{\"red\": NaN}'", "no number of JSON"),
        ('UPDATE verdicts SET scores = \'{"red": "high"}\'', "where a number should be"),
        ("UPDATE verdicts SET scores = '[' || scores", "expected JSON"),
        ("UPDATE drawings SET seconds = 'long'", "where a number should be"),
        ("UPDATE drawings SET attention = '{\"cat\": [1]}'", "attnreg writes it"),
        ("UPDATE prompts SET body = '[]'", "attnreg writes it"),
        ("UPDATE prompts SET body = '{\"text\": 1}'", "attnreg writes it"),
        ("UPDATE sittings SET config = zeroblob(10)", "database"),
        ("DROP TABLE verdicts", "no such table"),
        ("ALTER TABLE drawings RENAME COLUMN picture TO image", "picture"),
    ],
)
def test_rows_that_attnreg_did_not_write(change: str, says: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as connection:
        connection.execute(change)
        connection.commit()
    with pytest.raises(AttnregError, match=says):
        read_everything(tmp_path / "run")


@pytest.mark.parametrize("room", [0, 512, 4096, 20_000, 45_000, 70_000])
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(room: int, tmp_path: Path, log: str) -> None:
    with full_after(room), pytest.raises(AttnregError, match=r"expected .*(database|folder)"):
        sit(str(tmp_path / "run"), os.devnull, 12, CONFIG)
    sit(str(tmp_path / "run"), log, 12, CONFIG)
    sit(str(tmp_path / "other"), log, 12, CONFIG)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "other")


def test_a_picture_that_is_a_pipe_is_lost_and_not_waited_for(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    sha = Store(tmp_path / "run").records()[0].picture
    (picture,) = (tmp_path / "run" / "pictures").glob(f"*/{sha}.png")
    picture.unlink()
    os.mkfifo(picture)
    assert Store(tmp_path / "run").picture(sha) is None
    assert Store(tmp_path / "run").picture("../" * 20 + "etc/passwd") is None


@pytest.mark.parametrize(
    "folder", ["zip:///tmp/run.zip", "zip://run::file:///nowhere.zip", "http://localhost:1/run", "s3://bucket/run",
               "nowhere://x", "memory://a\0b", "file://~nobody-here/x", "~no-such-user/run", "x" * 300, "a\0b", " "],
)  # fmt: skip
def test_places_where_no_run_can_be(folder: str, tmp_path: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AttnregError, match="expected"):
        sit(folder, log, 1, CONFIG)
    with pytest.raises(AttnregError, match="expected"):
        Store(folder)
    assert not Path(log).exists(), "nothing was drawn"


@pytest.mark.parametrize("folder", [None, "", " ", 3, b"run", ["run"]])
def test_a_folder_is_a_path(folder: object) -> None:
    with pytest.raises(AttnregError, match="expected a run's folder, a path or an address, got"):
        run_folder(folder)
    with pytest.raises(AttnregError, match="expected a run's folder"):
        check_call(folder, "local", None, 16)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"executor": "dask"}, "executor: expected local or ray, got 'dask'"),
        ({"workers": -1}, "workers: expected a whole number from 1"),
        ({"workers": 0}, "workers: expected a whole number from 1"),
        ({"workers": True}, "workers: expected a whole number from 1"),
        ({"batch": 0}, "batch: expected a whole number from 1"),
        ({"batch": None}, "batch: expected a whole number from 1"),
        ({"batch": 2.0}, "batch: expected a whole number from 1"),
    ],
)
def test_arguments_that_would_mean_nothing(given: dict[str, Any], says: str) -> None:
    with pytest.raises(AttnregError, match=says):
        check_call(**({"folder": "run", "executor": "local", "workers": None, "batch": 16} | given))


def test_a_run_asks_for_its_arguments_to_be_checked(tmp_path: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AttnregError, match="batch: expected"):
        sit(str(tmp_path / "run"), log, 1, CONFIG, batch=0)
    assert list(tmp_path.iterdir()) == []


def test_what_went_wrong_inside_is_not_hidden_by_letting_go(tmp_path: Path) -> None:
    class OtherError(Exception):
        pass

    def work() -> None:
        with Ledger(tmp_path / "run") as ledger:
            ledger.connection.close()
            raise OtherError

    with pytest.raises(OtherError):
        work()
    assert "attnreg claims" not in [thread.name for thread in threading.enumerate()]
