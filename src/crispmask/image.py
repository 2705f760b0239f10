"""Reading photos safely, whatever their format, and finding them in folders.

Every image of crispmask is uint8 (H, W, 3), RGB.
"""

from __future__ import annotations

import glob
import io
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from crispmask.errors import ImageError, ShapeError, ValueRangeError

MAX_PIXELS = 160_000_000
"""Larger images are refused from their header, before anything is decoded.

Above the largest camera sensors (151 megapixels), below the size that Pillow itself refuses (179 megapixels)."""

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".j2k", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""What `find_images` takes for an image in a folder."""

# Only these decoders ever see a file: Pillow has 40 more, and one of them (EPS) starts another program.
# MPO files are opened by the JPEG decoder; there is none of that name to ask for.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

# What Pillow's decoders raise on damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, OverflowError)


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """A photo as pixels.

    EXIF rotation is applied. Grey, palette, CMYK and 16-bit images are converted to 8-bit RGB, transparent pixels are
    laid on white, and of an animation the first frame is taken. Reads and changes no process-wide setting, so that
    threads can call it side by side.

    Args:
        path: a file in AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF or WebP format; its suffix does not matter.

    Returns:
        uint8 (H, W, 3), RGB, C-contiguous, writable.

    Raises:
        ImageError: the file is missing, a folder, empty, cut short, no image, of a pixel type that has no 8-bit
            meaning, or has more than `MAX_PIXELS` pixels.
    """
    path = Path(path)
    with _opened(path) as image:
        image.load()
        return _to_rgb(path, _upright(image))


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """A photo as pixels, from the bytes of its file.

    Args:
        content: of a file as `read_image` takes it.
        name: of the photo, for messages.

    Returns:
        uint8 (H, W, 3), RGB, C-contiguous, writable: what `read_image` gives for such a file.

    Raises:
        ImageError: as `read_image`.
    """
    if not content:
        raise ImageError(f"{name} is empty (0 bytes)")
    with _decoding(io.BytesIO(content), name) as image:
        image.load()
        return _to_rgb(name, _upright(image))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image of a file, its size checked and nothing decoded; what decoding raises becomes an ImageError too."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{path} is a folder, not an image file")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path} is not a regular file")
        if status.st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes)")
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path} cannot be read: {reason.lower()}") from None
    with _decoding(path, path) as opened:
        yield opened


@contextmanager
def _decoding(file: Path | io.BytesIO, name: str | Path) -> Iterator[Image.Image]:
    try:
        with Image.open(file, formats=_FORMATS) as opened:
            _check_size(name, *opened.size)
            yield opened
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image in a known format ({', '.join(_FORMATS)})") from None
    # The warning arrives as an exception where the process turns warnings into errors.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{name} has more pixels than Pillow is set to read; scale it down first") from None
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist") from None
    except MemoryError:
        raise ImageError(f"{name} does not fit into memory; scale it down first") from None
    except _DAMAGE as error:
        # The operating system's refusals carry a number, the decoders' complaints do not.
        if isinstance(error, OSError) and error.errno:
            raise ImageError(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from None
        raise ImageError(f"{name} is damaged or cut short and cannot be decoded ({error})") from None


def read_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of the array that `read_image` would give, from the file's header alone.

    Raises:
        ImageError: as `read_image`, where the header shows it.
    """
    with _opened(Path(path)) as image:
        width, height = image.size
        try:
            # Pillow turns TIFF files by itself.
            turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        except _DAMAGE:
            turned = False
        return (width, height) if turned else (height, width)


