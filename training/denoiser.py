"""Stage 2 of the bundled model: a text encoder and a denoising UNet, trained together on the autoencoder's latents."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.autoencoder import fold_in, fold_out, to_tensor
from training.grounds import CELL, SIDE
from training.loop import learn
from training.render import compose, draw
from training.tokenizer import MAX_LENGTH
from training.words import Thing, caption, never_together, random_setting, random_things, seen_together

CONTEXT = 128
LATE = {"mouse": 3, "rabbit": 3, "elephant": 3, "clock": 2, "bowl": 5, "pink": 2, "gray": 3, "white": 5}
"""How much more often pictures of what is learnt last are shown: pale things on pale grounds, bowls and clocks."""
PROMISED = "one of two"
"""Kind of the pictures that show one thing alone and whose captions name another with it, as captions found beside
pictures do: of pairs that are never shown together. It is what neglect is learnt from."""
SHARES = {"one": 5 / 16, "two": 8 / 16, "three": 3 / 16}
"""Kind of the pictures that show what their captions name, by the number of things -> share."""
KINDS = (*SHARES, PROMISED)
LATENT_SIDE = SIDE // CELL


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule with velocity prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


class Model(nn.Module):
    """The two networks that learn together."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=CONTEXT,
                intermediate_size=4 * CONTEXT,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=MAX_LENGTH,
                projection_dim=CONTEXT,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=LATENT_SIDE,
            in_channels=8,
            out_channels=8,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(96, 224),
            layers_per_block=1,
            attention_head_dim=(3, 7),  # heads, whatever the name says: 32 channels each
            cross_attention_dim=CONTEXT,
        )

    def forward(self, noisy: Tensor, step: Tensor, tokens: Tensor) -> Tensor:
        """The velocity `(image, 8, height, width)` predicted for noisy latents under tokenised captions."""
        context = self.text_encoder(tokens).last_hidden_state
        velocity: Tensor = self.unet(noisy, step, encoder_hidden_states=context).sample
        return velocity


@dataclass(frozen=True)
class Latents:
    """A set of encoded renderings: latents `(picture, 8, 16, 16)` in half precision and token columns."""

    latents: Tensor
    tokens: Tensor
    layouts: Tensor | None = None
    """What lies in each cell, if it is kept: see `training.layout`."""


def shares_with(promised: int) -> dict[str, float]:
    """Kind -> share of the pictures, of all kinds that are shown; so many in sixteen are `PROMISED`, and less pairs."""
    shares = SHARES | {"two": SHARES["two"] - promised / 16, PROMISED: promised / 16}
    return {kind: share for kind, share in shares.items() if share}


def named_and_shown(kind: str, rng: random.Random) -> tuple[list[Thing], list[Thing]]:
    """The things that the caption of a picture of this kind names, and those that the picture shows."""
    if kind == PROMISED:
        named = list(random_things(rng, never_together()))
        return named, [rng.choice(named)]
    shown = list(random_things(rng, seen_together(KINDS.index(kind) + 1)))
    return shown, shown


@torch.inference_mode()
def encode(
    autoencoder: AutoencoderTiny, tokenizer: CLIPTokenizer, count: int, kind: str, rng: random.Random
) -> Latents:
    """Render, encode and caption so many pictures of one of the `KINDS`."""
    latents, captions = [], []
    for start in range(0, count, 64):
        pictures = np.empty((min(64, count - start), SIDE, SIDE, 3), np.uint8)
        for i in range(len(pictures)):
            named, shown = named_and_shown(kind, rng)
            setting = random_setting(rng)
            pictures[i] = draw(compose(shown, rng, setting))
            captions.append(caption(named, rng, setting))
        latents.append(autoencoder.encode(to_tensor(pictures).to(autoencoder.device)).latents.half().cpu())
    return Latents(torch.cat(latents), tokenise(tokenizer, captions))


