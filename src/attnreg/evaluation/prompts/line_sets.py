"""Published prompt sets of one prompt a line or row: T2I-CompBench, PartiPrompts, ABC-6K and CC-500."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from attnreg.errors import AttnregError
from attnreg.evaluation.prompts.reading import Place, table, texts
from attnreg.measure.asked import Prompt, Thing

COMPBENCH = ("color", "shape", "texture", "spatial", "3d_spatial", "non_spatial", "numeracy", "complex")
CC_500 = 446
"""How many lines of CC-500.txt are its own; what follows belongs to other sets."""
_CC = re.compile(r"an? (?P<c1>\w+) (?P<n1>.+?) and an? (?P<c2>\w+) (?P<n2>.+?)\.?", re.IGNORECASE)


def compbench(path: Path) -> tuple[Prompt, ...]:
    """T2I-CompBench (Huang et al., 2023): a file such as color_val.txt, or the folder with those of all 8 categories.

    One prompt a line; the category is the file's name without _val or _train. What the prompts name is not in the
    files. Raises `AttnregError` if the folder lacks the validation prompts of a category.
    """
    if not path.is_dir():
        return _compbench_file(path)
    missing = [f"{name}_val.txt" for name in COMPBENCH if not (path / f"{name}_val.txt").is_file()]
    if missing:
        raise AttnregError(
            f"expected T2I-CompBench's validation prompts in {path}, which lacks {', '.join(missing)}; "
            "give examples/dataset of its repository, or one of its files"
        )
    return tuple(prompt for name in COMPBENCH for prompt in _compbench_file(path / f"{name}_val.txt"))


def _compbench_file(path: Path) -> tuple[Prompt, ...]:
    category = re.sub(r"_(val|train)(?=_|$)", "", path.stem)
    return tuple(Prompt(line, category=category) for _, line in texts(path))


def partiprompts(path: Path) -> tuple[Prompt, ...]:
    """PartiPrompts.tsv (Yu et al., 2022): one prompt a row, with the column Category as its category.

    Quotation marks are letters like any other there. Raises `AttnregError` with file and line.
    """
    made = []
    for place, row in table(path, "\t", quoted=False):
        made.append(Prompt(_unquoted(place.text(row, "prompt")).strip(), category=place.text(row, "category")))
    if not made:
        raise Place(path).fault("at least one prompt", "none")
    return tuple(made)


def _unquoted(cell: str) -> str:
    # A cell that a spreadsheet wrote: quotes around it, those within it doubled.
    inner = cell[1:-1]
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def abc_6k(path: Path) -> tuple[Prompt, ...]:
    """ABC-6K.txt (Feng et al., 2022): captions of COCO, each followed by itself with two attributes swapped.

    The categories are "caption" and "swapped". Raises `AttnregError` if the last caption has no partner.
    """
    listed = list(texts(path))
    if len(listed) % 2:
        raise listed[-1][0].fault("every caption followed by its swapped one", "an odd number of lines")
    return tuple(Prompt(line, category=("caption", "swapped")[i % 2]) for i, (_, line) in enumerate(listed))


def cc_500(path: Path) -> tuple[Prompt, ...]:
    """The first 446 lines of CC-500.txt (Feng et al., 2022): "a red apple and a green bench", with both things.

    A line that does not have this form keeps its text alone. The lines after 446 belong to other sets and are left
    out. The category is "same colour" or "two colours", or "" where the things are not known.
    """
    return tuple(_concept_conjunction(line) for _, line in islice(texts(path), CC_500))


def _concept_conjunction(line: str) -> Prompt:
    found = _CC.fullmatch(line)
    if not found:
        return Prompt(line)
    c1, n1, c2, n2 = (found[name].lower() for name in ("c1", "n1", "c2", "n2"))
    return Prompt(line, (Thing(n1, c1), Thing(n2, c2)), category="same colour" if c1 == c2 else "two colours")
