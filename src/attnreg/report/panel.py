"""One model's part of the page: what its template shows, computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnreg.records import UNMODIFIED, Record
from attnreg.report.embedding import Gallery
from attnreg.report.plots import Scale, plots_of, scale_over
from attnreg.report.run import Key, Run
from attnreg.report.sheets import Change, PromptSheet, by_method, by_seed, changes, drawn_prompts, most_changed
from attnreg.report.summary import Summary, adjusted, beyond_chance
from attnreg.report.wishes import Wishes
from attnreg.report.wording import PERCENT, Unit, count, probability, unit_for

MANY = 8
"""Of more methods than this, marks come twice; plots then tell methods by their number in the summary."""
NAMED = "Prompts named by whoever made this page. Below each picture: what the judge says."
DRAWN = "Prompts drawn by lot, the categories in turn; no result had a say. Below each picture: what the judge says."
MAPPED = (
    " Over the picture: where that attention lies, from none (dark blue) to the most that this thing has anywhere "
    "(yellow); one scale for before and after, another for each thing."
)


@dataclass(frozen=True)
class Shown:
    """What is shown of one model, before any picture is opened."""

    sheets: tuple[PromptSheet, ...]
    helped: tuple[tuple[Change, PromptSheet], ...]
    hurt: tuple[tuple[Change, PromptSheet], ...]
    attention: tuple[Key, ...]
    pictures: tuple[str, ...]
    """Hashes, one for every place on the page."""


def choose(run: Run, summary: Summary, wishes: Wishes) -> Shown:
    """The prompts, pictures and attention that one model's part shows."""
    records = run.of(summary.model)
    told: tuple[str, Unit, bool] = (summary.score, summary.unit, summary.yes_no)
    methods = [row.method for row in summary.rows]
    prompts = drawn_prompts(records, wishes.sheets, [p for p in wishes.prompts])
    sheets = tuple(by_seed(records, prompt, methods, wishes.seeds, *told) for prompt in prompts)
    helped: list[tuple[Change, PromptSheet]] = []
    hurt: list[tuple[Change, PromptSheet]] = []
    if summary.leader:
        found = changes(records, summary.leader.method, summary.score)
        pair = [UNMODIFIED, summary.leader.method]
        for better, kept in ((True, helped), (False, hurt)):
            for change in most_changed(found, wishes.extremes, better):
                kept.append((change, by_method(records, change, pair, wishes.seeds, *told)))
    attention = _attended(run, summary, prompts, bool(wishes.prompts))
    shown = [record for sheet in [*sheets, *(s for _, s in helped), *(s for _, s in hurt)] for record in sheet.records]
    pictures = [record.picture for record in shown]
    at = {(r.prompt, r.seed, r.method): r.picture for r in records}
    for key in attention:
        pictures += [at[key.prompt, key.seed, key.method]] * (2 * len(run.maps.get(key, {})))
    return Shown(sheets, tuple(helped), tuple(hurt), attention, tuple(pictures))


def _attended(run: Run, summary: Summary, prompts: Sequence[str], named: bool) -> tuple[Key, ...]:
    """The first seed of each prompt, with the method of the largest gain among those whose attention is known.

    Unless someone named the prompts, those whose maps the run keeps come first: they too were drawn by lot, but a
    large run keeps a few only, and the lot of the sheets would seldom meet them.
    """
    known = [key for key in run.attention if key.model == summary.model]
    gains = {row.method: row.compared.difference.value if row.compared else 0.0 for row in summary.rows}
    methods = sorted({key.method for key in known}, key=lambda method: (-gains.get(method, float("-inf")), method))
    known = [key for key in known if key.method in methods[:1]]
    if not named:
        mapped = {key.prompt: key for key in known if run.maps.get(key)}
        order = [prompt for prompt in (*prompts, *mapped) if prompt in mapped]
        prompts = list(dict.fromkeys((*order, *prompts)))[: len(prompts)]
    found = []
    for prompt in prompts:
        keys = sorted((key for key in known if key.prompt == prompt), key=lambda key: (not run.maps.get(key), key.seed))
        found += keys[:1]
    return tuple(found)


