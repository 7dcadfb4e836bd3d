"""Where a run lies: a folder of this machine, or an address that fsspec reaches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from attnreg.errors import AttnregError
from attnreg.evaluation.schema import DATABASE
from attnreg.reading import LONGEST_PATH, path_of
from attnreg.shown import told


def run_folder(folder: object) -> str:
    """A run's folder as it was given, as a text.

    Raises:
        AttnregError: it is neither a text nor a path, or nothing can be named so.
    """
    if not isinstance(folder, str | Path) or not str(folder).strip():
        raise AttnregError(f"expected a run's folder, a path or an address, got {told(folder)}; name one")
    text = str(folder)
    if "://" not in text:
        path_of(text)
    elif len(text) > LONGEST_PATH or not text.isprintable():
        raise AttnregError(f"expected an address such as s3://bucket/run, got {told(text)}; check the spelling")
    return text


def is_remote(folder: str) -> bool:
    """Whether a folder is anything but a path of this machine."""
    return "://" in folder and not isinstance(place_of(folder)[0], LocalFileSystem)


def database_here(folder: str) -> Path:
    """Where the database of a folder of this machine lies, or would; the folder may be written as "file://..."."""
    return path_of(place_of(folder)[1] if "://" in folder else folder) / DATABASE


def place_of(folder: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a folder, and the folder's name in it. Raises `AttnregError` if there is no such system."""
    try:
        with reaching(folder):
            system, root = fsspec.core.url_to_fs(folder)
    except FileNotFoundError as error:  # an address inside of a file
        raise AttnregError(
            f"expected a folder that can be reached, got {told(folder)} ({error}); name another"
        ) from error
    return system, root


@contextmanager
def reaching(folder: str) -> Iterator[None]:
    """Turns whatever goes wrong on the way to a folder elsewhere into one `AttnregError`.

    What is not there stays a `FileNotFoundError`. Everything else is caught: each of fsspec's systems raises errors of
    its own (botocore's are no `OSError`), and none of them is a fault of this package.
    """
    try:
        yield
    except (AttnregError, FileNotFoundError):
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise AttnregError(
            f"expected a folder that can be reached, read and written, got {told(folder)} ({reason}); check the "
            "address and the keys; pip install 'attnreg[scale]' for S3; what is drawn is kept"
        ) from error
