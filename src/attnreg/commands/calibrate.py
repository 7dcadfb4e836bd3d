"""attnreg calibrate: the thresholds of best-start for a model, from what it reads itself."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import click

from attnreg.commands.kinds import FILE, FOLDER, GUIDANCE, PROMPTS, STEPS
from attnreg.commands.libraries import load_libraries
from attnreg.commands.terminal import tell

METHOD = "best-start"
ANY_MODEL, SMALL_MODEL = "attend-and-excite", "unseen-pairs"
"""Prompts that are hard for most models, and for one that knows a few words."""


@click.command()
@click.argument("model")
@click.option(
    "--prompts", help=f"a prompt set or a file [{ANY_MODEL}, or {SMALL_MODEL} of a model that says its words]"
)
@click.option("--pictures", type=PROMPTS, default=60, show_default=True, help="whose given start is read")
@click.option("--doubted", type=float, metavar="SHARE", help="of such pictures, that may be begun anew [0.3]")
@click.option("--good", type=float, metavar="SHARE", help="of given starts, that another has to be better than [0.45]")
@click.option(
    "--run", type=FOLDER, help="of bench, whose unmodified pictures were judged: how many are wrong decides both"
)
@click.option(
    "--score", default="all things", show_default=True, help="the judge's score of that run, 1 where all is well"
)
@click.option("--steps", type=STEPS, help="denoising steps [the model's own]")
@click.option("--guidance-scale", type=GUIDANCE, help="classifier-free guidance [the model's own]")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto")
@click.option("--dtype", default="auto", show_default=True, help="float32, float16, bfloat16 or auto")
@click.option("--out", type=FILE, default="best-start.json", show_default=True, help="the preset")
def calibrate(
    model: str, prompts: str | None, pictures: int, doubted: float | None, good: float | None, run: Path | None,
    score: str, steps: int | None, guidance_scale: float | None, device: str, dtype: str, out: Path,
) -> None:  # fmt: skip
    """Find the thresholds of best-start for MODEL, and write them to OUT as a preset.

    No picture is finished and nothing judges: each is followed to where best-start reads it, about half of its steps.
    Then: attnreg generate ... --model MODEL --method best-start --preset OUT.
    """
    load_libraries(model)
    from attnreg.evaluation.calibration import DOUBTED, GOOD, Calibration, shares_for, wrong_in
    from attnreg.evaluation.calibration import calibrate as calibrated
    from attnreg.evaluation.checks import check_words
    from attnreg.evaluation.prompts import prompt_set
    from attnreg.models.about import about, drawn_with, folder_of
    from attnreg.models.load import check_model, load_pipeline
    from attnreg.writing import check_writable, write_file

    usual = (DOUBTED, GOOD)
    if run is not None:
        wrong = wrong_in(run, model, score)
        usual = shares_for(wrong)
        tell(f"{100 * wrong:.0f} % of the unmodified pictures in {run} lack something")
    shares = {"doubted": usual[0] if doubted is None else doubted, "good": usual[1] if good is None else good}
    Calibration.check(pictures, **shares)
    check_writable(out.absolute().parent)
    check_model(model)
    told = about(folder_of(model))
    chosen = prompts or (SMALL_MODEL if told else ANY_MODEL)
    of_model = f":{model}" if told and not prompts else ""  # the preset is not to hold a path
    asked = prompt_set(chosen + of_model, half="development")
    check_words(told, asked)
    pipe = load_pipeline(model, device=device, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    began = time.monotonic()

    def say(number: int, score: float) -> None:
        if number == 1:
            seconds = (time.monotonic() - began) * pictures
            tell(f"{pictures} pictures of {chosen}, about {max(1, round(seconds / 60))} min")

    found = calibrated(
        pipe,
        [(asked[number % len(asked)].text, number // len(asked)) for number in range(pictures)],
        say=say,
        **drawn_with(told, steps, guidance_scale),
        doubted=shares["doubted"],
        good=shares["good"],
    )
    preset: dict[str, Any] = {
        "settings": found.settings,
        "model": model,
        "chosen on": f"{chosen}, development half, {pictures} given starts",
        "shares below": shares,
        "scores": [round(score, 3) for score in sorted(found.scores)],
        "command": shlex.join(["attnreg", *sys.argv[1:]]),
    }
    write_file(out, json.dumps({METHOD: {"calibrated": preset}}, indent=1) + "\n")
    tell(", ".join(f"{name}={value:g}" for name, value in found.settings.items()))
    tell(f"saved {out}")