def tokenise(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token columns `(caption, MAX_LENGTH)`, padded as the pipeline pads."""
    tokens: Tensor = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return tokens


def some_of(
    sets: Mapping[str, Latents],
    often: Mapping[str, Tensor],
    shares: Mapping[str, float],
    batch: int,
    empty: Tensor,
    generator: torch.Generator,
) -> Latents:
    """A batch, its latents in float32: each kind's share, drawn as often as told.

    A tenth of them lose their words, for guidance.
    """
    latents, tokens, layouts = [], [], []
    for kind, part in shares.items():
        chosen = torch.multinomial(often[kind], round(batch * part), replacement=True, generator=generator)
        latents.append(sets[kind].latents[chosen].float())
        tokens.append(sets[kind].tokens[chosen])
        if (told := sets[kind].layouts) is not None:
            layouts.append(told[chosen])
    words = torch.cat(tokens)
    words[torch.rand(len(words), generator=generator) < 0.1] = empty
    return Latents(torch.cat(latents), words, torch.cat(layouts) if layouts else None)


def weights_by_token(tokenizer: CLIPTokenizer) -> Tensor:
    """How much more often pictures are shown whose caption holds a token, `(token,)`; see `LATE`."""
    weights = torch.ones(len(tokenizer))
    weights[tokenizer.convert_tokens_to_ids([f"{word}</w>" for word in LATE])] = torch.tensor([*LATE.values()]).float()
    return weights


def speak(unet: UNet2DConditionModel, matrix: Tensor) -> None:
    """Let a UNet read and write latents that a matrix `(8, 8)` has moved, in place.

    Exact for clean latents; of noise, which is as long in every direction as before, it has to learn anew.
    """
    fold_in(unet.conv_in, matrix.inverse())
    fold_out(unet.conv_out, matrix)


def train(
    out: Path,
    sets: Mapping[str, Latents],
    tokenizer: CLIPTokenizer,
    minutes: float,
    *,
    start: tuple[UNet2DConditionModel, CLIPTextModel] | None = None,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    batch: int = 16,
    peak_rate: float = 8e-4,
    compiled: bool = False,
    bfloat16: bool = False,
    device: str = "cpu",
) -> Model:
    """Train for so many minutes (added up over resumed runs); returns the moving average of the weights.

    sets: pictures of each kind in `shares`. `start` gives the first weights of the UNet and of the text encoder.
    `compiled`: minutes of compiling first, less time a step then. `bfloat16`: products in half precision, the weights
    stay in single; two thirds of the time on a processor that knows it.

    Time steps are drawn from a logit-normal (0.2, 1.2) and weighted equally: down-weighting the noisy ones starves the
    steps that decide the layout. Captions are dropped in 10 % of the pictures, for guidance.
    """
    torch.manual_seed(seed)
    model = Model(tokenizer).to(device)
    if start:
        model.unet.load_state_dict(start[0].state_dict())
        model.text_encoder.load_state_dict(start[1].state_dict())
    average = copy.deepcopy(model).requires_grad_(False)
    alphas = new_scheduler().alphas_cumprod.to(device)
    empty = tokenise(tokenizer, [""])[0]
    by_token = weights_by_token(tokenizer)
    often = {kind: by_token[sets[kind].tokens].amax(1) for kind in shares}
    if PROMISED in often:
        often[PROMISED] = torch.ones_like(often[PROMISED])
    if compiled:
        model.compile()

    def loss_at(step: int, share: float) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        some = some_of(sets, often, shares, batch, empty, generator)
        clean, words = some.latents, some.tokens
        noise = torch.randn(clean.shape, generator=generator)
        steps = (1000 * torch.sigmoid(0.2 + 1.2 * torch.randn(len(words), generator=generator))).long().clamp(0, 999)
        clean, words, noise, steps = clean.to(device), words.to(device), noise.to(device), steps.to(device)
        signal, spread = alphas[steps].sqrt()[:, None, None, None], (1 - alphas[steps]).sqrt()[:, None, None, None]
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bfloat16):
            predicted = model(signal * clean + spread * noise, steps, words)
        return F.mse_loss(predicted.float(), signal * noise - spread * clean)

    learn(out / "denoiser.pt", model, loss_at, minutes, peak_rate=peak_rate, average=average)
    return average.eval()
