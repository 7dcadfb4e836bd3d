"""The app as a program meets it: what is drawn, kept, restored and refused, over HTTP with the bundled model."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app_served import FORM, Served
from attnreg.app import bounds
from attnreg.app.server import PAGE
from attnreg.recipe import read_recipe
from attnreg.studio import Session

TINY = {"seeds": "3", "steps": "2"}


@pytest.fixture(scope="module")
def drawn(served: Served) -> dict[str, Any]:
    return served.drawn(method="attention-balance", settings={"strength": "0.5"}, seeds="2-3")


def test_a_drawing_is_what_the_library_draws(served: Served, drawn: dict[str, Any]) -> None:
    assert drawn["state"] == "done", drawn
    assert [one["seed"] for one in drawn["drawing"]["seeds"]] == ["2", "3"]
    session = Session.open(
        FORM["prompt"], model="pocket", method="attention-balance", settings={"strength": 0.5}, steps=2
    )
    for one in drawn["drawing"]["seeds"]:
        pictures = session.pictures(int(one["seed"]), beside_unmodified=True)
        for kind, (sample, _) in zip(("unmodified", "regulated"), pictures, strict=True):
            status, headers, png = served.ask("GET", one[kind])
            assert (status, headers["content-type"]) == (200, "image/png")
            with Image.open(io.BytesIO(png)) as picture:
                assert np.array_equal(np.asarray(picture), np.asarray(sample.picture))
        assert "mean attention bird" in one["happened"]["account"]
        for kind in ("unmodified_maps", "regulated_maps"):
            with Image.open(io.BytesIO(served.ask("GET", one[kind])[2])) as figure:
                assert figure.width > 128


def test_what_was_tried_is_told(served: Served) -> None:
    """The prompt that the page begins with, with all its steps, and the seed for which it was chosen."""
    example = served.get("/api/options")[1]["example"]
    assert example["seeds"] == "0-3"
    told = served.drawn(prompt=example["prompt"], seeds="3", steps="")
    (one,) = told["drawing"]["seeds"]
    assert one["happened"]["chosen"] > 0
    assert len(one["happened"]["noises"]) > one["happened"]["chosen"]
    assert "bird" in one["happened"]["before"]
    assert one["happened"]["after"] == "begun from another noise"
    assert one["happened"]["why"].startswith("best-start, since")


def test_the_history_survives_a_restart(serve: Callable[[Path], Served], served: Served, drawn: dict[str, Any]) -> None:
    name = drawn["drawing"]["name"]
    again = serve(served.app.history.root)
    listed = again.get("/api/history")[1]["drawings"]
    assert name in [one["name"] for one in listed]
    told = again.get(f"/api/history/{name}")[1]
    assert told["seeds"] == drawn["drawing"]["seeds"]
    assert (told["form"]["prompt"], told["form"]["seeds"], told["form"]["steps"]) == (FORM["prompt"], "2-3", "2")
    assert told["form"]["settings"] == {"strength": "0.5"}
    status, order = again.post("/api/copy", told["form"])
    assert status == 200, order
    assert "--seeds 2-3" in order["command"]
    (served.app.history.root / name / "happened.json").unlink()
    assert [one["happened"] for one in again.get(f"/api/history/{name}")[1]["seeds"]] == [None, None]


def test_a_picture_brings_its_settings_back(served: Served, drawn: dict[str, Any]) -> None:
    png = served.ask("GET", drawn["drawing"]["seeds"][1]["regulated"])[2]
    status, told = served.post("/api/restore", png, "application/octet-stream")
    assert status == 200
    assert told["notes"] == []
    names = ("model", "prompt", "method", "seeds", "steps", "settings", "targets")
    assert {name: told["form"][name] for name in names} == {
        "model": "pocket", "prompt": FORM["prompt"], "method": "attention-balance", "seeds": "3", "steps": "2",
        "settings": {"strength": "0.5"}, "targets": None,
    }  # fmt: skip
    again = served.drawn(**told["form"])
    assert served.ask("GET", again["drawing"]["seeds"][0]["regulated"])[2] == png


def chunked(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of given chunks, whatever they hold."""
    whole = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + whole


def png(**texts: str) -> bytes:
    info, file = PngInfo(), io.BytesIO()
    for key, value in texts.items():
        info.add_itxt(f"attnreg:{key}", value)
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


WHOLE = {"prompt": '"a cat"', "seed": "1", "model": '"pocket"', "method": '"auto"'}


