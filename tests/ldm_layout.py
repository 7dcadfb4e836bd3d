"""Pipelines written as one checkpoint in the layout of the original repositories: diffusers' reading, backwards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Weights = dict[str, Tensor]

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
OPEN_CLIP = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
VAE = {
    "mid_block.attentions.0": "mid.attn_1", "conv_shortcut": "nin_shortcut", "group_norm": "norm", "to_q": "q",
    "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "conv_norm_out": "norm_out",
}  # fmt: skip


def unet_weights(unet: Any) -> Weights:
    """As "model.diffusion_model...": blocks are counted on from level to level."""
    a_level = unet.config.layers_per_block + 1
    last = len(unet.config.block_out_channels) - 1
    found = {}
    for name, value in unet.state_dict().items():
        if block := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name):
            side, level, kind, i, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
            if kind == "downsamplers":
                new = f"input_blocks.{a_level * (level + 1)}.0.{rest.replace('conv', 'op')}"
            elif kind == "upsamplers":
                attends = "CrossAttn" in unet.config.up_block_types[level]
                new = f"output_blocks.{a_level * (level + 1) - 1}.{2 if attends else 1}.{rest}"
            else:
                at = a_level * level + i + (side == "down")
                blocks = "input_blocks" if side == "down" else "output_blocks"
                new = f"{blocks}.{at}.{0 if kind == 'resnets' else 1}.{_resnet(rest) if kind == 'resnets' else rest}"
        elif block := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
            at = 2 * int(block[2]) if block[1] == "resnets" else 1
            new = f"middle_block.{at}.{_resnet(block[3]) if block[1] == 'resnets' else block[3]}"
        else:
            new = next(new + name.removeprefix(old) for old, new in ENDS.items() if name.startswith(f"{old}."))
        found[f"model.diffusion_model.{new}"] = value
    assert last >= 2
    return found


def _resnet(rest: str) -> str:
    head, _, tail = rest.partition(".")
    return f"{RESNET[head]}.{tail}"


def vae_weights(vae: Any) -> Weights:
    """As "first_stage_model...": the decoder's levels are counted from below, projections are convolutions."""
    top = len(vae.config.block_out_channels) - 1
    found = {}
    for name, value in vae.state_dict().items():
        new = re.sub(r"up_blocks\.(\d)\.", lambda level: f"up.{top - int(level[1])}.", name)
        new = new.replace("down_blocks", "down").replace("downsamplers.0", "downsample")
        new = new.replace("upsamplers.0", "upsample")
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda block: f"mid.block_{int(block[1]) + 1}", new)
        new = re.sub(r"\.resnets\.(\d)", r".block.\1", new)
        for old, other in VAE.items():
            new = re.sub(rf"(?<![\w]){re.escape(old)}(?=\.)", other, new)
        attends = ".attn_1." in new and value.ndim == 2
        found[f"first_stage_model.{new}"] = value[..., None, None] if attends else value
    return found


def clip_weights(encoder: Any, prefix: str) -> Weights:
    """As OpenAI's encoder is kept by transformers."""
    names = encoder.state_dict().items()
    return {f"{prefix}text_model.{name.removeprefix('text_model.')}": value.clone() for name, value in names}


def open_clip_weights(encoder: Any, prefix: str) -> Weights:
    """As OpenCLIP keeps its own: one matrix for queries, keys and values."""
    state = {name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()}
    found = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
    }
    if "text_projection.weight" in state:
        found["text_projection"] = state["text_projection.weight"].T
    for end in ("weight", "bias"):
        found[f"ln_final.{end}"] = state[f"final_layer_norm.{end}"]
        for i in range(encoder.config.num_hidden_layers):
            old, new = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
            joined = [state[f"{old}.self_attn.{one}_proj.{end}"] for one in "qkv"]
            found[f"{new}.attn.in_proj_{end}"] = torch.cat(joined)
            for theirs, ours in OPEN_CLIP.items():
                found[f"{new}.{ours}.{end}"] = state[f"{old}.{theirs}.{end}"]
    return {prefix + name: value for name, value in found.items()}


def write(path: Path, *weights: Weights, told: dict[str, str] | None = None) -> Path:
    """One checkpoint of several parts."""
    whole = {name: value.contiguous() for part in weights for name, value in part.items()}
    save_file(whole, path, told)
    return path
