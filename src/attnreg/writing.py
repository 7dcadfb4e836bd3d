"""The one way in which files come to be: written beside their place, then renamed. All of a group appear, or none.

Whatever stops a write (a full disk, an interruption, the end of the machine), what was there before is untouched, and
nothing is left behind: neither half a file nor a folder made for one.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attnreg.errors import AttnregError

Write = Callable[[Path, bytes], None]


@contextmanager
def whole_files() -> Iterator[Write]:
    """`with whole_files() as write: write(path, content); ...`: on leaving, all are in their places; on an error none.

    Folders are made where they are missing. A link stays one, and the file that it leads to is replaced.

    Raises:
        OSError: it cannot be written, or a path is no place for a file (a folder, a device, a pipe, a name that none
            can have); nothing has changed.
    """
    files: list[tuple[Path, Path]] = []
    made: list[Path] = []

    def write(path: Path, content: bytes) -> None:
        place = _place(path)
        _make(place.parent, made)
        partial = place.with_name(f".{uuid.uuid4().hex}.partial")
        files.append((partial, place))
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a name must never outlive its content
        if place.exists():
            os.chmod(partial, stat.S_IMODE(place.stat().st_mode))

    try:
        yield write
        for partial, place in files:
            partial.replace(place)
    except BaseException:
        for partial, _ in files:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        for folder in reversed(made):
            with suppress(OSError):  # something of someone else is in it by now
                folder.rmdir()
        raise


def write_file(path: Path, content: bytes | str, advice: str = "choose another file") -> None:
    """Write one file whole, its folder too; text as UTF-8.

    Args:
        path: where; what is there is replaced.
        content: what it is to hold.
        advice: what to do if it cannot be, for the error.

    Raises:
        AttnregError: it cannot be written; what was there is as it was.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        with whole_files() as write:
            write(path, data)
    except OSError as error:
        raise AttnregError(f"expected to write {path}, got {error.strerror or error}; {advice}") from error


def check_writable(folder: Path) -> None:
    """Raises `AttnregError` unless files can be made in the folder; makes it if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        raise AttnregError(
            f"expected a folder that can be written, got {folder} ({getattr(error, 'strerror', None) or error}); "
            "choose another with --out"
        ) from error


def _place(path: Path) -> Path:
    """Where the file really lies, or will. Raises `OSError` if that is no place for a file."""
    try:
        place = path.resolve()
        there = path.stat().st_mode if path.exists() else stat.S_IFREG
    except (ValueError, RuntimeError) as error:  # a name with NUL or half a character; links in a circle
        raise OSError(errno.EINVAL, "a name that no file can have") from error
    if stat.S_ISDIR(there):
        raise IsADirectoryError(errno.EISDIR, f"a folder named {path.name}")
    if not stat.S_ISREG(there):
        raise OSError(errno.ENXIO, "a device or a pipe, which is never written to")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "a file that is read-only")
    return place


def _make(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, and note which were missing."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        made.append(one)
