"""Which image formats can be read here, and what to do about the others."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image, features

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".j2k", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""Suffixes of the formats that can be read everywhere."""

_HEIF = {".heic", ".heif", ".hif"}
CAMERA_RAW = {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"}
UNREAD_SUFFIXES = frozenset(_HEIF | CAMERA_RAW | {".jxl"})
"""Suffixes of images that are read only with another package, or not at all."""

# Only these decoders ever see a file: Pillow has 40 more, and one of them (EPS) starts another program.
# MPO files are opened by the JPEG decoder; there is none of that name to ask for.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


def suffixes() -> frozenset[str]:
    """The suffixes that `find_images` takes for an image here, lower-case."""
    absent = set() if "AVIF" in readable_formats() else {".avif"}
    return SUFFIXES - absent | (_HEIF if "HEIF" in readable_formats() else set())


def how_to_read(suffix: str) -> str | None:
    """What to do to read images of a suffix that cannot be read here, as a sentence; None where they can be."""
    suffix = suffix.lower()
    if suffix in suffixes():
        return None
    if suffix in _HEIF:
        return "pip install pillow-heif, and crispmask reads HEIC"
    if suffix == ".avif":
        return "pip install --upgrade pillow, whose versions from 11.3 on read AVIF"
    return "convert them to JPEG, PNG or TIFF"


@cache
def readable_formats() -> tuple[str, ...]:
    """The formats, by Pillow's names, that this installation can decode."""
    Image.init()
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    missing = set() if features.check("avif") else {"AVIF"}
    return tuple(name for name in _FORMATS if name in Image.OPEN and name not in missing)


def describe_unread(unread: Iterable[Path]) -> str:
    """How many images of which suffix cannot be read, the first of each, and what to do."""
    by_suffix: dict[str, list[Path]] = {}
    for path in unread:
        by_suffix.setdefault(path.suffix.lower(), []).append(path)
    return "; ".join(
        f"{len(paths)} {suffix} ({', '.join(path.name for path in paths[:3])}{', ...' * (len(paths) > 3)}): "
        f"{how_to_read(suffix)}"
        for suffix, paths in sorted(by_suffix.items())
    )