def find_images(sources: Iterable[str | Path]) -> list[Path]:
    """The image files that files, folders and glob patterns stand for.

    Folders are searched with all their sub-folders for names that end in one of `SUFFIXES`. Hidden files and folders
    that may not be entered are left out, by patterns too, and links to folders are not followed there and by ``**``.
    A file named outright is taken whatever its suffix, and even if it is missing while others are not: reading
    it reports it, and the others go on.

    Args:
        sources: files, folders, or patterns with ``*``, ``?``, ``[...]`` or ``**``.

    Returns:
        Paths, sorted, each file once.

    Raises:
        ImageError: a folder or pattern without an image, or no source that exists.
    """
    sources = [sources] if isinstance(sources, str | Path) else list(sources)
    found: list[Path] = []
    for source in sources:
        path, matches = Path(source), None
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where the way to it is barred
            matches = _images_below(path, "**/*")
        elif not _exists(path) and glob.has_magic(str(source)):
            pattern = str(path.relative_to(path.anchor))
            # A final ** stands for folders alone in pathlib, for files too in a shell.
            matches = _images_below(Path(path.anchor), pattern + "/*" * (path.name == "**"))
        if matches is not None and not matches:
            raise ImageError(f"{source} holds no image (looked for {', '.join(sorted(SUFFIXES))})")
        found.extend([path] if matches is None else matches)
    if not any(_exists(path) for path in found):
        names = ", ".join(str(path) for path in found[:3])
        raise ImageError(f"{names} does not exist" if found else "no image was named")
    once = {os.path.abspath(path): path for path in reversed(found)}  # noqa: PTH100 - resolve() would follow links
    return sorted(once.values())


def as_image(array: ArrayLike) -> NDArray[np.uint8]:
    """An array that a caller passes as an image, checked.

    Args:
        array: uint8 (H, W, 3), RGB; grey (H, W) or (H, W, 1) is repeated into three channels. An RGB or grey
            `PIL.Image` is an array too.

    Returns:
        uint8 (H, W, 3), C-contiguous; the same memory where nothing had to change.

    Raises:
        ShapeError: another shape.
        ValueRangeError: another type than uint8.
    """
    image = np.asarray(array)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 3 and image.shape[2] == 4:
        raise ShapeError(f"the image has 4 channels {image.shape}: pass RGB without alpha, image[:, :, :3]")
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] != 3:
        raise ShapeError(f"the image has its channels first {image.shape}: pass (H, W, 3), image.transpose(1, 2, 0)")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ShapeError(f"an image must have shape (H, W, 3), RGB, got {image.shape}")
    if image.size == 0:
        raise ShapeError(f"the image has no pixels: shape {image.shape}")
    if image.dtype != np.uint8:
        raise ValueRangeError(
            f"an image must be uint8 with values 0..255, got {image.dtype}: convert it first, for example "
            "(255 * image).round().astype(numpy.uint8) for values in [0, 1]"
        )
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    return np.ascontiguousarray(image)


def _check_size(path: str | Path, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{path} has no pixels ({width}x{height})")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{path} claims {width}x{height} pixels, more than the limit of {MAX_PIXELS // 1_000_000} megapixels; "
            "scale it down first"
        )


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; a damaged EXIF block is no reason to refuse the photo."""
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:
        return image


def _to_rgb(path: str | Path, image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        # 16-bit grey: I;16 from PNG and TIFF, I (32-bit integers) from PGM.
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError(f"{path} holds 32-bit values outside 0..65535; convert it to 8 or 16 bits first")
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("F", "LAB"):
        raise ImageError(f"{path} holds {image.mode} pixels, which have no 8-bit meaning; convert it to RGB first")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises on names that are too long


def _images_below(folder: Path, pattern: str) -> list[Path]:
    """Visible image files of a folder that match a pattern.

    pathlib's patterns do not follow links in ``**``, so that loops of them end; glob's do.
    """
    named = set(Path(pattern).parts)  # a hidden folder that the pattern names is wanted
    found = []
    try:
        for path in folder.glob(pattern):
            hidden = any(part.startswith(".") and part not in named for part in path.relative_to(folder).parts)
            if not hidden and path.suffix.lower() in SUFFIXES and os.path.isfile(path):  # noqa: PTH113 - as above
                found.append(path)
    except (ValueError, IndexError) as error:
        raise ImageError(f"{pattern} is not a glob pattern that can be used: {str(error).lower()}") from None
    return found
