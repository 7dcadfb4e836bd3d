"""Make the bundled model with joint attention: `python -m training.pocket_joint`. Killed at any moment, it goes on.

Stages: encoded renderings (by the autoencoder of `pocket`, which is kept), denoiser with its text encoders, export. The
minutes are the training budget on the machine it runs on; on a GPU the same minutes see many more pictures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusion3Pipeline

from attnreg.models.about import BUNDLED, POCKET
from training import joint
from training.pocket import encoded_pictures, write_directory
from training.tokenizer import new_t5_tokenizer, new_tokenizer
from training.words import never_together

STEPS, GUIDANCE = 16, 3.0
"""What it draws with unless told otherwise."""
KEPT = BUNDLED["pocket-joint"]
"""Each run goes on from the weights that are there."""
CARD = Path(__file__).parent / "card-joint.md"


def main() -> None:
    """Read the budget from the command line, run the stages that are not done yet, write the model directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/runs/pocket-joint"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=KEPT, help="the model directory")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak rate of learning")
    parser.add_argument("--compiled", action="store_true", help="compile the denoiser: for long budgets")
    parser.add_argument("--start", type=Path, default=KEPT, help="a model directory to go on from, if it is there")
    parser.add_argument("--from-nothing", action="store_true", help="begin with random weights whatever is there")
    parser.add_argument("--pictures", type=int, default=48_000, help="encoded renderings, as many of each kind")
    arguments = parser.parse_args()
    tokenizers = joint.Tokenizers(new_tokenizer(), new_t5_tokenizer())
    coder = AutoencoderTiny.from_pretrained(POCKET / "vae")
    factor = float(coder.config["scaling_factor"])
    sets = encoded_pictures(
        arguments.work, coder, tokenizers, tuple(joint.SHARES), arguments.pictures, arguments.seed, joint.encode
    )
    scaled = {kind: replace(one, latents=one.latents * factor) for kind, one in sets.items()}
    start = None
    if not arguments.from_nothing and (arguments.start / "model_index.json").exists():
        first = StableDiffusion3Pipeline.from_pretrained(arguments.start)
        start = joint.Weights(first.transformer, first.text_encoder, first.text_encoder_2, first.text_encoder_3)
    model = joint.train(
        arguments.work, scaled, tokenizers, arguments.minutes,
        start=start, seed=arguments.seed, peak_rate=arguments.rate, compiled=arguments.compiled,
        device=arguments.device,
    )  # fmt: skip
    export(arguments.out, coder, model.cpu(), tokenizers)


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
