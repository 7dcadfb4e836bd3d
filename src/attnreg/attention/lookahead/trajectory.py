"""Steps that are taken beside a pipeline before it takes its own: where a start leads, and what it was asked there."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnreg.attention.attending import Words
from attnreg.attention.calls.call import Call, contained, prediction_in
from attnreg.attention.layers.unchanged import Unchanged
from attnreg.attention.lookahead.guidance import Guidance
from attnreg.attention.lookahead.map_recorder import MapRecorder
from attnreg.attention.lookahead.noise_schedule import mixture, parts_of
from attnreg.attention.watching import Group, Watch, grouped
from attnreg.regulation.edit import Maps
from attnreg.types import Grid

Latents = Float[Tensor, "image *latent"]
Looked = list[tuple[str, Sequence[int], Grid, Float[Tensor, "image target pixel"]]]
"""What layers attended to in one call: see `watching.Note`."""


class Asked(NamedTuple):
    """One call of the denoiser."""

    given: dict[str, Any]
    """By name."""
    output: Any
    looked: Looked


class Trajectory(NamedTuple):
    """Where the starts of some images lead."""

    clean: Latents
    """The pictures that are predicted in the last step, float32."""
    maps: list[list[Maps]]
    """Of every image, what each layer attends to in that step."""
    asked: list[Asked]


class OwnSteps:
    """A copy of the pipeline's scheduler: it takes the very steps that the pipeline will, to the bit.

    Not where the scheduler draws noise in its steps, which is the pipeline's to draw: then there is no next step.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = copy.deepcopy(scheduler)
        for stand_in in ("scale_model_input", "step"):  # the original's: they are not copied with what they belong to
            vars(self.scheduler).pop(stand_in, None)

    def begin(self, latents: Latents) -> Latents:
        """What it steps with: the pipeline's own latents."""
        return latents

    def given(self, state: Latents, time: Tensor) -> Latents:
        """What the denoiser is given of them: scaled as the pipeline scales them."""
        if not hasattr(self.scheduler, "scale_model_input"):
            return state
        scaled: Tensor = self.scheduler.scale_model_input(state, time)
        return scaled

    def step(self, guided: Latents, time: Tensor, then: Tensor, state: Latents) -> Latents | None:
        """The pipeline's next latents; `None` if noise was drawn."""
        generator = torch.Generator().manual_seed(0)
        options = {"generator": generator} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        with torch.random.fork_rng([state.device] if state.device.type == "cuda" else []):
            before = generator.get_state(), torch.get_rng_state()
            stepped: Tensor = self.scheduler.step(guided, time, state, **options, return_dict=False)[0]
            quiet = all(map(torch.equal, before, (generator.get_state(), torch.get_rng_state())))
        return stepped if quiet else None


class LargeSteps:
    """DDIM without noise (Song et al., 2021, arXiv:2010.02502, equation 12), whatever scheduler the pipeline has.

    Latents of diffusion are of variance 1 all the way, as `scaled` makes the pipeline's at the first step. Under flow
    matching it is Euler's method, the line being straight anyway.
    """

    def __init__(self, scheduler: Any, scaled: Callable[[Latents], Latents]) -> None:
        self.scheduler, self.scaled = scheduler, scaled

    def begin(self, latents: Latents) -> Latents:
        """The scaled latents."""
        return self.scaled(latents)

    def given(self, state: Latents, time: Tensor) -> Latents:
        """They are what the denoiser is given."""
        return state

    def step(self, guided: Latents, time: Tensor, then: Tensor, state: Latents) -> Latents:
        """From one noise level to the other in a straight line."""
        clean, noise = parts_of(self.scheduler, guided, state, time)
        signal, spread = mixture(self.scheduler, then)
        return (signal * clean + spread * noise).to(state)


