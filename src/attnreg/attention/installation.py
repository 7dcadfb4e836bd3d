"""What carries the stand-ins on a pipeline's instances, and takes them off again.

Nothing of the model is replaced. While installed, some callables carry stand-ins set on the instances:
`pipe.encode_prompt` (tells which prompt and which embeddings), the denoiser's `forward` (tells the step, the size of
the latent and which rows of the batch belong to the prompt), the `forward` of each attention module that is edited or
looked at and, for edits of the latent, two methods of the scheduler and the `forward` of a ControlNet. Removing them
restores the very objects that were there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from attnreg.attention.attending import Attending
from attnreg.attention.calls.beside import TextsBeside
from attnreg.attention.calls.edits import Unedited, edits_for, edits_of, kinds_of
from attnreg.attention.families import beside, family_of, select_layers, tokenizer_of
from attnreg.attention.families.family import Family
from attnreg.attention.families.probed import Probed
from attnreg.attention.layers.acting import Layers
from attnreg.attention.layers.catch import ForwardPatch, Patch, place_of_forward
from attnreg.attention.lookahead.initial_noises import InitialNoises
from attnreg.attention.lookahead.latents import MovedLatents
from attnreg.attention.lookahead.map_recorder import MapRecorder
from attnreg.attention.modular import OrdinaryPipeline, as_ordinary
from attnreg.attention.probing.probing import Probing
from attnreg.attention.run import RegulatedRun
from attnreg.attention.watching import Watch
from attnreg.regulation.auto import Auto
from attnreg.regulation.columns import LogitEdit
from attnreg.regulation.edit import LatentEdit, ProbabilityEdit
from attnreg.regulation.joint import JointEdit
from attnreg.regulation.kinds import AttentionEdit, Composed, EmbeddingEdit, PredictionEdit, StartEdit
from attnreg.targets import TargetSpec
from attnreg.trace import Trace
from attnreg.types import AttnregError

Edit = (
    LogitEdit
    | ProbabilityEdit
    | AttentionEdit
    | JointEdit
    | EmbeddingEdit
    | LatentEdit
    | PredictionEdit
    | StartEdit
    | Composed
    | Auto
    | Unedited
)
"""Whatever can be installed: see `regulation.kinds`."""
Targets = Sequence[TargetSpec] | Sequence[Sequence[TargetSpec] | None] | None
"""`None`: the noun phrases of each prompt. One list: for every prompt. A list of lists (or `None`): one a prompt."""


class Installation:
    """One edit on one pipeline. Installing twice, or removing twice, does nothing more."""

    def __init__(
        self,
        pipe: Any,
        edit: Any,
        targets: Any,
        adjectives: bool = True,
        maps: bool = False,
        family: str | None = None,
        prompt: str | Sequence[str] | None = None,
    ) -> None:
        edit = Auto() if edit is None else edit
        if isinstance(targets, Composed | Auto) or kinds_of(targets) or isinstance(edit, str | list | tuple):
            wrong, place = (edit, "config") if isinstance(edit, str | list | tuple) else (targets, "targets")
            raise AttnregError(
                f"expected config=AttentionBalance(...) and targets=[...], got {type(wrong).__name__} as the "
                f"{place}; name both arguments"
            )
        if targets is not None and (isinstance(targets, str) or not isinstance(targets, Sequence)):
            raise AttnregError(
                f"targets: expected a list of words, phrases or token columns, got {targets!r}; write targets=['dog']"
            )
        edits = edits_of(edit)
        self.forced, pipe = family, as_ordinary(pipe)
        self.family, self.denoiser = family_of(pipe, family)
        self.family.check(pipe)
        self.modular = pipe if isinstance(pipe, OrdinaryPipeline) else None
        if self.modular:
            self.family = self.modular.family(self.family, prompt)
        probed = isinstance(self.family, Probed)
        if getattr(pipe, "encode_prompt", None) is None:
            raise AttnregError(
                f"expected a pipeline with .encode_prompt, got {type(pipe).__name__} without: what its prompts become "
                "cannot be told from what else it encodes; use the family's ordinary pipeline"
            )
        tokenizer_of(pipe, self.family)
        edits = edits_for(self.family, edits)
        self.pipe = pipe
        self.block = False
        """Whether it ends with a block, by itself."""
        self.closed = False
        """Whether its block has ended: it is not put back then when a block that was opened inside ends later."""
        owner = edits.logits or edits.attention or edits.joint
        text = select_layers(self.family, self.denoiser, owner.layers) if owner and not probed else {}
        image = beside(self.family, self.denoiser, list(text)) if edits.attention else {}
        every = select_layers(self.family, self.denoiser, ("all",)) if edits.embedding else {}
        seen = select_layers(self.family, self.denoiser, edits.latent.layers) if edits.latent else {}
        needs_self = edits.latent is not None and edits.latent.needs_self
        apart = needs_self and not self.family.sees_itself
        seen_image = beside(self.family, self.denoiser, list(seen)) if apart else {}
        begun = select_layers(self.family, self.denoiser, edits.start.layers) if edits.start else {}
        watches = maps or edits.start is not None
        self.looks_at = edit.layers if isinstance(edit, Unedited) else ("auto",)
        watched = self._watched(self.family, text) if watches and not probed else {}
        watch = Watch(self.family, self.denoiser, tuple(watched)) if watches else None
        self.modules = every | text | image | seen | seen_image | begun | watched
        self.layers = Layers(self.family.native.format(self.family.denoiser))
        self.trace = Trace(tuple(text or watched), keeps_maps=maps)
        attending = Attending(self.family, self.denoiser, edits, text, image, every, watch, self.trace)
        self.latents = None
        if edits.latent or edits.start:
            look = None
            if edits.latent:
                own = needs_self and not apart
                look = MapRecorder(self.denoiser, self.layers, tuple(seen), tuple(seen_image), own)
            starts = None
            if edits.start:
                beside_it = MapRecorder(self.denoiser, self.layers, tuple(begun), ())
                starts = InitialNoises(pipe, edits.start, beside_it, self.trace, edits.auto, watch)
            self.latents = MovedLatents(pipe, starts, edits.latent, look, self.trace)
        prompts = [prompt] if isinstance(prompt, str) else prompt
        self.beside = None if prompts is None else TextsBeside(pipe, self.family, prompts)
        self.run = RegulatedRun(
            pipe,
            self.family,
            self.denoiser,
            edits,
            targets,
            adjectives,
            self.trace,
            self.layers,
            attending,
            self.latents,
            self.beside,
        )
        self.patches: list[Patch] = []
        if isinstance(self.family, Probed):
            self.run.probing = Probing(pipe, self.family, self.denoiser, self.trace, self.settle)
            self.run.encodings.probe = self.run.probing.encoders

    def _watched(self, family: Family, edited: dict[str, nn.Module]) -> dict[str, nn.Module]:
        """The layers that are looked at, by name.

        The family's own choice, whatever the method, so that maps and scores compare; where an edit acts in none of
        these, those in which it acts.
        """
        chosen = select_layers(family, self.denoiser, self.looks_at)
        return edited if edited and not edited.keys() & chosen.keys() else chosen

    def settle(self, family: Probed) -> None:
        """Regulate, and watch, the layers that a probe has found; those that are no more are left alone."""
        edits_for(family, self.run.edits)
        edit, watch = self.run.edits.logits, self.run.attending.watch
        text = select_layers(family, self.denoiser, edit.layers) if edit else {}
        watched = self._watched(family, text) if watch else {}
        for name, module in (text | watched).items():
            if name not in self.modules:
                self.modules[name] = module
                self._patch(module, "forward", lambda forward, n=name, m=module: self.layers.around(n, m, forward))
        if watch:
            watch.family, watch.layers = family, tuple(watched)
        self.run.attending.text, self.trace.layers = text, tuple(text or watched)

    def install(self) -> None:
        """Put the stand-ins in place; all of them or none."""
        if self.patches:
            return
        try:
            self._patch(
                self.pipe, "encode_prompt", lambda original: self.run.around_encode_prompt(original, self.refresh)
            )
            around = self.run.around_denoiser
            self._patch_forward(self.denoiser, self.modular.around_denoiser(around) if self.modular else around)
            for name, module in self.modules.items():
                self._patch_forward(module, lambda forward, n=name, m=module: self.layers.around(n, m, forward))
            if self.latents and isinstance(getattr(self.pipe, "controlnet", None), nn.Module):
                self._patch_forward(self.pipe.controlnet, self.latents.controls.around)
            if self.beside and self.beside.encoder is not None:
                self._patch_forward(self.beside.encoder, self.beside.around_encoder)
            self._follow_scheduler()
            if self.modular:
                self.modular.enter()
        except BaseException:
            self.remove()
            raise
        self.run.live = True

    def refresh(self) -> None:
        """Put back stand-ins that someone has wiped: model offloading does, at the end of each picture.

        Raises `AttnregError` if the pipeline has another denoiser now. Another scheduler is followed.
        """
        if family_of(self.pipe, self.forced)[1] is not self.denoiser:
            raise AttnregError(
                f"expected the .{self.family.denoiser} that was regulated, got another one in its place; "
                "apply the regulation again"
            )
        for i, patch in enumerate(self.patches):
            if not self._is_below(getattr(patch.owner, patch.name)):
                self.patches[i] = patch.again()
        self._follow_scheduler()

    def _is_below(self, stand_in: Any) -> bool:
        """Whether a callable is a stand-in of this installation, or wraps one (of another pipeline that shares it)."""
        while stand_in is not None:
            if getattr(stand_in, "attnreg_installation", None) is self:
                return True
            stand_in = getattr(stand_in, "__wrapped__", None)
        return False

    def _follow_scheduler(self) -> None:
        """Let the stand-ins of the scheduler be on the one that the pipeline has now."""
        if self.latents is None:
            return
        stand_ins: dict[str, Callable[..., Any]] = {
            "scale_model_input": self.latents.around_scale, "step": self.latents.around_step
        }  # fmt: skip
        scheduler = self.pipe.scheduler
        for patch in [one for one in self.patches if one.name in stand_ins and one.owner is not scheduler]:
            patch.undo()
            self.patches.remove(patch)
        if not any(patch.owner is scheduler for patch in self.patches):
            for name, stand_in in stand_ins.items():
                if hasattr(scheduler, name):
                    self._patch(scheduler, name, stand_in)

    def _patch(self, owner: Any, name: str, replace: Any) -> None:
        self.patches.append(Patch(owner, name, self._marked(replace)))

    def _patch_forward(self, module: nn.Module, replace: Any) -> None:
        self.patches.append(ForwardPatch(module, self._marked(replace)))

    def _marked(self, replace: Any) -> Any:
        def marked(original: Any) -> Any:
            stand_in = replace(original)
            stand_in.attnreg_installation = self
            return stand_in

        return marked

    def remove(self) -> None:
        """Put back every original callable."""
        self.run.live = False
        self.run.forget()
        while self.patches:
            self.patches.pop().undo()
        if self.modular:
            self.modular.leave()


def installed_on(pipe: Any, family: str | None = None) -> Installation | None:
    """The installation that a pipeline carries, if any; family: of the pipeline, where it is named.

    Raises `AttnregError` if its denoiser is regulated through another pipeline that shares it.
    """
    own = carried(pipe)
    denoiser = own.denoiser if own else family_of(pipe, family)[1]
    other = getattr(getattr(*place_of_forward(denoiser)), "attnreg_installation", None)
    if other is not None and other is not own and other.run.live:
        raise AttnregError(
            f"expected a denoiser of the pipeline's own, got one that is regulated through another pipeline "
            f"({type(other.pipe).__name__}); remove the regulation there first"
        )
    return own


def carried(pipe: Any) -> Installation | None:
    """The live installation whose stand-in a pipeline's own `encode_prompt` is."""
    own = getattr(getattr(as_ordinary(pipe), "encode_prompt", None), "attnreg_installation", None)
    return own if isinstance(own, Installation) and own.run.live else None
