"""A report's numbers and sheets in an experiment tracker: wandb, TensorBoard or MLflow, behind one small protocol."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from attnreg.errors import AttnregError
from attnreg.report.layouts import file_name
from attnreg.report.run import Run
from attnreg.report.sheets import drawn_prompts
from attnreg.report.summary import Summary
from attnreg.report.tables import numbers

MEASURES = (
    "mean", "mean_low", "mean_high", "difference", "difference_low", "difference_high", "p_holm", "seconds",
    "extra_time", "distance",
)  # fmt: skip


@runtime_checkable
class Tracker(Protocol):
    """Where numbers and pictures of one report go."""

    def settings(self, values: Mapping[str, Any]) -> None:
        """What the run was asked for: strings, numbers, and lists of them."""

    def numbers(self, values: Mapping[str, float]) -> None:
        """Name ("model/method/score/mean") -> value."""

    def picture(self, name: str, picture: Any, caption: str) -> None:
        """One picture, a PIL image, with the words below it."""

    def close(self) -> None:
        """Send what is still waiting."""


def track(run: Run, summaries: Sequence[Summary], tracker: Tracker, sheets: int = 6) -> None:
    """Hand the summary's numbers, and one picture of each method for `sheets` prompts, to a tracker, and close it."""
    from PIL import Image  # the command line lists the trackers without waiting for it

    try:
        tracker.settings({**run.config, "command": run.command, "title": run.title})
        tracker.numbers(
            {
                f"{row['model']}/{row['method']}/{row['score']}/{name}": float(row[name])
                for row in numbers(summaries)
                for name in MEASURES
                if row[name] is not None
            }
        )
        for summary in summaries:
            records = run.of(summary.model)
            for prompt in drawn_prompts(records, sheets):
                first = min(record.seed for record in records if record.prompt == prompt)
                for record in records:
                    if record.prompt == prompt and record.seed == first and (data := run.picture(record.picture)):
                        picture = Image.open(io.BytesIO(data)).convert("RGB")
                        tracker.picture(f"{record.model}/{record.method}/{prompt}", picture, f"{prompt}, seed {first}")
    finally:
        tracker.close()


class WandbTracker:
    """Weights & Biases: numbers in the run's summary, pictures as `wandb.Image`."""

    def __init__(self, project: str, name: str, folder: Path) -> None:
        import wandb

        self._wandb = wandb
        self._run = wandb.init(project=project, name=name, dir=str(folder))

    def settings(self, values: Mapping[str, Any]) -> None:
        """Into `config`."""
        self._run.config.update(dict(values))

    def numbers(self, values: Mapping[str, float]) -> None:
        """Into `summary`: a report has no steps."""
        self._run.summary.update(dict(values))

    def picture(self, name: str, picture: Any, caption: str) -> None:
        """As media."""
        self._run.log({name: self._wandb.Image(picture, caption=caption)})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class TensorBoardTracker:
    """TensorBoard event files, through tensorboardX: it needs no torch."""

    def __init__(self, project: str, name: str, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(logdir=str(folder / project / file_name(_tag(name))))

    def settings(self, values: Mapping[str, Any]) -> None:
        """As a text."""
        self._writer.add_text("configuration", "\n".join(f"    {key}: {value}" for key, value in values.items()), 0)

    def numbers(self, values: Mapping[str, float]) -> None:
        """As scalars of step 0. TensorBoard takes no blanks in names."""
        for name, value in values.items():
            self._writer.add_scalar(_tag(name).replace(" ", "_"), value, 0)

    def picture(self, name: str, picture: Any, caption: str) -> None:
        """As an image."""
        import numpy as np

        self._writer.add_image(_tag(name).replace(" ", "_"), np.asarray(picture), 0, dataformats="HWC")

    def close(self) -> None:
        """Flush the file."""
        self._writer.close()


class MlflowTracker:
    """MLflow: parameters, metrics, and pictures as artifacts."""

    LONGEST = 250
    """Letters of a metric's name."""

    def __init__(self, project: str, name: str, folder: Path) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(project)
        mlflow.start_run(run_name=name)

    def settings(self, values: Mapping[str, Any]) -> None:
        """As parameters."""
        self._mlflow.log_params({key: str(value)[:6000] for key, value in values.items()})

    def numbers(self, values: Mapping[str, float]) -> None:
        """As metrics."""
        self._mlflow.log_metrics({_tag(name)[: self.LONGEST]: value for name, value in values.items()})

    def picture(self, name: str, picture: Any, caption: str) -> None:
        """As an artifact."""
        self._mlflow.log_image(picture, f"{_tag(name)[: self.LONGEST]}.png")

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


TRACKERS: dict[str, tuple[Callable[[str, str, Path], Tracker], str]] = {
    "wandb": (WandbTracker, "wandb"),
    "tensorboard": (TensorBoardTracker, "tensorboardX"),
    "mlflow": (MlflowTracker, "mlflow"),
}
"""Name -> how to open it, and the package that it needs."""


def open_tracker(kind: str, name: str, folder: Path, project: str = "attnreg") -> Tracker:
    """Open a tracker by its name. Raises `AttnregError` if there is none of that name, or its package is missing."""
    if kind not in TRACKERS:
        raise AttnregError(f"expected a tracker of {', '.join(TRACKERS)}, got {kind!r}; choose one")
    make, package = TRACKERS[kind]
    try:
        return make(project, name, folder)
    except ImportError as error:
        raise AttnregError(
            f"expected {package} for --track {kind}, which is not installed; pip install {package}"
        ) from error


def _tag(name: str) -> str:
    """A name of letters that TensorBoard and MLflow take: the rest becomes "_"."""
    return re.sub(r"[^\w\-. /]+", "_", name).strip("_")
