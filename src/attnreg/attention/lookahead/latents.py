"""How other latents reach a pipeline, moved or begun anew: the denoiser and the scheduler are given them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.attention.attending import Time
from attnreg.attention.calls.call import Call
from attnreg.attention.calls.prepared import Prepared
from attnreg.attention.lookahead.controls import Controls
from attnreg.attention.lookahead.hindrance import of_latents, of_starts
from attnreg.attention.lookahead.initial_noises import InitialNoises
from attnreg.attention.lookahead.map_recorder import MapRecorder
from attnreg.attention.lookahead.noise_schedule import pushed
from attnreg.attention.lookahead.sight import StepSight, under
from attnreg.regulation.edit import LatentEdit
from attnreg.trace import Trace
from attnreg.types import AttnregError, LatentRecord

Latents = Float[Tensor, "image *latent"]


class _Scaling(NamedTuple):
    """A call of the scheduler's `scale_model_input`."""

    scale: Callable[..., Tensor]
    latents: Tensor
    timestep: Any


class _Moved(NamedTuple):
    """Latents that others took the place of, of every image."""

    before: Latents
    after: Latents
    scaled: Callable[[Latents], Latents]
    """As the pipeline scales them for the denoiser."""
    sample: Tensor
    """What the denoiser was given with them."""


