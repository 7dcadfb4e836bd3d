"""What a method is to those who list, configure and run it. Its implementation is loaded when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Any, get_type_hints

from attnreg.methods.setting import Setting


@dataclass(frozen=True)
class Method:
    """A row of `METHODS`."""

    home: Callable[..., Any] | str | None
    """The frozen dataclass of its settings, itself an edit of one of the kinds in `regulation.kinds`, or where it is:
    "methods.conform.Conform". `None` for the unmodified model."""
    summary: str
    paper: str
    edits: str = "attention logits"
    """What of the model it changes."""
    needs: tuple[str, ...] = ()
    """What it cannot do without: a "parse" of the prompt, a "layout", a "gradient" through the denoiser."""
    passes: str = "none"
    """How many times more the denoiser runs."""

    @property
    def config(self) -> Callable[..., Any] | None:
        """The dataclass itself. Loads torch, where that is not loaded yet."""
        if not isinstance(self.home, str):
            return self.home
        module, _, name = self.home.rpartition(".")
        found: Callable[..., Any] = getattr(import_module(f"attnreg.{module}"), name)
        return found

    def settings(self) -> dict[str, Setting]:
        """Its settings by name, in the order of the dataclass. Loads torch, as `config`."""
        config = self.config
        if config is None or not is_dataclass(config):
            return {}
        hints = get_type_hints(config)
        return {
            one.name: Setting(one.name, hints[one.name], one.default, one.metadata.get("help", ""))
            for one in fields(config)
        }
