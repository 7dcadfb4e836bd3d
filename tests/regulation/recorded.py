"""The recorded runs of the published implementation, as the logits that its layers saw."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from attnreg.regulation.edit import PromptColumns
from attnreg.types import Grid

FOLDERS = [Path(__file__).parents[1] / "golden", *map(Path, filter(None, [os.environ.get("ATTNREG_GOLDEN")]))]
FILES = sorted(path for folder in FOLDERS for path in folder.glob("*.npz"))


class Call(NamedTuple):
    step: int
    layer: str
    plain: Tensor
    """Probabilities of all rows without an edit, unconditional images first: image head pixel token."""
    logits: Tensor
    """Logits of the conditional images."""
    start: Tensor | None
    """The recorded random start (problem target basis), `None` where nothing was edited."""
    recorded: Tensor
    """Probabilities of all rows as recorded: image head pixel token."""


class Run(NamedTuple):
    grid: Grid
    prompts: tuple[PromptColumns, ...]
    calls: list[Call]


def load(path: Path) -> Run:
    with np.load(path) as file:
        data = {key: torch.from_numpy(file[key]) for key in file.files}
    width, heads, head_dim, _, _, tokens, end_of_text, images, layers, steps, _ = data["meta"].tolist()
    targets = tuple((column,) for column in data["targets"].tolist())

    def calls() -> Iterator[Call]:
        for step in range(steps):
            for layer in range(layers):
                key = f"step{step}.layer{layer}"
                queries = data[f"{key}.hidden_states"] @ data[f"layer{layer}.to_q.weight"].T
                keys = data["encoder_hidden_states"] @ data[f"layer{layer}.to_k.weight"].T
                queries, keys = (x.unflatten(-1, (heads, head_dim)).transpose(1, 2) for x in (queries, keys))
                logits = queries @ keys.mT / head_dim**0.5
                start = data.get(f"{key}.initial_weights")
                yield Call(
                    step=step,
                    layer=f"layer{layer}",
                    plain=logits.softmax(-1),
                    logits=logits[images:],
                    start=None if start is None else start.reshape(*start.shape[:2], -1).mT.contiguous(),
                    recorded=data[f"{key}.attention_probs"].reshape(2 * images, heads, width * width, tokens),
                )

    prompt = PromptColumns(targets, start_of_text=0, end_of_text=end_of_text)
    return Run(Grid(width, width), (prompt,) * images, list(calls()))