class MovedLatents:
    """The latents of one call of a pipeline, before and after others took their place, and what steps them otherwise.

    In the first step a start may be chosen; in every one the latent may be moved, from where it then is. Before each
    step a pipeline lets its scheduler scale the latents for the denoiser: there they are seen. After it the
    pipeline hands them to `scheduler.step`: there they are exchanged for the moved ones, so that the step is taken from
    where the prediction was made. Where guidance has calls of its own, these are given the moved ones in between.
    """

    def __init__(
        self, pipe: Any, starts: InitialNoises | None, edit: LatentEdit | None, look: MapRecorder | None, trace: Trace
    ) -> None:
        self.pipe, self.starts, self.edit, self.look, self.trace = pipe, starts, edit, look, trace
        self.controls = Controls()
        self.forget()

    def forget(self) -> None:
        """Back to before any step of a picture."""
        self.memory: dict[int, dict[str, Any]] = {}
        self.scalings: list[_Scaling] = []
        self.moved: _Moved | None = None
        """Until the scheduler has taken the step."""
        self.push: Latents | None = None
        """What is added to the velocity that is predicted in this step, of every image; also until then."""
        self.began = False
        """Whether the denoiser has been asked for the prompts in the step that is being taken."""
        self.spared: set[int] = set()
        """Images whose start needs no help."""
        self.controls.forget()
        if self.starts:
            self.starts.forget()

    def around_scale(self, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Note the latents that are scaled. (A ControlNet's may be among them: the call tells which were meant.)"""

        @wraps(original)
        def scale_model_input(sample: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            timestep = args[0] if args else kwargs.get("timestep")
            self.scalings = [*self.scalings[-3:], _Scaling(original, sample, timestep)]
            return original(sample, *args, **kwargs)

        return scale_model_input

    def around_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Take the step from the moved latents."""

        @wraps(original)
        def step(model_output: Any, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            moved, push, self.moved, self.push, self.began = self.moved, self.push, None, None, False
            if moved is not None:
                sample = _moved(sample, moved.before, moved.after)
            if push is not None:
                model_output = pushed(self.pipe.scheduler, model_output, push.reshape(sample.shape), timestep)
            return original(model_output, timestep, sample, *args, **kwargs)

        return step

    def begin_call(self) -> list[_Scaling]:
        """What was scaled for this call of the denoiser under the prompts; the next one's begins."""
        self.began = True
        scalings, self.scalings = self.scalings, []
        return scalings

    def beside(self, call: Call, moves: bool) -> Call | None:
        """A call of the same step without the prompt, with the moved latents; `None` if none were, or it is of others.

        Args:
            call: of the denoiser.
            moves: whether latents are moved in the step that a call for the prompt would begin.

        Raises:
            AttnregError: if it comes before the call for the prompt, when it is not known where they will be moved.
        """
        if moves and not self.began:
            raise AttnregError(
                f"expected {type(self.pipe).__name__} to denoise under the prompt first in each step, got a call "
                "without it, which would be of other latents; choose a method that edits attention"
            )
        moved = self.moved
        if moved is None or (call.sample.shape == moved.sample.shape and not torch.equal(call.sample, moved.sample)):
            return None
        after = moved.scaled(torch.cat([moved.after] * (len(call.sample) // len(moved.after))))
        return call.given(**{call.family.sample: call.beside(after.to(call.sample))})

    def exchange(
        self,
        call: Call,
        prepared: Prepared,
        scalings: list[_Scaling],
        time: Time,
        acting: Sequence[str],
        rewritten: Callable[[Call], Call],
    ) -> Call:
        """The call as `rewritten` makes it, with other latents, one image after the other, each seen alone.

        Starts are chosen by the model as it is, before the call is rewritten; by then it is known who is spared.
        prepared: what was made of every image's prompt.
        Raises `AttnregError` for a scheduler or a pipeline under which the latents cannot be followed, unless it is
        left to the run what acts.
        """
        self.moved = self.push = None
        words = prepared.words
        starts = self.starts if "start" in acting and any(words) else None
        moves = "latent" in acting and _heeds_latents(self.pipe.scheduler)
        if not starts and not moves:
            return rewritten(call)
        fitting = [one for one in scalings if len(one.latents) == len(call.sample)]
        scaling = fitting[-1] if fitting else None
        given = scaling.latents if scaling else call.sample
        hindrance = (of_starts if starts else of_latents)(self.pipe, call, given)
        followed = starts.followed(prepared, hindrance) if starts else ()
        if starts and not any(followed):  # another edit acts in the place of this one
            return rewritten(call)
        if hindrance:
            raise AttnregError(hindrance.error)
        before = given[: call.images]

        def scaled(latents: Latents) -> Latents:
            return scaling.scale(latents, scaling.timestep) if scaling else latents

        after = before.clone()
        if starts:
            after, self.spared = starts.chosen(self.controls.attached(call), followed, prepared, before, scaled)
        call = rewritten(call)
        if moves:
            rows = sorted(call.first_rows.items())
            needy = {image: row for image, row in rows if words[image] is not None and image not in self.spared}
            call = self._move(call, needy, prepared, time, after, scaled)
        if torch.equal(after, before):
            return call
        self.moved = _Moved(before, after, scaled, call.sample)
        sample = scaled(torch.cat([after] * (len(given) // call.images))).to(call.sample)
        return self.controls.attached(call).given(**{call.family.sample: call.beside(sample)})

    def _move(
        self,
        call: Call,
        rows: dict[int, int],
        prepared: Prepared,
        time: Time,
        latents: Latents,
        scaled: Callable[[Latents], Latents],
    ) -> Call:
        """Move each image's latent, in place, and note what is added to its prediction; the call as it is then read."""
        edit, look, texts = self.edit, self.look, dict[int, Tensor]()
        assert edit is not None
        assert look is not None
        with look.ready(call):
            for image, row in rows.items():
                one = prepared.words[image]
                assert one is not None
                see = StepSight(self.pipe, look, call, row, scaled, prepared.emptied[image])
                place = row % call.images
                # A copy made outside of inference mode, under which pipelines may run, can have a gradient.
                with torch.inference_mode(False), torch.enable_grad():
                    memory = self.memory.setdefault(image, {})
                    updated = edit.update(latents[place].clone(), see, one, time.step, time.total, memory)
                latents[place] = updated.latent.detach().to(latents)
                if updated.push is not None:
                    self.push = torch.zeros_like(latents) if self.push is None else self.push
                    self.push[place] = updated.push.detach().to(latents)
                if updated.text is not None:
                    texts |= {at: updated.text.detach() for at, of in call.pairs if of == image}
                self.trace.updates.append(
                    LatentRecord(time.step, image, updated.loss_before, updated.loss_after, updated.passes)
                )
        return under(call, texts) if texts else call


def _heeds_latents(scheduler: Any) -> bool:
    """Whether the scheduler's next step starts from the latents that it is given.

    Heun's and like schedulers, single-step DPM++ and PNDM's Runge-Kutta steps make a step of several calls of the
    denoiser, all but the first of which only correct its direction; without Runge-Kutta steps PNDM's second call does
    so too. Raises `AttnregError` for schedulers that correct the step before in every one, from latents that they keep.
    """
    if hasattr(scheduler, "last_sample"):
        raise AttnregError(
            f"expected a scheduler that steps from the latents it is given, got {type(scheduler).__name__}, which "
            "steps from those of the step before; choose DDIM, Euler, Heun or DPM++"
        )
    # PNDM's Runge-Kutta steps take four calls each.
    if (call := getattr(scheduler, "counter", 0)) < len(getattr(scheduler, "prk_timesteps", ())):
        return bool(call % 4 == 0)
    if not getattr(scheduler, "state_in_first_order", True):
        return False
    if orders := getattr(scheduler, "order_list", None):
        return bool(orders[scheduler.step_index or 0] == 1)
    return not (getattr(scheduler, "counter", 0) == 1 and len(getattr(scheduler, "ets", [])) == 1)


def _moved(sample: Tensor, before: Latents, after: Latents) -> Tensor:
    """The latents that a scheduler is given, moved as those of the denoiser were; their shape may differ.

    Raises `AttnregError` if they are others.
    """
    if sample.numel() != before.numel():
        raise AttnregError(
            f"expected the scheduler to step from the latents that the denoiser was given, {tuple(before.shape)}, got "
            f"{tuple(sample.shape)}; this pipeline arranges them in a way that is not known: choose a method that "
            "edits attention"
        )
    before, after = before.reshape(sample.shape), after.reshape(sample.shape)
    return after if torch.equal(sample, before.to(sample)) else sample + (after - before)
