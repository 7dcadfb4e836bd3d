"""Catch the one attention call inside a module, whatever processor makes it.

Every processor of diffusers ends in `torch.nn.functional.scaled_dot_product_attention`. Running the module's own
forward under a `TorchFunctionMode` reaches that call after LoRA, norms and adapters have done their work, and replaces
none of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnreg.attention.layers.kernels import excluding
from attnreg.attention.layers.stand_in import ABSENT, StandIn
from attnreg.types import AttnregError, Grid, Logits, Probabilities


class Patch:
    """A stand-in for one attribute of one object, which remembers what was there.

    `undo` restores the very same object, or deletes the attribute if the instance had none of its own.
    """

    def __init__(self, owner: Any, name: str, replace: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self.owner, self.name, self.replace = owner, name, replace
        self.before = vars(owner).get(name, ABSENT)
        stand_in: Any = StandIn(replace(getattr(owner, name)), owner, name, self.before)
        stand_in.attnreg_patch = self
        self.stand_in = stand_in
        setattr(owner, name, self.stand_in)

    def again(self) -> Patch:
        """The same, where someone has wiped it."""
        return Patch(self.owner, self.name, self.replace)

    def undo(self) -> None:
        """Put back what was there. If someone has patched over us since, their stand-in keeps its place.

        If that was another of these, it will put back what was there before us.
        """
        on_top = vars(self.owner).get(self.name)
        if on_top is not self.stand_in:
            above = getattr(on_top, "attnreg_patch", None)
            while above is not None and above.before is not self.stand_in:
                above = getattr(above.before, "attnreg_patch", None)
            if above is not None:
                above.before = self.before
            return
        if self.before is ABSENT:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.before)


class ForwardPatch(Patch):
    """A stand-in for the forward that is a module's own, beneath whatever hooks diffusers has put over it.

    There it is asked only what is really computed: a cache that leaves a layer out, or hands on half of a batch, has
    done so before. `undo` finds it wherever hooks that came or went have left it.
    """

    def __init__(self, module: nn.Module, replace: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self.module = module
        super().__init__(*place_of_forward(module), replace)

    def again(self) -> ForwardPatch:
        """The same, where someone has wiped it."""
        return ForwardPatch(self.module, self.replace)

    def undo(self) -> None:
        """Put back what was there."""
        super().undo()
        for owner, name in ((self.module, "forward"), place_of_forward(self.module)):
            if vars(owner).get(name) is not self.stand_in:
                continue
            if self.before is not ABSENT:
                setattr(owner, name, self.before)
            elif owner is self.module:
                delattr(owner, name)
            else:
                setattr(owner, name, type(self.module).forward.__get__(self.module))


def place_of_forward(module: nn.Module) -> tuple[Any, str]:
    """The object and its attribute that hold a module's own forward: the innermost hook of diffusers, or the module."""
    hooks = getattr(getattr(module, "_diffusers_hook", None), "_fn_refs", ())
    if not hooks:
        return module, "forward"
    return hooks[0], "forward" if hooks[0].original_forward is None else "original_forward"


def own_signature(owner: Any, method: str) -> inspect.Signature:
    """What a method of an object's class takes: someone may have put a wrapper that does not say so over it."""
    signature = inspect.signature(getattr(type(owner), method))
    return signature.replace(parameters=[*signature.parameters.values()][1:])


