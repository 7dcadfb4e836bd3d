"""A run's records -> one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnreg.errors import AttnregError
from attnreg.records import UNMODIFIED
from attnreg.report.embedding import Gallery
from attnreg.report.panel import choose, panel_of
from attnreg.report.plots import ends
from attnreg.report.run import Run
from attnreg.report.summary import Summary, beyond_chance, result_of, summarise, verdict
from attnreg.report.wishes import Wishes
from attnreg.report.wording import EXTRA, count, listed, probability, seconds
from attnreg.shown import visible

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def summaries_of(run: Run, wishes: Wishes) -> list[Summary]:
    """The numbers of every model of a run."""
    return [summarise(run, model, wishes.score, wishes.distance, wishes.resamples) for model in run.models]


def page(run: Run, wishes: Wishes | None = None, summaries: Sequence[Summary] | None = None) -> str:
    """The whole page. The same run and wishes give the same page, to the letter.

    Raises `AttnregError` if there is no such score, or jinja2 is not installed.
    """
    wishes = wishes or Wishes()
    environment = _environment()
    summaries = summaries if summaries is not None else summaries_of(run, wishes)
    chosen = [choose(run, summary, wishes) for summary in summaries]
    gallery = Gallery(run.picture, [sha for one in chosen for sha in one.pictures], wishes.budget)
    panels = [panel_of(run, summary, one, gallery, wishes) for summary, one in zip(summaries, chosen, strict=True)]
    title = run.title or "Which method shows what the prompt asks for"
    made = environment.get_template("page.html.jinja").render(
        title=title,
        extra=EXTRA,
        eyebrow=_eyebrow(run),
        css=_css(),
        panels=[{**panel, "result": result_of(summary)} for panel, summary in zip(panels, summaries, strict=True)],
        contents=_contents(panels, bool(run.command or run.config or run.versions)),
        failures=run.failures,
        failures_told=f"{count(len(run.failures), 'picture')} could not be made or judged; no number counts them.",
        missing=_missing(run, gallery),
        command=run.command,
        versions=list(run.versions.items()),
        config=[
            (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for key, value in run.config.items()
            if value not in (None, [], {}, ())
        ],
        notes=_notes(summaries, wishes),
        foot="Made by attnreg. This file is complete: it loads nothing, runs no script and can be sent as it is.",
    )
    return visible(made)


def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise AttnregError(
            "expected jinja2 for the report, which is not installed; pip install 'attnreg[bench]'"
        ) from error
    from markupsafe import Markup, escape

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def breakable(name: str) -> Markup:
        """Long names may break after their punctuation."""
        text = escape(name)
        for sign in ("(", ",", "/", ":", "-", "_", "+"):
            text = text.replace(sign, (Markup("<wbr>") + sign) if sign == "(" else sign + Markup("<wbr>"))
        return text

    environment.filters.update(
        ends=ends,
        beyond_chance=beyond_chance,
        verdict=verdict,
        probability=probability,
        seconds=seconds,
        breakable=breakable,
        gigabytes=lambda b: "\N{EN DASH}" if b is None else f"{b / 1e9:.2f}",
    )
    return environment


def _css() -> Any:
    from markupsafe import Markup

    return Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))


def _eyebrow(run: Run) -> str:
    prompts, seeds = len({r.prompt for r in run.records}), len({r.seed for r in run.records})
    methods = len({r.method for r in run.records})
    parts = [
        count(prompts, "prompt"),
        count(seeds, "seed"),
        count(methods, "method"),
        count(len(run.records), "picture"),
    ]
    return f"{listed(run.models)} \N{MIDDLE DOT} {f' {chr(0xB7)} '.join(parts)}"


def _contents(panels: Sequence[dict[str, Any]], told: bool) -> list[tuple[str, str]]:
    found = []
    for panel in panels:
        for name, words, there in (
            ("summary", "Summary", True),
            ("cost", "Cost and distance", panel["plots"]),
            ("categories", "Categories", len(panel["summary"].categories) > 1),
            ("scores", "Every score", panel["others"]),
            ("moved", "Helped and hurt", panel["helped"] or panel["hurt"]),
            ("sheets", "Sheets", panel["sheets"]),
            ("attention", "Attention", panel["attention"]),
        ):
            if there:
                found.append((f"{name}{panel['mark']}", words + panel["of"]))
    return [*found, ("failures", "Failures"), ("made", "How this was made")]


def _missing(run: Run, gallery: Gallery) -> str:
    lost = (
        f"{count(len(gallery.missing), 'picture')} of this page could not be read from the run. "
        if gallery.missing
        else ""
    )
    return lost + (f"The run is not complete: {count(run.left, 'picture')} still to be drawn." if run.left else "")


def _notes(summaries: Sequence[Summary], wishes: Wishes) -> list[str]:
    tests = max(summary.comparisons for summary in summaries)
    kinds = list(
        dict.fromkeys(
            f"{cell[1].test} test"
            for summary in summaries
            for other in summary.scores
            for cell in other.cells
            if cell and cell[1]
        )
    ) or ["none"]
    return [
        f"Every method is compared with “{UNMODIFIED}”, the unmodified model, on the same prompts and seeds. The seeds "
        f"of a prompt are averaged; prompts are drawn again {wishes.resamples:,} times (bootstrap) for the 95 % "
        "intervals of means and of paired differences.",
        f"p-values: {listed(kinds)}, two-sided, over prompts, since the seeds of a prompt are not independent; "
        f"adjusted by Holm's method for all {tests} comparisons of scores on a model. Better, worse: p below 0.05.",
        "Gained / lost: pictures that the score calls right with the method and wrong without it, and the reverse. "
        "Win / tie / loss: prompts whose mean is higher, equal, lower.",
        "Seconds: mean wall-clock time of one picture. Extra time: time with the method over time without it, same "
        "prompt and seed, minus one; mean over prompts. Distance: from the unmodified picture of the same seed.",
    ]
