"""Everything that can be known to be wrong before the first picture is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from attnreg.errors import AttnregError
from attnreg.evaluation.config import Config
from attnreg.evaluation.places import run_folder
from attnreg.evaluation.tasks import OpenJudge
from attnreg.limits import MOST_AT_ONCE
from attnreg.measure.asked import Prompt
from attnreg.measure.judge import Judge
from attnreg.models.about import ABOUT, About, about, folder_of
from attnreg.shown import told as shown

SAMPLE_BYTES = 1 << 20
OF_CHECKPOINTS = 64
"""How many samples of a single checkpoint are looked at."""


def check_call(folder: object, executor: object, workers: object, batch: object) -> None:
    """Raises `AttnregError` unless the arguments of `attnreg.evaluation.bench.run` are as it describes them."""
    run_folder(folder)
    if executor not in ("local", "ray"):
        raise AttnregError(f"executor: expected local or ray, got {shown(executor)}; choose one of them")
    for name, value, needed in (("workers", workers, False), ("batch", batch, True)):
        if value is None and not needed:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_AT_ONCE:
            raise AttnregError(f"{name}: expected a whole number from 1 to {MOST_AT_ONCE:,}, got {shown(value)}")


def check_models(config: Config, prompts: Sequence[Prompt]) -> dict[str, str]:
    """Each model's digest; a hub id's is empty.

    Raises `AttnregError` if a model is not one that opens, or does not know a word of a prompt.
    """
    from attnreg.models.load import SCHEDULERS, check_model

    if config.scheduler is not None and config.scheduler not in SCHEDULERS:
        raise AttnregError(f"expected a scheduler of {', '.join(SCHEDULERS)}, got {config.scheduler!r}; choose one")
    digests = {}
    for model in config.models:
        place = check_model(model)
        check_words(about(folder_of(model)), prompts)
        digests[model] = fingerprint(place) if place else ""
    return digests


def check_words(told: About | None, prompts: Sequence[Prompt]) -> None:
    """Raises `AttnregError` if a model that says its words does not know one of a prompt."""
    if told:
        for prompt in prompts:
            told.check_words(prompt.text)


def check_judges(config: Config, prompts: Sequence[Prompt], open_judge: OpenJudge) -> dict[str, bool]:
    """Each judge, and whether it compares with the unmodified picture.

    Every judge is opened once and let go: what it needs must be there, but its memory is not to be counted as the
    drawing's. Raises `AttnregError` if a judge cannot be opened, or cannot judge one of the prompts.
    """
    if idle := [name for name in config.weights if name not in config.judges]:
        raise AttnregError(
            f"weights: expected judges of the run ({', '.join(config.judges) or 'there are none'}), got {idle[0]!r}"
        )
    compares = {}
    for name in config.judges:
        judge = open_judge(name, config.weights.get(name, ""))
        _check(name, judge, prompts)
        compares[name] = judge.needs_unmodified
    return compares


def _check(name: str, judge: Judge, prompts: Sequence[Prompt]) -> None:
    try:
        judge.check(prompts)
    except AttnregError as error:
        raise AttnregError(f"judge {name}: {error}") from error


def fingerprint(place: Path) -> str:
    """A digest of a model's folder: names and sizes of its files, and the first and last mebibyte of each.

    Weights that were trained on differ everywhere, so that this tells them apart without reading gigabytes. The card
    decides no picture and is left out, and of the model's own account only the settings that it is drawn with count.
    Of a single checkpoint, whatever it is called, mebibytes all over it: merged models share some of their weights.
    """
    told = about(place)
    found = hashlib.sha256(f"{told.steps} {told.guidance_scale}".encode() if told else b"")
    if place.is_file():
        _add(found, "", place, OF_CHECKPOINTS)
        return found.hexdigest()
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        name = path.relative_to(place)
        if any(part.startswith(".") or part == "__pycache__" for part in name.parts):
            continue
        if path.suffix == ".md" or path.name == ABOUT:
            continue
        _add(found, name.as_posix(), path)
    return found.hexdigest()


def _add(found: hashlib._Hash, name: str, path: Path, samples: int = 2) -> None:
    size = path.stat().st_size
    found.update(f"{name} {size}\n".encode())
    with path.open("rb") as file:
        for i in range(samples):
            file.seek(max(0, size - SAMPLE_BYTES) * i // (samples - 1))
            found.update(file.read(SAMPLE_BYTES))


def facts_of(config: Config, digests: Mapping[str, str]) -> dict[str, object]:
    """What must not change within a run: the settings of the drawing, the digests of the models."""
    return {
        "drawing": config.drawing(),
        **{f"weights of {model}": digest for model, digest in digests.items() if digest},
    }
