"""Make the bundled model from nothing: `python -m training.pocket`. Killed at any moment, it goes on where it was.

Stages: autoencoder, encoded renderings, denoiser (with its text encoder), decoder alone, export. The minutes of each
stage are its training budget on the machine it runs on; on a GPU the same minutes see many more pictures.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DiffusionPipeline, StableDiffusionPipeline
from transformers import CLIPTokenizer

from attnreg.models.about import ABOUT, checksums
from training import autoencoder, checkpoint, denoiser
from training.tokenizer import new_tokenizer
from training.words import COLOURS, GLUE, NOUNS, SETTING, never_together

STEPS, GUIDANCE = 12, 2.25
"""What it draws with unless told otherwise: 25 steps show no more of what was asked for."""
NEW_DECODER_RATE, POLISH_RATE = 1.5e-3, 5e-4
"""Peak rates of learning for a decoder that knows nothing, and for one that goes on."""
CARD = Path(__file__).parent / "card.md"


def main() -> None:
    """Read the budget from the command line, run the stages that are not done yet, write the model directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/runs/pocket"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=Path("src/attnreg/models/pocket"), help="the model directory")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--autoencoder-minutes", type=float, default=30)
    parser.add_argument("--denoiser-minutes", type=float, default=90)
    parser.add_argument("--decoder-minutes", type=float, default=20, help="the autoencoder's decoder once more, alone")
    parser.add_argument("--compiled", action="store_true", help="compile the denoiser: for long budgets")
    parser.add_argument("--start", type=Path, help="a model directory to go on from, instead of random weights")
    parser.add_argument("--pictures", type=int, default=30_000, help="encoded renderings, as many of each kind")
    parser.add_argument(
        "--promised", type=int, choices=range(5), default=0,
        help="so many pictures in sixteen show one thing while their captions name two: neglect is learnt from them",
    )  # fmt: skip
    parser.add_argument("--new-decoder", action="store_true", help="with --start: keep its latents, decode them anew")
    parser.add_argument("--bfloat16", action="store_true", help="half precision: faster where the processor knows it")
    arguments = parser.parse_args()
    out = arguments.out
    if out.exists() and any(out.iterdir()) and not (out / ABOUT).exists():
        parser.error(f"expected a new folder or an older version of the model, got {out}; choose another --out")
    tokenizer = new_tokenizer()
    common = {"seed": arguments.seed, "device": arguments.device}
    first = StableDiffusionPipeline.from_pretrained(arguments.start) if arguments.start else None
    if arguments.new_decoder and not first:
        parser.error(
            "expected --start with --new-decoder: it reads the latents of a model; give that model's directory"
        )
    # An autoencoder of another class is of no use here; the UNet learns the new latents.
    old = first.vae if first and isinstance(first.vae, AutoencoderTiny) else None
    old_factor = float(old.config["scaling_factor"]) if old else 1.0
    coder = autoencoder.train(arguments.work, arguments.autoencoder_minutes, start=old, **common)
    # The latents that a UNet knows stay what they are where the autoencoder learns nothing more.
    kept = old is not None and not arguments.autoencoder_minutes
    matrix = torch.eye(8).double() if kept else autoencoder.equalise(coder)
    if arguments.new_decoder:
        coder = autoencoder.with_new_decoder(coder)
    shares = denoiser.shares_with(arguments.promised)
    sets = encoded_pictures(arguments.work, coder, tokenizer, tuple(shares), arguments.pictures, arguments.seed)
    # Crops around things vary more than whole pictures; the noise of diffusion is measured against these.
    spread = torch.cat([one.latents for one in sets.values()]).float().std().item()
    factor = old_factor if kept else round(1 / spread, 3)
    coder.register_to_config(scaling_factor=factor)
    scaled = {kind: denoiser.Latents(one.latents * factor, one.tokens) for kind, one in sets.items()}
    start = None
    if first:
        start = (first.unet, first.text_encoder)
        if old:
            denoiser.speak(first.unet, matrix * (factor / old_factor))
    model = denoiser.train(
        arguments.work, scaled, tokenizer, arguments.denoiser_minutes,
        start=start, shares=shares, compiled=arguments.compiled, bfloat16=arguments.bfloat16, **common,
    )  # fmt: skip
    autoencoder.polish(
        arguments.work, coder, arguments.decoder_minutes,
        seed=arguments.seed, peak_rate=NEW_DECODER_RATE if arguments.new_decoder else POLISH_RATE,
        bfloat16=arguments.bfloat16,
    )  # fmt: skip
    export(out, coder.cpu(), model.cpu(), tokenizer)


def encoded_pictures(
    work: Path,
    coder: AutoencoderTiny,
    tokenizer: Any,
    kinds: tuple[str, ...],
    count: int,
    seed: int,
    encode: Callable[..., denoiser.Latents] = denoiser.encode,
) -> dict[str, denoiser.Latents]:
    """Kind -> encoded renderings of it; made once and kept. `encode`: as `denoiser.encode`, and takes the tokenizer."""
    path = work / "latents.pt"
    # Another autoencoder, seed, number or kind makes other latents: those kept from before would be the wrong ones.
    made_with = {
        "seed": seed,
        "count": count,
        "kinds": list(kinds),
        "by": encode.__module__,
        "scale": float(sum(p.detach().double().sum() for p in coder.encoder.parameters())),
    }
    state = checkpoint.load(path)
    if state is None or state["made_with"] != made_with:
        state = {"made_with": made_with}
        for kind in kinds:
            rng = random.Random(f"{seed} pictures of {kind}")
            made = encode(coder, tokenizer, count // len(kinds), kind, rng)
            state |= {f"{part} of {kind}": kept for part, kept in vars(made).items() if kept is not None}
        checkpoint.save(path, state)
    return {
        kind: denoiser.Latents(state[f"latents of {kind}"], state[f"tokens of {kind}"], state.get(f"layouts of {kind}"))
        for kind in kinds
    }


def export(out: Path, coder: AutoencoderTiny, model: denoiser.Model, tokenizer: CLIPTokenizer) -> None:
    """Write a pipeline directory of float16 safetensors that names its words and its checksums."""
    coder.register_to_config(_name_or_path="")  # of a model that was gone on from: a folder of one machine
    pipe = StableDiffusionPipeline(
        vae=coder,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=denoiser.new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    told = {"name": "pocket", "steps": STEPS, "guidance_scale": GUIDANCE}
    write_directory(out, pipe, CARD, told, never_together())


def write_directory(
    out: Path, pipe: DiffusionPipeline, card: Path, told: dict[str, Any], held_out: Sequence[tuple[str, ...]]
) -> None:
    """Write a pipeline in float16 with its card, its account of itself and its checksums: all or nothing."""
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipe.to(dtype=torch.float16).save_pretrained(partial, max_shard_size="15MB")
    shutil.copy(card, partial / "README.md")
    words = {"things": NOUNS, "colours": list(COLOURS), "other": (*GLUE, *SETTING)}
    model = told | words | {"held_out_pairs": [list(pair) for pair in held_out]}
    (partial / ABOUT).write_text(json.dumps({"model": model, "sha256": checksums(partial)}, indent=1) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)


if __name__ == "__main__":
    main()
