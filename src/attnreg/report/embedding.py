"""Pictures inside a page: data URIs, made smaller until all of them fit."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

from PIL import Image, UnidentifiedImageError

from attnreg.plot.heat import heat
from attnreg.records import Map

STEPS = ((384, 88), (384, 80), (320, 78), (256, 76), (192, 74), (160, 70), (128, 66), (96, 60), (64, 50))
"""Longest side in pixels and quality of WebP, from the best that is worth its bytes on a page to the least."""


class Gallery:
    """Turns pictures, by hash, into data URIs; `budget` is in bytes of the page, `uses` is how many will be asked for.

    A picture that is not there, or that cannot be read, is `None`: the page says so in its place.
    """

    def __init__(self, picture: Callable[[str], bytes | None], wanted: Sequence[str], budget: int) -> None:
        self._picture = picture
        self.wanted = len(wanted)
        self.missing: list[str] = []
        # Base64 writes 3 bytes as 4.
        self._share = budget * 3 // 4 // max(len(wanted), 1)
        self._made: dict[str, str | None] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def __call__(self, sha: str) -> str | None:
        """The data URI of a picture."""
        if sha not in self._made:
            self._made[sha] = self._make(sha)
            if self._made[sha] is None:
                self.missing.append(sha)
        return self._made[sha]

    def size(self, sha: str) -> tuple[int, int]:
        """Width and height of a picture that has been asked for, in its own pixels."""
        return self._sizes[sha]

    def heated(self, sha: str, attention: Map, hottest: float) -> str | None:
        """The data URI of a picture in grey under a map of attention: hot where it comes near `hottest`."""
        picture = self._open(sha)
        if picture is None:
            return None
        return data_uri(shrink(heat(picture, attention, hottest), self._share))

    def _make(self, sha: str) -> str | None:
        picture = self._open(sha)
        if picture is None:
            return None
        self._sizes[sha] = picture.size
        return data_uri(shrink(picture, self._share))

    def _open(self, sha: str) -> Image.Image | None:
        try:
            data = self._picture(sha)
            return None if data is None else Image.open(io.BytesIO(data)).convert("RGB")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError):
            return None


def shrink(picture: Image.Image, most: int) -> bytes:
    """A picture as WebP of at most `most` bytes; the least of STEPS where even that is larger."""
    data = b""
    for side, quality in STEPS:
        small = picture.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        small.save(out, format="WEBP", quality=quality, method=4)
        data = out.getvalue()
        if len(data) <= most:
            break
    return data


def data_uri(webp: bytes) -> str:
    """`data:image/webp;base64,...`."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")
