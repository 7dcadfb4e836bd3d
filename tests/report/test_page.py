"""The page: complete, safe, the same every time, and made without torch."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_run import METHODS, made_run

from attnreg.errors import AttnregError
from attnreg.report.page import page
from attnreg.report.run import Key, Run
from attnreg.report.sheets import changes, drawn_prompts, most_changed
from attnreg.report.wishes import Wishes

QUICK = Wishes(resamples=300, sheets=2, extremes=2, seeds=2)
VOID = {"meta", "link", "img", "br", "col", "wbr", "circle", "rect", "path", "line"}


class Seen(HTMLParser):
    """What a page consists of; raises if a tag is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str, name: str) -> list[str]:
        return [attrs[name] or "" for one, attrs in self.attributes if one == tag and name in attrs]


@pytest.fixture(scope="module")
def run() -> Run:
    return made_run(6, 3, tuple(METHODS)[:4], side=32)


@pytest.fixture(scope="module")
def made(run: Run) -> str:
    return page(run, QUICK)


@pytest.fixture(scope="module")
def seen(made: str) -> Seen:
    return Seen(made)


def test_every_part_is_there(seen: Seen) -> None:
    assert seen.open == []
    ids = [attrs["id"] for _, attrs in seen.attributes if "id" in attrs]
    assert len(set(ids)) == len(ids)
    parts = ("summary", "cost", "categories", "scores", "moved", "sheets", "attention", "failures", "made")
    assert set(parts) <= set(ids)
    links = [link for link in seen.all("a", "href") if link.startswith("#")]
    assert {link[1:] for link in links} <= set(ids)
    assert seen.tags["h1"] == 1


def test_it_needs_nothing_else(made: str, seen: Seen) -> None:
    """No script, no style, font or picture from elsewhere: every source is inside the file."""
    assert seen.tags["script"] == seen.tags["iframe"] == 0
    assert all(src.startswith("data:image/") for src in seen.all("img", "src"))
    assert seen.all("link", "href") == ["data:,"]
    assert not re.search(r"@import|url\(|https?:", made)


def test_every_picture_is_described(seen: Seen) -> None:
    alts = seen.all("img", "alt")
    assert len(alts) == seen.tags["img"] > 20
    assert all(alts)
    assert any(re.fullmatch(r"“.+” drawn with attention-regulation, seed 1: (not )?all things", alt) for alt in alts)
    assert all("aria-label" in attrs or "aria-hidden" in attrs for tag, attrs in seen.attributes if tag == "svg")


def test_tables_can_be_listened_to(seen: Seen) -> None:
    assert seen.tags["caption"] == seen.tags["table"] > 5
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in seen.attributes if tag == "th")


def test_the_same_run_gives_the_same_page(run: Run, made: str) -> None:
    assert page(run, QUICK) == made


def test_nothing_from_a_run_is_markup(run: Run) -> None:
    """Prompts, methods, errors and configurations of strangers are text."""
    evil = '<img src=x onerror="alert(1)">&\'"'
    renamed = [replace(r, prompt=r.prompt + evil, category=evil, model=evil) for r in run.records]
    failures = [replace(one, error=evil, prompt=evil) for one in run.failures]
    attention = {Key(k.prompt + evil, k.seed, k.method, evil): {evil: (0.1, 0.2)} for k in run.attention}
    spoilt = replace(
        run, records=renamed, failures=failures, title=evil, command=evil, config={evil: evil}, versions={evil: evil},
        attention=attention, maps={},
    )  # fmt: skip
    made = page(spoilt, QUICK)
    assert "<img src=x" not in made
    seen = Seen(made)
    assert seen.open == []
    assert not [attrs for _, attrs in seen.attributes if "onerror" in attrs]
    assert any(evil in words for words in seen.words)


def test_prompts_with_maps_are_shown_though_the_lot_did_not_meet_them(run: Run) -> None:
    sheets = drawn_prompts(run.records, QUICK.sheets, [])
    maps = {key: told for key, told in run.maps.items() if key.seed == 1 and key.prompt not in sheets}
    unseen = next(iter(maps)).prompt
    few = replace(run, maps={key: told for key, told in maps.items() if key.prompt == unseen})

    def overlays(made: str) -> list[str]:
        alts = [str(attrs.get("alt")) for tag, attrs in Seen(made).attributes if tag == "img"]
        return [alt for alt in alts if alt.startswith("Attention of")]

    made = page(few, QUICK)
    things = list(next(iter(few.maps.values())))
    assert overlays(made) == [
        f"Attention of “{thing}” {when} the edit, over the picture" for thing in things for when in ("before", "after")
    ]
    attention = made[made.index('id="attention') :]
    assert attention.index(unseen) < attention.index("seed 1") < attention.index(sheets[0]), "its seed with maps"
    assert sheets[1] not in attention, "as many prompts as there are sheets"
    assert "one scale for before and after" in made
    named = page(few, replace(QUICK, prompts=tuple(sheets)))
    assert overlays(named) == []
    assert "one scale for before and after" not in named


