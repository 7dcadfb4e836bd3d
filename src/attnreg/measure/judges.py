"""Every judge by name: what it tells, what it needs, where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from attnreg.measure.judge import Judge
from attnreg.measure.weights import Source, Weights, find_weights


@dataclass(frozen=True)
class Row:
    """One judge of the table."""

    factory: Callable[[Weights], Judge]
    """Imports what the judge needs only when called."""
    summary: str
    """What its scores tell, in one line."""
    needs: str = ""
    """Beyond the package's own requirements: an extra to install, weights to have; empty if nothing."""
    paper: str = ""
    networks: Mapping[str, str] = field(default_factory=dict)
    """The networks it runs and the hub id of each that is taken unless the user names another."""

    def open(self, source: Source = None, device: str = "auto", download: bool = False) -> Judge:
        """The judge, ready to score.

        Args:
            source: where its weights are: a directory, a hub id, or network -> directory or id. `None`: the ids of the
                table.
            device: where its networks run; "auto" takes CUDA, else MPS, else the CPU.
            download: whether the hub may be asked; otherwise its cache must hold the weights.

        Returns:
            The judge.

        Raises:
            AttnregError: a library or weights are missing.
        """
        return self.factory(find_weights(source, self.networks, device, download))


def _clip(weights: Weights) -> Judge:
    from attnreg.measure.clip import ClipEncoder, ClipSimilarity

    return ClipSimilarity(ClipEncoder(weights))


def _clip_plain(weights: Weights) -> Judge:
    from attnreg.measure.clip import ClipEncoder, ClipSimilarity

    return ClipSimilarity(ClipEncoder(weights), templates=False)


def _open_clip(weights: Weights) -> Judge:
    from attnreg.measure.clip import ClipSimilarity
    from attnreg.measure.open_clip_encoder import OpenClipEncoder

    return ClipSimilarity(OpenClipEncoder(weights))


def _caption(weights: Weights) -> Judge:
    from attnreg.measure.caption import Captioner, CaptionSimilarity
    from attnreg.measure.clip import ClipEncoder

    return CaptionSimilarity(Captioner(weights), ClipEncoder(weights))


def _owlv2(weights: Weights) -> Judge:
    from attnreg.measure.detection import Detection, Owlv2

    return Detection(Owlv2(weights), "owlv2")


def _grounding_dino(weights: Weights) -> Judge:
    from attnreg.measure.detection import Detection, GroundingDino

    return Detection(GroundingDino(weights), "grounding-dino")


def _geneval(weights: Weights) -> Judge:
    from attnreg.measure.clip import ClipEncoder
    from attnreg.measure.geneval import GenEval, Instances

    return GenEval(Instances(weights), ClipEncoder(weights))


def _blip_vqa(weights: Weights) -> Judge:
    from attnreg.measure.attributes import AttributeBinding
    from attnreg.measure.vqa import BlipAnswers

    return AttributeBinding(BlipAnswers(weights))


def _questions(weights: Weights) -> Judge:
    from attnreg.measure.questions import QuestionAnswering
    from attnreg.measure.vqa import BlipAnswers

    return QuestionAnswering(BlipAnswers(weights))


def _pickscore(weights: Weights) -> Judge:
    from attnreg.measure.preference import PickScore

    return PickScore(weights)


def _imscore(network: str) -> Callable[[Weights], Judge]:
    def factory(weights: Weights) -> Judge:
        from attnreg.measure.preference import open_preference

        return open_preference(weights, network)

    return factory


def _lpips(weights: Weights) -> Judge:
    from attnreg.measure.lpips import PerceptualDistance

    return PerceptualDistance(weights)


def _ssim(weights: Weights) -> Judge:
    from attnreg.measure.likeness import StructuralSimilarity

    return StructuralSimilarity()


def _pixels(weights: Weights) -> Judge:
    from attnreg.measure.likeness import PixelDistance

    return PixelDistance()


def _pocket(weights: Weights) -> Judge:
    from attnreg.measure.pocket import PocketJudge

    return PocketJudge(device=weights.device)


def _pocket_distance(weights: Weights) -> Judge:
    from attnreg.measure.pocket import PocketDistance

    return PocketDistance(device=weights.device)


_CLIP_B16 = "openai/clip-vit-base-patch16"
_CLIP_L14 = "openai/clip-vit-large-patch14"
_CLIP_H14 = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
_BLIP_VQA = "Salesforce/blip-vqa-base"

