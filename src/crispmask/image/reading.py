"""Reading images safely, whatever their format."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from crispmask.arguments import as_path
from crispmask.errors import ImageError
from crispmask.image.fax import FAX, is_faithful
from crispmask.image.formats import CAMERA_RAW, how_to_read, readable_formats

MAX_PIXELS = 160_000_000
"""Larger images are refused from their header, before anything is decoded.

Above the largest camera sensors (151 megapixels), below the size that Pillow itself refuses (179 megapixels)."""

# Formats whose further frames are pictures of their own; in MPO, which cameras write, they are previews.
_ANIMATED = {"AVIF", "GIF", "PNG", "TIFF", "WEBP"}

_MAX_PIXELS_OF = {"JPEG2000": 80_000_000, "WEBP": 80_000_000}
"""Of formats whose decoders hold an image several times: 18 and 15 bytes a pixel, where others take 8."""

MAX_SIDE = 1_000_000
"""Rows or columns; what works line by line keeps some numbers for each."""

_STRIP = 1 << 22  # pixels that are converted at a time: a large image is in memory twice, not five times


class Frame(NamedTuple):
    """The pixels of an image file.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, C-contiguous, writable.
        animated: whether the file holds further frames or pages, which were not read.
    """

    pixels: NDArray[np.uint8]
    animated: bool


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """The pixels of an image file.

    EXIF rotation is applied. Grey, palette, CMYK and 16-bit images are converted to 8-bit RGB, transparent pixels are
    laid on white. Of an animation, or a file with several pages, the first is read (`read_frame` says whether there
    are more). Reads and changes no process-wide setting, so that threads can call it side by side.

    Limits: `MAX_PIXELS`, 160 megapixels, JPEG 2000 and WebP 80; `MAX_SIDE`, a million pixels. While it is read, an
    image takes about 8 bytes a pixel of memory (JPEG 2000 and WebP 18), and 3 afterwards.

    Args:
        path: a file in AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF or WebP format, or HEIC where the package
            pillow-heif is installed; its suffix does not matter.

    Returns:
        uint8 (H, W, 3), RGB, C-contiguous, writable.

    Raises:
        ImageError: the file is missing, a folder, empty, cut short, no image, of a pixel type that has no 8-bit
            meaning, or larger than the limits.
    """
    return read_frame(path).pixels


def read_frame(path: str | Path) -> Frame:
    """The pixels of an image file as by `read_image`, and whether it holds more than one picture.

    Raises:
        ImageError: as `read_image`.
    """
    path = as_path(path, "an image file", ImageError)
    with _opened(path) as image:
        return _frame(path, image)


def decode_frame(content: bytes, name: str) -> Frame:
    """What `read_frame` gives for a file, from its bytes.

    Args:
        content: of the file.
        name: of the image, for messages.

    Raises:
        ImageError: as `read_image`.
    """
    if not content:
        raise ImageError(f"{name} is empty (0 bytes)")
    with _decoding(io.BytesIO(content), name) as image:
        return _frame(name, image)


def _frame(name: str | Path, image: Image.Image) -> Frame:
    animated = image.format in _ANIMATED and bool(getattr(image, "is_animated", False))
    if image.format == "TIFF" and image.info.get("compression") in FAX:
        _load_fax(name, image)
    else:
        image.load()
    _turn_upright(image)
    return Frame(_to_rgb(name, image), animated)


def _load_fax(name: str | Path, image: Image.Image) -> None:
    """Decode a TIFF file in a fax compression, whose damage goes unseen otherwise."""
    assert isinstance(image, ImageFile.ImageFile)
    assert image.fp is not None
    image.fp.seek(0)
    content = image.fp.read()
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    image.load()
    if not is_faithful(image, content, orientation):
        raise ImageError(
            f"{name} is damaged, or its {image.info['compression']} (fax) compression was written in an unusual way: "
            "convert it to PNG, and look at the result"
        )


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
        with Image.open(file, formats=readable_formats()) as opened:
            _check_size(name, opened.format, *opened.size)
            yield opened
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(_unknown(file, name)) from None
    # The warning arrives as an exception where the process turns warnings into errors.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{name} has more pixels than Pillow is set to read; scale it down first") from None
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist") from None
    except MemoryError:
        raise ImageError(f"{name} does not fit into memory; scale it down first") from None
    except Exception as error:  # whatever a decoder raises: AVIF's a RuntimeError, others nearly anything
        # The operating system's refusals carry a number, the decoders' complaints do not.
        if isinstance(error, OSError) and error.errno:
            raise ImageError(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from None
        raise ImageError(f"{name} is damaged or cut short and cannot be decoded ({error})") from None


def _unknown(file: Path | io.BytesIO, name: str | Path) -> str:
    """Why a file that no decoder knows cannot be read."""
    with suppress(OSError):
        head = file.getvalue()[:12] if isinstance(file, io.BytesIO) else _head(file)
        # HEIC and AVIF are boxes of ISO media files: the first names the format.
        if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc", b"avif", b"avis"):
            suffix = ".avif" if head[8:11] == b"avi" else ".heic"
            if hint := how_to_read(suffix):
                return f"{name} is an image in {suffix[1:].upper()} format, which cannot be read here: {hint}"
    if (suffix := Path(name).suffix.lower()) in CAMERA_RAW | {".jxl"}:
        return f"{name} is an image in {suffix[1:].upper()} format: convert it to JPEG, PNG or TIFF"
    return f"{name} is not an image in a known format ({', '.join(readable_formats())})"


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(12)


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
        except Exception:
            turned = False
        return (width, height) if turned else (height, width)


def _check_size(path: str | Path, kind: str | None, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{path} has no pixels ({width}x{height})")
    reason = refused_size(height, width, kind)
    if reason:
        other = " or convert it to PNG" if refused_size(height, width) is None else ""
        raise ImageError(f"{path} claims {width}x{height} pixels, {reason}; scale it down{other} first")


def refused_size(height: int, width: int, kind: str | None = None) -> str | None:
    """Which limit an image of H x W pixels exceeds, as part of a sentence; None for none.

    Args:
        kind: Pillow's name of the file format, where that matters.
    """
    most = _MAX_PIXELS_OF.get(kind or "", MAX_PIXELS)
    if height * width > most:
        return f"more than the limit of {most // 1_000_000} megapixels" + (f" in {kind}" if most < MAX_PIXELS else "")
    return f"a side longer than the limit of {MAX_SIDE} pixels" if max(height, width) > MAX_SIDE else None


def _turn_upright(image: Image.Image) -> None:
    """Turn the image as its EXIF orientation says; a damaged EXIF block is no reason to refuse it."""
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(path: str | Path, image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in ("F", "LAB"):
        raise ImageError(f"{path} holds {image.mode} pixels, which have no 8-bit meaning; convert it to RGB first")
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // width)
    for y in range(0, height, rows):
        strip = image.crop((0, y, width, min(y + rows, height)))
        rgb[y : y + rows] = _grey(path, strip) if image.mode.startswith("I") else _colours(strip)
    return rgb


def _grey(path: str | Path, image: Image.Image) -> NDArray[np.uint8]:
    """16-bit grey (I;16 from PNG and TIFF, I, which has 32-bit integers, from PGM) as uint8 (h, w, 1)."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError(f"{path} holds 32-bit values outside 0..65535; convert it to 8 or 16 bits first")
    return ((grey + 128) // 257).astype(np.uint8)[:, :, None]


def _colours(image: Image.Image) -> NDArray[np.uint8]:
    """Any 8-bit image on white as uint8 (h, w, 3)."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
