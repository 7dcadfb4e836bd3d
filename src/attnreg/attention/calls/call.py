"""One call of a denoiser: what it was given, whose rows are whose, and the same call for some rows alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.attention.families.family import Embeddings, Family
from attnreg.regulation.kinds import EncodedText
from attnreg.types import AttnregError, Grid


@dataclass(frozen=True)
class Call:
    """One call of the denoiser, by the names of its arguments."""

    denoise: Callable[..., Any]
    """The denoiser's own forward."""
    family: Family
    """Which of the arguments is which."""
    arguments: dict[str, Any]
    pairs: tuple[tuple[int, int], ...]
    """`(row, image)` for every row of the batch that holds an image's prompt."""
    images: int
    """How many images are drawn."""
    negative: tuple[Any, ...] | None = None
    """What `encode_prompt` returned of the negative prompts, where the denoiser is called once more for them."""
    further: bool = False
    """Whether it is that further call, of which nothing is edited but the latents."""

    @property
    def sample(self) -> Float[Tensor, row * latent]:
        """The scaled latents, one a row, and whatever channels the pipeline appends to them."""
        return self.family.stacked(self.arguments[self.family.sample])

    @property
    def hidden(self) -> Any:
        """What the prompts of the rows became: `(row, token, channel)`, or a list of `(token, channel)`."""
        hidden: Embeddings = self.arguments[self.family.text]
        return hidden

    @property
    def device(self) -> torch.device:
        """Where the denoiser works."""
        device: torch.device = self.hidden[0].device
        return device

    @property
    def latent(self) -> Grid:
        """Height and width of the latent."""
        return Grid(*self.sample.shape[-2:])

    @property
    def first_rows(self) -> dict[int, int]:
        """For every image the first row that holds its prompt."""
        return {image: row for row, image in reversed(self.pairs)}

    def given(self, **arguments: Any) -> Call:
        """The same call with other values of some arguments; latents are given as one tensor."""
        return replace(self, arguments=self.arguments | self._listed(arguments))

    def _listed(self, arguments: dict[str, Any]) -> dict[str, Any]:
        name = self.family.sample
        return arguments | {name: self.family.listed(arguments[name])} if name in arguments else arguments

    def at(self, time: Tensor) -> Call:
        """The same call at another time step, told as the pipeline tells it: once, or once a row."""
        told = self.arguments[self.family.time]
        if isinstance(told, Tensor) and told.ndim > 0:
            time = time.expand(told.shape)
        return self.given(**{self.family.time: self.family.told_time(time, told)})

    def noise(self, scheduler: Any) -> float:
        """The time step as a share of those that the model was trained with: how much noise there is."""
        told = float(torch.as_tensor(self.arguments[self.family.time]).flatten()[0])
        return self.family.untold_time(told) / float(scheduler.config.num_train_timesteps)

    def beside(
        self, latents: Float[Tensor, row * latent], rows: Sequence[int] | None = None
    ) -> Float[Tensor, row * sample]:
        """Latents of some rows, of all if none are named, with the channels that the pipeline appends to those rows."""
        sample = self.sample if rows is None else self.sample[list(rows)]
        axis, width = self.family.channel_axis, latents.shape[self.family.channel_axis]
        if width == sample.shape[axis]:
            return latents
        # A copy: made in inference mode, a tensor cannot be kept for a backward pass.
        return torch.cat([latents, sample.narrow(axis, width, sample.shape[axis] - width).clone()], axis)

    def of_negatives(self) -> Call | None:
        """The call for the negative prompts that follows in the same step; `None` if there is none."""
        if self.negative is None:
            return None
        made = self.family.conditioned(self.negative, self.arguments)
        return replace(self, arguments=self.family.without_prompt(self.arguments) | made, pairs=(), further=True)

    def run(self) -> Any:
        """What the denoiser returns. It may empty the lists that it is given: they are not the call's own."""
        return self.denoise(**contained(self.arguments))

    @property
    def rows_without_prompt(self) -> list[int]:
        """What is left of the batch after the prompts' rows; nothing if guidance is off."""
        prompted = {row for row, _ in self.pairs}
        return [row for row in range(len(self.sample)) if row not in prompted]

    @property
    def guided_plainly(self) -> bool:
        """Whether there is one row without the prompt for each image, or none for any.

        Pipelines repeat the latents block by block, so what is left after the prompts' rows goes round the images.
        """
        left = self.rows_without_prompt
        return not left or sorted(row % self.images for row in left) == list(range(self.images))

    @property
    def guidance_error(self) -> str:
        """The line that is raised where guidance must be plain, and is not."""
        return (
            f"expected one row without the prompt for each of {self.images} images, got "
            f"{len(self.rows_without_prompt)} rows; choose a pipeline with plain classifier-free guidance"
        )

    def unconditional_rows(self) -> dict[int, int] | None:
        """For every image the row without its prompt; `None` if guidance is off. `AttnregError` if it is not plain."""
        if not self.guided_plainly:
            raise AttnregError(self.guidance_error)
        return {row % self.images: row for row in self.rows_without_prompt} or None

    def of_rows(self, rows: Sequence[int], **others: Any) -> dict[str, Any]:
        """The arguments of a call for some rows alone, and other values for some of them.

        Whatever has the batch's number of rows is reduced to these: conditions, residuals, time steps. What is a list,
        a tuple or a dictionary is looked into; lists of latents and of texts hold one a row.
        """
        at = torch.tensor(list(rows), device=self.sample.device)
        batch = len(self.sample)

        def part(tensor: Tensor) -> Tensor:
            mine = tensor.ndim > 0 and len(tensor) == batch
            # A copy in any case: made in inference mode, a tensor cannot be kept for a backward pass.
            return tensor[at.to(tensor.device)] if mine else tensor.clone()

        # Masks of IP-Adapters are one an adapter, whatever the number of rows.
        given = {name: value for name, value in self.arguments.items() if name not in others}
        listed = {
            name: [given[name][row].clone() for row in rows]
            for name in (self.family.sample, self.family.text, *self.family.further)
            if isinstance(given.get(name), list)
        }
        reduced: dict[str, Any] = mapped(given, part, whole=("ip_adapter_masks",))
        elsewhere = {
            name: given[name].index_select(axis, at.to(given[name].device))
            for name, axis in self.family.row_axes.items()
            if name in given
        }
        return reduced | listed | elsewhere | self._listed(others)


