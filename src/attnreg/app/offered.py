"""The models that the app offers: opened once, drawn with by one drawing at a time, read with by many."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from attnreg.attention.families import tokenizer_of
from attnreg.models.about import About, about, folder_of
from attnreg.models.defaults import Defaults, defaults_of
from attnreg.models.load import load_pipeline
from attnreg.studio import Session
from attnreg.targets import FoundTargets
from attnreg.token_spans import look_for_targets


@dataclass(frozen=True)
class Offered:
    """One model."""

    name: str
    """As the page calls it: no path of this machine."""
    model: str
    """As `load_pipeline` takes it, and as recipes have it."""
    pipe: Any
    """Draws. Only the one thread that draws may touch it."""
    reader: Any
    """The same with tokenizers of its own: a fast tokenizer must not be used by two threads at once."""
    about: About | None
    """What a small model says about itself."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def load(model: str, name: str, device: str, dtype: str) -> Offered:
        """Open a model. Raises `AttnregError` as `load_pipeline`."""
        pipe = load_pipeline(model, device=device, dtype=dtype)
        tokenizer_of(pipe)
        reader = copy.copy(pipe)
        for part, held in pipe.components.items():
            if "tokenizer" in part:
                setattr(reader, part, copy.deepcopy(held))
        return Offered(name, model, pipe, reader, about(folder_of(model)))

    @property
    def own(self) -> Defaults:
        """What the pipeline draws where nothing is asked for."""
        return defaults_of(self.reader)

    def is_at(self, model: str) -> bool:
        """Whether a recipe's model is this one: recipes have the whole path of a directory."""
        folder = folder_of(self.model)
        return folder.exists() and str(folder.resolve()) == model

    def targets(self, prompt: str, targets: list[str] | None, adjectives: bool) -> FoundTargets:
        """The targets of a prompt. Raises `AttnregError` for words that the model was never taught, too."""
        if self.about:
            self.about.check_words(prompt)
        with self.lock:
            return look_for_targets(prompt, tokenizer_of(self.reader), targets, adjectives=adjectives)

    def checked(self, options: dict[str, Any]) -> Session:
        """A sitting that is looked at and never drawn with; for threads that answer. Errors as of `Session.open`."""
        with self.lock:
            return Session.open(model=self.model, pipe=self.reader, **options)

    def sitting(self, options: dict[str, Any]) -> Session:
        """A sitting to draw with; for the thread that draws."""
        return Session.open(model=self.model, pipe=self.pipe, **options)


def offer(models: Sequence[str], device: str, dtype: str) -> dict[str, Offered]:
    """Open models and name them, by the last part of where they are; of two alike the second is "name (2)"."""
    offered: dict[str, Offered] = {}
    for model in dict.fromkeys(models):
        plain = PurePath(model).name or model
        name, number = plain, 1
        while name in offered:
            number += 1
            name = f"{plain} ({number})"
        offered[name] = Offered.load(model, name, device, dtype)
    return offered
