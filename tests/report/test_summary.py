"""The numbers of a report: against sums by hand, and the sentence that is made of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_run import made_run

from attnreg.errors import AttnregError
from attnreg.records import Record
from attnreg.report.cost import extra_time
from attnreg.report.run import Run, headline, is_distance, scores_of
from attnreg.report.summary import result_of, summarise
from attnreg.statistics import holm


def record(prompt: str, seed: int, method: str, value: float, seconds: float = 1.0, **scores: float) -> Record:
    return Record(prompt, "all", seed, method, "m", f"{prompt}{seed}{method}", seconds, None, {"j/ok": value, **scores})


def run_of(*records: Record) -> Run:
    return Run(records)


TWO = [
    record("p", 0, "none", 0, 2.0), record("p", 1, "none", 0, 2.0), record("q", 0, "none", 1, 2.0),
    record("p", 0, "new", 1, 3.0), record("p", 1, "new", 0, 2.2), record("q", 0, "new", 1, 4.0),
]  # fmt: skip


def test_numbers_by_hand() -> None:
    """Seeds are averaged within a prompt: p goes from 0 to 1/2, q stays at 1."""
    summary = summarise(run_of(*TWO), "m", resamples=500)
    none, new = summary.rows
    assert none.method == "none"
    assert none.compared is None
    assert none.extra is None
    assert (none.mean.value, new.mean.value) == (0.5, 0.75)
    assert new.compared is not None
    assert new.compared.difference.value == 0.25
    assert (new.compared.gained, new.compared.lost) == (1, 0)
    assert (new.compared.wins, new.compared.ties, new.compared.losses) == (1, 1, 0)
    assert (new.pictures, new.prompts) == (3, 2)
    assert new.seconds == pytest.approx((3 + 2.2 + 4) / 3)
    assert new.extra is not None
    assert new.extra.value == pytest.approx(((0.5 + 0.1) / 2 + 1.0) / 2), "mean of the prompts' means 0.3 and 1.0"


def test_a_method_that_drew_a_subset_is_compared_on_that_subset() -> None:
    more = [record("r", 0, "none", 0), record("s", 0, "none", 0)]
    new = summarise(run_of(*TWO, *more), "m", resamples=500).rows[1]
    assert new.compared is not None
    assert new.compared.prompts == 2
    assert new.compared.first.value == 0.5, "the unmodified pictures of the other prompts are left out"


def test_holm_is_over_all_scores_and_methods() -> None:
    run = made_run(10, 2, side=8)
    summary = summarise(run, "pocket", resamples=300)
    found = [c for other in summary.scores for cell in other.cells if cell and (c := cell[1])]
    assert summary.comparisons == len(found) == 4 * 5
    assert [c.p_holm for c in found] == pytest.approx(holm([c.p for c in found]))


def test_without_unmodified_pictures_nothing_is_compared() -> None:
    summary = summarise(run_of(*(r for r in TWO if r.method == "new")), "m", resamples=300)
    assert summary.leader is None
    assert "no pictures of the unmodified model" in result_of(summary)


def many(effect: int, cost: float = 1.5) -> Run:
    """Twelve prompts without (0) and with the method: `effect` of them change to 1, or if negative from 1."""
    base = 0.0 if effect >= 0 else 1.0
    records = []
    for i in range(12):
        changed = i < abs(effect)
        records += [record(str(i), 0, "none", base), record(str(i), 0, "new", abs(base - changed), cost)]
    return run_of(*records)


@pytest.mark.parametrize(
    ("effect", "start", "part"),
    [
        (
            10,
            "With new, j/ok is 83.3_%: +83.3 points over the unmodified model (95_% interval +",
            "for 50_% more time.",
        ),
        (1, "No method is better than the unmodified model beyond chance: the largest difference in j/ok is", "+8.3"),
        (-10, "No method is better", "beyond chance worse than unmodified: new."),
        (0, "No method is better", "is 0.0 points, of new"),
    ],
)
def test_the_result_in_one_sentence(effect: int, start: str, part: str) -> None:
    told = result_of(summarise(many(effect), "m", resamples=500))
    assert told.replace("\N{NO-BREAK SPACE}", "_").startswith(start)
    assert part in told.replace("\N{NO-BREAK SPACE}", "_")
    assert told.count(". ") == 0


def test_a_handful_of_pictures_does_not_head_the_page() -> None:
    run = many(1)
    few = [record(str(i), 0, "lucky", 1.0) for i in range(5)]
    assert ", of new (" in result_of(summarise(run_of(*run.records, *few), "m", resamples=300))


def test_cheaper_is_said_too() -> None:
    assert "for 25\N{NO-BREAK SPACE}% less time" in result_of(summarise(many(10, 0.75), "m", resamples=300))


def test_times_that_are_not_known_are_not_guessed() -> None:
    unknown = [replace(r, seconds=0.0) if r.method == "new" else r for r in TWO]
    row = summarise(run_of(*unknown), "m", resamples=300).rows[1]
    assert row.seconds is None
    assert row.extra is None
    assert extra_time([], TWO) is None


def test_what_seldom_takes_long_is_not_hidden() -> None:
    """Nine pictures in the unmodified time and one in eleven times that: twice the time on average."""
    slow = [record(str(i), 0, "slow", 1, 22.0 if i == 3 else 2.0) for i in range(10)]
    plain = [record(str(i), 0, "none", 1, 2.0) for i in range(10)]
    found = extra_time(slow, plain)
    assert found is not None
    assert found.value == pytest.approx(1.0)
    assert found.low < 1.0 < found.high


def test_which_score_the_report_is_about() -> None:
    records = [record("p", 0, "none", 1, **{"a/all things": 1, "a/x distance": 0.2, "b/ok": 1})]
    assert headline(records) == "a/all things"
    assert headline(TWO) == "j/ok"
    assert headline(records, "all things") == "a/all things"
    assert headline(records, "b/ok") == "b/ok"
    assert scores_of(records, distances=True) == ["a/x distance"]
    assert is_distance("pocket/distance")
    with pytest.raises(AttnregError, match="the run has: j/ok, a/all things, b/ok"):
        headline(records, "ok")  # two judges have one of that name
    with pytest.raises(AttnregError, match="judge the pictures first"):
        headline([Record("p", "", 0, "none", "m", "x", 1.0)])


def test_a_run_must_hold_something_once() -> None:
    with pytest.raises(AttnregError, match="at least one record"):
        run_of()
    with pytest.raises(AttnregError, match="got two of"):
        run_of(TWO[0], TWO[0])
