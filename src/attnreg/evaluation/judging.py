"""Open judges by name, and give them pictures as they lie in the run's folder."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from attnreg.errors import AttnregError
from attnreg.evaluation.pictures import Pictures
from attnreg.evaluation.store import Cell
from attnreg.evaluation.tasks import Batch
from attnreg.measure.asked import Prompt
from attnreg.measure.judge import Judge, Scores
from attnreg.models.quiet import quiet_libraries


@dataclass(frozen=True)
class Judges:
    """Opens judges of `attnreg.measure.judges.JUDGES`: a callable, so that workers elsewhere can be given it."""

    device: str = "auto"
    download: bool = False
    """Whether the hub may be asked for weights that its cache does not hold."""

    def __call__(self, name: str, weights: str) -> Judge:
        """The judge, ready. Raises `AttnregError` if there is none of that name, or something it needs is missing."""
        from attnreg.measure.judges import JUDGES

        if name not in JUDGES:
            close = difflib.get_close_matches(name, JUDGES, n=1)
            raise AttnregError(
                f"expected a judge of {', '.join(JUDGES)}, got {name!r}"
                + (f"; did you mean {close[0]!r}?" if close else "; choose one of them")
            )
        if JUDGES[name].networks:
            quiet_libraries()
        return JUDGES[name].open(weights or None, device=self.device, download=self.download)


def batch_of(
    judge: str,
    weights: str,
    cells: Mapping[Cell, tuple[str, str | None]],
    prompts: Mapping[str, Prompt],
    pictures: Pictures,
) -> Batch:
    """The pictures of some cells, read. Raises `AttnregError` if one is lost or damaged."""

    def read(sha: str) -> bytes:
        if (content := pictures.get(sha)) is None:
            raise AttnregError(
                f"expected {pictures.path(sha)} as it was drawn, got it damaged or lost; give the same command again, "
                "and it is drawn anew"
            )
        return content

    unmodified = [sha for _, sha in cells.values() if sha is not None]
    return Batch(
        judge,
        weights,
        tuple(cells),
        tuple(prompts[cell.prompt] for cell in cells),
        tuple(sha for sha, _ in cells.values()),
        tuple(read(sha) for sha, _ in cells.values()),
        tuple(map(read, unmodified)) if unmodified else None,
        tuple(sha for _, sha in cells.values()),
    )


def scores_of(judge: Judge, batch: Batch) -> list[Scores]:
    """What a judge says of a batch, one dictionary a picture. Raises `AttnregError` if it says it of another number."""
    pictures = [_open(png) for png in batch.pngs]
    unmodified = None if batch.unmodified is None else [_open(png) for png in batch.unmodified]
    scores = judge(pictures, list(batch.prompts), unmodified)
    if len(scores) != len(pictures):
        raise AttnregError(
            f"expected {len(pictures)} scores of judge {batch.judge}, got {len(scores)}; correct the judge"
        )
    return scores


def _open(png: bytes) -> Any:
    return Image.open(io.BytesIO(png)).convert("RGB")
