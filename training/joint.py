"""The denoiser of `pocket-joint`: a transformer with joint attention to text and picture, trained by flow matching.

It is the denoiser of Stable Diffusion 3 (Esser et al., 2024, arXiv:2403.03206) in small, with its three text encoders
trained beside it: two of CLIP's kind, and one of T5's without layers, which tells each word by itself. So every word
stands in two columns, as in the large model.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from training.autoencoder import to_tensor
from training.denoiser import LATENT_SIDE, Latents, some_of, tokenise, weights_by_token
from training.grounds import SIDE
from training.layout import LayoutHead, as_tensor, heard, layout_of
from training.loop import learn
from training.render import compose, draw
from training.tokenizer import MAX_LENGTH
from training.words import caption, random_setting, random_things, seen_together

HELD_OUT_SHARE = 0.75
"""Share of the noun pairs that no training picture shows together; they include those that `pocket` never saw."""
SHARES = {"one": 0.4, "two": 0.6}
"""Kind of the pictures, by the number of things that they show -> share. Three are never shown."""
WIDTHS = (128, 64)
"""Of the two text encoders; what they make of a token is joined by channel."""
LAYERS = (3, 2)
"""Of the two text encoders. The last layer makes the pooled embedding alone: the pipeline reads tokens before it."""
T5_LENGTH = 256
"""Tokens of T5's that the pipeline makes, nearly all of them padding: its `max_sequence_length`."""
T5_KEPT = 18
"""Of these in training: the longest caption and a padding that stands for all the others."""
SIGMA_MEAN, SIGMA_SPREAD = 0.0, 1.1
"""Noise levels are drawn from this logit-normal; in the first sittings it was shifted towards noise, by 0.3."""
BATCH = 24
LAYOUT_BLOCK = 3
"""The layout is read behind so many of the joint blocks: half of them say what stands where, half draw it."""
LAYOUT_WEIGHT = 0.1
"""Of the layout's loss against the velocity's, in a run from random weights.

A run that goes on from kept weights has no head any more, and its gradients through an untrained one throw the denoiser
back: the loss of the velocity rises at once, and takes most of a sitting to fall again.
"""


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Straight lines from noise to picture, without the shift that large pictures need."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)


