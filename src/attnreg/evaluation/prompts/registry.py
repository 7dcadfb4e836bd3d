"""PROMPT_SETS, and the one function that turns a name or a path into prompts."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attnreg.errors import AttnregError
from attnreg.evaluation.prompts import (
    attend_and_excite,
    coco,
    divide_and_bind,
    geneval,
    line_sets,
    plain,
    question_sets,
    similar,
    small_model,
    visual_modifiers,
)
from attnreg.evaluation.prompts.found import with_things
from attnreg.evaluation.prompts.split import fewer, halves
from attnreg.measure.asked import Prompt
from attnreg.models.about import BUNDLED, POCKET_NAME, folder_of
from attnreg.reading import path_of

Takes = Literal["parts", "model", "file"]


@dataclass(frozen=True)
class PromptSet:
    """A row of `PROMPT_SETS`."""

    make: Callable[[int, str], tuple[Prompt, ...]]
    """Seed and what stands after the colon -> prompts."""
    takes: Takes
    """What may stand after the colon: parts of the set, a model directory, or (it must) a file or folder."""
    summary: str
    paper: str = ""
    licence: str = "MIT"
    """Of the prompts: of those written here the package's own, of a file that of its authors."""
    parts: tuple[str, ...] = ()
    """What may be chosen of it, for sets that take parts."""


