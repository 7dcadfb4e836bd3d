"""Make the bundled model with joint attention: `python -m training.pocket_joint`. Killed at any moment, it goes on.

Stages: encoded renderings (by the autoencoder of `pocket`, which is kept), denoiser with its text encoders, export. The
minutes are the training budget on the machine it runs on; on a GPU the same minutes see many more pictures.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusion3Pipeline

from attnreg.models.about import BUNDLED, POCKET, checksums
from training import joint
from training.denoiser import Latents
from training.pocket import encoded_pictures, write_directory
from training.tokenizer import new_t5_tokenizer, new_tokenizer
from training.words import never_together

STEPS, GUIDANCE = 16, 3.0
"""What it draws with unless told otherwise."""
RATE, RATE_ON = 1e-3, 3e-4
"""Of learning, at its peak: weights whose learning came to an end are thrown back by the rate that began it."""
KEPT = BUNDLED["pocket-joint"]
"""Each run goes on from the weights that are there."""
CARD = Path(__file__).parent / "card-joint.md"


def main() -> None:
    """Read the budget from the command line, run the stages that are not done yet, write the model directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/runs/pocket-joint"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=KEPT, help="the model directory")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, help="of renderings and chance [of the weights it goes on from]")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--rate", type=float, help=f"peak rate of learning [{RATE:g}, {RATE_ON:g} if it goes on]")
    parser.add_argument("--compiled", action="store_true", help="compile the denoiser: for long budgets")
    parser.add_argument("--start", type=Path, default=KEPT, help="a model directory to go on from, if it is there")
    parser.add_argument("--from-nothing", action="store_true", help="begin with random weights whatever is there")
    parser.add_argument("--pictures", type=int, default=96_000, help="renderings in all, as many of each kind")
    parser.add_argument(
        "--held-out", type=int, default=192, help="renderings of each kind whose loss is told at the end"
    )
    arguments = parser.parse_args()
    goes_on = not arguments.from_nothing and (arguments.start / "model_index.json").exists()
    seed = arguments.seed
    if seed is None:
        seed = seed_of(arguments.start) if goes_on else 0
    work = arguments.work / f"{seed}"
    tokenizers = joint.Tokenizers(new_tokenizer(), new_t5_tokenizer())
    coder = AutoencoderTiny.from_pretrained(POCKET / "vae")
    factor = float(coder.config["scaling_factor"])

    def scaled(sets: Mapping[str, Latents]) -> dict[str, Latents]:
        return {kind: replace(one, latents=one.latents * factor) for kind, one in sets.items()}

    sets = encoded_pictures(work, coder, tokenizers, tuple(joint.SHARES), arguments.pictures, seed, joint.encode)
    start = None
    if goes_on:
        first = StableDiffusion3Pipeline.from_pretrained(arguments.start)
        start = joint.Weights(first.transformer, first.text_encoder, first.text_encoder_2, first.text_encoder_3)
    model = joint.train(
        work, scaled(sets), tokenizers, arguments.minutes,
        start=start, seed=seed, peak_rate=arguments.rate or (RATE_ON if goes_on else RATE), compiled=arguments.compiled,
        device=arguments.device,
    )  # fmt: skip
    unseen = scaled(joint.held_out(coder, tokenizers, arguments.held_out))
    for kind, loss in joint.losses(model.cpu(), unseen).items():
        print(f"loss of {len(unseen[kind].tokens)} pictures of {kind} that nothing learnt from: {loss:.4f}", flush=True)
    export(arguments.out, coder, model, tokenizers)


def seed_of(model: Path) -> int:
    """Another for other weights, so that who goes on sees new pictures: the same ones would be learnt by heart."""
    weights = "".join(digest for path, digest in checksums(model).items() if path.endswith(".safetensors"))
    return int(hashlib.sha256(weights.encode()).hexdigest()[:7], 16)


def export(out: Path, coder: AutoencoderTiny, model: joint.Model, tokenizers: joint.Tokenizers) -> None:
    """Write a pipeline directory of float16 safetensors that names its words and its checksums."""
    coder.register_to_config(_name_or_path="")
    pipe = StableDiffusion3Pipeline(
        transformer=model.transformer,
        scheduler=joint.new_scheduler(),
        vae=coder,
        text_encoder=model.text_encoder,
        tokenizer=tokenizers.clip,
        text_encoder_2=model.text_encoder_2,
        tokenizer_2=tokenizers.clip,
        text_encoder_3=model.text_encoder_3,
        tokenizer_3=tokenizers.t5,
    )
    told = {"name": "pocket-joint", "steps": STEPS, "guidance_scale": GUIDANCE}
    write_directory(out, pipe, CARD, told, never_together(joint.HELD_OUT_SHARE))


if __name__ == "__main__":
    main()
