"""What a run is asked for: prompts, methods, models, seeds, judges, and the settings of the drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from attnreg.errors import AttnregError
from attnreg.evaluation.spelling import split_methods
from attnreg.limits import LARGEST, MOST_GUIDANCE, MOST_NAMES, MOST_SIDE, MOST_STEPS
from attnreg.methods import DEFAULT
from attnreg.reading import CONFIGURATION, LONGEST_PATH, text_of, yaml_of
from attnreg.records import UNMODIFIED
from attnreg.seeds import seeds_of
from attnreg.shown import told as shown

Half = Literal["development", "test"]
LISTS = ("prompts", "methods", "models", "seeds", "judges")
"""Fields of which more can be asked of a run; `subset` and `weights` likewise, key by key."""
LEAST = {"limit": 1, "steps": 1, "height": 8, "width": 8}
"""Fields that are whole numbers, and the smallest of each."""
MOST = {"steps": MOST_STEPS, "height": MOST_SIDE, "width": MOST_SIDE}
"""The largest of those that decide what a picture costs; of the others what a database holds."""
DRAWING = ("steps", "guidance_scale", "negative_prompt", "height", "width", "scheduler", "dtype")
"""Fields that decide every picture of a run: they cannot change within one."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a run's pictures and scores. `None` stands for the model's own default.

    What does not decide them (device, executor, folder) is no part of it. Raises `AttnregError` for values that are not
    as described.
    """

    prompts: tuple[str, ...]
    """Prompt sets, as `attnreg.evaluation.prompts.prompt_set` names them, or files."""
    methods: tuple[str, ...] = (UNMODIFIED, DEFAULT)
    """With settings where wished: "attention-regulation(strength=0.5)"."""
    models: tuple[str, ...] = ("pocket",)
    seeds: tuple[int, ...] = (0,)
    judges: tuple[str, ...] = ()
    """Names of `attnreg.measure.judges.JUDGES`."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Judge -> where its weights are (`attnreg.measure.weights.Source`), if not where it looks by itself."""
    limit: int | None = None
    """Of every prompt set, at most so many: each category with its share, drawn from `prompt_seed`."""
    half: Half | None = None
    """Only the development or the test half of every prompt set."""
    prompt_seed: int = 0
    find_things: bool = False
    """Whether prompts of sets that do not say what they name are read for noun phrases."""
    subset: Mapping[str, int] = field(default_factory=dict)
    """Method -> how many of the prompts it is given: a fixed random choice, for methods too slow to draw them all."""
    subset_seed: int = 0
    maps: int = 0
    """Of how many prompts, drawn as a subset is, the attention maps of the first seed's pictures are kept."""
    steps: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    height: int | None = None
    width: int | None = None
    scheduler: str | None = None
    dtype: str = "auto"

    def __post_init__(self) -> None:
        for name, value in checked({one.name: getattr(self, one.name) for one in fields(self)}).items():
            object.__setattr__(self, name, value)

    def drawing(self) -> dict[str, Any]:
        """The settings of the drawing."""
        return {name: getattr(self, name) for name in DRAWING}

    def as_json(self) -> dict[str, Any]:
        """A plain object that `config_of` reads back."""
        return {
            name: list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
            for name, value in asdict(self).items()
        }

    def with_these(self, **given: Any) -> Config:
        """The same, with what is given in the place of what was there.

        Args:
            given: fields and their new values.

        Returns:
            A new configuration.

        Raises:
            AttnregError: a value is not as described.
        """
        return replace(self, **checked(given))

    def with_more(self, **given: Any) -> Config:
        """The same, with what is given added to the lists, and put in the place of everything else.

        Args:
            given: fields and their values.

        Returns:
            A new configuration.

        Raises:
            AttnregError: a value is not as described.
        """
        given = checked(given)
        for name, value in given.items():
            before = getattr(self, name)
            if name in LISTS:
                given[name] = tuple(dict.fromkeys((*before, *value)))
            elif isinstance(before, Mapping):
                given[name] = {**before, **value}
        return replace(self, **given)


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Some fields of a configuration, as a file or a command line gives them, in their proper types.

    Raises `AttnregError` for a value that is not as `Config` describes it.
    """
    clean = dict(given)
    for name, value in given.items():
        if name in ("prompts", "models", "judges"):
            clean[name] = _texts(name, value)
        elif name == "methods":
            clean[name] = tuple(dict.fromkeys(one for text in _texts(name, value) for one in split_methods(text)))
        elif name == "seeds":
            clean[name] = seeds_of(value)
        elif name in LEAST:
            _whole(name, value, LEAST[name])
        elif name in ("prompt_seed", "subset_seed", "maps"):
            _whole(name, value, 0, needed=True)
        elif name == "guidance_scale" and value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_GUIDANCE:
                raise AttnregError(
                    f"{name}: expected a number from 0 on, got {shown(value)}; give one of at most {MOST_GUIDANCE:,.0f}"
                )
            clean[name] = float(value)
        elif name == "half" and value not in (None, *get_args(Half)):
            raise AttnregError(f"half: expected development or test, got {shown(value)}; leave it out to take both")
        elif name == "find_things" and not isinstance(value, bool):
            raise AttnregError(f"{name}: expected true or false, got {shown(value)}; choose one of them")
        elif name in ("negative_prompt", "scheduler", "dtype") and not isinstance(value, str | None):
            raise AttnregError(f"{name}: expected a text, got {shown(value)}; put it in quotes")
        elif name in ("subset", "weights"):
            if not isinstance(value, Mapping):
                raise AttnregError(
                    f"{name}: expected names with values, got {shown(value)}; "
                    "write for example {attend-and-excite: 30}"
                )
            if name == "weights" and not all(isinstance(one, str) for one in value.values()):
                raise AttnregError(f"{name}: expected a place of each judge, got {shown(value)}; put it in quotes")
            clean[name] = {str(key): one for key, one in value.items()}
        if name in ("height", "width") and value is not None and value % 8:
            raise AttnregError(f"{name}: expected a multiple of 8 pixels, got {value}; try {round(value / 8) * 8}")
        if name in ("prompts", "methods", "models", "seeds") and not clean[name]:
            raise AttnregError(f"{name}: expected at least one, got none; name one")
    for method, count in clean.get("subset", {}).items():
        _whole(f"subset: {method}", count, 1, needed=True)
    return clean


def config_of(told: object, where: str) -> Config:
    """A configuration from a plain object. Raises `AttnregError` that names `where` it is from."""
    known = [one.name for one in fields(Config)]
    if not isinstance(told, Mapping) or "prompts" not in told:
        raise AttnregError(f"expected a configuration with prompts: and perhaps {', '.join(known[1:])}, in {where}")
    if unknown := [str(name) for name in told if name not in known]:
        raise AttnregError(f"expected settings of a run ({', '.join(known)}) in {where}, got {unknown[0]!r}")
    try:
        return Config(**checked(told))
    except AttnregError as error:
        raise AttnregError(f"{where}: {error}") from error


def read_config(path: Path) -> Config:
    """The configuration in a YAML file.

    Args:
        path: the file.

    Returns:
        The configuration.

    Raises:
        AttnregError: the file cannot be read, or holds something else.
    """
    told = yaml_of(text_of(path, "a YAML file with a run's configuration", CONFIGURATION.bytes), str(path))
    return config_of(told, str(path))


def _texts(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence) or not all(isinstance(one, str) and one for one in value):
        raise AttnregError(f"{name}: expected a name or a list of names, got {shown(value)}; write for example [a, b]")
    if len(value) > MOST_NAMES or max(map(len, value), default=0) > LONGEST_PATH:
        raise AttnregError(
            f"{name}: expected at most {MOST_NAMES:,} names of {LONGEST_PATH:,} letters, got {len(value):,}, the first "
            f"{shown(value[0], 60)}; give fewer"
        )
    return tuple(dict.fromkeys(value))


def _whole(name: str, value: object, least: int, *, needed: bool = False) -> None:
    if value is None and not needed:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise AttnregError(f"{name}: expected a whole number of at least {least}, got {shown(value)}; give one")
    if value > (most := MOST.get(name, LARGEST)):
        raise AttnregError(f"{name}: expected at most {most}, got {shown(value)}; give fewer")