def _parts(text: str, known: Sequence[str], name: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [part for part in chosen if part not in known]
    if unknown:
        raise AttnregError(
            f"expected parts of {name} ({', '.join(known)}), got {unknown[0]!r}; separate them by commas"
        )
    return chosen


def _attend_and_excite(seed: int, text: str) -> tuple[Prompt, ...]:
    chosen = _parts(text, _AE_PARTS, "attend-and-excite") if text else ()
    parts = tuple(part for part in chosen if part != "articles") or attend_and_excite.PARTS
    return attend_and_excite.attend_and_excite(seed, parts, articles="articles" in chosen)


def _divide_and_bind(seed: int, text: str) -> tuple[Prompt, ...]:
    known = tuple(divide_and_bind.SIZES)
    return divide_and_bind.divide_and_bind(seed, _parts(text, known, "divide-and-bind") if text else known)


def _similar(_: int, text: str) -> tuple[Prompt, ...]:
    sizes = {"two": 2, "three": 3}
    return similar.similar_subjects(
        [sizes[part] for part in (_parts(text, tuple(sizes), "similar-subjects") if text else sizes)]
    )


def _of_model(make: Callable[..., tuple[Prompt, ...]], *, seeded: bool = True) -> Callable[..., tuple[Prompt, ...]]:
    def prompts(seed: int, text: str) -> tuple[Prompt, ...]:
        folder = folder_of(text or POCKET_NAME)
        return make(seed, folder) if seeded else make(folder)

    return prompts


def _of_file(read: Callable[[Path], tuple[Prompt, ...]]) -> Callable[[int, str], tuple[Prompt, ...]]:
    return lambda _, text: read(path_of(text))


_AE_PARTS = (*attend_and_excite.PARTS, "articles")
PROMPT_SETS: dict[str, PromptSet] = {
    "attend-and-excite": PromptSet(
        _attend_and_excite, "parts", "66 animal pairs, 144 animals with objects, 66 coloured object pairs",
        "Chefer et al., SIGGRAPH 2023, arXiv:2301.13826", parts=_AE_PARTS,
    ),
    "divide-and-bind": PromptSet(
        _divide_and_bind, "parts", "pairs, coloured pairs, both in scenes, several of a kind: 278 prompts",
        "Li et al., BMVC 2023, arXiv:2307.10864", parts=tuple(divide_and_bind.SIZES),
    ),
    "visual-modifiers": PromptSet(
        lambda seed, _: visual_modifiers.visual_modifiers(seed), "parts",
        "one to three phrases of up to two modifiers (DVMP): 600 prompts",
        "Rassin et al., NeurIPS 2023, arXiv:2306.08877",
    ),
    "similar-subjects": PromptSet(
        _similar, "parts", "two or three animals that look alike, as SSD-2 and SSD-3: 53 prompts",
        "Qiu et al., CVPR 2025, arXiv:2411.18936", parts=("two", "three"),
    ),
    "unseen-pairs": PromptSet(
        _of_model(small_model.unseen_pairs), "model", "every pair that the bundled model's training never showed"
    ),
    "seen-pairs": PromptSet(
        _of_model(small_model.seen_pairs), "model", "every pair that the bundled model's training may have shown"
    ),
    "three-things": PromptSet(
        _of_model(small_model.three_things), "model", "three things that it was never shown together: 100 prompts"
    ),
    "four-things": PromptSet(
        _of_model(small_model.four_things), "model", "four things that it was never shown together: 100 prompts"
    ),
    "single-things": PromptSet(
        _of_model(small_model.single_things, seeded=False), "model", "each thing that the bundled model knows"
    ),
    "coloured-things": PromptSet(
        _of_model(small_model.coloured_things, seeded=False), "model", "each object in each colour it knows"
    ),
    "geneval": PromptSet(
        _of_file(geneval.geneval), "file", "evaluation_metadata.jsonl: counts, colours, positions",
        "Ghosh et al., NeurIPS 2023, arXiv:2310.11513",
    ),
    "compbench": PromptSet(
        _of_file(line_sets.compbench), "file", "T2I-CompBench: color_val.txt and so on, or their folder",
        "Huang et al., NeurIPS 2023, arXiv:2307.06350",
    ),
    "partiprompts": PromptSet(
        _of_file(line_sets.partiprompts), "file", "PartiPrompts.tsv", "Yu et al., 2022, arXiv:2206.10789", "Apache-2.0"
    ),
    "abc-6k": PromptSet(
        _of_file(line_sets.abc_6k), "file", "ABC-6K.txt: captions with two attributes swapped",
        "Feng et al., ICLR 2023, arXiv:2212.05032", "MIT; captions CC BY 4.0",
    ),
    "cc-500": PromptSet(
        _of_file(line_sets.cc_500), "file", "CC-500.txt: two coloured things",
        "Feng et al., ICLR 2023, arXiv:2212.05032", "MIT; captions CC BY 4.0",
    ),
    "dsg": PromptSet(
        _of_file(question_sets.dsg), "file", "dsg-1k-anns.csv: yes/no questions that depend on one another",
        "Cho et al., ICLR 2024, arXiv:2310.18235", "its authors'",
    ),
    "tifa": PromptSet(
        _of_file(question_sets.tifa), "file", "tifa_v1.0_question_answers.json: questions with choices",
        "Hu et al., ICCV 2023, arXiv:2303.11897", "its authors'",
    ),
    "coco": PromptSet(
        _of_file(coco.coco), "file", "captions_*.json with instances_*.json: captions of two salient objects",
        "Lin et al., ECCV 2014, arXiv:1405.0312", "CC BY 4.0",
    ),
    "coco-attributes": PromptSet(
        _of_file(coco.coco_attributes), "file", "the same, only captions that give an object a colour",
        "Lin et al., ECCV 2014, arXiv:1405.0312", "CC BY 4.0",
    ),
}  # fmt: skip
"""Name -> how it is made and where it comes from. Those that read a file need its path: "geneval:PATH"."""

READERS: dict[str, Callable[[Path], tuple[Prompt, ...]]] = {
    ".txt": plain.read_text,
    ".csv": plain.read_table,
    ".tsv": plain.read_table,
    ".jsonl": plain.read_json,
    ".json": plain.read_json,
}
"""How a file of the user's own is read, by its suffix."""


def prompt_set(
    name: str, seed: int = 0, limit: int | None = None, *, half: str | None = None, find_things: bool = False
) -> tuple[Prompt, ...]:
    """The prompts of a name or path; the same arguments and files give the same prompts, always.

    Args:
        name: "attend-and-excite", of some sets with parts ("attend-and-excite:objects,articles"); "unseen-pairs",
            perhaps with another model directory than the bundled one ("unseen-pairs:/path"); "geneval:/path" and the
            other rows that read a published file; or the path of a file of your own: .txt, .csv, .tsv, .jsonl, .json.
        seed: decides colours and other chances of the set, the halves, and which are taken where not all are.
        limit: at most so many (`fewer`).
        half: "development" or "test" (`halves`); taken before the limit.
        find_things: whether prompts whose set does not list its things are given those found as noun phrases.

    Returns:
        The prompts, in the set's order.

    Raises:
        AttnregError: the name is neither, or a file is not as it should be.
    """
    prompts = _resolve(name, seed)
    if half is not None:
        if half not in ("development", "test"):
            raise AttnregError(f"expected the half 'development' or 'test', got {half!r}; leave it out to take both")
        prompts = getattr(halves(prompts, seed), half)
    if limit is not None:
        prompts = fewer(prompts, limit, seed)
    return with_things(prompts) if find_things else prompts


def file_of(name: str) -> Path | None:
    """The file or folder that a name of prompts is read from; `None` for sets that are made here."""
    key, _, rest = name.partition(":")
    if key in PROMPT_SETS:
        takes = PROMPT_SETS[key].takes
        read = takes == "file" or (takes == "model" and rest not in BUNDLED)
        return path_of(rest) if rest and read else None
    path = path_of(name)
    return path if path.suffix.lower() in READERS else None


def absolute(name: str) -> str:
    """The same name of prompts, with the file in it named from the root: it means the same wherever it is said."""
    file, key = file_of(name), name.partition(":")[0]
    if file is None:
        return name
    return f"{key}:{file.absolute()}" if key in PROMPT_SETS else str(file.absolute())


def _resolve(name: str, seed: int) -> tuple[Prompt, ...]:
    key, colon, rest = name.partition(":")
    row = PROMPT_SETS.get(key)
    if row is None:
        path = path_of(name)
        if path.suffix.lower() in READERS:
            return READERS[path.suffix.lower()](path)
        close = difflib.get_close_matches(key, PROMPT_SETS, n=1)
        raise AttnregError(
            f"expected the name of a prompt set or a file that ends in {', '.join(READERS)}, got {name!r}; "
            + (f"did you mean {close[0]!r}? " if close else "")
            + f"names: {', '.join(PROMPT_SETS)}"
        )
    if row.takes == "file" and not rest:
        raise AttnregError(f"expected a path after {key!r}, as in {key}:PATH, got {name!r}; it reads: {row.summary}")
    if rest and row.takes == "parts" and not row.parts:
        raise AttnregError(f"expected {key!r} alone, for it has no parts, got {name!r}")
    if colon and not rest:
        raise AttnregError(f"expected something after the colon, or no colon, got {name!r}")
    return row.make(seed, rest)
