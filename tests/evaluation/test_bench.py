"""A run does what is missing and nothing else: killed, shared, extended, damaged."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fakes
import pytest
from sittings import Sittings, outcome, sit

from attnreg.errors import AttnregError
from attnreg.evaluation.bench import run
from attnreg.evaluation.claims import Claims, Taken
from attnreg.evaluation.config import Config
from attnreg.evaluation.ledger import Ledger
from attnreg.evaluation.pictures import png_of
from attnreg.evaluation.schema import connect
from attnreg.evaluation.store import Cell, Store
from attnreg.evaluation.tasks import Drawn
from attnreg.measure.asked import Prompt

CONFIG: dict[str, Any] = {"methods": ("none", "attention-regulation"), "seeds": (0, 1), "judges": ("colour", "moved")}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture(scope="module")
def sittings() -> Iterator[Sittings]:
    made = Sittings()
    yield made
    made.close()


def test_records_tell_everything(tmp_path: Path, log: Path) -> None:
    done = sit(str(tmp_path / "run"), str(log), 3, CONFIG, command="attnreg bench run")
    assert (done.asked, done.drawn, done.judged, done.failures) == (12, 12, 24, ())
    store = Store(tmp_path / "run")
    records = store.records()
    assert [(r.prompt, r.seed, r.method) for r in records[:3]] == [
        ("a cat and a dog", 0, "none"),
        ("a cat and a dog", 0, "attention-regulation"),
        ("a cat and a bird", 0, "none"),
    ]
    for record in records:
        drawn = fakes.picture(Cell(record.prompt, record.seed, record.method, record.model))
        assert store.picture(record.picture) == png_of(drawn)
        assert (tmp_path / "run" / "pictures" / record.picture[:2] / f"{record.picture}.png").is_file()
        assert record.scores.keys() == {"colour/red", "colour/blue", "moved/distance"}, "what is no number is left out"
        assert (record.scores["moved/distance"] == 0) == (record.method == "none")
        assert record.peak_bytes == 1000
    assert store.prompts() == fakes.prompts(3)
    assert len(store.attention()) == 6
    (sitting,) = store.sittings()
    assert sitting.command == "attnreg bench run"
    assert sitting.config["seeds"] == [0, 1]
    assert "torch" in sitting.versions


def test_killed_at_any_moment_it_goes_on(tmp_path: Path, log: Path, sittings: Sittings) -> None:
    """Twenty kills at random moments of a run of 120 pictures, then the rest: as if nothing had happened."""
    told = {"folder": str(tmp_path / "run"), "log": str(log), "count": 30, "config": CONFIG}
    moments, while_drawing = random.Random(0), 0
    for index in range(20):
        # Most moments lie so many lines of work on: 16 each are too few for the 360 lines of the whole run. Beginning
        # takes about 70,000 calls, a picture 900, and waiting for a killed process's claim as many as time allows.
        work = (moments.randint(8, 16), moments.randint(0, 900))
        moment = (0, moments.randint(0, 60_000)) if index % 5 == 4 else work
        sittings.start(moment, **told)
        assert sittings.ended() == signal.SIGKILL, "the run ended before it was killed twenty times"
        while_drawing += not fakes.noted(log, "judging")
    assert 5 < while_drawing < 20, "the kills should fall into the drawing, and some into the judging"
    sittings.start(**told)
    assert sittings.ended() == 0
    sit(str(tmp_path / "undisturbed"), str(tmp_path / "other log"), 30, CONFIG)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "undisturbed")
    drawn, judged = Counter(fakes.noted(log, "drawing")), Counter(fakes.noted(log, "judging"))
    assert (len(drawn), len(judged)) == (120, 60)
    assert sum(drawn.values()) - 120 <= while_drawing, "a kill costs the picture in hand, no more"
    assert sum(judged.values()) - 240 <= (20 - while_drawing) * 16, "a kill costs the batch in hand, no more"


def test_two_processes_share_a_run(tmp_path: Path, log: Path, sittings: Sittings) -> None:
    sit(str(tmp_path / "undisturbed"), str(tmp_path / "other log"), 20, CONFIG)
    told: dict[str, Any] = {"folder": str(tmp_path / "run"), "log": str(log), "count": 20, "config": CONFIG}
    sittings.start(**told, seconds=0.02)
    while not fakes.noted(log, "drawing"):
        time.sleep(0.01)
    done = sit(**told, seconds=0.02)
    assert sittings.ended() == 0
    assert 0 < done.drawn < 80, "both should have had a share"
    assert outcome(tmp_path / "run") == outcome(tmp_path / "undisturbed")
    assert set(Counter(fakes.noted(log, "drawing")).values()) == {1}
    assert set(Counter(fakes.noted(log, "judging")).values()) == {4}, (
        "each judge, once a picture: two methods and seeds"
    )


def test_more_is_asked_and_only_that_is_done(tmp_path: Path, log: Path) -> None:
    def more(**changes: Any) -> tuple[int, int]:
        done = sit(str(tmp_path / "run"), str(log), 2, changes)
        return done.drawn, done.judged

    assert more(methods=("none",)) == (2, 0)
    assert more(methods=("none",)) == (0, 0)
    assert more(methods=("none", "attention-scaling")) == (2, 0)
    assert more(methods=("none", "attention-scaling"), seeds=(0, 1)) == (4, 0)
    assert more(methods=("none", "attention-scaling"), seeds=(0, 1), judges=("colour",)) == (0, 8)
    assert more(methods=("none", "attention-scaling"), seeds=(0, 1), judges=("colour", "moved")) == (0, 8)
    assert more(methods=("none", "attention-scaling"), judges=("colour",), weights={"colour": "other"}) == (0, 4)
    assert len(Store(tmp_path / "run").records()) == 8
    assert len(Store(tmp_path / "run").sittings()) == 7


def test_the_unmodified_picture_is_drawn_where_a_judge_needs_it(tmp_path: Path, log: Path) -> None:
    done = sit(str(tmp_path / "run"), str(log), 2, {"methods": ("attention-scaling",), "judges": ("moved",)})
    assert (done.asked, done.drawn, done.judged) == (2, 4, 2)
    records = Store(tmp_path / "run").records()
    assert [record.method for record in records] == ["attention-scaling"] * 2, "it was not asked for"
    assert all(record.scores["moved/distance"] > 0 for record in records)


def test_settings_written_differently_are_one_method(tmp_path: Path, log: Path) -> None:
    first = ("attention-regulation( strength = 0.50, smoothing=0.4)",)
    sit(str(tmp_path / "run"), str(log), 1, {"methods": first})
    (record,) = Store(tmp_path / "run").records()
    again = sit(str(tmp_path / "run"), str(log), 1, {"methods": (record.method,)})
    assert again.drawn == 0


@pytest.mark.parametrize("harm", ["lost", "cut short", "changed"])
def test_a_damaged_picture_is_drawn_again(tmp_path: Path, log: Path, harm: str) -> None:
    folder = tmp_path / "run"
    sit(str(folder), str(log), 2, CONFIG)
    before = outcome(folder)
    sha = Store(folder).records()[3].picture
    path = folder / "pictures" / sha[:2] / f"{sha}.png"
    content = path.read_bytes()
    if harm == "lost":
        path.unlink()
    else:
        path.write_bytes(content[:20] if harm == "cut short" else content[:-1] + b"x")
    assert Store(folder).picture(sha) is None
    done = sit(str(folder), str(log), 2, CONFIG)
    assert (done.damaged, done.drawn, done.judged) == (1, 1, 0)
    assert outcome(folder) == before


def test_a_picture_that_comes_out_otherwise_is_judged_again(tmp_path: Path, log: Path) -> None:
    folder = tmp_path / "run"
    sit(str(folder), str(log), 2, CONFIG)
    with closing(connect(folder / "run.sqlite")) as connection:
        other = Store(folder).pictures.put(png_of(fakes.picture(Cell("other", 0, "none", "pocket"))))
        connection.execute("UPDATE drawings SET picture = ? WHERE seed = 1 AND method = 'none'", (other,))
    records = [record for record in Store(folder).records() if record.seed == 1 and record.method == "none"]
    assert [record.scores for record in records] == [{}, {}], "what was said of another picture is void"
    done = sit(str(folder), str(log), 2, CONFIG)
    # "colour" of the two changed pictures, "moved" of these and of the two that are compared with them.
    assert (done.drawn, done.judged) == (0, 2 + 4)


def test_prompts_with_another_meaning_are_judged_again(tmp_path: Path, log: Path) -> None:
    folder = tmp_path / "run"
    sit(str(folder), str(log), 2, CONFIG)
    with closing(connect(folder / "run.sqlite")) as connection:
        body = json.loads(connection.execute("SELECT body FROM prompts ORDER BY place").fetchone()[0])
        connection.execute(
            "UPDATE prompts SET body = ? WHERE text = ?", (json.dumps(body | {"things": []}), body["text"])
        )
    done = sit(str(folder), str(log), 2, CONFIG)
    assert (done.drawn, done.judged) == (0, 8)


def test_what_a_method_cannot_draw_is_told_and_not_fatal(tmp_path: Path, log: Path) -> None:
    def sitting(refuses: str, **options: Any) -> Any:
        return run(
            Config(prompts=("fake",), **CONFIG),
            tmp_path / "run",
            prompts=fakes.prompts(3),
            open_model=fakes.FakeModels(str(log), refuses=refuses),
            open_judge=fakes.FakeJudges(str(log)),
            **options,
        )

    done = sitting("bird")
    assert done.drawn == 10
    assert [(failed.cell[:3], failed.error) for failed in done.failures] == [
        (("a cat and a bird", seed, "attention-regulation"), "no token of the prompt matches 'bird'") for seed in (0, 1)
    ]
    assert Store(tmp_path / "run").failures() == list(done.failures)
    assert Store(tmp_path / "run").left() == 0
    assert sitting("?").drawn == 0, "a failure is remembered"
    done = sitting("?", retry_failed=True)
    assert (done.drawn, done.failures) == (2, ())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"judges": ("hue",)}, "expected a judge"),
        ({"methods": ("attention",)}, "expected a method"),
        ({"methods": ("attention-scaling(strength=-1)",)}, "strength: expected a finite number"),
        ({"subset": {"attention-scaling": 3}}, "subset: expected methods of the run"),
        ({"weights": {"hue": "x"}}, "weights: expected judges of the run"),
    ],
)
def test_errors_come_before_any_picture(tmp_path: Path, log: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(AttnregError, match=says):
        sit(str(tmp_path / "run"), str(log), 2, CONFIG | changes)
    assert not log.exists()
    assert not (tmp_path / "run").exists()


def test_a_prompt_that_a_judge_cannot_judge_is_refused(tmp_path: Path, log: Path) -> None:
    with pytest.raises(AttnregError, match="judge colour: expected prompts that say what they name, got 'a cat'"):
        run(
            Config(prompts=("fake",), judges=("colour",)),
            tmp_path / "run",
            prompts=[Prompt("a cat")],
            open_model=fakes.FakeModels(str(log)),
            open_judge=fakes.FakeJudges(str(log)),
        )
    assert not log.exists()


def test_a_model_that_does_not_open_is_an_error_and_no_failure(tmp_path: Path, log: Path) -> None:
    with pytest.raises(AttnregError, match="expected a model, got none"):
        sit(str(tmp_path / "run"), str(log), 2, CONFIG | {"models": ("missing",)})
    assert Store(tmp_path / "run").failures() == []
    assert Store(tmp_path / "run").left() == 8


def test_what_no_picture_was_drawn_with_is_no_setting_of_the_run(tmp_path: Path) -> None:
    with Ledger(tmp_path / "run") as ledger:
        for steps in (999, 10):
            ledger.ask({"prompts": ["x"]}, [], [], {"drawing": {"steps": steps}}, {}, "")
        ledger.keep(Cell("a cat", 0, "none", "pocket"), Drawn(b"picture", 1.0))
        with pytest.raises(AttnregError, match="expected 10, as for the pictures"):
            ledger.ask({"prompts": ["x"]}, [], [], {"drawing": {"steps": 999}}, {}, "")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"guidance_scale": float("nan")}, "from 0 on, got nan"),
        ({"guidance_scale": -2}, "from 0 on, got -2"),
        ({"steps": 1001}, "at most 1000, got 1001"),
    ],
)
def test_numbers_that_nothing_is_drawn_with(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(AttnregError, match=said):
        Config(prompts=("a cat",), **wrong)


def test_the_settings_of_the_drawing_are_the_runs(tmp_path: Path, log: Path) -> None:
    sit(str(tmp_path / "run"), str(log), 1, {"steps": 3})
    with pytest.raises(AttnregError, match="drawing: steps: expected 3, as for the pictures"):
        sit(str(tmp_path / "run"), str(log), 1, {"steps": 4})


def test_a_subset_is_fixed_and_grows(tmp_path: Path, log: Path) -> None:
    def drawn_of_scaling(count: int) -> set[str]:
        config = {"methods": ("none", "attention-scaling(shift=2)"), "subset": {"attention-scaling": count}}
        sit(str(tmp_path / str(count)), str(log), 10, config)
        return {r.prompt for r in Store(tmp_path / str(count)).records() if r.method != "none"}

    few, many = drawn_of_scaling(3), drawn_of_scaling(6)
    assert len(few) == 3
    assert len(many) == 6
    assert few < many
    assert {prompt.category for prompt in fakes.prompts(10) if prompt.text in many} == {"odd", "even"}
    assert Store(tmp_path / "3").sittings()[0].config["subset"] == {"attention-scaling": 3}


def test_judges_get_batches(tmp_path: Path, log: Path) -> None:
    done = run(
        Config(prompts=("fake",), judges=("colour",)),
        tmp_path / "run",
        prompts=fakes.prompts(5),
        batch=4,
        open_model=fakes.FakeModels(str(log)),
        open_judge=fakes.FakeJudges(str(log), most=4),
    )
    assert done.judged == 10


def test_progress_says_how_long(tmp_path: Path, log: Path) -> None:
    lines: list[str] = []
    sit(str(tmp_path / "run"), str(log), 2, {"methods": ("none",)}, seconds=0.01, progress=lines.append)
    assert lines == ["drawn 1 of 2, 0 s so far, 0 s left", "drawn 2 of 2, 0 s so far, 0 s left"]


def test_a_claim_is_kept_by_the_living_and_lost_by_the_dead(tmp_path: Path) -> None:
    database = tmp_path / "run.sqlite"
    dying = (
        "import os, sys, pathlib; from attnreg.evaluation.claims import Claims; "
        "from attnreg.evaluation.schema import connect; database = pathlib.Path(sys.argv[1]); "
        "connection = connect(database); claims = Claims(database, 1000.0); "
        "print(claims.take(connection, 'task', lambda: False).name, flush=True); sys.stdin.read(1); os._exit(1)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", dying, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout
    assert other.stdout.readline() == "MINE\n"
    with closing(connect(database)) as connection, closing(Claims(database, 1000.0)) as claims:
        assert len(list((tmp_path / "workers").iterdir())) == 2
        assert claims.take(connection, "task", lambda: False) is Taken.BUSY
        other.communicate("x")
        assert claims.take(connection, "task", lambda: False) is Taken.MINE
        assert claims.take(connection, "task", lambda: False) is Taken.BUSY, "it is in hand already"
        assert claims.take(connection, "done", lambda: True) is Taken.DONE
        assert len(list((tmp_path / "workers").iterdir())) == 1


def test_a_claim_whose_lease_ran_out_is_lost(tmp_path: Path) -> None:
    database = tmp_path / "run.sqlite"
    with closing(connect(database)) as connection, closing(Claims(database, 1000.0)) as stopped:
        assert stopped.take(connection, "task", lambda: False) is Taken.MINE
        with closing(Claims(database, 1000.0)) as claims:
            assert claims.take(connection, "task", lambda: False) is Taken.BUSY
            connection.execute("UPDATE claims SET until = 1")
            assert claims.take(connection, "task", lambda: False) is Taken.MINE


def test_claims_are_renewed_and_given_back(tmp_path: Path) -> None:
    database = tmp_path / "run.sqlite"
    with closing(connect(database)) as connection:
        claims = Claims(database, 0.15)
        claims.take(connection, "task", lambda: False)
        query = "SELECT until FROM claims"
        (first,) = connection.execute(query).fetchone()
        for _ in range(200):
            (now,) = connection.execute(query).fetchone()
            if now > first:
                break
            claims._over.wait(0.01)
        assert now > first
        claims.close()
        assert connection.execute(query).fetchone() is None
        assert list((tmp_path / "workers").iterdir()) == []


def test_an_interrupted_sitting_gives_back_its_claims(tmp_path: Path, log: Path) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sit(str(tmp_path / "run"), str(log), 2, CONFIG, progress=stop)
    with Ledger(tmp_path / "run") as ledger:
        assert ledger.connection.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    assert Store(tmp_path / "run").left() == 7


def test_another_versions_database_is_refused(tmp_path: Path, log: Path) -> None:
    sit(str(tmp_path / "run"), str(log), 1, CONFIG)
    with closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(AttnregError, match="of version 99"):
        Store(tmp_path / "run")
    with pytest.raises(AttnregError, match="of version 99"):
        sit(str(tmp_path / "run"), str(log), 1, CONFIG)


@pytest.mark.parametrize("content", [None, b"not a database, but something long enough to look like one" * 20])
def test_what_is_no_run_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "run.sqlite").write_bytes(content)
    with pytest.raises(AttnregError, match="expected a run's"):
        Store(tmp_path)


def test_reading_loads_nothing_heavy(tmp_path: Path, log: Path) -> None:
    sit(str(tmp_path / "run"), str(log), 2, CONFIG)
    reading = (
        "import sys, attnreg.commands.bench; from attnreg.evaluation import Store; store = Store(sys.argv[1]); "
        "assert len(store.records()) == 8 and all(store.picture(r.picture) for r in store.records()); "
        "store.prompts(), store.attention(), store.maps(), store.failures(), store.sittings(), store.facts(); "
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", reading, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"
