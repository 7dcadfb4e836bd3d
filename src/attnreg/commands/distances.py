"""`attnreg bench distances`: how far each method's pictures lie, as a set, from the unmodified model's or others."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnreg.commands.bench import bench
from attnreg.commands.kinds import FEW_RESAMPLES, FILE, SEED, PathName
from attnreg.commands.terminal import tell
from attnreg.report.wording import MINUS, UNKNOWN, count
from attnreg.statistics import Interval
from attnreg.writing import write_file

if TYPE_CHECKING:
    from attnreg.evaluation.run_distances import SetDistance

FORMATS = ("markdown", "csv", "json")
OF_FEATURES = {"pocket": ("frechet", "kernel"), "clip": ("frechet", "kernel", "cmmd")}
"""CMMD is defined on CLIP's features and on no others."""
HEADS = {"frechet": "Fréchet distance", "kernel": "kernel distance", "cmmd": "CMMD"}
INTERVAL = "95 % interval"


@bench.command()
@click.argument("run")
@click.option(
    "--features", type=click.Choice(list(OF_FEATURES)), default="pocket", show_default=True,
    help="of what the distances are: pocket is the bundled judge, for pictures of the bundled model",
)  # fmt: skip
@click.option("--weights", metavar="PLACE", help="of CLIP: a directory or a hub id; pocket needs none")
@click.option(
    "--reference", type=PathName(exists=True, file_okay=False),
    help="a folder of pictures [the unmodified model's, of the same prompts and seeds]",
)  # fmt: skip
@click.option("--resamples", type=FEW_RESAMPLES, default=200, show_default=True, help="of the bootstrap")
@click.option("--seed", type=SEED, default=0, show_default=True, help="of resamples and random halves")
@click.option("--format", "form", type=click.Choice(FORMATS), default="markdown", show_default=True)
@click.option("--out", type=FILE, help="a file instead of the terminal")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto")
@click.option("--download", is_flag=True, help="let CLIP be fetched from the hub")
def distances(
    run: str, features: str, weights: str | None, reference: Path | None, resamples: int, seed: int, form: str,
    out: Path | None, device: str, download: bool,
) -> None:  # fmt: skip
    """Print how far the pictures of each method of RUN lie, as a set, from those of the unmodified model."""
    from attnreg.evaluation.run_distances import distances_of_run
    from attnreg.evaluation.store import Store
    from attnreg.measure.features import open_features
    from attnreg.report.tables import to_csv

    store = Store(run)
    found = distances_of_run(
        store, open_features(features, weights, device, download), OF_FEATURES[features], reference,
        resamples=resamples, seed=seed, skip=lambda error: tell(f"left out: {error}", err=True),
    )  # fmt: skip
    if form == "markdown":
        made = to_markdown(found, features, str(reference) if reference else "", resamples)
    else:
        rows = [
            {"features": features, "reference": str(reference) if reference else "none", **numbers(one)}
            for one in found
        ]
        made = to_csv(rows) if form == "csv" else json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    if out:
        write_file(out, made)
        tell(f"saved {out}")
    else:
        tell(made, nl=False)


def numbers(one: SetDistance) -> dict[str, Any]:
    """A flat row in full precision, for machines; `None` for the interval of a single prompt."""
    told: dict[str, Any] = {
        "model": one.model, "method": one.method, "pictures": one.pictures, "prompts": one.prompts,
        "left_out": one.left_out, "reference_pictures": one.reference, "channels": one.channels,
    }  # fmt: skip
    for name, interval in one.distances.items():
        for called, each in ((name, interval), (f"{name}_floor", one.floors[name])):
            low, high = (end if math.isfinite(end) else None for end in (each.low, each.high))
            told |= {called: each.value, f"{called}_low": low, f"{called}_high": high}
    return told


def to_markdown(found: Sequence[SetDistance], features: str, folder: str, resamples: int) -> str:
    """For people: one table a model, and below it the floor of every reference that its methods were compared with."""
    return "\n".join(
        _of_model([one for one in found if one.model == model], features, folder, resamples)
        for model in dict.fromkeys(one.model for one in found)
    )


def _of_model(rows: Sequence[SetDistance], features: str, folder: str, resamples: int) -> str:
    from attnreg.report.tables import markdown, markdown_safe

    names = list(rows[0].distances)
    heads = ["method", "pictures", *(f"{HEADS[name]} ({INTERVAL})" for name in names)]
    cells = [
        [one.method, f"{one.pictures:,}", *(_with_interval(each) for each in one.distances.values())] for one in rows
    ]
    reference = f"the pictures of {folder}" if folder else "the unmodified model's pictures of the same prompts"
    lines = [
        markdown_safe(
            f"Distance to {reference} on {rows[0].model}; features: {features}, {count(rows[0].channels, 'channel')}; "
            f"bootstrap over prompts, {resamples} resamples."
        ),
        "",
        markdown(heads, cells),
        "",
    ]
    of_floor: dict[tuple[Any, ...], list[str]] = {}
    for one in rows:
        of_floor.setdefault((one.reference, *one.floors.values()), []).append(one.method)
    for (pictures, *floors), methods in of_floor.items():
        told = ", ".join(f"{HEADS[name]} {_with_interval(each)}" for name, each in zip(names, floors, strict=True))
        whom = f" (for {', '.join(methods)})" if len(of_floor) > 1 else ""
        lines.append(
            markdown_safe(f"Floor{whom}: between random halves of {pictures:,} pictures of the reference: {told}.")
            + "\n"
        )
    if few := [one.method for one in rows if min(one.pictures, one.reference) <= one.channels]:
        lines.append(
            markdown_safe(
                f"No more pictures than channels: {', '.join(few)}. A Fréchet distance is then mostly bias; "
                "compare only equal numbers of pictures."
            )
            + "\n"
        )
    lines += [
        markdown_safe(f"Without an unmodified picture, and left out: {one.left_out} of {one.method}.") + "\n"
        for one in rows
        if one.left_out
    ]
    return "\n".join(lines)


def _with_interval(interval: Interval) -> str:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return f"{_number(interval.value)} ({UNKNOWN})"
    return f"{_number(interval.value)} ({_number(interval.low)} to {_number(interval.high)})"


def _number(value: float) -> str:
    """Three digits of it, whatever its size: distances on different features differ by orders of magnitude."""
    text = f"{abs(value):,.0f}" if abs(value) >= 100 else f"{abs(value):#.3g}" if value else "0"
    return (MINUS if value < 0 else "") + text