def positional(denoise: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """A denoiser that is called by the names of its arguments, and hands the named ones on by their place.

    As the pipeline does: what others have put over a denoiser (DeepCache) may count on it.
    """

    def called(**given: Any) -> Any:
        return denoise(*[given.pop(name) for name in names], **given)

    return called


def mapped(value: Any, change: Callable[[Tensor], Tensor], whole: Sequence[str] = ()) -> Any:
    """A copy of nested lists, tuples and dictionaries with every tensor changed; but under the keys in `whole`."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: inner if key in whole else mapped(inner, change, whole) for key, inner in value.items()}
    return type(value)([mapped(inner, change, whole) for inner in value]) if isinstance(value, list | tuple) else value


@torch.compiler.disable  # type: ignore[untyped-decorator]  # bookkeeping is nothing to trace
def contained(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments whose collections are copies, what is in them as it is: a denoiser takes an adapter's features out."""
    copied: dict[str, Any] = mapped(arguments, lambda tensor: tensor)
    return copied


def denoised_under(
    call: Call, rows: Sequence[int], texts: Sequence[EncodedText], sample: Tensor | None = None
) -> Tensor:
    """What the denoiser predicts for some rows, each under a text of its own, of other latents if they are given."""
    hidden: Any = [text.embedding.to(call.hidden[0]) for text in texts]
    hidden = torch.stack(hidden) if isinstance(call.hidden, Tensor) else hidden
    others = {call.family.text: hidden} | ({} if sample is None else {call.family.sample: sample})
    if call.family.conditions:
        each = zip(call.family.conditions, *(text.conditions for text in texts), strict=False)
        values = [_joined(of_each, call.family.row_axes.get(name, 0)) for name, *of_each in each]
        others |= call.family.conditioned(values, call.arguments)
    arguments = call.of_rows(rows, **others)
    pooled = [text.pooled for text in texts if text.pooled is not None]
    if call.family.pooled in arguments and call.family.pooled not in others:
        arguments[call.family.pooled] = torch.stack(pooled).to(arguments[call.family.pooled])
    conditions = arguments.get("added_cond_kwargs") or {}
    if "text_embeds" in conditions:
        arguments["added_cond_kwargs"] = conditions | {"text_embeds": torch.stack(pooled).to(conditions["text_embeds"])}
    return call.family.stacked(prediction_in(call.denoise(**arguments)))


def _joined(of_each: Sequence[Any], axis: int) -> Any:
    """What was encoded of several texts, one by one, as of one batch; what is no text's own is alike in all.

    axis: on which its rows lie.
    """
    one = of_each[0]
    if isinstance(one, list):
        return [text for some in of_each for text in some]
    return torch.cat(list(of_each), axis) if isinstance(one, Tensor) and one.shape[axis] == 1 else one


def perturbed(pipe: Any) -> bool:
    """Whether the pipeline's batch has rows that are neither with the prompt nor without."""
    return bool(getattr(pipe, "do_perturbed_attention_guidance", False))


def denoised_alone_error(pipe: Any, method: str) -> str:
    """The line that is raised where no rows may be perturbed, and some are."""
    return (
        f"expected a pipeline that denoises a prompt alone, got {type(pipe).__name__} with perturbed attention; "
        f"set pag_scale=0 or choose {method}"
    )


def prediction_in(output: Any) -> Any:
    """The prediction in what a denoiser returned: a tuple, or an object of diffusers' own. Mostly it is a tensor."""
    return output[0]


def with_prediction(output: Any, prediction: Any) -> Any:
    """The same kind of output with another prediction."""
    if isinstance(output, tuple):
        return (prediction, *output[1:])
    return type(output)(prediction)
