"""What regulation adds to a full-size Stable Diffusion 1.5: 512 x 512, guidance on, half of the steps regulated.

`python -m benchmarks.overhead attention-regulation attention-regulation:reference`. The weights are random, which
changes no time. Methods take turns in one process, each round in another order, and are compared within a round. Two
steps a call, the first of them regulated: what the method's own window says about more steps is left out. What
`best-start` adds to a picture whose start it keeps: `"best-start(enough=0)" --steps 20`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import fields, replace
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from attnreg.attention.regulate import regulate
from attnreg.evaluation.spelling import edit_of
from attnreg.regulation.columns import LogitEdit
from attnreg.regulation.edit import ProbabilityEdit
from benchmarks.cost import operations
from benchmarks.drawing import untrained_vae
from training.tokenizer import new_tokenizer

PROMPT = "a frog and a blue crown"
SIDE = 64
"""Of the latent: 512 pixels."""
WORDS = 77


def full_size() -> StableDiffusionPipeline:
    """Stable Diffusion 1.5's UNet and text encoder with random weights; nothing is decoded, so its VAE is a stump."""
    tokenizer = new_tokenizer()
    tokenizer.model_max_length = WORDS
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=WORDS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return StableDiffusionPipeline(
        unet=UNet2DConditionModel(sample_size=SIDE, attention_head_dim=8, cross_attention_dim=768).eval(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=tokenizer,
        vae=untrained_vae(),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def in_half(edit: Any) -> Any:
    """The edit in the first half of the steps, unless it has its own way with them."""
    return replace(edit, window=(0.0, 0.5)) if "window" in {field.name for field in fields(edit)} else edit


def seconds(pipe: Any, edit: Any, steps: int) -> float:
    """Of one call of the pipeline."""
    options = {"num_inference_steps": steps, "output_type": "latent", "generator": torch.Generator().manual_seed(0)}
    began = time.perf_counter()
    if edit is None:
        pipe(PROMPT, **options)
    else:
        with regulate(pipe, config=edit):
            pipe(PROMPT, **options)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=["attention-regulation", "attention-regulation:reference"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="denoising steps a call, the first half regulated")
    arguments = parser.parse_args()
    edits: dict[str, Any] = {"none": None}
    edits |= {name: in_half(edit_of(name)) for name in arguments.methods}
    pipe = full_size()
    pipe.set_progress_bar_config(disable=True)
    seconds(pipe, None, 1)  # the first call pays for what is only done once
    taken: dict[str, list[float]] = {name: [] for name in edits}
    names = list(edits)
    for turn in range(arguments.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken[name].append(seconds(pipe, edits[name], arguments.steps))
    print("| method | seconds a step | extra time, median | of rounds, least to most | operations a layer |")
    print("| --- | --- | --- | --- | --- |")
    for name, edit in edits.items():
        extra = [one / plain - 1 for one, plain in zip(taken[name], taken["none"], strict=True)]
        each = statistics.median(taken[name]) / arguments.steps
        count = operations(edit) if isinstance(edit, LogitEdit | ProbabilityEdit) else 0
        span = f"{min(extra):+.1%} to {max(extra):+.1%}"
        print(f"| {name} | {each:.2f} | {statistics.median(extra):+.2%} | {span} | {count} |")
    print(f"\n{arguments.rounds} rounds, {arguments.steps} steps, CPU, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