def panel_of(run: Run, summary: Summary, chosen: Shown, gallery: Gallery, wishes: Wishes) -> dict[str, Any]:
    """What `panel.html.jinja` shows."""
    several = len(run.models) > 1
    rows = summary.rows
    differences = [row.compared.difference for row in rows if row.compared]
    distances = [row.distance for row in rows if row.distance]
    records = run.of(summary.model)
    prompts = len({r.prompt for r in records})
    numbers = {method: i for i, method in enumerate(run.methods(summary.model))}
    # Of many methods in one place a heap of names tells none.
    short = {method: str(i) for method, i in numbers.items()} if len(numbers) > MANY else {}
    return {
        "summary": summary,
        "mark": f"-{run.models.index(summary.model)}" if several else "",
        "of": f": {summary.model}" if several else "",
        "numbers": numbers,
        "numbered": bool(short),
        "most": max(row.pictures for row in rows),
        "summary_caption": f"{summary.score} on {summary.model}: {count(prompts, 'prompt')}, up to "
        f"{count(max(row.pictures for row in rows), 'picture')} a method. Compared pairwise with {UNMODIFIED}.",
        "scale": scale_over(differences),
        "memory": any(row.peak_bytes is not None for row in rows),
        "distance_unit": unit_for([one.value for one in distances], yes_no=False),
        "plots": plots_of(summary, short),
        "bar_scale": scale_over([mean for category in summary.categories for _, mean in category.means]),
        "others": _others(summary) if len(summary.scores) > 1 else [],
        "helped": [_card(change, sheet, summary, gallery) for change, sheet in chosen.helped],
        "hurt": [_card(change, sheet, summary, gallery) for change, sheet in chosen.hurt],
        "moved_told": _moved_told(summary),
        "sheets": [
            {"prompt": s.prompt, "category": s.category, "table": _table(s, gallery)} for s in chosen.sheets
        ],
        "sheets_told": NAMED if wishes.prompts else DRAWN,
        "attention": _attention(run, chosen, gallery),
        "attention_told": _attention_told(run, chosen),
    }  # fmt: skip


def _moved_told(summary: Summary) -> str:
    if summary.leader is None:
        return ""
    return (
        f"The prompts whose {summary.score} changed most between {UNMODIFIED} and {summary.leader.method}, the method "
        "with the largest gain on enough pictures; seeds on which the two differ are shown first. These are the ends, "
        "not typical cases."
    )


def _others(summary: Summary) -> list[dict[str, Any]]:
    told = []
    for other in summary.scores:
        cells: list[dict[str, str] | None] = []
        for cell in other.cells:
            if cell is None:
                cells.append(None)
                continue
            mean, compared = cell
            sign = other.unit.sign if other.unit is PERCENT else ""
            cells.append(
                {
                    "mean": other.unit.bare(mean.value) + sign,
                    "difference": other.unit.difference(compared.difference.value) if compared else "",
                    "p": probability(adjusted(compared)) if compared else "",
                    "tone": ""
                    if not compared or not beyond_chance(compared)
                    else "good"
                    if compared.difference.value > 0
                    else "bad",
                }
            )
        told.append({"score": other.score, "cells": cells})
    return told


def _card(change: Change, sheet: PromptSheet, summary: Summary, gallery: Gallery) -> dict[str, Any]:
    unit, seeds = summary.unit, len(change.seeds)
    if summary.yes_no:
        told = (
            f"{change.before * seeds:.0f} of {count(seeds, 'picture')} right before, {change.after * seeds:.0f} after"
        )
    else:
        told = (
            f"{unit.value(change.before)} before, {unit.value(change.after)} after, mean of {count(seeds, 'picture')}"
        )
    return {"prompt": change.prompt, "told": told, "table": _table(sheet, gallery)}


def _table(sheet: PromptSheet, gallery: Gallery) -> dict[str, Any]:
    def shown(shot: Any) -> dict[str, Any]:
        record: Record | None = shot.record
        uri = gallery(record.picture) if record else None
        return {
            "uri": uri,
            "size": gallery.size(record.picture) if record and uri else (1, 1),
            "alt": shot.alt,
            "text": shot.text,
            "yes": shot.yes,
            "missing": "not drawn" if record is None else "picture not readable",
        }

    rows = [(head, [shown(shot) for shot in shots]) for head, shots in sheet.rows]
    return {"caption": f"“{sheet.prompt}”", "columns": sheet.columns, "rows": rows}


def _attention_told(run: Run, chosen: Shown) -> str:
    if not chosen.attention:
        return ""
    return (
        "Mean attention of each thing that the prompt names, over the regulated layers and steps, without the edit "
        f"(hollow) and with it (filled). Method: {chosen.attention[0].method}. What has little is easily lost."
        + (MAPPED if any(run.maps.get(key) for key in chosen.attention) else "")
    )


def _attention(run: Run, chosen: Shown, gallery: Gallery) -> list[dict[str, Any]]:
    highest = max(
        (value for key in chosen.attention for pair in run.attention[key].values() for value in pair), default=0.0
    )
    scale = Scale(0.0, highest or 1.0)
    at = {(r.prompt, r.seed, r.method, r.model): r.picture for r in run.records}
    told = []
    for key in chosen.attention:
        targets = [
            {
                "name": name, "before": f"{before:.3f}", "after": f"{after:.3f}",
                "before_at": scale.at(before), "after_at": scale.at(after),
            }
            for name, (before, after) in run.attention[key].items()
        ]  # fmt: skip
        heats = []
        for name, maps in run.maps.get(key, {}).items():
            hottest = max(value for one in maps for row in one for value in row)
            for words, one in zip(("before", "after"), maps, strict=True):
                if uri := gallery.heated(at[key], one, hottest):
                    heats.append(
                        {
                            "uri": uri,
                            "words": f"{name}, {words}",
                            "alt": f"Attention of “{name}” {words} the edit, over the picture",
                        }
                    )
        told.append({"prompt": key.prompt, "told": f"seed {key.seed}", "targets": targets, "heats": heats})
    return told
