"""Prompt files as web UIs read them: the prompt is taken, and what is not taken is told."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from attnreg.errors import AttnregError
from attnreg.evaluation.prompts.plain import write
from attnreg.evaluation.prompts.registry import prompt_set
from attnreg.measure.asked import Prompt


def texts(path: Path, content: str) -> list[str]:
    path.write_text(content)
    return [prompt.text for prompt in prompt_set(str(path))]


def test_prompts_among_options(tmp_path: Path) -> None:
    """The example of the web UI's own documentation, and a prompt alone between the two."""
    content = (
        '--prompt "photo of sunset" --negative_prompt "orange, pink, red, sea, water, lake" --width 1024 --height 768\n'
        "a cat and a dog\n"
        '--steps 10 --prompt "a cat\'s \\"hat\\""\n'
    )
    with pytest.warns(UserWarning, match="only the prompts are taken") as told:
        found = texts(tmp_path / "a.txt", content)
    assert found == ["photo of sunset", "a cat and a dog", 'a cat\'s "hat"']
    (one,) = told
    text = str(one.message)
    assert "only the prompts are taken, not negative_prompt, width, height, steps;" in text
    assert text.endswith("give it --negative-prompt, --width, --height, --steps")
    assert "a.txt" in text
    assert "\n" not in text


def test_words_without_quotes_go_on_until_the_next_option(tmp_path: Path) -> None:
    content = "--prompt a red cat --negative_prompt blurry, bad --seed 3\n--prompt a dog\n"
    with pytest.warns(UserWarning, match="not negative_prompt, seed;"):
        assert texts(tmp_path / "a.txt", content) == ["a red cat", "a dog"]


@pytest.mark.parametrize("content", ["a cat --ar 16:9", 'a man "without" a hat', "it's --prompt", '--prompt "a cat"'])
def test_nothing_is_told_where_nothing_is_left_out(content: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = "a cat" if content.startswith("--") else content
        assert texts(tmp_path / "a.txt", content) == [expected]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('--prompt "a cat', r"quotes closed, got No closing quotation: --prompt"),
        ("--promt cat", r'--prompt "\.\.\." and options of a web UI, got --promt'),
        ("--steps 20", r"the field 'prompt', got the fields steps"),
        ('--prompt ""', r"a text as 'prompt', got ''"),
        ("--prompt a --prompt b", "--prompt once"),
        ("--prompt", "a value after --prompt"),
        ("--prompt a --steps 20 30", "one value after --steps, got 20 30"),
    ],
)
def test_a_line_that_is_no_list_of_options(line: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match=rf"a\.txt, line 2: expected .*{told}") as error:
        texts(tmp_path / "a.txt", f"a cat\n{line}\n")
    assert "\n" not in str(error.value)


def test_a_prompt_that_looks_like_options_is_not_written_to_lines(tmp_path: Path) -> None:
    """It would be read as something else."""
    with pytest.raises(AttnregError, match=r"write \.csv or \.jsonl"):
        write([Prompt("--no dog")], tmp_path / "a.txt")
    write([Prompt("--no dog")], tmp_path / "a.csv")
    assert prompt_set(str(tmp_path / "a.csv")) == (Prompt("--no dog"),)