JUDGES: dict[str, Row] = {
    "pocket": Row(
        _pocket,
        "which things the bundled models' pictures show, in which colours, how many, and where from one another",
        "pictures of the bundled models, a prompt set that lists its things",
    ),
    "pocket-distance": Row(
        _pocket_distance,
        "perceptual distance from the unmodified picture, on the features of the judge pocket",
        "pictures of the bundled models",
    ),
    "clip": Row(
        _clip,
        "CLIP similarity with the whole prompt and with its most neglected part, texts in 80 templates",
        "weights of CLIP",
        "Chefer et al., Attend-and-Excite, SIGGRAPH 2023, arXiv:2301.13826",
        {"clip": _CLIP_B16},
    ),
    "clip-plain": Row(
        _clip_plain,
        "the same with texts as they are: faster",
        "weights of CLIP",
        "Radford et al., ICML 2021, arXiv:2103.00020",
        {"clip": _CLIP_B16},
    ),
    "open-clip": Row(
        _open_clip,
        "the same as clip with weights in open_clip's layout",
        "attnreg[open-clip], weights of an open_clip model",
        "Cherti et al., CVPR 2023, arXiv:2212.07143",
        {"clip": _CLIP_H14},
    ),
    "caption": Row(
        _caption,
        "CLIP similarity between the prompt and BLIP's caption of the picture",
        "weights of BLIP for captions and of CLIP",
        "Chefer et al., Attend-and-Excite, SIGGRAPH 2023, arXiv:2301.13826",
        {"caption": "Salesforce/blip-image-captioning-base", "clip": _CLIP_B16},
    ),
    "owlv2": Row(
        _owlv2,
        "which things OWLv2 finds, whether all, and whether as often as asked",
        "attnreg[judges], weights of OWLv2",
        "Minderer et al., NeurIPS 2023, arXiv:2306.09683",
        {"owlv2": "google/owlv2-base-patch16-ensemble"},
    ),
    "grounding-dino": Row(
        _grounding_dino,
        "which things Grounding DINO finds, whether all, and whether as often as asked",
        "weights of Grounding DINO",
        "Liu et al., ECCV 2024, arXiv:2303.05499",
        {"grounding-dino": "IDEA-Research/grounding-dino-tiny"},
    ),
    "geneval": Row(
        _geneval,
        "GenEval's rules for objects, counts, colours and positions, on another implementation: numbers differ",
        "weights of Mask2Former and of CLIP",
        "Ghosh et al., NeurIPS 2023, arXiv:2310.11513",
        {"mask2former": "facebook/mask2former-swin-small-coco-instance", "clip": _CLIP_L14},
    ),
    "blip-vqa": Row(
        _blip_vqa,
        "probability that each thing is there with its attributes, and their product",
        "weights of BLIP for questions",
        "Huang et al., T2I-CompBench, NeurIPS 2023, arXiv:2307.06350",
        {"vqa": _BLIP_VQA},
    ),
    "questions": Row(
        _questions,
        "share of a prompt set's questions that BLIP answers rightly, parents heeded",
        "weights of BLIP for questions, a prompt set with questions",
        "Hu et al., TIFA, ICCV 2023, arXiv:2303.11897; Cho et al., DSG, ICLR 2024, arXiv:2310.18235",
        {"vqa": _BLIP_VQA},
    ),
    "pickscore": Row(
        _pickscore,
        "how much people would like the picture for its prompt",
        "weights of PickScore and CLIP ViT-H's tokenizer",
        "Kirstain et al., NeurIPS 2023, arXiv:2305.01569",
        {"pickscore": "yuvalkirstain/PickScore_v1", "processor": _CLIP_H14},
    ),
    "hpsv2": Row(
        _imscore("hpsv2"),
        "how much people would like the picture for its prompt",
        "attnreg[preferences], weights of HPSv2.1 for imscore",
        "Wu et al., 2023, arXiv:2306.09341",
        {"hpsv2": "RE-N-Y/hpsv21"},
    ),
    "imagereward": Row(
        _imscore("imagereward"),
        "how much people would like the picture for its prompt",
        "attnreg[preferences], weights of ImageReward for imscore",
        "Xu et al., NeurIPS 2023, arXiv:2304.05977",
        {"imagereward": "RE-N-Y/ImageReward"},
    ),
    "vqascore": Row(
        _imscore("vqascore"),
        "probability that a large network answers yes when asked whether the picture shows the prompt",
        "attnreg[preferences], weights of CLIP-FlanT5 for imscore (about 23 GB)",
        "Lin et al., ECCV 2024, arXiv:2404.01291",
        {"vqascore": "RE-N-Y/clip-t5-xxl"},
    ),
    "lpips": Row(
        _lpips,
        "perceptual distance from the unmodified picture",
        "LPIPS's weights as safetensors, made as docs/judges.md says",
        "Zhang et al., CVPR 2018, arXiv:1801.03924",
        {"lpips": "lpips.safetensors"},
    ),
    "ssim": Row(
        _ssim,
        "structural similarity with the unmodified picture",
        "attnreg[judges]",
        "Wang et al., IEEE Transactions on Image Processing 2004",
    ),
    "pixels": Row(_pixels, "root mean squared distance from the unmodified picture"),
}
"""Name -> judge. A new one is a file, a row here and a test."""