def bomb(side: int) -> bytes:
    """Some hundred bytes that claim to be a picture of that many pixels by as many."""
    return chunked((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 999)))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a PNG"),
        (b"GIF89a", "not a PNG"),
        (b"a shopping list", "not a PNG"),
        (png(), "without a readable one"),
        (png(**WHOLE)[:60], "Expected a PNG that attnreg drew"),
        (bomb(10_000), "10000 x 10000 pixels, more than"),
        (bomb(60_000), "3600000000 pixels"),
        (png(**WHOLE | {"seed": '"one"'}), "whose seed is int"),
        (png(**WHOLE | {"steps": "100000"}), "whose steps is 1 to 1000"),
        (png(**WHOLE | {"prompt": "{"}), "without a readable one"),
        (png(**WHOLE | {"settings": "[" * 900 + "]" * 900}), "without a readable one"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_file_that_is_none_is_refused_in_a_sentence(served: Served, content: bytes, told: str) -> None:
    status, answer = served.post("/api/restore", content, "application/octet-stream")
    assert status == 422
    (sentence,) = answer["errors"].values()
    assert told in sentence
    assert list(answer["errors"]) == ["picture"]
    assert "object at 0x" not in sentence
    assert "\n" not in sentence


def test_an_enormous_file_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_PNG", 4096)
    status, answer = served.post("/api/restore", b"\0" * 40_000, "application/octet-stream")
    assert (status, answer["errors"]) == (422, {"picture": "Expected at most 4 KiB, got more."})
    status, answer = served.post("/api/draw", b" " * (bounds.MOST_JSON + 1))
    assert status == 413


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"model": '"/home/someone/model"'}, "--model /home/someone/model"),
        ({"model": '"other/hub"'}, "--model other/hub"),
    ],
)
def test_a_picture_of_another_model_brings_the_rest(served: Served, recipe: dict[str, str], told: str) -> None:
    status, answer = served.post("/api/restore", png(**WHOLE | recipe), "application/octet-stream")
    assert status == 200
    assert answer["form"]["model"] is None
    assert answer["form"]["prompt"] == "a cat"
    assert told in answer["notes"][0]


def test_a_picture_with_columns_for_targets_has_its_words(served: Served) -> None:
    content = png(**WHOLE | {"targets": "[2]", "chosen": '["cat"]'})
    assert served.post("/api/restore", content, "application/octet-stream")[1]["form"]["targets"] == ["cat"]


def test_drawings_are_stopped_and_others_do_not_see_them(served: Served) -> None:
    token = served.post("/api/draw", FORM | {"seeds": "0-15", "steps": "200", "page": "a"})[1]["job"]
    told = served.get(f"/api/jobs/{token}")[1]
    name = told["drawing"]["name"]
    other = served.post("/api/draw", FORM | TINY | {"page": "b", "method": "none"})[1]["job"]
    assert name not in json.dumps(served.get("/api/history")[1])
    assert served.get(f"/api/history/{name}")[0] == 404
    assert served.get("/api/jobs/unknown")[0] == 404
    assert served.post("/api/jobs/unknown/stop", {})[0] == 404
    assert name not in json.dumps(served.get(f"/api/jobs/{other}")[1])
    served.post(f"/api/jobs/{token}/stop", {})
    assert served.ended(token)["state"] == "stopped"
    assert served.ended(other)["state"] == "done"


def test_what_cannot_be_drawn_ends_in_a_sentence(served: Served) -> None:
    """Dense diffusion has to be told where things are; that is found out when it begins."""
    told = served.drawn(method="dense-diffusion", settings={"boxes": "((0,0,1,1),)"})
    assert told["state"] == "failed"
    assert told["error"].endswith(".")
    assert "Traceback" not in told["error"]


def test_the_page_is_whole_and_asks_nobody_else(served: Served) -> None:
    folder = Path(sys.modules["attnreg.app.server"].__file__ or "").parent / "page"
    assert {path.name for path in folder.iterdir()} == set(PAGE)
    for name in PAGE:
        status, headers, content = served.ask("GET", "/" if name == "index.html" else f"/page/{name}")
        assert status == 200
        assert headers["content-type"].startswith(PAGE[name])
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"http://" not in content
        assert b"https://" not in content


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "192.168.0.1:7860", "[::2]"])
def test_other_names_for_this_machine_are_not_answered(served: Served, host: str) -> None:
    """A name that leads here lets any page in the browser read what is answered."""
    assert served.ask("GET", "/api/history", headers={"host": host})[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"])
def test_pages_of_others_may_not_ask(served: Served, origin: str) -> None:
    headers = {"origin": origin, "content-type": "application/json"}
    assert served.ask("POST", "/api/draw", json.dumps(FORM).encode(), headers)[0] == 403


def test_a_form_of_another_page_is_not_taken(served: Served) -> None:
    """Browsers send plain text anywhere without asking first."""
    status, answer = served.post("/api/draw", json.dumps(FORM).encode(), "text/plain")
    assert status == 422
    assert "application/json" in answer["errors"]["form"]


def test_nothing_is_written_elsewhere(served: Served, drawn: dict[str, Any]) -> None:
    root = served.app.history.root
    assert {path.parent.parent for path in root.rglob("*") if path.is_file()} == {root}
    assert [path for path in root.rglob("*.partial")] == []
    assert read_recipe(next(root.rglob("seed3-attention-balance.png"))).settings == {"strength": 0.5}


def test_a_port_that_is_taken_and_a_bad_model_are_one_line(served: Served, tmp_path: Path) -> None:
    code = "from attnreg.cli import main; main()"
    for options, told in (
        (["--port", str(served.port)], "choose another with --port"),
        (["--model", "no/such/x"], "no/such/x"),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code, "app", "--port", "0", "--out", str(tmp_path), *options],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ran.returncode == 1
        assert told in ran.stderr
        assert len([line for line in ran.stderr.splitlines() if line.startswith("attnreg:")]) == 1
