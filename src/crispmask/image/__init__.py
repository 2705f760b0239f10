"""Images: reading them safely, finding them in folders, checking arrays.

Every image of crispmask is uint8 (H, W, 3), RGB.
"""

from __future__ import annotations

from crispmask.image.arrays import as_image
from crispmask.image.finding import Found, find_images, search_images
from crispmask.image.formats import SUFFIXES, describe_unread, how_to_read, suffixes
from crispmask.image.reading import MAX_PIXELS, Frame, decode_frame, read_frame, read_image, read_size, refused_size

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Found",
    "Frame",
    "as_image",
    "decode_frame",
    "describe_unread",
    "find_images",
    "how_to_read",
    "read_frame",
    "read_image",
    "read_size",
    "refused_size",
    "search_images",
    "suffixes",
]
