"""Settings of a method that were chosen for one model: `--preset tuned`. The published ones stay the defaults.

One JSON file a bundled model lies beside this one: method -> name of the preset -> settings, and how they were chosen.
`attnreg bench tune` writes a file of the same form, which is named by its path.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnreg.errors import AttnregError
from attnreg.reading import RECIPE, json_of, text_of

HERE = Path(__file__).parent


def settings_of_preset(preset: str, method: str, model: str) -> dict[str, Any]:
    """The settings that a preset gives a method.

    Args:
        preset: a name such as "tuned", or the path of a file that `attnreg bench tune` wrote.
        method: a name of `METHODS`.
        model: a bundled one, by name; a file is asked for its method alone.

    Returns:
        Setting -> value, as `attnreg.sampling.configure` takes them.

    Raises:
        AttnregError: there is no such preset of this method for this model.
    """
    if preset.endswith(".json"):
        named = _read(Path(preset)).get(method, {})
        if len(named) != 1:
            raise AttnregError(
                f"expected a preset of {method} in {preset}, got {', '.join(_read(Path(preset))) or 'none'}; "
                f"make one with attnreg bench tune {method}"
            )
        return _settings(next(iter(named.values())), preset)
    known = presets_of(method, model)
    if preset not in known:
        raise AttnregError(_unknown(preset, method, model, known))
    return known[preset]


def presets_of(method: str, model: str) -> dict[str, dict[str, Any]]:
    """Every preset of a method for a bundled model, by name; empty for any other model."""
    path = HERE / f"{model}.json"
    if Path(model).name != model or not path.is_file():
        return {}
    return {name: _settings(one, str(path)) for name, one in _read(path).get(method, {}).items()}


def bundled() -> list[str]:
    """The models for which presets come with the package."""
    return sorted(path.stem for path in HERE.glob("*.json"))


def _unknown(preset: str, method: str, model: str, known: Mapping[str, Any]) -> str:
    if known:
        close = difflib.get_close_matches(preset, known, n=1)
        advice = f"did you mean {close[0]}?" if close else "choose one of them, or leave it out"
        return f"expected a preset of {method} for {model} ({', '.join(known)}), got {preset!r}; {advice}"
    return (
        f"expected a preset {preset!r} of {method} for {model}, for which there is none; leave it out to take the "
        f"published settings, or make a file with attnreg bench tune {method} --model {model} and give its path"
    )


def _read(path: Path) -> dict[str, dict[str, Any]]:
    told = json_of(text_of(path, "a file of presets as attnreg bench tune writes it", RECIPE.bytes), str(path), RECIPE)
    if not isinstance(told, dict) or not all(isinstance(one, dict) for one in told.values()):
        raise AttnregError(
            f"expected methods with presets in {path}, got something else; make it with attnreg bench tune"
        )
    return told


def _settings(told: object, where: str) -> dict[str, Any]:
    settings = told.get("settings") if isinstance(told, dict) else None
    if not isinstance(settings, dict):
        raise AttnregError(f"expected a preset with its settings in {where}, got none; make it with attnreg bench tune")
    return {name: _tuples(value) for name, value in settings.items()}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