def test_the_file_stays_small(run: Run) -> None:
    assert len(page(run, replace(QUICK, budget=40_000))) < 40_000 * 4 / 3 + 120_000


def test_lost_pictures_are_said_to_be_lost(run: Run) -> None:
    first = run.records[0].picture
    lost = page(replace(run, picture=lambda sha: None if sha == first else b"damaged", maps={}), QUICK)
    assert "picture not readable" in lost
    assert "of this page could not be read from the run" in lost
    assert Seen(lost).tags["img"] == 0


def test_a_run_that_is_not_complete_says_so(run: Run) -> None:
    assert "12 pictures still to be drawn" in page(replace(run, left=12), QUICK)


def test_several_models_have_a_part_each(run: Run) -> None:
    other = [replace(record, model="other") for record in run.records if record.method != "attend-and-excite"]
    seen = Seen(page(replace(run, records=[*run.records, *other]), QUICK))
    ids = [attrs["id"] for _, attrs in seen.attributes if "id" in attrs]
    assert {"summary-0", "summary-1", "sheets-1"} <= set(ids)
    assert len(set(ids)) == len(ids)
    assert "Summary: other" in seen.words


@pytest.mark.parametrize("keep", [("none",), ("attention-regulation",)])
def test_a_run_of_one_method(run: Run, keep: tuple[str, ...]) -> None:
    """Nothing to compare: no plot, no best and worst, and no error."""
    alone = replace(run, records=[r for r in run.records if r.method in keep], attention={}, maps={})
    seen = Seen(page(alone, QUICK))
    ids = {attrs.get("id") for _, attrs in seen.attributes}
    assert {"summary", "sheets"} <= ids
    assert not {"cost", "moved", "attention"} & ids


def test_a_single_prompt_has_no_interval(run: Run) -> None:
    first = run.records[0].prompt
    seen = Seen(page(replace(run, records=[r for r in run.records if r.prompt == first]), QUICK))
    assert "not known" in seen.words
    assert not any("inf" in word.split() or "nan" in word for word in seen.words)
    drawn = [attrs for tag, attrs in seen.attributes if tag == "line" and attrs["class"] in ("bar", "whisker")]
    assert drawn
    assert all(attrs["x1"] == attrs["x2"] or attrs["y1"] == attrs["y2"] for attrs in drawn)
    whiskers = [attrs for attrs in drawn if attrs["class"] == "whisker"]
    assert all(attrs["x1"] == attrs["x2"] for attrs in whiskers), "no length that nobody knows"


def test_scores_that_are_not_yes_or_no(run: Run) -> None:
    made = page(run, replace(QUICK, score="full prompt"))
    assert "clip/full prompt" in made
    assert "Gained / lost" not in re.sub(r"<section id=.made.*", "", made, flags=re.S)


def test_sheets_are_drawn_by_lot_or_named(run: Run) -> None:
    drawn = drawn_prompts(run.records, 3)
    assert drawn == drawn_prompts(run.records[::-1][::-1], 3)
    assert len({r.category for r in run.records if r.prompt in drawn}) == 3, "the categories take turns"
    asked = (run.records[-1].prompt, run.records[0].prompt)
    assert drawn_prompts(run.records, 3, asked) == list(asked)
    with pytest.raises(AttnregError, match="none of its 6"):
        drawn_prompts(run.records, 3, ("a unicorn",))


def test_best_and_worst_prompts(run: Run) -> None:
    found = changes(run.records, "attention-regulation", "pocket/all things")
    by_hand = {
        prompt: sum(
            (1 if r.method == "attention-regulation" else -1) * r.scores["pocket/all things"] / 3
            for r in run.records
            if r.prompt == prompt and r.method in ("none", "attention-regulation")
        )
        for prompt in {r.prompt for r in run.records}
    }
    assert {one.prompt: pytest.approx(one.difference) for one in found} == by_hand
    best, worst = most_changed(found, 10, True), most_changed(found, 10, False)
    assert all(one.difference > 0 for one in best)
    assert all(one.difference < 0 for one in worst)
    assert best == sorted(best, key=lambda one: -one.difference)


def test_without_torch(tmp_path: Path) -> None:
    """A report is made where there is no torch, nor anything that needs it."""
    program = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "diffusers", "transformers"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
sys.path.insert(0, {str(Path(__file__).parent)!r})
from made_run import made_run
from attnreg.report import layouts, tables, trackers
from attnreg.report.page import page
from attnreg.report.wishes import Wishes
print(len(page(made_run(2, 1, side=8), Wishes(resamples=200))))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10_000


def test_without_jinja_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(AttnregError, match="expected jinja2"):
        page(run, QUICK)