class LookAhead:
    """Follows starts of a call's images under the pipeline's guidance; nothing of the pipeline is touched.

    Where `hindrance.of_starts` knows of nothing that is in the way.
    """

    def __init__(
        self,
        pipe: Any,
        look: MapRecorder,
        call: Call,
        scaled: Callable[[Latents], Latents],
        watch: Watch | None = None,
        words: Words = (),
    ) -> None:
        self.pipe, self.look, self.call, self.scaled = pipe, look, call, scaled
        self.without = call.of_negatives()
        """The pipeline's further call in every step, if it guides by one."""
        self.watch, self.words = watch, words
        """What the pipeline need not compute again it cannot see again: it is noted here, of every image's words."""
        self.times: Tensor = pipe.scheduler.timesteps
        self.guidance = Guidance(pipe, call.family)
        self.draws_noise = False
        """Whether the pipeline's scheduler was seen to draw noise in its steps."""

    def follow(self, rows: Sequence[int], latents: Latents, stops: tuple[int, ...], closely: bool = False) -> Followed:
        """The latents, to be denoised at the stops under the prompts of those rows, one each.

        closely: in every step up to the last stop, as the pipeline itself would. So it is done anyway if the stops
        leave none out; but never with a scheduler that draws noise.
        """
        return Followed(self, rows, latents, stops, closely)

    def walk(
        self, solver: OwnSteps | LargeSteps, rows: Sequence[int], latents: Latents, stops: Sequence[int]
    ) -> Generator[Trajectory | None, int, None]:
        """Goes as far as it is sent, so many stops from the first, and tells where that is; `None` if noise was drawn.

        What layers attend to is told of the stops where it rests.
        """
        family, others = self.call.family, self.call.unconditional_rows()
        without = [] if others is None else [others[row % self.call.images] for row in rows]
        # In the order of the batch: asked of all of it, the denoiser is asked what the pipeline will ask.
        batch = sorted({*rows, *without})
        places = {row: place for some in (rows, without) for place, row in enumerate(some)}
        prompted, plain = [batch.index(row) for row in rows], [batch.index(row) for row in without]
        asked: list[Asked] = []
        watch = self.watch if isinstance(solver, OwnSteps) else None  # of other steps the pipeline takes none
        groups = self._groups(rows, prompted) if watch else []
        state = solver.begin(latents)
        far = yield None
        for number, stop in enumerate(stops, 1):
            time = self.times[stop]
            own = solver.given(state, time)
            sample = self.call.beside(own[[places[row] for row in batch]].to(self.call.sample), batch)
            arguments = self.call.at(time).of_rows(batch, **{family.sample: sample})
            handed = contained(arguments)
            looked: Looked = []
            acts = watch.acts(arguments, groups, lambda *one, noted=looked: noted.append(one)) if watch else {}
            maps: list[list[Maps]] = []
            if number == far:
                output, maps = self.look.by_layer(self.call, handed, prompted, beside=acts)
                looked += self._looked(maps, rows) if watch else []
            else:
                with self.look.layers.acting(acts):
                    output = self.call.denoise(**handed)
            # What does not differ from step to step is kept once, a copy: a callback may write to the pipeline's own.
            before = asked[0].given if asked else arguments
            own_arguments = before | {name: arguments[name] for name in (family.sample, family.time)}
            asked.append(Asked(own_arguments, output, looked))
            predicted = family.own(prediction_in(output), latents)
            guided = predicted[prompted]
            if plain:
                guided = self.guidance(guided, predicted[plain])
            elif self.without:
                asked.append(self._asked_without(sample, time, batch, asked))
                guided = self.guidance(guided, family.own(prediction_in(asked[-1].output), latents)[prompted])
            if number == far:
                clean, _ = parts_of(self.pipe.scheduler, guided, own, time)
                far = yield Trajectory(clean, maps, [*asked])
            if number < len(stops):
                stepped = solver.step(guided, time, self.times[stops[number]], state)
                if stepped is None:
                    yield None
                    return
                state = stepped

    def _asked_without(self, sample: Tensor, time: Tensor, batch: Sequence[int], asked: list[Asked]) -> Asked:
        """The call without the prompt that follows one with it; asked: all before it, of both kinds in turn."""
        assert self.without is not None
        family = self.call.family
        arguments = self.without.at(time).of_rows(batch, **{family.sample: sample})
        output = self.without.denoise(**contained(arguments))
        before = asked[1].given if len(asked) > 1 else arguments
        return Asked(before | {name: arguments[name] for name in (family.sample, family.time)}, output, [])

    def _groups(self, rows: Sequence[int], places: Sequence[int]) -> list[Group]:
        """The rows of a part of the batch, at their places in it."""
        images = dict(self.call.pairs)
        words = {image: one for image, one in enumerate(self.words) if one is not None}
        return grouped([(place, images[row]) for row, place in zip(rows, places, strict=True)], words)

    def _looked(self, maps: list[list[Maps]], rows: Sequence[int]) -> Looked:
        """The same of layers whose whole attention was noted, for each of the rows."""
        images, looked = dict(self.call.pairs), list[Any]()
        for row, of_layers in zip(rows, maps, strict=True):
            if (words := self.words[images[row]]) is None:
                continue
            for layer, one in zip(self.look.text, of_layers, strict=True):
                if self.watch and layer in self.watch.layers:
                    targets = [one.cross[:, list(columns)].sum(-1) for columns in words.columns.targets]
                    looked.append((layer, [images[row]], one.grid, torch.stack(targets).unsqueeze(0)))
        return looked


