"""Every way to make a model heed its prompt, behind one interface: a name, a frozen config, an edit.

This table names them and where they are; a method's file, and torch with it, is loaded when its config is asked for.
"""

from __future__ import annotations

from attnreg.methods.method import Method

_REFINED = "1 with a gradient for every step of the window, up to 21 where it is refined"

METHODS: dict[str, Method] = {
    "none": Method(None, "the unmodified model", "", edits="nothing"),
    "auto": Method(
        "regulation.auto.Auto",
        "the best that works here: best-start where the run begins with noise alone, else attention-balance",
        "",
        edits="initial noise, or attention logits",
        passes="those of the method that acts",
    ),
    "attention-balance": Method(
        "regulation.balance.AttentionBalance",
        "raises weak targets and lowers strong ones, a number a target, until each is heard as much as the others",
        "",
    ),
    "best-start": Method(
        "regulation.best_start.BestStart",
        "tries other noises to begin with where the model does not read every target in what one leads to",
        "",
        edits="initial noise",
        passes="1.5 to read the given start of two targets (3.5 of three); if it is exchanged half of the steps, and "
        "8.5 (10.5) for every other start that is tried",
    ),
    "attention-regulation": Method(
        "regulation.config.AttentionRegulation",
        "solves for a smooth edit of the targets' logits that gives each its share of the picture",
        "Zhang et al., ECCV 2024, arXiv:2403.06381",
    ),
    "attention-regulation:reference": Method(
        "regulation.reference.ReferenceRegulation",
        "the same as its authors' public code runs it, to the letter",
        "Zhang et al., ECCV 2024, arXiv:2403.06381",
    ),
    "attention-scaling": Method(
        "methods.attention_scaling.AttentionScaling",
        "adds a constant to the targets' logits, or multiplies them: the baseline that every optimisation must beat",
        "",
    ),
    "taca": Method(
        "methods.taca.Taca",
        "multiplies the logits of the whole text in the first steps, where text and picture share one softmax",
        "Lv et al., ICCV 2025, arXiv:2506.07986",
        edits="attention logits of the whole text",
    ),
    "deleaker": Method(
        "methods.deleaker.DeLeaker",
        "cuts what the positions of one target take from another, where text and picture share one softmax",
        "Ventura et al., ICLR 2026, arXiv:2510.15015",
        edits="attention logits over text and picture",
    ),
    "prompt-weighting": Method(
        "methods.prompt_weighting.PromptWeighting",
        "makes the targets' part in the prompt's embedding larger or smaller",
        "the library compel",
        edits="prompt embedding",
    ),
    "structured-diffusion": Method(
        "methods.structured_diffusion.StructuredDiffusion",
        "lets every phrase hand on what it means alone, not what its neighbours made of it",
        "Feng et al., ICLR 2023, arXiv:2212.05032",
        edits="values of the attention over the text",
        needs=("parse",),
    ),
    "tome": Method(
        "methods.tome.ToMe",
        "merges each thing and its attributes into one token, and takes the end of text from the things alone",
        "Hu et al., NeurIPS 2024, arXiv:2411.07132",
        edits="prompt embedding",
        needs=("parse",),
    ),
    "composable-diffusion": Method(
        "methods.composable_diffusion.ComposableDiffusion",
        "denoises every phrase alone and adds up where they pull",
        "Liu et al., ECCV 2022, arXiv:2206.01714",
        edits="prediction",
        passes="1 a target for every step of the window",
    ),
    "dense-diffusion": Method(
        "methods.dense_diffusion.DenseDiffusion",
        "moves every target's attention into its box, over the text and over the picture",
        "Kim et al., ICCV 2023, arXiv:2308.12964",
        edits="attention logits over text and picture",
        needs=("layout",),
    ),
    "attend-and-excite": Method(
        "methods.attend_and_excite.AttendAndExcite",
        "moves the latent until every target is seen strongly somewhere",
        "Chefer et al., SIGGRAPH 2023, arXiv:2301.13826",
        edits="latent",
        needs=("gradient",),
        passes=_REFINED,
    ),
    "divide-and-bind": Method(
        "methods.divide_and_bind.DivideAndBind",
        "moves the latent until every target's map has strong edges, and its words' maps agree",
        "Li et al., BMVC 2023, arXiv:2307.10864",
        edits="latent",
        needs=("gradient",),
        passes="1 with a gradient for every step of the window, up to 51 where it is refined",
    ),
    "syngen": Method(
        "methods.syngen.SynGen",
        "moves the latent until an attribute's map is its noun's and no other word's",
        "Rassin et al., NeurIPS 2023, arXiv:2306.08877",
        edits="latent",
        needs=("parse", "gradient"),
        passes="1 with a gradient for every step of the window",
    ),
    "conform": Method(
        "methods.conform.Conform",
        "moves the latent until the maps of a thing's words are alike and those of others are not",
        "Meral et al., CVPR 2024, arXiv:2312.06059",
        edits="latent",
        needs=("gradient",),
        passes=_REFINED,
    ),
    "initno": Method(
        "methods.initno.InitNO",
        "searches an initial noise in which every target is seen and no two are mixed, then moves the latent",
        "Guo et al., CVPR 2024, arXiv:2404.04650",
        edits="latent",
        needs=("gradient",),
        passes="up to 100 with a gradient in the first step, then as attend-and-excite",
    ),
    "saga": Method(
        "methods.saga.Saga",
        "learns a distribution in which every target is seen and no two are mixed, and goes on from a sample of it",
        "Grimal et al., AAAI 2026, arXiv:2508.13866",
        edits="latent",
        needs=("gradient",),
        passes="up to 500 with a gradient in one step",
    ),
    "frap": Method(
        "methods.frap.Frap",
        "learns, step by step, a weight a word by which every target is seen, and its modifiers where it is",
        "Jiang et al., TMLR 2025, arXiv:2408.11706",
        edits="prompt embedding, by a gradient",
        needs=("parse", "gradient"),
        passes="1 with a gradient for every step of the window",
    ),
    "focus": Method(
        "methods.focus.Focus",
        "turns every step towards attention in which a target's tokens agree and targets differ",
        "Bill et al., 2025, arXiv:2510.02315",
        edits="prediction, by a gradient",
        needs=("gradient",),
        passes="1 with a gradient for every step of the window",
    ),
    "self-cross": Method(
        "methods.self_cross.SelfCross",
        "moves the latent until no target's pixels look at where another target is",
        "Qiu et al., CVPR 2025, arXiv:2411.18936",
        edits="latent",
        needs=("gradient",),
        passes=_REFINED,
    ),
}
"""Name -> method. A new one is a file, a line here and a test."""
DEFAULT = "auto"
"""What regulates where nothing else is said, here, on the command line and in `regulate`."""