class CatchAttention(TorchFunctionMode):
    """While active, hands the first attention call over `tokens` keys to `edit`; everything else passes untouched.

    Only the first: IP-Adapter's processors attend to the text first and to their pictures in further calls. With
    `tokens=None` it is the first call whatever its keys.
    """

    def __init__(self, tokens: int | None, edit: Callable[..., Tensor]) -> None:
        super().__init__()
        self.tokens, self.edit = tokens, edit
        self.caught = False
        self.attended = False
        """Whether there was any attention call, caught or not."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and not self.caught:
            self.attended = True
            key = args[1] if len(args) > 1 else kwargs["key"]
            if self.tokens is None or key.shape[-2] == self.tokens:
                self.caught = True
                return self.edit(*args, **kwargs)
        return func(*args, **kwargs)


@contextmanager
def native_attention(module: nn.Module) -> Iterator[None]:
    """Let a module's processor attend by torch's own function, whatever backend was chosen for it or for all.

    Other backends of diffusers (flash-attn, sage, flex, xFormers) do not call it: an edit would not reach them.
    """
    processor: Any = getattr(module, "processor", None)
    if not hasattr(processor, "_attention_backend"):
        yield
        return
    before = vars(processor).get("_attention_backend", ABSENT)
    processor._attention_backend = "native"
    try:
        yield
    finally:
        if before is ABSENT:
            del processor._attention_backend
        else:
            processor._attention_backend = before


def attends_natively(module: nn.Module) -> bool:
    """Whether a module's processor attends by torch's own function, as things are."""
    processor: Any = getattr(module, "processor", None)
    chosen = getattr(processor, "_attention_backend", None)
    if chosen is None and hasattr(processor, "_attention_backend"):
        from diffusers.models.attention_dispatch import _AttentionBackendRegistry

        chosen, _ = _AttentionBackendRegistry.get_active_backend()
    return chosen in (None, "native")


def scaled_logits(
    query: Float[Tensor, "image head pixel channel"],
    key: Float[Tensor, "image head token channel"],
    mask: Tensor | None,
    scale: float | None,
) -> Logits:
    """`q k^T * scale + mask` in float32 (float64 stays), with the conventions of `scaled_dot_product_attention`."""
    exact = torch.promote_types(query.dtype, torch.float32)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = (query.to(exact) * factor) @ key.to(exact).transpose(-1, -2)
    return excluding(logits, mask)


def attend_with(
    probabilities_of: Callable[[Logits], Probabilities],
    rows: Int[Tensor, " image"],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention `(batch, head, pixel, channel)` in which some rows of the batch use edited probabilities.

    The other rows come from the original call over the whole batch, and so are bit-identical to the unmodified model's.
    """
    output = F.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )
    mask = attn_mask
    if mask is not None and mask.ndim == 4 and mask.shape[0] > 1:
        mask = mask[rows]
    with torch.autocast(query.device.type, enabled=False):  # it would round the products to half precision
        probabilities = probabilities_of(scaled_logits(query[rows], key[rows], mask, scale))
        edited = probabilities @ value[rows].to(probabilities.dtype)
    return output.index_copy(0, rows, edited.to(output.dtype))


def values_of(
    module: Any, texts: Float[Tensor, "image token width"], like: Float[Tensor, "_ head token channel"]
) -> Float[Tensor, "image head token channel"]:
    """Values of some texts by a module's own projection, laid out by heads as those that an attention call was given.

    Raises `AttnregError` if the module has no projection that is its own.
    """
    if getattr(module, "fused_projections", False) or not hasattr(module, "to_v"):
        raise AttnregError(
            f"expected {type(module).__name__} with a projection to_v, got one whose projections are fused; "
            "call pipe.unfuse_qkv_projections() first"
        )
    if getattr(module, "norm_cross", None) is not None:
        texts = module.norm_encoder_hidden_states(texts)
    made: Tensor = module.to_v(texts)
    return rearrange(made, "image token (head channel) -> image head token channel", head=like.shape[1]).to(like)


def map_of(pixels: int, latent: Grid) -> Grid | None:
    """The height and width of a map with so many pixels, the latent halved (rounding up) some times; `None` if none."""
    grid = latent
    while grid.pixels > pixels:
        grid = Grid((grid.height + 1) // 2, (grid.width + 1) // 2)
    return grid if grid.pixels == pixels else None


def processor_name(module: nn.Module) -> str:
    """The class of the processor that makes a module's attention call, for messages."""
    return type(getattr(module, "processor", module)).__name__
