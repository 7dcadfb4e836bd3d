"""`attnreg bench report`, `table`, `export` and `import`: what is made of a run, or taken in from elsewhere."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from attnreg.commands.bench import bench, pairs_of
from attnreg.commands.kinds import COUNT, COUNT_OR_NONE, FILE, FOLDER, RESAMPLES, NumberRange
from attnreg.commands.terminal import tell
from attnreg.reading import path_of, text_of
from attnreg.report.layouts import LAYOUTS, Found
from attnreg.report.run import Failure, Key, Run
from attnreg.report.trackers import TRACKERS
from attnreg.writing import write_file

MEGABYTES = NumberRange(0.1, 1_000)
"""Of a page: no browser opens a larger one."""
FORMATS = ("markdown", "latex", "csv", "parquet")


def open_run(folder: str, title: str = "") -> Run:
    """What a report needs of a run's folder. Raises `AttnregError` if there is no run, or nothing was drawn yet."""
    from attnreg.evaluation.store import Store

    store = Store(folder)
    sittings = store.sittings()
    last = sittings[-1] if sittings else None
    return Run(
        records=store.records(),
        picture=store.picture,
        prompts=store.prompt_objects(),
        title=title,
        command="\n".join(dict.fromkeys(sitting.command for sitting in sittings if sitting.command)),
        config=last.config if last else {},
        versions=last.versions if last else {},
        failures=[Failure(*failed.cell, error=failed.error) for failed in store.failures()],
        attention={Key(*cell): told for cell, told in store.attention().items()},
        maps={Key(*cell): told for cell, told in store.maps().items()},
        left=store.left(),
    )


