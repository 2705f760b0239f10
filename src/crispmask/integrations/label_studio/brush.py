"""Masks as the run lengths of Label Studio's brush.

They hold the red, green, blue and opacity of every pixel of the photo, row by row, as a stream of bits. Source:
``rle-pack`` of https://github.com/thi-ng/umbrella, and ``brush.py`` of label-studio-sdk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.errors import DataError, ShapeError

_HEAD = 7  # bytes, the last three bits excepted
_SIZES = (3, 4, 8, 16)  # bits of a run's length
_RUN_BITS = 27  # at most, and its value


def decode(rle: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The mask of a brush region.

    Args:
        rle: its ``rle``, a list of bytes.
        height, width: of the photo, pixels.

    Returns:
        bool (H, W): the pixels that are more than half opaque.

    Raises:
        DataError: no such list, or one of another size.
    """
    from crispmask.integrations.label_studio import _kernels

    try:
        data = np.asarray(rle if isinstance(rle, list) else [])
    except ValueError:  # lists of different lengths
        data = np.zeros(0)
    if data.ndim != 1 or data.dtype.kind not in "iu" or len(data) < _HEAD or data.min() < 0 or data.max() > 255:
        raise DataError("'rle' of a brush region must be a list of bytes")
    stream = data.astype(np.uint8)
    values = int.from_bytes(stream[:4].tobytes(), "big")
    if values != 4 * height * width:
        raise DataError(f"a brush region has {values / 4:.10g} pixels, its photo {width}x{height}")
    mask = np.zeros(height * width, np.bool_)
    status = _kernels.decode(stream, mask)
    if status != _kernels.OK:
        reason = "is cut short" if status == _kernels.CUT else "has values that are not bytes"
        raise DataError(f"'rle' of a brush region {reason}")
    return mask.reshape(height, width)


def encode(mask: ArrayLike) -> list[int]:
    """A mask as run lengths: white and opaque where it is set, else black and transparent.

    Args:
        mask: bool (H, W).

    Returns:
        A list of bytes, the one that label-studio-sdk makes.

    Raises:
        ShapeError: an array that is not (H, W) with at least one pixel.
    """
    from crispmask.integrations.label_studio import _kernels

    array = np.asarray(mask, np.bool_)
    if array.ndim != 2 or array.size == 0:
        raise ShapeError(f"a mask must have shape (H, W) with at least one pixel, got {array.shape}")
    flat = array.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], changes, [flat.size]))).astype(np.int64)
    head = 4 * flat.size << 21 | 7 << 16
    for k, size in enumerate(_SIZES):
        head |= size - 1 << 4 * (3 - k)
    runs = int((4 * lengths // (1 << _SIZES[-1]) + 1).sum())
    data = np.zeros(8 + _RUN_BITS * runs // 8 + 1, np.uint8)
    data[:_HEAD] = np.frombuffer((head << 3).to_bytes(_HEAD, "big"), np.uint8)
    return data[: _kernels.encode(lengths, bool(flat[0]), data)].tolist()
