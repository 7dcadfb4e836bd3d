"""Where each method's settings are searched when it is tuned for a model: `attnreg bench tune`.

Values around the published ones, to both sides where there are two; a candidate is one value of each row. Windows are
parts of the denoising steps. Every method is given the same budget, however large its space is.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Space: TypeAlias = dict[str, tuple[Any, ...]]
"""Setting -> the values that are tried."""

_WINDOWS = ((0.0, 0.25), (0.0, 0.5), (0.0, 0.75))
_MOVED: Space = {"step_size": (2.5, 5.0, 10.0, 20.0, 40.0), "window": _WINDOWS}
_REFINED: Space = {**_MOVED, "refinements": (0, 5, 20), "padding": (True, False)}
_ADDED: Space = {"layers": (("auto",), ("all",)), "window": (*_WINDOWS, (0.0, 1.0))}

SPACES: dict[str, Space] = {
    "attend-and-excite": {**_REFINED, "thresholds": ((0.05, 0.5, 0.8), (0.3, 0.6, 0.9), (0.0, 0.25, 0.5))},
    "divide-and-bind": {**_REFINED, "refinements": (0, 5, 20, 50), "binding": (0.0, 1.0)},
    "syngen": _MOVED,
    "conform": _REFINED,
    "initno": {**_REFINED, "noises": (0, 1, 3, 5), "last_steps": (0, 10, 50)},
    "saga": {
        "step_size": (5.0, 10.0, 20.0, 40.0),
        "updates": (10, 25, 50),
        "noises": (1, 4, 10),
        "momentum": (0.0, 0.4, 0.7),
        "window": ((0.1, 0.6), (0.2, 0.6), (0.3, 0.6)),
        "padding": (True, False),
    },
    "frap": {
        "step_size": (0.1, 0.25, 0.5, 1.0, 2.0),
        "binding": (0.0, 0.5, 1.0),
        "reach": (0.2, 0.4, 0.8),
        "window": (*_WINDOWS, (0.0, 1.0)),
        "padding": (True, False),
    },
    "focus": {
        "step_size": (0.5, 1.0, 2.0, 4.0, 8.0),
        "layers": (("auto",), ("all",)),
        "window": (*_WINDOWS, (0.0, 1.0)),
    },
    "self-cross": {**_REFINED, "overlap": (0.25, 1.0, 4.0)},
    "attention-regulation": {**_ADDED, "strength": (0.25, 0.5, 1.0)},
    "attention-balance": {**_ADDED, "window": ((0.0, 0.33), (0.0, 0.67), (0.0, 1.0)), "gain": (1.5, 3.0, 5.0)},
    "deleaker": {
        "gain": (1.0, 1.2, 1.5),
        "spread": (0.5, 1.0, 1.5),
        "leak": (0.0, 1.0, 2.0),
        "strength": (0.5, 1.0),
        "window": (*_WINDOWS, (0.0, 1.0)),
    },
    "attention-scaling": {**_ADDED, "shift": (0.5, 1.0, 2.0)},
    "tome": {
        "noun": (0.9, 1.1, 1.4),
        "modifiers": (0.6, 1.2, 1.8),
        "ends": (True, False),
        "window": (*_WINDOWS, (0.0, 1.0)),
    },
    "best-start": {
        "enough": (0.9, 1.1, 1.3, 1.6),
        "good": (1.3, 1.6, 2.0),
        "starts": (4, 7, 10, 16),
        "group": (1, 2, 3, 4),
    },
}
"""Method -> its space. A method that has none here cannot be tuned."""
