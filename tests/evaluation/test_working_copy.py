"""A run in an object store: on a server that speaks S3, and where the working copy is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from sittings import outcome, sit

from attnreg.errors import AttnregError
from attnreg.evaluation.places import is_remote
from attnreg.evaluation.store import Store, last_config
from attnreg.evaluation.working_copy import cache_folder

CONFIG = {"judges": ("colour", "moved")}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server_of = pytest.importorskip("moto.server", reason="the extra `test` is not installed").ThreadedMotoServer
    pytest.importorskip("s3fs", reason="the extra `scale` is not installed")
    server = server_of(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": f"http://{host}:{port}"})
    fsspec.filesystem("s3").mkdir("runs")
    yield "s3://runs/first"
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


def test_s3_holds_what_a_folder_holds(tmp_path: Path, bucket: str, own_cache: Path) -> None:
    log = str(tmp_path / "log")
    with pytest.raises(AttnregError, match="expected a run's folder, got s3://runs/first"):
        Store(bucket)
    assert last_config(bucket) is None
    sit(bucket, log, 3, CONFIG)
    shutil.rmtree(own_cache)  # as on another machine
    done = sit(bucket, log, 3, CONFIG | {"seeds": (0, 1)})
    assert (done.drawn, done.judged) == (6, 12)
    sit(str(tmp_path / "here"), log, 3, CONFIG | {"seeds": (0, 1)})
    assert outcome(bucket) == outcome(tmp_path / "here")
    assert len(Store(bucket).sittings()) == 2
    (picture,) = fsspec.filesystem("s3").glob(f"runs/first/pictures/*/{Store(bucket).records()[0].picture}.png")
    fsspec.filesystem("s3").rm(picture)
    done = sit(bucket, log, 3, CONFIG | {"seeds": (0, 1)})
    assert (done.damaged, done.drawn, done.judged) == (1, 1, 0)
    assert outcome(bucket) == outcome(tmp_path / "here")


def test_what_a_killed_driver_drew_is_in_its_copy(tmp_path: Path, own_cache: Path) -> None:
    """Without the last snapshot, the copy on this machine still has the rows."""
    folder, log = "memory://runs/killed", tmp_path / "log"
    sit(folder, str(log), 3, {})
    system = fsspec.filesystem("memory")
    system.rm("/runs/killed/run.sqlite")
    assert sit(folder, str(log), 3, {}).drawn == 0
    assert len(Store(folder).records()) == 6


@pytest.mark.parametrize(
    ("folder", "remote"),
    [("bench", False), ("/tmp/bench", False), ("file:///tmp/bench", False), ("memory://bench", True)],
)
def test_which_folders_are_elsewhere(folder: str, remote: bool) -> None:
    assert is_remote(folder) == remote


def test_an_unknown_kind_of_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match="expected a folder that can be reached"):
        sit("nowhere://runs", str(tmp_path / "log"), 1, {})
