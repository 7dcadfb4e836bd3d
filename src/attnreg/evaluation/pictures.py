"""Pictures by content: a file's name is the SHA-256 of its bytes, so that damage shows and nothing is kept twice."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from attnreg.errors import AttnregError
from attnreg.evaluation.places import place_of, reaching
from attnreg.reading import bytes_of
from attnreg.writing import whole_files

_DIGEST = re.compile("[0-9a-f]{64}")
LARGEST = 1 << 28
"""Bytes of a picture."""
AT_A_TIME = 64
"""How many pictures are asked for at once of a place that is not on this machine."""


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def png_of(picture: Any) -> bytes:
    """A picture as a PNG without any text: equal pixels give equal bytes, and so one file."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()


class Pictures:
    """The folder `pictures/` of a run: `pictures/ab/abcd....png`, on a disk or wherever fsspec reaches."""

    def __init__(self, folder: str) -> None:
        self.system, self.root = place_of(folder)
        self.local = isinstance(self.system, LocalFileSystem)

    def path(self, sha: str) -> str:
        """Where a picture of that digest lies, or would."""
        return f"{self.root.rstrip('/')}/pictures/{sha[:2]}/{sha}.png"

    def put(self, content: bytes) -> str:
        """Keep a picture and give its digest. A whole file appears or none, also if the machine stops meanwhile."""
        sha = digest(content)
        try:
            if self.local:
                with whole_files() as write:
                    write(Path(self.path(sha)), content)
            else:
                with reaching(self.root):
                    self.system.pipe_file(self.path(sha), content)
        except OSError as error:
            raise AttnregError(
                f"expected to write a picture to {self.root}, got {error.strerror or error}; "
                "make room, then give the same command again: what is drawn is kept"
            ) from error
        return sha

    def get(self, sha: str) -> bytes | None:
        """The bytes of a picture; `None` if it is not there, cannot be read, or is not whole."""
        if not _DIGEST.fullmatch(sha):
            return None
        content = self._here(sha) if self.local else self._elsewhere(sha)
        return content if content is not None and digest(content) == sha else None

    def _here(self, sha: str) -> bytes | None:
        try:
            return bytes_of(Path(self.path(sha)), "a picture", LARGEST)
        except AttnregError:
            return None

    def _elsewhere(self, sha: str) -> bytes | None:
        try:
            with reaching(self.root):
                content: bytes = self.system.cat_file(self.path(sha))
                return content
        except FileNotFoundError:
            return None

    def damaged(self, shas: Iterable[str]) -> set[str]:
        """Those that `get` would not give."""
        wanted = sorted(set(shas))
        if self.local:
            return {sha for sha in wanted if self.get(sha) is None}
        damaged = set()
        for start in range(0, len(wanted), AT_A_TIME):  # together, for over a network it is the waiting that takes time
            paths = {self.path(sha): sha for sha in wanted[start : start + AT_A_TIME]}
            with reaching(self.root):
                found = self.system.cat(list(paths), on_error="return")
            damaged |= {
                sha
                for path, sha in paths.items()
                if not isinstance(found.get(path), bytes) or digest(found[path]) != sha
            }
        return damaged
