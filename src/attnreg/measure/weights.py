"""Open a judge's networks: from a directory or the hub's cache, safetensors only, no code of the directory is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attnreg.devices import check_device
from attnreg.reading import path_of
from attnreg.types import AttnregError

Source = str | Path | Mapping[str, str | Path] | None
"""Where a judge's weights are: a directory or hub id ("org/name", "org/name@revision"); of a judge with several
networks, one for each by name, as a mapping or as text: "caption=DIR,clip=org/name". `None` takes the judge's own."""


@dataclass(frozen=True)
class Weights:
    """Where the networks of one judge lie and where they shall run."""

    places: Mapping[str, str]
    """Name of the network -> directory or hub id."""
    device: str = "cpu"
    download: bool = False
    """Whether the hub may be asked for what its cache doesn't hold."""

    def open(self, network: str, kind: Any) -> Any:
        """One network of a transformers class, in float32, evaluation mode and without gradients, on the device.

        Raises `AttnregError` if it isn't there, or not as safetensors.
        """
        # What the directory writes of its own precision is let be: a judge is small and shall give the same everywhere.
        import torch

        model = self._load(network, kind, use_safetensors=True, dtype=torch.float32)
        return model.to(self.device).eval().requires_grad_(False)

    def prepare(self, network: str, kind: Any, **settings: Any) -> Any:
        """The tokenizer or image processor of a network, by a transformers class."""
        return self._load(network, kind, **settings)

    def processors(self, network: str) -> tuple[Any, Any]:
        """The tokenizer and the image processor of a network.

        Pictures are prepared by Pillow, as the published judges do it, whether torchvision is there or not: the two
        resize differently, and scores would depend on what else is installed.
        """
        from transformers import AutoImageProcessor, AutoTokenizer

        tokenizer = self.prepare(network, AutoTokenizer)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):  # of no files at all, transformers makes an empty one
            raise AttnregError(
                f"expected a tokenizer with {self.places[network]!r}, got one without words; download the model again"
            )
        return tokenizer, self.prepare(network, AutoImageProcessor, backend="pil")

    def folder(self, network: str, patterns: tuple[str, ...] = ("*.json", "*.txt", "*.safetensors")) -> Path:
        """The directory of a network's files, from the hub those of certain names. Raises `AttnregError` if none."""
        name, where = self._find(network)
        if "revision" not in where:
            return Path(name)
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(name, allow_patterns=list(patterns), **where))
        except Exception as error:  # of the network, the cache or the id, each of another kind
            raise self.refusal(network, "files", error) from error

    def _load(self, network: str, kind: Any, **settings: Any) -> Any:
        name, where = self._find(network)
        try:
            return kind.from_pretrained(name, trust_remote_code=False, **where, **settings)
        except Exception as error:  # the libraries raise of every kind at what is missing, cut off or of another class
            raise self.refusal(network, f"weights of {kind.__name__}", error) from error

    def _find(self, network: str) -> tuple[str, dict[str, Any]]:
        """A directory or hub id, and what `from_pretrained` must know of it."""
        place = self.places[network]
        folder = path_of(place)
        name, _, revision = place.partition("@")
        if folder.is_dir():
            return str(folder), {"local_files_only": True}
        if folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
            found = "a file" if folder.exists() else "nothing there"
            raise AttnregError(
                f"expected a directory in transformers' layout or a hub id like org/name for {network!r}, got "
                f"{place!r} ({found}); check the spelling"
            )
        return name, {"local_files_only": not self.download, "revision": revision or "main"}

    def refusal(self, network: str, what: str, error: Exception) -> AttnregError:
        """The error to raise for one that a library raised while it opened a network."""
        place = self.places[network]
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if path_of(place).is_dir():
            remedy = "check the directory"
        else:
            remedy = "check the id and the network" if self.download else "give a directory, or allow the download"
        return AttnregError(f"expected {what} for {network!r}, got {place!r}: {first[:300]}; {remedy}")


def find_weights(source: Source, usual: Mapping[str, str], device: str = "cpu", download: bool = False) -> Weights:
    """The weights that a source names; what it doesn't name is as usual. Raises `AttnregError` for other names."""
    places = dict(usual)
    names = ", ".join(usual)
    if isinstance(source, str) and "=" in source and not Path(source).exists():
        parts = [part.partition("=") for part in source.split(",")]
        source = {name.strip(): place.strip() for name, _, place in parts}
    if isinstance(source, Mapping):
        for name, place in source.items():
            if name not in usual or not str(place):
                raise AttnregError(f"expected weights by the names {names}, got {name}={place}; choose one of them")
            places[name] = str(place)
    elif source is not None:
        if len(usual) != 1:
            raise AttnregError(
                f"expected weights for each of {names or 'no network'}, got {str(source)!r}; "
                + (f"write {','.join(f'{name}=DIRECTORY' for name in usual)}" if usual else "leave the source out")
            )
        places = {name: str(source) for name in usual}
    return Weights(places, check_device(device), download)


def need(library: str, package: str, extra: str) -> None:
    """Raises `AttnregError` unless a library can be imported."""
    if find_spec(library) is None:
        raise AttnregError(
            f"expected {package} for this judge, got no module {library!r}; pip install 'attnreg[{extra}]'"
        )