class Followed:
    """Starts on their way: each can be followed a part of it, and on from there."""

    def __init__(
        self, ahead: LookAhead, rows: Sequence[int], latents: Latents, stops: tuple[int, ...], closely: bool
    ) -> None:
        self.ahead, self.rows, self.latents, self.stops = ahead, rows, latents, stops
        every = tuple(range(stops[-1] + 1))
        self.own = not ahead.draws_noise and (closely or every == stops)
        """Whether the pipeline's own steps are taken."""
        self.rests: tuple[int, Trajectory] | None = None
        self._begin(OwnSteps(ahead.pipe.scheduler) if self.own else LargeSteps(ahead.pipe.scheduler, ahead.scaled))

    def to(self, stops: int | None = None) -> Trajectory:
        """Follow them to one of the stops, counted from 1, which they have not passed.

        Without a number to the last, and in the pipeline's own steps if that was asked for.
        """
        far = min(stops or len(self.stops), len(self.stops))
        if self.rests and self.rests[0] == far:
            return self.rests[1]
        reached = self.walk.send(self.stops[far - 1] + 1 if self.own else far)
        if reached is None:  # from the beginning: the pipeline's own noise is not to be guessed
            self.ahead.draws_noise, self.own = True, False
            self._begin(LargeSteps(self.ahead.pipe.scheduler, self.ahead.scaled))
            reached = self.walk.send(far)
        assert reached is not None
        self.rests = far, reached
        return reached

    @property
    def to_here(self) -> Trajectory:
        """Where they are; they have been followed to some stop."""
        assert self.rests is not None
        return self.rests[1]

    def _begin(self, solver: OwnSteps | LargeSteps) -> None:
        stops = tuple(range(self.stops[-1] + 1)) if self.own else self.stops
        self.walk = self.ahead.walk(solver, self.rows, self.latents, stops)
        next(self.walk)


class CachedPredictions:
    """What the denoiser returned when starts were followed, for a pipeline that then goes the same way."""

    def __init__(self, denoiser: nn.Module, asked: list[Asked]) -> None:
        self.unchanged, self.asked = Unchanged(denoiser), asked

    def recall(self, arguments: Mapping[str, Any]) -> Asked | None:
        """The call with the very same arguments, to the bit; `None`, from then on, once it is asked something else.

        Or once it is another than it was (a callback may turn an adapter off), or gradients are wanted, for which what
        is remembered has no graph.
        """
        if not self.asked:
            return None
        first, *self.asked = self.asked
        if not torch.is_grad_enabled() and _alike(arguments, first.given) and self.unchanged():
            return first
        self.asked = []
        return None


def _alike(first: Any, second: Any) -> bool:
    """Whether two arguments of a denoiser are the same, whatever they are made of."""
    if first is second:
        return True
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.dtype == second.dtype and first.device == second.device and torch.equal(first, second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_alike(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_alike, first, second))
    return bool(type(first) is type(second) and first == second)
