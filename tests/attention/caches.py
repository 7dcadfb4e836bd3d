"""Caches that leave out parts of a denoiser in some steps, put on tiny pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
from DeepCache import DeepCacheSDHelper
from diffusers.hooks import HookRegistry

from attnreg.attention.families import family_of

Options = dict[str, Any]
STEPS = 6
"""So many are drawn: a cache needs some to leave something out."""


def cache(config: Callable[[Any], Any]) -> Callable[[Any, Options], None]:
    """One of diffusers' own."""

    def put_on(pipe: Any, options: Options) -> None:
        family_of(pipe)[1].enable_cache(config(pipe))

    return put_on


def mag_cache(pipe: Any, options: Options) -> None:
    """By `apply_mag_cache` where the model has no `enable_cache`: PixArt's."""
    model = family_of(pipe)[1]
    config = diffusers.MagCacheConfig(
        mag_ratios=[1.0] * STEPS, num_inference_steps=STEPS, retention_ratio=0.2, threshold=0.5
    )
    if hasattr(model, "enable_cache"):
        model.enable_cache(config)
    else:
        diffusers.apply_mag_cache(model, config)
        _forgets_between_pictures(model)


def broadcast(pipe: Any) -> diffusers.PyramidAttentionBroadcastConfig:
    return diffusers.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=3, cross_attention_block_skip_range=3,
        spatial_attention_timestep_skip_range=(-1, 1001), cross_attention_timestep_skip_range=(-1, 1001),
        spatial_attention_block_identifiers=("blocks",), cross_attention_block_identifiers=("blocks",),
        current_timestep_callback=lambda: 500,
    )  # fmt: skip


def pyramid_attention_broadcast(pipe: Any, options: Options) -> None:
    model = family_of(pipe)[1]
    diffusers.apply_pyramid_attention_broadcast(model, broadcast(pipe))
    _forgets_between_pictures(model)


def _forgets_between_pictures(model: Any) -> None:
    """As diffusers' `CacheMixin` lets a pipeline do; models without it keep what they cached."""
    if not hasattr(model, "_reset_stateful_cache"):
        registry = HookRegistry.check_if_exists_or_initialize(model)
        model._reset_stateful_cache = registry.reset_stateful_hooks


def faster_cache(pipe: Any, options: Options) -> None:
    """Where prompt and negative prompt share a call, the negative half of some calls is left out as well."""
    model = family_of(pipe)[1]
    apart = isinstance(pipe, diffusers.FluxPipeline)
    config = diffusers.FasterCacheConfig(
        spatial_attention_block_skip_range=3, spatial_attention_timestep_skip_range=(-1, 900),
        spatial_attention_block_identifiers=("blocks",), unconditional_batch_skip_range=2,
        unconditional_batch_timestep_skip_range=(-1, 1001),
        current_timestep_callback=lambda: float(pipe.current_timestep) if apart else 500,
        attention_weight_callback=lambda _: 0.3, tensor_format="BCHW", is_guidance_distilled=apart,
    )  # fmt: skip
    diffusers.apply_faster_cache(model, config)
    _forgets_between_pictures(model)


def deep_cache(pipe: Any, options: Options) -> None:
    """The authors' own package."""
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=3, cache_branch_id=0)
    helper.enable()
