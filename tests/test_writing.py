"""Files appear whole or not at all, and what was there survives whatever stops a write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from attnreg.errors import AttnregError
from attnreg.writing import whole_files, write_file
from writers import full_after, tree


def test_a_file_is_written_and_its_folder(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "b" / "one.txt", "zwölf\n")
    assert (tmp_path / "a" / "b" / "one.txt").read_bytes() == "zwölf\n".encode()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["one.txt"]


def test_a_full_disk_spares_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("all of it\n" * 100)
    before = tree(tmp_path)
    with full_after(300), pytest.raises(AttnregError, match=r"expected to write .*README.md, got File too large"):
        write_file(tmp_path / "README.md", "another\n" * 100)
    with full_after(300), pytest.raises(AttnregError, match="choose another file"):
        write_file(tmp_path / "new" / "deep" / "file", "another\n" * 100)
    assert tree(tmp_path) == before, "no partial file, no folder made in vain"


def test_of_several_files_none_appears_when_one_cannot(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("old")
    before = tree(tmp_path)

    def three() -> None:
        with whole_files() as write:
            write(tmp_path / "1", b"new")
            write(tmp_path / "x" / "2", b"new")
            write(tmp_path / "x" / "3", b"n" * 1000)

    with full_after(300), pytest.raises(OSError, match="File too large"):
        three()
    assert tree(tmp_path) == before


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with whole_files() as write:
            write(tmp_path / "x" / "1", b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert tree(tmp_path) == {}


def test_nothing_is_written_onto_a_device_or_a_pipe_or_a_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/null")
    for name in ("pipe", "folder", "link", "/dev/null"):
        with pytest.raises(AttnregError, match="expected to write"):
            write_file(tmp_path / name, "x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "a\ud800b", "x/" * 3000])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match="expected to write"):
        write_file(tmp_path / name, "x")
    assert tree(tmp_path) == {}


def test_a_link_stays_one_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o604)
    (tmp_path / "link").symlink_to("real")
    write_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o604
