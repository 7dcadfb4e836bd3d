"""Which pictures a configuration asks for, in which order."""

from __future__ import annotations

from collections.abc import Sequence

from attnreg.errors import AttnregError
from attnreg.evaluation.config import Config
from attnreg.evaluation.prompts.split import fewer
from attnreg.evaluation.spelling import read_method, tidy
from attnreg.evaluation.store import Cell
from attnreg.measure.asked import Prompt
from attnreg.records import UNMODIFIED


def prompts_of(config: Config) -> list[Prompt]:
    """The prompts of every set that a configuration names, in order.

    Where a text stands twice, the first counts: the picture is the same. Raises `AttnregError` if a set cannot be had.
    """
    from attnreg.evaluation.prompts.registry import prompt_set

    every = [
        prompt
        for name in config.prompts
        for prompt in prompt_set(
            name, config.prompt_seed, config.limit, half=config.half, find_things=config.find_things
        )
    ]
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
