"""How far the pictures of each method of a run lie, as a set, from the unmodified model's or from a folder's."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError

from attnreg.errors import AttnregError
from attnreg.evaluation.set_distances import DISTANCES, FEWEST, RESAMPLES, distance_between, floor_of
from attnreg.evaluation.store import Store
from attnreg.measure.distributions import Matrix
from attnreg.measure.features import Features
from attnreg.records import UNMODIFIED, Record
from attnreg.report.layouts import ENDINGS
from attnreg.statistics import Interval

AT_A_TIME = 64
"""Pictures that are open at once: those of a large model would not all fit."""


@dataclass(frozen=True)
class SetDistance:
    """The pictures of one method and model, and how far they lie from their reference."""

    model: str
    method: str
    pictures: int
    prompts: int
    left_out: int
    """Pictures without an unmodified one of the same prompt and seed."""
    reference: int
    """Pictures of the reference: of the same prompts and seeds, or of the whole folder."""
    channels: int
    distances: Mapping[str, Interval]
    floors: Mapping[str, Interval]
    """The same distances between two random halves of that reference."""


def distances_of_run(
    store: Store, features: Features, names: Sequence[str], reference: Path | None = None, *,
    resamples: int = RESAMPLES, seed: int = 0, skip: Callable[[AttnregError], None] | None = None,
) -> list[SetDistance]:  # fmt: skip
    """One `SetDistance` for every method and model of a run, in the order of its records.

    names: which of `DISTANCES`. reference: a folder of pictures; without one, the unmodified pictures of the prompts
    and seeds that the method has too, and the unmodified model itself gets no row. Nothing is written to the run.
    skip: is told of every method with too few pictures, which is left out unless all are; without it that is an error.

    Raises `AttnregError` if there are too few pictures, no unmodified ones, or one is lost, damaged or no picture.
    """
    records = store.records()
    if not records:
        raise AttnregError(f"expected a run with pictures, got {store.folder} without; draw some first")
    sets: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        sets.setdefault((record.model, record.method), []).append(record)
    plans: list[Plan] = []
    refused: list[AttnregError] = []
    for (model, method), each in sets.items():
        if reference or method != UNMODIFIED:
            try:
                plans.append(_alone(each) if reference else _matched(each, sets.get((model, UNMODIFIED), [])))
            except AttnregError as error:
                refused.append(error)
    if refused and not (skip and plans):
        raise refused[0]
    for reason in refused:
        assert skip
        skip(reason)
    if not plans:
        raise AttnregError(
            f"expected methods to compare with {UNMODIFIED}, got {UNMODIFIED} alone; add a method, or give a folder "
            "with --reference"
        )
    outside = _of_folder(reference, features) if reference else None
    rows = _of_run(store, features, [one for ours, theirs, _ in plans for one in (*ours, *theirs)])
    floors: dict[tuple[str, ...], Mapping[str, Interval]] = {}
    found = []
    for ours, theirs, left_out in plans:
        first = np.stack([rows[one.picture] for one in ours])
        second = outside if outside is not None else np.stack([rows[one.picture] for one in theirs])
        # Methods of all prompts share one reference, and its floor is computed once.
        which = tuple(one.picture for one in theirs)
        if which not in floors:
            floors[which] = {name: floor_of(DISTANCES[name], second, seed=seed) for name in names}
        prompts = [one.prompt for one in ours]
        found.append(
            SetDistance(
                ours[0].model, ours[0].method, len(ours), len(set(prompts)), left_out, len(second), first.shape[1],
                {
                    name: distance_between(
                        DISTANCES[name], first, prompts, second, paired=not reference, resamples=resamples, seed=seed
                    )
                    for name in names
                },
                floors[which],
            )
        )  # fmt: skip
    return found


Plan = tuple[list[Record], list[Record], int]
"""The pictures of a method, those of its reference in the same order, and how many of the method were left out."""


def _alone(ours: list[Record]) -> Plan:
    if len(ours) < 2:
        raise AttnregError(f"expected at least 2 pictures of {_name(ours[0])}, got {len(ours)}; draw more")
    return ours, [], 0


def _matched(ours: list[Record], unmodified: list[Record]) -> Plan:
    beside = {(one.prompt, one.seed): one for one in unmodified}
    # In one order whatever the plan's: methods with the same prompts then have the same reference, row by row.
    both = sorted((one for one in ours if (one.prompt, one.seed) in beside), key=lambda one: (one.prompt, one.seed))
    if len(both) < FEWEST:
        raise AttnregError(
            f"expected at least {FEWEST} pictures of {_name(ours[0])} with an unmodified one of the same prompt and "
            f"seed, got {len(both)} of {len(ours)}; draw more, {UNMODIFIED} among the methods, or give a folder with "
            "--reference"
        )
    return both, [beside[one.prompt, one.seed] for one in both], len(ours) - len(both)


def _name(record: Record) -> str:
    return f"{record.method} on {record.model}"


def _of_run(store: Store, features: Features, records: Sequence[Record]) -> dict[str, Float[np.ndarray, " channel"]]:
    """SHA-256 -> features: every picture is read and seen once, in however many sets it is."""
    which = {one.picture: one for one in records}

    def read(sha: str) -> Any:
        if (png := store.picture(sha)) is None:
            one = which[sha]
            raise AttnregError(
                f"expected {store.pictures.path(sha)} ({one.method}, seed {one.seed}, {one.prompt!r}) as it was drawn, "
                f"got it damaged or lost; attnreg bench run --out {store.folder} draws it anew"
            )
        return Image.open(io.BytesIO(png)).convert("RGB")

    return dict(zip(which, _seen(features, list(which), read), strict=True))


def _of_folder(folder: Path, features: Features) -> Matrix:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if len(paths) < FEWEST:
        raise AttnregError(
            f"expected a folder of at least {FEWEST} pictures ({', '.join(ENDINGS)}), got {folder} with {len(paths)}; "
            "check the path"
        )

    def read(path: Path) -> Any:
        try:
            return Image.open(path).convert("RGB")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
            raise AttnregError(f"expected a picture, got {path} ({error}); take it out of the folder") from error

    return _seen(features, paths, read)


def _seen(features: Features, places: Sequence[Any], read: Any) -> Matrix:
    parts = [
        features([read(place) for place in places[start : start + AT_A_TIME]])
        for start in range(0, len(places), AT_A_TIME)
    ]
    return np.concatenate(parts)
