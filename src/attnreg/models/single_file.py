"""A single checkpoint, as most people have their models, becomes a pipeline. The network is never asked.

The layout is that of the original repositories ("model.diffusion_model.input_blocks..."). diffusers turns the weights
into its own; what a checkpoint does not carry, configurations and CLIP's tokenizer, lies in this package, or for other
families in the hub's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from attnreg.models.directory import PICKLES, SAFE
from attnreg.models.tokenizers import CONFIGS, END, clip_tokenizer
from attnreg.types import AttnregError

PADS: dict[str, dict[str, str]] = {
    "v1": {"tokenizer": END},
    "v2": {"tokenizer": "!"},
    "xl_base": {"tokenizer": END, "tokenizer_2": "!"},
    "xl_refiner": {"tokenizer_2": "!"},
    "sd3": {"tokenizer": END, "tokenizer_2": "!"},
}
"""diffusers' name of a kind of checkpoint -> its tokenizers, and what fills up a prompt in each. `CONFIGS` has a folder
of configurations for every one of them."""
UNET_INPUT = "model.diffusion_model.input_blocks.0.0.weight"
"""A weight that every Stable Diffusion 1 has: diffusers takes whatever it does not know for one."""
NOT_FROM_TEXT = ("inpainting", "inpainting_v2", "xl_inpaint", "instruct-pix2pix", "upscale")
"""Kinds that draw over a picture: they need one beside the prompt."""


@dataclass(frozen=True)
class Checkpoint:
    """What the header of a safetensors file tells; no weight is read."""

    path: Path
    shapes: Mapping[str, torch.Tensor]
    """The weights, without content: tensors on the device "meta"."""
    told: Mapping[str, str]
    """The file's own account of itself; most have none."""

    @property
    def kind(self) -> str:
        """diffusers' name of the model's kind: "v1", "xl_base", "flux-dev", ..."""
        from diffusers.loaders.single_file_utils import infer_diffusers_model_type

        return str(infer_diffusers_model_type(dict(self.shapes)))

    @property
    def prediction(self) -> str | None:
        """What the model says it predicts: "epsilon" or "v_prediction"; `None` if it says nothing."""
        if "v_pred" in self.shapes:  # an empty tensor, by which fine-tuned SDXL models tell it
            return "v_prediction"
        said = self.told.get("modelspec.prediction_type", "").lower()
        return {"e": "epsilon", "v": "v_prediction"}.get(said[:1])


def read_checkpoint(path: Path) -> Checkpoint:
    """The header of a checkpoint.

    Raises:
        AttnregError: it is pickled, no safetensors, or damaged.
    """
    if path.suffix.lower() in PICKLES:
        raise AttnregError(
            f"expected a {SAFE} checkpoint, got {path}, which is pickled and may run code; take the {SAFE} that is "
            "mostly offered beside it, or convert it where you trust it: torch.load(FILE, weights_only=True), then "
            "safetensors.torch.save_file"
        )
    if path.suffix.lower() != SAFE:
        raise AttnregError(f"expected a checkpoint that ends in {SAFE}, got {path}; convert it, or give a directory")
    try:
        with safe_open(str(path), "pt") as file:
            names = file.keys()
            shapes = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in names}
            return Checkpoint(path, shapes, file.metadata() or {})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise AttnregError(
            f"expected a readable {SAFE} file, got {path} ({error}); download the model again"
        ) from error


def load_checkpoint(path: Path, precision: torch.dtype, device: str) -> Any:
    """The pipeline of a single checkpoint, on a device.

    Args:
        path: a .safetensors file with everything in it: denoiser, autoencoder and text encoders.
        precision: of all its weights.
        device: where it shall run.

    Returns:
        A pipeline of the kind that the weights' names and shapes tell.

    Raises:
        AttnregError: it is pickled, damaged, a part of a model only, or of a kind whose configuration is not here.
    """
    checkpoint = read_checkpoint(path)
    kind = checkpoint.kind
    if kind in NOT_FROM_TEXT:
        raise AttnregError(f"expected a text-to-image model, got {path}, which is of the kind {kind}; choose another")
    if kind == "v1" and UNET_INPUT not in checkpoint.shapes:
        shown = ", ".join(sorted(checkpoint.shapes)[:2]) or "nothing"
        raise AttnregError(
            f"expected a whole model, got {path} with {shown}, ...; a LoRA, an autoencoder or a denoiser alone is "
            "none: give the checkpoint that it belongs to, or a directory"
        )
    folder = CONFIGS / kind if kind in PADS else _cached(kind, path)
    import diffusers

    named = diffusers.DiffusionPipeline.load_config(str(folder))["_class_name"]
    tokenizers = {name: clip_tokenizer(pad) for name, pad in PADS.get(kind, {}).items()}
    # A folder: given none, diffusers asks the network for one even where it is told not to.
    pipe = getattr(diffusers, named).from_single_file(
        str(path), config=str(folder), local_files_only=True, torch_dtype=precision, **tokenizers
    )
    return _settled(pipe, checkpoint, device)


def predicts_noise(unet: Any) -> bool:
    """Whether a UNet predicts the noise, and not v, of latents that are nothing but noise.

    At the last time step v = sqrt(abar) noise - sqrt(1 - abar) picture (Salimans & Ho, 2022) has next to nothing of the
    noise in it: the two are told apart by one pass, from the correlation of what comes out with what went in.
    """
    settings = unet.config
    noise = torch.randn(1, settings.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    text = torch.zeros(1, 77, settings.cross_attention_dim)
    given = [one.to(unet.device, unet.dtype) for one in (noise, text)]
    with torch.no_grad():
        out = unet(given[0], torch.tensor(999, device=unet.device), encoder_hidden_states=given[1]).sample
    both = torch.stack([noise.flatten(), out.float().cpu().flatten()])
    return bool(torch.corrcoef(both)[0, 1] > 0.5)


def _settled(pipe: Any, checkpoint: Checkpoint, device: str) -> Any:
    """The pipeline on its device, with a scheduler that takes the model's predictions for what they are."""
    if any(one.is_meta for part in _modules(pipe) for one in part.parameters()):
        return pipe  # not whole: whoever asked for it says so
    pipe = pipe.to(device)
    predicts = checkpoint.prediction
    if checkpoint.kind == "v2":  # 512 pixels and noise, or 768 and v: the weights look the same
        predicts = predicts or ("epsilon" if predicts_noise(pipe.unet) else "v_prediction")
        pipe.unet.register_to_config(sample_size=64 if predicts == "epsilon" else 96)
    if predicts and "prediction_type" in pipe.scheduler.config:
        zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if "ztsnr" in checkpoint.shapes else {}
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=predicts, **zero)
    return pipe


def _modules(pipe: Any) -> list[torch.nn.Module]:
    return [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]


def _cached(kind: str, path: Path) -> Path:
    """The hub's own copy on this machine of a family's configurations. Raises `AttnregError` if there is none."""
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS
    from huggingface_hub import snapshot_download

    name = DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception as error:  # of the cache, the id or the disk, each of another kind
        raise AttnregError(
            f"expected a checkpoint of Stable Diffusion 1, 2, XL or 3, got {path}, of the kind {kind}, whose "
            f"configuration is neither here nor in the hub's cache; run once: hf download {name} --include '*.json' "
            "'*.txt' '*.model', or give a directory in diffusers' layout"
        ) from error
