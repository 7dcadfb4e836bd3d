"""Open a PNG that someone gives: an ordinary file, whole, of a bounded size, or one line that says what it is."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from attnreg.errors import AttnregError
from attnreg.limits import MOST_SIDE
from attnreg.reading import check_file

MOST_PIXELS = MOST_SIDE**2
"""Of a picture: more is nothing that was drawn here. A bomb of some hundred bytes may claim billions."""
MOST_BYTES = 4 * MOST_PIXELS
"""Of its file: three a pixel where nothing could be packed, and room for texts."""


@dataclass(frozen=True)
class Png:
    """What a PNG holds."""

    picture: Image.Image
    """In RGB."""
    text: dict[str, str]
    """Its text chunks, by keyword."""


def read_png(path: Path) -> Png:
    """Read a PNG whole.

    Args:
        path: a file that anyone may have made. A pipe or a device is not waited for.

    Raises:
        AttnregError: it is no ordinary file, no PNG, damaged, animated, or larger than `MOST_PIXELS` or `MOST_BYTES`.
            Pillow bounds the texts that it unpacks: 1 MiB each, 64 MiB together.
    """
    check_file(path, "a PNG that attnreg drew")
    try:
        return _opened(path, path.stat().st_size)
    except Exception as error:  # Pillow raises of every kind at a PNG that is none
        raise _refusal(str(path), error) from error


def png_of(content: bytes, name: str) -> Png:
    """As `read_png`, of bytes that someone sent; name: what they are called, for errors."""
    try:
        return _opened(io.BytesIO(content), len(content))
    except Exception as error:
        raise _refusal(name, error) from error


def _refusal(name: str, error: Exception) -> AttnregError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # which names an object in memory
        reason = "not a PNG, or a damaged one"
    return AttnregError(f"expected a PNG that attnreg drew, got {name} ({reason}); give such a file")


def _opened(file: Path | io.BytesIO, size: int) -> Png:
    if size > MOST_BYTES:
        raise ValueError(f"{size:,} bytes, more than {MOST_BYTES:,}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound is ours
        with Image.open(file, formats=["PNG"]) as picture:
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"{width} x {height} pixels, more than {MOST_PIXELS:,}")
            if getattr(picture, "is_animated", False):
                raise ValueError("an animation")
            picture.load()
            return Png(picture.convert("RGB"), dict(getattr(picture, "text", {})))
