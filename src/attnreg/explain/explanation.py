"""One prompt and seed explained: drawn without the method and with it, and watched both times."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from attnreg.account import account, acted
from attnreg.attention.installation import Edit, Targets
from attnreg.plot.explained import chosen, figure
from attnreg.sampling import generate
from attnreg.trace import Sample, Seen
from attnreg.trace.neglect import NEGLECTED
from attnreg.types import Target

DIGITS = 4
"""Of the numbers in the JSON."""


@dataclass(frozen=True)
class Explanation:
    """What one picture attended to, word by word and step by step, without the method and with it."""

    prompt: str
    seed: int
    method: str
    """As it was asked for."""
    without: Sample
    """The unmodified picture and its trace."""
    regulated: Sample | None
    """The picture of the method and its trace; `None` for the method "none"."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """What was looked for, in the order of all arrays."""
        return self.without.trace.targets[0]

    @property
    def acted(self) -> str:
        """The method that acted: `method` itself, unless it left that to the run."""
        return (acted(self.regulated.trace) if self.regulated else "") or self.method

    def seen(self, regulated: bool = False) -> Seen:
        """The maps as arrays, of the unmodified picture or of the method's: see `trace.Seen`."""
        return self._sample(regulated).trace.seen()

    def neglected(self, regulated: bool = False) -> dict[str, float]:
        """How likely each word is to be missing from the unmodified picture, or from the method's: 0 to 1."""
        return self.seen(regulated).neglected()

    def missing(self, regulated: bool = False) -> list[str]:
        """The words that may be missing, by their neglect score."""
        return [word for word, score in self.neglected(regulated).items() if score >= NEGLECTED]

    def account(self) -> str:
        """What the method did, in one line."""
        return account(self.regulated) if self.regulated else "nothing was changed"

    def figure(self) -> Any:
        """A PIL image: each picture beside its words' maps at five steps, and their shares of attention over all."""
        panels = [self.seen().panel(f"Unmodified, seed {self.seed}", self.without.picture)]
        if self.regulated:
            name = self.method if self.acted == self.method else f"{self.method}: {self.acted}"
            panels.append(self.seen(regulated=True).panel(f"With {name}", self.regulated.picture))
        return figure(panels, title=self.prompt, footer=self.account())

    def told(self) -> dict[str, Any]:
        """All of it as plain numbers, lists and words, for JSON.

        Shares are told of every step, maps of the steps that the figure shows: `[step][row][column]`, attention
        probabilities.
        """
        trace = self.regulated.trace if self.regulated else None
        sides = {"unmodified": self.seen()} | ({"regulated": self.seen(regulated=True)} if self.regulated else {})
        first = sides["unmodified"]
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            "method": self.method,
            "acted": self.acted,
            "account": self.account(),
            "layers": list(first.layers),
            "steps": first.total,
            "map": {"height": first.before.shape[2], "width": first.before.shape[3]},
            "neglected_from": NEGLECTED,
            "words": [
                {"text": target.text, "tokens": list(target.tokens), "pieces": list(target.pieces)}
                | {side: _of_word(seen, index) for side, seen in sides.items()}
                for index, target in enumerate(self.targets)
            ],
            "did": {
                "layers": list(trace.layers) if trace and trace.records else [],
                "regulated_steps": trace.regulated_steps if trace else 0,
                "decisions": [asdict(one) for one in trace.decisions] if trace else [],
                "initial_noises": [asdict(one) for one in trace.starts] if trace else [],
                "latent_updates": [asdict(one) for one in trace.updates] if trace else [],
                "attention": trace.attention()[0] if trace and trace.records else {},
            },
            "seconds": {side: round(self._sample(side == "regulated").seconds, 3) for side in sides},
        }

    def _sample(self, regulated: bool) -> Sample:
        return self.regulated if regulated and self.regulated else self.without


def explain(
    pipe: Any,
    prompt: str,
    edit: Edit | None,
    *,
    method: str = "",
    seed: int = 0,
    targets: Targets = None,
    adjectives: bool = True,
    **options: Any,
) -> Explanation:
    """Draw one prompt and seed without a method and with it, and tell what the model attended to both times.

    Args:
        pipe: a pipeline of diffusers, of a family in `attention.families.FAMILIES`.
        prompt: one prompt.
        edit: the method, from `sampling.configure` or a config such as `AttentionBalance()`; `None`: only the
            unmodified picture is drawn.
        method: what the method is called in the figure; by default its class.
        seed: decides the pictures, which are the same as those of `sampling.generate` to the bit.
        targets: words or phrases of the prompt that are looked for; by default its noun phrases.
        adjectives: whether their adjectives belong to them.
        options: the pipeline's own, as of `sampling.generate`.

    Returns:
        Pictures, arrays and a figure.

    Raises:
        AttnregError: the prompt names no thing, or it cannot be drawn or looked at.
    """
    given: dict[str, Any] = {"seed": seed, "targets": targets, "adjectives": adjectives, "maps": True, **options}
    without = generate(pipe, prompt, None, **given)
    without.trace.seen()  # says what is missing before a second picture is drawn
    regulated = None if edit is None else generate(pipe, prompt, edit, **given)
    name = method or ("none" if edit is None else type(edit).__name__)
    return Explanation(prompt, seed, name, without, regulated)


def _of_word(seen: Seen, index: int) -> dict[str, Any]:
    """One word's numbers."""
    maps = seen.after[:, index]
    return {
        "neglect": round(list(seen.neglected().values())[index], DIGITS),
        "share": [float(f"{share:.{DIGITS}g}") for share in seen.shares()[:, index].tolist()],
        "steps": [seen.steps[at] for at in chosen(seen.steps)],
        "maps": [
            [[float(f"{value:.{DIGITS}g}") for value in row] for row in maps[at].tolist()] for at in chosen(seen.steps)
        ],
    }
