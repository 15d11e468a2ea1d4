"""Small pictures of images, to stand inside a page."""

import base64
import io
import struct
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SIDE = 72  # pixels
LARGEST_FILE = 64 << 20
MOST_PIXELS = 100_000_000
LARGEST_URI = 6_000
ROOM = 130_000  # bytes of all thumbnails of one page
QUALITIES = (70, 45, 25)
NOT_INSTALLED = "note: images are shown by their paths; install 'd2cli[images]' to see them"
# What is raised of files that are no images, or not whole.
DAMAGE = (ArithmeticError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError,
          ValueError, struct.error, zlib.error)  # fmt: skip


def is_image(text: str) -> bool:
    """Return whether a text looks like the path of an image."""
    return text.lower().endswith(IMAGE_SUFFIXES) and "\n" not in text


def _library() -> Any:  # noqa: ANN401
    try:
        from PIL import Image
    except ImportError:
        return None
    return Image


def make_row_thumbnails(images: Iterable[tuple[int, bytes]]) -> tuple[dict[int, str], str | None]:
    """Make thumbnails of images whose contents are at hand.

    Parameters
    ----------
    images : iterable of (row, contents)
        Read one at a time.

    Returns
    -------
    thumbnails : dict
        Data URIs by row, at most 130,000 bytes in all.
    note : str or None
        Why images are missing.
    """
    library = _library()
    found: dict[int, str] = {}
    room, total = ROOM, 0
    for row, data in images:
        if library is None:
            return {}, NOT_INSTALLED
        total += 1
        fits = len(data) <= LARGEST_FILE
        uri = _thumbnail(library, io.BytesIO(data)) if fits else None
        if uri is not None and len(uri) <= room:
            found[row] = uri
            room -= len(uri)
    missing = total - len(found)
    if not missing:
        return found, None
    return found, (
        f"note: {missing:,} of {total:,} images are not shown: not readable, or too large"
    )


def make_thumbnails(folder: Path | None, texts: Iterable[str]) -> tuple[dict[str, str], str | None]:
    """Make thumbnails of the images that some texts name.

    Parameters
    ----------
    folder : Path or None
        What relative paths start from. Files outside it are not opened.
    texts : iterable of str

    Returns
    -------
    thumbnails : dict
        Data URIs by text, at most 130,000 bytes in all.
    note : str or None
        Why images are missing.
    """
    paths = [text for text in dict.fromkeys(texts) if is_image(text)]
    if not paths:
        return {}, None
    library = _library()
    if library is None:
        return {}, NOT_INSTALLED
    found: dict[str, str] = {}
    room = ROOM
    for text in paths:
        path = _inside(folder, text)
        uri = None if path is None else _thumbnail(library, path)
        if uri is not None and len(uri) <= room:
            found[text] = uri
            room -= len(uri)
    missing = len(paths) - len(found)
    if not missing:
        return found, None
    where = "the data lie in no folder" if folder is None else f"not found under {folder}"
    return found, (
        f"note: {missing:,} of {len(paths):,} images are shown by their paths: {where}, not "
        "readable, or too large"
    )


def _inside(folder: Path | None, text: str) -> Path | None:
    """Return the file that a path names, if it lies in the folder, links followed."""
    if folder is None:
        return None
    try:
        root = folder.resolve(strict=True)
        path = (root / text).resolve(strict=True)
        if path.is_relative_to(root) and path.is_file() and path.stat().st_size <= LARGEST_FILE:
            return path
    except (OSError, ValueError, RuntimeError):
        return None
    return None


def _thumbnail(library: Any, file: Path | io.BytesIO) -> str | None:  # noqa: ANN401
    """Return an image of at most 72 x 72 pixels as a data URI; None if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of damaged metadata
            with library.open(file, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    return None
                image.draft("RGB", (SIDE, SIDE))
                image.thumbnail((SIDE, SIDE))
                small = _on_white(library, image)
    except (*DAMAGE, library.DecompressionBombError):
        return None
    for quality in QUALITIES:
        out = io.BytesIO()
        small.save(out, "JPEG", quality=quality, optimize=True)
        uri = "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
        if len(uri) <= LARGEST_URI:
            return uri
    return None


def _on_white(library: Any, image: Any) -> Any:  # noqa: ANN401
    """Return an image without transparency."""
    if image.mode in ("RGB", "L"):
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = library.new("RGBA", layer.size, "white")
    ground.alpha_composite(layer)
    return ground.convert("RGB")