def of_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the run and the score that it is read by."""
    for add in (
        click.option("--resamples", type=RESAMPLES, default=10_000, show_default=True, help="of the bootstrap"),
        click.option("--distance", help="the score that tells the distance to the unmodified picture [the first]"),
        click.option("--score", help="what it is about [the first that says all things, else the first]"),
        click.argument("run"),
    ):
        command = add(command)
    return command


@bench.command()
@of_run
@click.option("--out", type=FILE, help="the page [report.html in RUN]")
@click.option("--title", default="", help="its head line")
@click.option("--prompt", "prompts", multiple=True, help="a prompt of the sheets; repeat it [drawn by lot]")
@click.option("--sheets", type=COUNT_OR_NONE, default=6, show_default=True, help="how many prompts are drawn by lot")
@click.option("--seeds", type=COUNT, default=4, show_default=True, help="of a sheet, at most")
@click.option("--extremes", type=COUNT_OR_NONE, default=3, show_default=True, help="best and worst prompts, of each")
@click.option("--megabytes", type=MEGABYTES, default=12.0, show_default=True, help="that pictures may take")
@click.option("--track", type=click.Choice(list(TRACKERS)), help="hand numbers and pictures to a tracker as well")
def report(run: str, out: Path | None, title: str, track: str | None, megabytes: float, **wishes: Any) -> None:
    """Make one HTML file of RUN that needs nothing else: tables, plots, sheets, best and worst prompts."""
    from attnreg.report.page import page, summaries_of
    from attnreg.report.wishes import Wishes

    opened = open_run(run, title)
    wished = Wishes(budget=round(megabytes * 1e6), **wishes)
    summaries = summaries_of(opened, wished)
    out = out or _beside(run, "report.html")
    made = page(opened, wished, summaries)
    write_file(out, made)
    tell(f"saved {out} ({len(made.encode()) / 1e6:.1f} MB)")
    if track:
        from attnreg.report.trackers import open_tracker
        from attnreg.report.trackers import track as hand_over

        hand_over(opened, summaries, open_tracker(track, title or Path(run).name, out.parent), wished.sheets)
        tell(f"tracked with {track}")


@bench.command()
@of_run
@click.option("--format", "form", type=click.Choice(FORMATS), default="markdown", show_default=True)
@click.option("--records", is_flag=True, help="one row a picture instead of the summary (csv, parquet)")
@click.option("--out", type=FILE, help="a file instead of the terminal")
@click.option("--readme", type=FILE, help="put the Markdown table between its marks")
def table(run: str, form: str, records: bool, out: Path | None, readme: Path | None, **wishes: Any) -> None:
    """Print the summary of RUN as a table, or write it to a file or between the two marks of a README."""
    from attnreg.report import tables
    from attnreg.report.page import summaries_of
    from attnreg.report.wishes import Wishes

    opened = open_run(run)
    if records and form in ("markdown", "latex"):
        raise click.UsageError("--records needs --format csv or parquet")
    if readme and (form != "markdown" or out):
        raise click.UsageError("--readme takes the Markdown table, and no --out")
    if form == "parquet" and not out:
        raise click.UsageError("--format parquet needs --out FILE")
    summaries = [] if records else summaries_of(opened, Wishes(**wishes))
    if form == "parquet" and out:
        tables.write_parquet(tables.record_rows(opened.records) if records else tables.numbers(summaries), out)
        tell(f"saved {out}")
        return
    if form == "csv":
        made = tables.to_csv(tables.record_rows(opened.records) if records else tables.numbers(summaries))
    else:
        made = tables.to_latex(summaries) if form == "latex" else tables.to_markdown(summaries)
    if readme:
        write_file(readme, tables.into_readme(text_of(readme, "a README"), made))
        tell(f"saved {readme}")
    elif out:
        write_file(out, made)
        tell(f"saved {out}")
    else:
        tell(made, nl=False)


@bench.command()
@click.argument("run")
@click.argument("folder", type=FOLDER)
@click.option("--layout", type=click.Choice(list(LAYOUTS)), required=True, help="whose judge is to read it")
@click.option("--method", required=True, help="whose pictures")
@click.option("--model", help="[the only one of the run]")
def export(run: str, folder: Path, layout: str, method: str, model: str | None) -> None:
    """Write the pictures of one method of RUN to FOLDER as other judges read them."""
    from attnreg.report.layouts import export_layout

    written = export_layout(open_run(run), layout, folder, method, model)
    tell(f"saved {len(written)} pictures to {folder} as {LAYOUTS[layout].shape}")


@bench.command("import")
@click.argument("folder", type=FOLDER)
@click.option("--layout", type=click.Choice(list(LAYOUTS)), required=True, help="how the folder is arranged")
@click.option("--method", help="whose pictures they are [as pictures.jsonl says]")
@click.option("--out", type=FILE, help="a file of JSON lines [the terminal]")
@click.option("--into", help="a run to put them in: one that is there, or a new folder")
@click.option("--model", help="what they were drawn with, as the run names it (with --into)")
@click.option("--judges", multiple=True, metavar="JUDGE,...", help="who scores them (with --into)")
@click.option("--weights", multiple=True, metavar="JUDGE=PLACE", help="where a judge's weights are; repeat it for more")
@click.option("--prompts", help="a prompt set that knows what they show (with --into)")
@click.option("--device", default="auto", show_default=True, help="of the judges: cpu, cuda, cuda:1, mps or auto")
@click.option("--download", is_flag=True, help="let judges fetch weights from the hub")
def import_(folder: Path, layout: str, method: str | None, out: Path | None, into: str | None, **judging: Any) -> None:
    """Read the pictures of FOLDER, which others drew: list them as JSON lines, or put them in a run and judge them."""
    from attnreg.report.layouts import read_layout

    found = read_layout(layout, folder, method)
    if into:
        _take_in(found, into, **judging)
        return
    lines = "".join(
        json.dumps({**one._asdict(), "picture": str(one.picture)}, ensure_ascii=False) + "\n" for one in found
    )
    if out:
        write_file(out, lines)
        tell(f"saved {len(found)} rows to {out}")
    else:
        tell(lines, nl=False)


def _take_in(
    found: Sequence[Found], into: str, model: str | None, judges: Sequence[str], weights: Sequence[str],
    prompts: str | None, device: str, download: bool,
) -> None:  # fmt: skip
    from attnreg.evaluation.foreign import take_in
    from attnreg.evaluation.judging import Judges
    from attnreg.evaluation.prompts import prompt_set

    if model is None:
        raise click.UsageError("--into needs --model NAME: what the pictures were drawn with")
    places = pairs_of("--weights", weights)
    names = [name.strip() for text in judges for name in text.split(",") if name.strip()]
    judged = take_in(
        found,
        into,
        model,
        prompts=prompt_set(prompts) if prompts else (),
        judges={name: places.get(name, "") for name in names},
        open_judge=Judges(device, download),
        command=shlex.join(["attnreg", *sys.argv[1:]]),
        say=tell,
    )
    tell(f"{judged} verdicts given now")


def _beside(run: str, name: str) -> Path:
    """A file in a run's folder, or here if the run is kept elsewhere."""
    return Path(name) if "://" in run else path_of(run) / name
