"""The table of families: made from them alone, true of the installed diffusers, and printed for people and programs."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import diffusers
import pytest
from click.testing import CliRunner
from diffusers.pipelines import auto_pipeline

from attnreg.attention.families import FAMILIES
from attnreg.attention.families.joint import Flux
from attnreg.catalogue import family_rows, pipelines_of, works
from attnreg.cli import cli
from attnreg.commands import models
from attnreg.methods import METHODS


def test_there_is_a_row_for_every_family() -> None:
    rows = family_rows()
    assert [row.name for row in rows] == [family.name for family in FAMILIES]
    for row, family in zip(rows, FAMILIES, strict=True):
        assert row.denoiser == family.model
        assert row.tested
        assert row.default_layers.endswith(".")
        assert set(row.edits) - {"whole text"} == family.kinds
        assert row.methods == tuple(name for name in METHODS if name != "none" and works(name, family))


@pytest.mark.parametrize(
    "name", ["StableDiffusionPipeline", "FluxPipeline", "FluxKontextPipeline", "PixArtSigmaPipeline"]
)
def test_pipelines_are_those_that_take_such_a_denoiser(name: str) -> None:
    """Against the class itself, imported: its signature, and its `encode_prompt`."""
    kind: Any = getattr(diffusers, name)
    parameters = inspect.signature(kind.__init__).parameters
    taking = [
        family.name
        for family in FAMILIES
        if re.fullmatch(family.pipelines or ".*", name)
        and family.denoiser in parameters
        and family.model in re.findall(r"\w+", str(parameters[family.denoiser].annotation))
    ]
    assert taking == [family.name for family in FAMILIES if name in pipelines_of(family)]
    assert hasattr(kind, "encode_prompt")


@pytest.mark.parametrize(("name", "family"), [("IFPipeline", "DeepFloyd IF"), ("KolorsPipeline", "Kolors")])
def test_families_that_share_a_denoisers_class_share_no_pipeline(name: str, family: str) -> None:
    assert [one.name for one in FAMILIES if name in pipelines_of(one)] == [family]


WITHOUT_A_FAMILY = {
    "GlmImagePipeline",
    "HeliosPipeline",
    "HeliosPyramidPipeline",
    "KandinskyCombinedPipeline",
    "KandinskyImg2ImgCombinedPipeline",
    "KandinskyInpaintCombinedPipeline",
    "KandinskyV22CombinedPipeline",
    "KandinskyV22Img2ImgCombinedPipeline",
    "KandinskyV22InpaintCombinedPipeline",
    "StableCascadeCombinedPipeline",
    "WuerstchenCombinedPipeline",
}
"""Pipelines of pictures that call others, that give no word a place in attention, or that make videos."""


@pytest.mark.parametrize("kind", ["TEXT2IMAGE", "IMAGE2IMAGE", "INPAINT"])
def test_what_diffusers_makes_pictures_with_is_of_a_family(kind: str) -> None:
    """A pipeline that a later diffusers brings fails here: it wants an entry, or a reason."""
    listed = getattr(auto_pipeline, f"AUTO_{kind}_PIPELINES_MAPPING").values()
    known = {name for family in FAMILIES for name in pipelines_of(family)}
    assert {pipeline.__name__ for pipeline in listed} - known <= WITHOUT_A_FAMILY


def test_a_pipeline_that_encodes_no_prompt_is_none_of_them() -> None:
    """Image variation and unconditional pipelines hold a UNet as well."""
    listed = pipelines_of(FAMILIES[0])
    assert not hasattr(diffusers.StableDiffusionImageVariationPipeline, "encode_prompt")
    assert "StableDiffusionImageVariationPipeline" not in listed
    assert "StableDiffusionXLPipeline" in listed
    assert "AnimateDiffPipeline" not in listed, "it makes a denoiser of videos of it"


def test_a_new_entry_is_listed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import attnreg.catalogue

    new = Flux("Newer", "BriaTransformer2DModel")
    monkeypatch.setattr(attnreg.catalogue, "FAMILIES", (*FAMILIES, new))
    (row,) = [row for row in family_rows() if row.name == "Newer"]
    assert "BriaPipeline" in row.pipelines
    assert "attention-balance" in row.methods


def test_piped_it_is_one_plain_line_a_family() -> None:
    done = CliRunner().invoke(cli, ["models"], catch_exceptions=False)
    header, *lines = done.output.splitlines()
    assert tuple(header.split("\t")) == models.COLUMNS
    assert [line.split("\t")[0] for line in lines] == [family.name for family in FAMILIES]
    assert {len(line.split("\t")) for line in lines} == {len(models.COLUMNS)}


def test_as_json_it_is_the_same() -> None:
    done = CliRunner().invoke(cli, ["models", "--json"], catch_exceptions=False)
    told = json.loads(done.output)
    assert [one["name"] for one in told] == [row.name for row in family_rows()]
    assert told[0]["methods"] == list(family_rows()[0].methods)


def test_on_a_terminal_it_is_wrapped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    cli.main(["models"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "FLUX: FluxTransformer2DModel\n" in text
    assert max(map(len, text.splitlines())) <= 110
    assert "--family probe" in text
