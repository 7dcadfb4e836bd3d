"""What the site is made of, and what is found wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from markdown import Markdown

from website.check import faults
from website.pages import gather, named, navigation, with_blank_lines

PAGE = """<html><head><link rel="stylesheet" href="{style}"></head><body><h1 id="here">x</h1>
<a href="{link}">x</a></body></html>"""


@pytest.mark.parametrize(
    ("link", "style", "fault"),
    [
        ("other.html#here", "site.css", ""),
        ("#here", "site.css", ""),
        ("https://arxiv.org/abs/2403.06381", "site.css", ""),
        ("other.html#nowhere", "site.css", "index.html links to other.html#nowhere: the page has no such place"),
        ("gone.html", "site.css", "index.html links to gone.html: there is no such file"),
        ("http://arxiv.org", "site.css", "index.html links to http://arxiv.org: expected https and a host"),
        ("#here", "https://fonts.org/a.css", "index.html fetches https://fonts.org/a.css"),
    ],
)
def test_links_that_lead_nowhere_are_found(tmp_path: Path, link: str, style: str, fault: str) -> None:
    (tmp_path / "site.css").write_text("p { color: red }")
    (tmp_path / "index.html").write_text(PAGE.format(link=link, style=style))
    (tmp_path / "other.html").write_text(PAGE.format(link="index.html", style="site.css"))
    assert list(faults(tmp_path)) == ([fault] if fault else [])


def test_pages_are_gathered_with_their_links_changed(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    cards = {"pocket": "# pocket\n", "pocket-joint": "# pocket-joint\n"}
    for path in ("docs", "examples", *(f"src/attnreg/models/{name}" for name in cards)):
        (root / path).mkdir(parents=True)
    for path in ("CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "CITATION.cff"):
        (root / path).write_text("x\n")
    for name, card in cards.items():
        (root / f"src/attnreg/models/{name}/README.md").write_text(f"---\nlicense: mit\n---\n{card}")
    (root / "README.md").write_text("[use](docs/use.md#how) [law](LICENSE)\n")
    (root / "docs/use.md").write_text("[card](../src/attnreg/models/pocket/README.md) [back](../README.md)\n")
    assert gather(root, out) == []
    assert (out / "index.md").read_text() == "[use](use.md#how) [law](licence.txt)\n"
    assert (out / "use.md").read_text() == "[card](pocket-card.md) [back](index.md)\n"
    assert {name: (out / f"{name}-card.md").read_text() for name in cards} == cards
    (root / "docs/use.md").write_text("[lost](../setup.py)\n")
    (wrong,) = gather(root, out)
    assert "use.md links to ../setup.py" in wrong


def test_blocks_get_their_blank_lines() -> None:
    assert with_blank_lines("p \\< 0.001\n```\n\\<\n```") == "p &lt; 0.001\n\n```\n\\<\n```"
    text = "words:\n- a\n- b\n```sh\n- not a list\n```\nmore\n| a |\n| - |"
    assert with_blank_lines(text) == "words:\n\n- a\n- b\n\n```sh\n- not a list\n```\n\nmore\n\n| a |\n| - |"
    assert with_blank_lines(with_blank_lines(text)) == with_blank_lines(text)


def test_pages_that_are_not_there_are_left_out_of_the_menu(tmp_path: Path) -> None:
    (tmp_path / "a.md").touch()
    menu = [{"A": "a.md"}, {"More": [{"B": "b.md"}]}, {"Both": [{"A": "a.md"}, "b.md"]}]
    assert navigation(menu, tmp_path) == [{"A": "a.md"}, {"Both": [{"A": "a.md"}]}]
    assert named(menu) == {"a.md", "b.md"}


def test_formulas_become_mathml() -> None:
    made = Markdown(extensions=["website.mathml"]).convert("$m_t$ costs $5 or $6, `$x$` and a_b_c")
    assert made.count("<math") == 1
    assert "<msub>" in made
    assert "costs $5 or $6, <code>$x$</code> and a_b_c" in made