def new_text_encoder(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPTextModelWithProjection:
    """An untrained text encoder over the words that the model knows."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            max_position_embeddings=MAX_LENGTH,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_transformer() -> SD3Transformer2DModel:
    """The untrained denoiser: 14 million parameters, six joint blocks of eight heads, 64 positions of the picture."""
    return SD3Transformer2DModel(
        sample_size=LATENT_SIDE,
        patch_size=2,
        in_channels=8,
        out_channels=8,
        num_layers=6,
        attention_head_dim=32,
        num_attention_heads=8,
        joint_attention_dim=sum(WIDTHS),
        caption_projection_dim=256,
        pooled_projection_dim=sum(WIDTHS),
        pos_embed_max_size=LATENT_SIDE,
        qk_norm="rms_norm",
    )


class OneForMany(TorchFunctionMode):
    """While active, the last key of every attention call counts so many times.

    T5's padding is alike and stays alike from block to block, since text has no positions here: one stands for all, at
    a third of the cost. `softmax` over a key that is there n times is that over one whose logit is `log n` higher.
    """

    def __init__(self, times: int) -> None:
        super().__init__()
        self.bias = math.log(times)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # The denoiser's calls: they have no mask. The text encoders are not run inside.
        if func is F.scaled_dot_product_attention:
            query, keys = args[0], args[1].shape[-2]
            mask = torch.zeros(1, 1, 1, keys, dtype=query.dtype, device=query.device)
            mask[..., -1] = self.bias
            kwargs = kwargs | {"attn_mask": mask}
        return func(*args, **kwargs)


@dataclass(frozen=True)
class Tokenizers:
    """Both ways in which the pipeline reads a caption."""

    clip: CLIPTokenizer
    t5: T5Tokenizer

    def __call__(self, captions: list[str]) -> Tensor:
        """Columns `(caption, MAX_LENGTH + T5_KEPT)`: CLIP's, then T5's with one padding at least."""
        long: Tensor = self.t5(captions, padding="max_length", max_length=T5_LENGTH, return_tensors="pt").input_ids
        if (long[:, T5_KEPT - 1 :] != self.t5.pad_token_id).any():
            raise ValueError(f"a caption has {T5_KEPT} tokens or more; raise T5_KEPT")
        return torch.cat([tokenise(self.clip, captions), long[:, :T5_KEPT]], 1)


class Model(nn.Module):
    """The networks that learn together."""

    def __init__(self, tokenizers: Tokenizers) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = (
            new_text_encoder(tokenizers.clip, width, layers) for width, layers in zip(WIDTHS, LAYERS, strict=True)
        )
        self.text_encoder_3 = T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizers.t5),
                d_model=sum(WIDTHS),
                d_kv=32,
                d_ff=sum(WIDTHS),
                num_layers=0,
                num_heads=sum(WIDTHS) // 32,
                dropout_rate=0.0,
            )
        )
        self.transformer = new_transformer()
        width = int(self.transformer.config["caption_projection_dim"])
        self.layout = LayoutHead(width, int(self.transformer.config["patch_size"]))

    def forward(self, noisy: Tensor, sigma: Tensor, tokens: Tensor) -> Tensor:
        """The velocity `(image, 8, height, width)` from picture to noise, under tokenised captions.

        sigma: `(image,)`, 0 is the picture and 1 is noise.
        """
        clip, t5 = tokens.split([MAX_LENGTH, T5_KEPT], 1)
        told = [encoder(clip, output_hidden_states=True) for encoder in (self.text_encoder, self.text_encoder_2)]
        by_clip = torch.cat([one.hidden_states[-2] for one in told], -1)
        by_t5 = self.text_encoder_3(t5).last_hidden_state
        with OneForMany(T5_LENGTH - T5_KEPT + 1):
            velocity: Tensor = self.transformer(
                noisy,
                encoder_hidden_states=torch.cat([by_clip, by_t5], 1),
                pooled_projections=torch.cat([one.text_embeds for one in told], -1),
                timestep=1000 * sigma,
            ).sample
        return velocity


@torch.inference_mode()
def encode(coder: AutoencoderTiny, tokenizers: Tokenizers, count: int, kind: str, rng: random.Random) -> Latents:
    """Render, encode and caption so many pictures of one kind of `SHARES`."""
    together = seen_together(list(SHARES).index(kind) + 1, HELD_OUT_SHARE)
    latents, captions, layouts = [], [], []
    for start in range(0, count, 64):
        pictures = np.empty((min(64, count - start), SIDE, SIDE, 3), np.uint8)
        for i in range(len(pictures)):
            things, setting = list(random_things(rng, together)), random_setting(rng)
            scene = compose(things, rng, setting)
            pictures[i] = draw(scene)
            layouts.append(layout_of(scene))
            captions.append(caption(things, rng, setting))
        latents.append(coder.encode(to_tensor(pictures).to(coder.device)).latents.half().cpu())
    return Latents(torch.cat(latents), tokenizers(captions), as_tensor(layouts))


def held_out(coder: AutoencoderTiny, tokenizers: Tokenizers, count: int) -> dict[str, Latents]:
    """So many pictures of each kind that no run learns from, always the same."""
    return {kind: encode(coder, tokenizers, count, kind, random.Random(f"held out {kind}")) for kind in SHARES}


@torch.inference_mode()
def losses(model: Model, sets: Mapping[str, Latents], size: int = 64) -> dict[str, float]:
    """The loss of the velocity on each kind, under noise that is always the same: what was learnt, not what by heart.

    sets: as for `train`; the layout is not counted.
    """
    found = {}
    for kind, pictures in sets.items():
        generator, wrong = torch.Generator().manual_seed(0), 0.0
        for clean, words in zip(pictures.latents.float().split(size), pictures.tokens.split(size), strict=True):
            noise = torch.randn(clean.shape, generator=generator)
            sigma = torch.sigmoid(SIGMA_MEAN + SIGMA_SPREAD * torch.randn(len(clean), generator=generator))
            spread = sigma[:, None, None, None]
            velocity = model((1 - spread) * clean + spread * noise, sigma, words)
            wrong += len(clean) * F.mse_loss(velocity, noise - clean).item()
        found[kind] = wrong / len(pictures.tokens)
    return found


@dataclass(frozen=True)
class Weights:
    """Where a run begins, if not from random weights."""

    transformer: SD3Transformer2DModel
    text_encoder: CLIPTextModelWithProjection
    text_encoder_2: CLIPTextModelWithProjection
    text_encoder_3: T5EncoderModel


def train(
    out: Path,
    sets: Mapping[str, Latents],
    tokenizers: Tokenizers,
    minutes: float,
    *,
    start: Weights | None = None,
    seed: int = 0,
    batch: int = BATCH,
    peak_rate: float = 1e-3,
    compiled: bool = False,
    device: str = "cpu",
) -> Model:
    """Train for so many minutes (added up over resumed runs); returns the moving average of the weights.

    sets: pictures of each kind in `SHARES`, their latents of variance 1, with their layouts. `compiled`: a minute of
    compiling first, less time a step then.

    The velocity of rectified flow is predicted, `noise - picture`, at `(1 - s) picture + s noise`; the middle of the
    denoiser has to tell the layout too, unless the run begins at `start`. Captions are dropped in 10 % of the pictures,
    for guidance.
    """
    torch.manual_seed(seed)
    model = Model(tokenizers).to(device)
    if start:
        for name, module in vars(start).items():
            getattr(model, name).load_state_dict(module.state_dict())
    average = copy.deepcopy(model).requires_grad_(False)
    empty = tokenizers([""])[0]
    by_token = weights_by_token(tokenizers.clip)
    often = {kind: by_token[sets[kind].tokens[:, :MAX_LENGTH]].amax(1) for kind in SHARES}
    blocks = model.transformer.transformer_blocks
    middle = heard(blocks[LAYOUT_BLOCK - 1])
    if compiled:
        for block in blocks:
            block.compile()

    def loss_at(step: int, share: float) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        some = some_of(sets, often, SHARES, batch, empty, generator)
        clean, words = some.latents, some.tokens
        noise = torch.randn(clean.shape, generator=generator)
        sigma = torch.sigmoid(SIGMA_MEAN + SIGMA_SPREAD * torch.randn(len(words), generator=generator))
        clean, words, noise, sigma = clean.to(device), words.to(device), noise.to(device), sigma.to(device)
        spread = sigma[:, None, None, None]
        velocity = model((1 - spread) * clean + spread * noise, sigma, words)
        wrong = F.mse_loss(velocity, noise - clean)
        if start:
            return wrong
        assert some.layouts is not None  # `encode` keeps them
        return wrong + LAYOUT_WEIGHT * model.layout.loss(middle[0], some.layouts.to(device))

    learn(out / "joint.pt", model, loss_at, minutes, peak_rate=peak_rate, average=average)
    return average.eval()
