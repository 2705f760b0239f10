"""Images and masks that visitors upload."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.errors import ImageError, ShapeError
from crispmask.image import read_image, read_size
from crispmask.instances import Instances


def read_upload(content: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """The pixels of an uploaded image: uint8 (H, W, 3) RGB.

    Args:
        content: of the file.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        ImageError: as `read_image`, or an image that is too large; the message names no path of this computer.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"  # not the visitor's name for it
        path.write_bytes(content)
        try:
            height, width = read_size(path)
            if width * height > max_pixels:
                raise ImageError(
                    f"the image has {width * height / 1e6:.0f} megapixels, more than the {max_pixels / 1e6:.0f} that "
                    "are accepted here: scale it down"
                )
            return read_image(path)
        except ImageError as error:
            raise ImageError(str(error).replace(str(path), "the file")) from None


def as_mask(image: NDArray[np.uint8], size: tuple[int, int]) -> Instances:
    """An uploaded mask as one instance: pixels lighter than middle grey are the object.

    Raises:
        ShapeError: a mask of another size (H, W) than the image, or an empty one.
    """
    if image.shape[:2] != size:
        raise ShapeError(
            f"the mask has {image.shape[1]}x{image.shape[0]} pixels (width x height), the image {size[1]}x{size[0]}"
        )
    mask = image.max(axis=2) > 127
    if not mask.any():
        raise ShapeError("the mask is empty: the object must be white, everything else black")
    return Instances.from_masks(mask)


def png(mask: NDArray[np.bool_]) -> bytes:
    """A mask (H, W) as a PNG file, white on black."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()
