"""Denoising steps of a full-size transformer, plain and regulated in turn: PixArt-Sigma's shape, random weights.

`python -m benchmarks.full_size`. 28 blocks of 16 heads x 72 channels (0.6 billion weights, 2.4 GB in float32), 512 x
512 pixels, guidance on, 300 tokens of text. Its real text encoder holds 4.8 billion weights and is run once a picture:
a stump as wide takes its place, so that what is timed is the denoiser. Random weights change no time and no shape; what
a method is good for cannot be seen with them.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from typing import Any

import torch
from diffusers import DDIMScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel
from transformers import T5Config, T5EncoderModel

from attnreg.attention.regulate import regulate
from attnreg.evaluation.spelling import edit_of
from benchmarks.drawing import untrained_vae
from training.tokenizer import new_t5_tokenizer

PROMPT = "a frog and a blue crown"
SIDE = 64
"""Of the latent: 512 pixels."""
TEXT_WIDTH = 4096


def full_size(blocks: int = 28) -> PixArtSigmaPipeline:
    """The pipeline; nothing is decoded, so its VAE is a stump also."""
    tokenizer = new_t5_tokenizer()
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        num_layers=blocks, num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8,
        cross_attention_dim=1152, caption_channels=TEXT_WIDTH, sample_size=SIDE, use_additional_conditions=False,
    )  # fmt: skip
    text = T5Config(
        vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=64, d_ff=64, num_layers=1, num_heads=4, dropout_rate=0.0
    )
    return PixArtSigmaPipeline(
        transformer=transformer.eval(),
        text_encoder=T5EncoderModel(text).eval(),
        tokenizer=tokenizer,
        vae=untrained_vae(),
        scheduler=DDIMScheduler(),
    )


def drawn(pipe: Any, edit: Any, steps: int) -> tuple[float, torch.Tensor, Any]:
    """Seconds of one call, the latent it ends with, and the trace."""
    options = {
        "num_inference_steps": steps, "height": 8 * SIDE, "width": 8 * SIDE, "output_type": "latent",
        "use_resolution_binning": False, "clean_caption": False, "generator": torch.Generator().manual_seed(0),
    }  # fmt: skip
    began = time.perf_counter()
    if edit is None:
        latent = pipe(PROMPT, **options).images
        return time.perf_counter() - began, latent, None
    with regulate(pipe, ["frog", "crown"], edit) as trace:
        latent = pipe(PROMPT, **options).images
    return time.perf_counter() - began, latent, trace


def peak() -> float:
    """Most memory that this process has held so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?", default="attention-balance")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1, help="denoising steps a call")
    parser.add_argument("--blocks", type=int, default=28, help="fewer for a quick look")
    arguments = parser.parse_args()
    edit = edit_of(arguments.method)
    pipe = full_size(arguments.blocks)
    pipe.set_progress_bar_config(disable=True)
    weights = sum(one.numel() for one in pipe.transformer.parameters())
    print(f"{weights / 1e9:.2f} billion weights, {peak():.2f} GB held", flush=True)
    drawn(pipe, None, 1)  # the first call pays for what is only done once
    found = []
    for _ in range(arguments.rounds):
        plain, before, _ = drawn(pipe, None, arguments.steps)
        held = peak()
        regulated, after, trace = drawn(pipe, edit, arguments.steps)
        found.append(regulated / plain)
        told = ", ".join(f"{name} {a:.4f} -> {b:.4f}" for name, (a, b) in trace.attention()[0].items())
        moved = float((after - before).abs().mean() / before.abs().mean())
        print(
            f"plain {plain:.1f} s, regulated {regulated:.1f} s; at most {held:.2f} GB, then {peak():.2f} GB; "
            f"{len(trace.layers)} layers, attention: {told}; latent moved by {moved:.2%}",
            flush=True,
        )
    print(f"regulated / plain: {statistics.median(found):.3f}; float32, CPU, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
