"""Which pictures a configuration asks for, in which order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from attnreg.errors import AttnregError
from attnreg.evaluation.config import Config
from attnreg.evaluation.prompts.split import fewer
from attnreg.evaluation.spelling import read_method, tidy
from attnreg.evaluation.store import Cell, Store, last_config
from attnreg.measure.asked import Prompt
from attnreg.records import UNMODIFIED


class Held(NamedTuple):
    """What a run knows of its prompts."""

    names: Collection[str]
    """Sets and files that it was last asked for."""
    prompts: Sequence[Prompt]
    """All of its prompts, whatever they are from."""

    def gone(self, config: Config) -> list[str]:
        """Those of a configuration's files that the run was made from and that are not here any more."""
        from attnreg.evaluation.prompts.registry import file_of

        files = {name: file_of(name) for name in config.prompts if name in self.names}
        return [name for name, file in files.items() if file is not None and not file.exists()]


def held_by(folder: str | Path) -> Held | None:
    """What the run in a folder knows of its prompts; `None` if there is no run."""
    if (before := last_config(folder)) is None:
        return None
    names = before["prompts"]
    return Held(names if isinstance(names, list) else [], Store(folder).prompts())


def named_anywhere(config: Config) -> Config:
    """The same, with files of prompts named from the root, so that the run can be taken up from another folder."""
    from attnreg.evaluation.prompts.registry import absolute

    return replace(config, prompts=tuple(dict.fromkeys(map(absolute, config.prompts))))


def prompts_of(config: Config, held: Held | None = None) -> list[Prompt]:
    """The prompts of every set that a configuration names, in order.

    held: what a run holds already; of its files those that are not here any more are not needed again.
    Where a text stands twice, the first counts: the picture is the same. Raises `AttnregError` if a set cannot be had.
    """
    from attnreg.evaluation.prompts.registry import prompt_set

    every: list[Prompt] = []
    for name in config.prompts:
        if held and name in held.gone(config):
            every += held.prompts
        else:
            every += prompt_set(
                name, config.prompt_seed, config.limit, half=config.half, find_things=config.find_things
            )
    return list({prompt.text: prompt for prompt in reversed(every)}.values())[::-1]


def methods_of(config: Config) -> dict[str, int | None]:
    """Each method, tidily written -> how many prompts it is given (`None`: all).

    A subset may be stated for a method with its settings or, for all its settings, by its bare name. Raises
    `AttnregError` for a method that there is not, and for a subset of one that is not asked for.
    """
    limits = {tidy(name): count for name, count in config.subset.items()}
    methods: dict[str, int | None] = {}
    for text in config.methods:
        name, bare = tidy(text), "+".join(part.name for part in read_method(text))
        methods[name] = limits.get(name, limits.get(bare))
    asked = {*methods, *("+".join(part.name for part in read_method(name)) for name in methods)}
    if idle := [name for name in limits if name not in asked]:
        raise AttnregError(
            f"subset: expected methods of the run ({', '.join(methods)}), got {idle[0]!r}; leave it out or add it"
        )
    return methods


def cells_of(config: Config, prompts: Sequence[Prompt]) -> list[Cell]:
    """Every picture asked for: model by model, seed by seed, prompt by prompt, the methods side by side.

    Stopped early, a run holds whole comparisons: every method of a prompt and seed, every prompt of the first seeds.
    """
    methods = methods_of(config)
    chosen = {
        count: {prompt.text for prompt in fewer(prompts, count, config.subset_seed)}
        for count in methods.values()
        if count is not None
    }
    return [
        Cell(prompt.text, seed, method, model)
        for model in config.models
        for seed in config.seeds
        for prompt in prompts
        for method, count in methods.items()
        if count is None or prompt.text in chosen[count]
    ]


def mapped_of(config: Config, prompts: Sequence[Prompt]) -> frozenset[tuple[str, int]]:
    """The prompts, each with the seed, of whose pictures attention maps are kept.

    The lot is that of `subset`: a method that is given a part of the prompts has maps of the same ones as the others.
    """
    if not config.maps:
        return frozenset()
    return frozenset((prompt.text, config.seeds[0]) for prompt in fewer(prompts, config.maps, config.subset_seed))


def unmodified_of(cell: Cell) -> Cell:
    """The picture that the unmodified model draws from the same prompt and seed."""
    return cell._replace(method=UNMODIFIED)


def with_unmodified(cells: Sequence[Cell]) -> list[Cell]:
    """The cells and the unmodified pictures that judges compare them with, each before those that need it."""
    return list(dict.fromkeys(one for cell in cells for one in (unmodified_of(cell), cell)))
