"""What is particular to `families/mixed.py`: rows whose text ends elsewhere, what was quoted, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, GlmImageTransformer2DModel, PRXPipeline
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

import tiny
import tiny_mixed
import tiny_transformers
from attnreg import AttentionBalance, AttnregError, regulate
from attnreg.attention import attending
from attnreg.attention.layers import correction
from attnreg.models.defaults import defaults_of

SHORT, LONG = "a cat and a blue balloon", "a red car with a very old clock and a small dog on the beach"
TARGETS = [["cat", "blue balloon"], ["car", "clock"]]


def drawn(pipe: Any, prompts: list[str], options: dict[str, Any], **others: Any) -> Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    settings = {"num_inference_steps": 2, "output_type": "latent"} | options | others
    images: Tensor = pipe(prompts, generator=generators, **settings).images
    return images


@pytest.mark.parametrize(
    ("name", "prompts"),
    [("Lumina 2", [SHORT, LONG]), ("HunyuanImage", [SHORT, LONG.replace("old clock", "'old clock'")])],
)
def test_each_row_is_edited_where_its_own_text_and_picture_lie(
    name: str, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two prompts at once are drawn as each alone; what is not their rows and queries is the same to the bit."""
    pipe = tiny_mixed.FAMILIES[name]()
    options = dict(tiny_mixed.SMALL[name])
    if "negative_prompt" in options:
        options["negative_prompt"] = [options["negative_prompt"]] * 2
    seen: list[list[Any]] = []

    def noting(parts: Any, *args: Any, **kwargs: Any) -> Tensor:
        output = correction.attend_corrected(parts, *args, **kwargs)
        plain, edited = F.scaled_dot_product_attention(*args, **kwargs), torch.zeros(output.shape[:3], dtype=torch.bool)
        for part, _ in parts:
            edited[part.rows, :, part.queries] = True
        assert torch.equal(output[~edited], plain[~edited])
        seen.append([part for part, _ in parts])
        return output

    monkeypatch.setattr(attending, "attend_corrected", noting)
    with regulate(pipe, TARGETS, AttentionBalance(window=(0.0, 1.0))):
        together = drawn(pipe, prompts, options)
    assert all([part.rows for part in parts] == [[0], [1]] for parts in seen)
    first, second = seen[0]
    assert (first.queries, first.columns.tokens.min()) != (second.queries, second.columns.tokens.min())
    alone = options | ({"negative_prompt": "a dog"} if "negative_prompt" in options else {})
    for number, (prompt, targets) in enumerate(zip(prompts, TARGETS, strict=True)):
        generator = torch.Generator().manual_seed(number)
        settings = {"num_inference_steps": 2, "output_type": "latent"} | alone
        with regulate(pipe, targets, AttentionBalance(window=(0.0, 1.0))):
            one = pipe(prompt, generator=generator, **settings).images
        torch.testing.assert_close(together[number : number + 1], one, rtol=1e-3, atol=1e-3)


def test_the_text_begins_behind_the_letters_that_were_quoted() -> None:
    """Another embedding of a word moves most the key that stands behind the picture and the letters."""
    pipe, seen = tiny_mixed.hunyuan_image(), list[dict[str, Any]]()
    handle = pipe.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(dict(kwargs)), with_kwargs=True
    )
    prompt = "a sign 'hello' and a cat"
    with regulate(pipe, ["cat"], AttentionBalance()) as trace:
        drawn(pipe, [prompt], dict(tiny_mixed.SMALL["HunyuanImage"]) | {"negative_prompt": ["a dog"]})
    handle.remove()
    letters = len(pipe.tokenizer_2('Text "hello". ').input_ids)
    arguments, (column,) = seen[0], trace.targets[0][0].tokens
    assert arguments["encoder_attention_mask_2"].sum().item() == letters
    module = pipe.transformer.transformer_blocks[0].attn

    def keys(change: float) -> Tensor:
        moved, told = arguments["encoder_hidden_states"].clone(), list[Tensor]()
        moved[:, column] += change
        hook = module.add_k_proj.register_forward_hook(lambda _, __, output: told.append(output))
        with torch.no_grad():
            pipe.transformer(**(arguments | {"encoder_hidden_states": moved}))
        hook.remove()
        return told[0]

    assert (keys(1.0) - keys(0.0)).abs().sum((0, 2)).argmax().item() == letters + column


def test_every_word_of_hidream_is_heeded_in_three_places() -> None:
    pipe = tiny_mixed.hidream()
    options = tiny_mixed.SMALL["HiDream"]
    with regulate(pipe, ["cat"], AttentionBalance()) as trace:
        drawn(pipe, [SHORT], options)
    (target,) = trace.targets[0]
    t5, llama, again = target.tokens
    width = options["max_sequence_length"]
    assert t5 < width <= llama < 2 * width
    assert again == llama + width


def test_a_fourth_prompt_that_differs_is_refused() -> None:
    pipe = tiny_mixed.hidream()
    wrong = pytest.raises(AttnregError, match="one prompt for all text encoders, got a prompt_4 that differs")
    with wrong, regulate(pipe, ["cat"], AttentionBalance()):
        drawn(pipe, [SHORT], dict(tiny_mixed.SMALL["HiDream"]), prompt_4="a dog")


def t5_gemma() -> T5GemmaEncoder:
    torch.manual_seed(2)
    return T5GemmaEncoder(
        T5GemmaModuleConfig(
            vocab_size=len(tiny_transformers.gemma_tokenizer()), hidden_size=16, intermediate_size=16,
            num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=64,
            layer_types=["full_attention"], dropout_rate=0.0, query_pre_attn_scalar=8, sliding_window=64,
        )
    ).eval()  # fmt: skip


@pytest.mark.filterwarnings("ignore:`LoraLoaderMixin` is deprecated")  # of diffusers, by its own pipeline
def test_prx_with_an_autoencoder_cleans_its_prompt_and_is_regulated() -> None:
    tokenizer = tiny_transformers.gemma_tokenizer()
    tokenizer.model_max_length = 64
    pipe = tiny.quiet(
        PRXPipeline(
            transformer=tiny_mixed.prx_transformer(4, 2, 16), scheduler=FlowMatchEulerDiscreteScheduler(),
            text_encoder=t5_gemma(), tokenizer=tokenizer, vae=tiny.vae(), default_sample_size=256,
        )
    )  # fmt: skip
    assert (defaults_of(pipe).height, defaults_of(pipe).width) == (256, 256)
    options = {"height": 64, "width": 96, "use_resolution_binning": False}
    plain = drawn(pipe, ["A  Cat and a Dog"], options)
    with regulate(pipe, config=AttentionBalance(window=(0.0, 1.0))) as trace:
        regulated = drawn(pipe, ["A  Cat and a Dog"], options)
    assert [target.text for target in trace.targets[0]] == ["Cat", "Dog"]
    assert trace.regulated_steps == 2
    assert not torch.equal(plain, regulated)
    assert torch.equal(plain, drawn(pipe, ["A  Cat and a Dog"], options))


def test_glm_image_is_refused_because_its_attention_sees_no_words() -> None:
    class GlmImagePipeline:
        def __init__(self, transformer: nn.Module) -> None:
            self.transformer = transformer
            self.components = {"transformer": transformer}

    torch.manual_seed(0)
    transformer = GlmImageTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        text_embed_dim=16, time_embed_dim=16, condition_dim=8, prior_vq_quantizer_codebook_size=16,
    )  # fmt: skip
    with pytest.raises(AttnregError, match="words of the prompt go to another model") as told:
        regulate(GlmImagePipeline(transformer)).__enter__()
    assert "\n" not in str(told.value)
