"""Masks in COCO's three encodings: compressed run-length encoding, plain run-length encoding, polygons.

Everything is checked here. The C++ mask API of faster-coco-eval trusts its input: with too many runs it writes outside
of the array, and it keeps every fifth of a pixel along the edges of a polygon, gigabytes for a small file. So it only
ever sees masks.

Source: https://cocodataset.org/#format-data and the mask API of pycocotools. The results are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.coco.filling import check_crossings, filled
from crispmask.coco.runs import decode_counts, encode, runs_of_window, window_of_runs
from crispmask.errors import DataError, ShapeError, ValueRangeError
from crispmask.instances import Window


def mask_to_rle(mask: ArrayLike) -> dict[str, Any]:
    """A mask as compressed RLE, ready for JSON.

    Args:
        mask: bool or 0/1 (H, W).

    Returns:
        ``{"size": [H, W], "counts": str}``.

    Raises:
        ShapeError: an array that is not (H, W) with at least one pixel.
        ValueRangeError: values other than 0 and 1.
    """
    from faster_coco_eval.core import mask as api

    array = np.asarray(mask)
    if array.ndim != 2 or array.size == 0:
        raise ShapeError(f"a mask must have shape (H, W) with at least one pixel, got {array.shape}")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise ValueRangeError("a mask must hold booleans or 0 and 1; threshold probabilities first")
    return _as_json(api.encode(np.asfortranarray(array, dtype=np.uint8)))


def window_to_rle(window: Window, height: int, width: int) -> dict[str, Any]:
    """The mask of a window of an H x W image as compressed RLE, ready for JSON; the image is never laid out.

    Returns:
        What `mask_to_rle` gives for the mask of the whole image.
    """
    mask = window.mask
    runs = runs_of_window(mask, window.y, window.x, height, width) if mask.size else np.array([height * width])
    return {"size": [height, width], "counts": encode(runs)}


def check_segmentation(segmentation: Any, height: int, width: int) -> None:
    """Raise DataError where `segmentation_to_mask` would, without making the mask."""
    if isinstance(segmentation, Mapping):
        _rle_runs(segmentation, height, width)
    else:
        check_crossings(_polygons(segmentation, height, width), height, width)


def segmentation_to_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """A COCO segmentation as a mask.

    Args:
        segmentation: a mapping with ``size`` [H, W] and ``counts`` (str or bytes: compressed, list: plain RLE), or a
            list of polygons ``[x0, y0, x1, y1, ...]`` in pixels, whose union counts.
        height: H of the image, pixels.
        width: W of the image, pixels.

    Returns:
        bool (H, W).

    Raises:
        DataError: anything that is not such a segmentation of an H x W image.
    """
    runs = _runs(segmentation, height, width)
    # Runs go down the columns and start with background.
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def segmentation_to_window(segmentation: Any, height: int, width: int) -> Window:
    """A COCO segmentation as the smallest window that holds its mask.

    Args and errors are those of `segmentation_to_mask`.
    """
    mask, y, x = window_of_runs(_runs(segmentation, height, width), height)
    return Window(mask.astype(np.float32), y, x)


def segmentation_to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """A COCO segmentation in any encoding as compressed RLE, ready for JSON.

    Args and errors are those of `segmentation_to_mask`.

    Returns:
        ``{"size": [H, W], "counts": str}``.
    """
    runs = _runs(segmentation, height, width)
    counts = segmentation["counts"] if isinstance(segmentation, Mapping) else None
    return _as_json({"size": [height, width], "counts": counts if isinstance(counts, str | bytes) else encode(runs)})


def _as_json(rle: Mapping[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {
        "size": [int(side) for side in rle["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }


def _runs(segmentation: Any, height: int, width: int) -> NDArray[np.int64]:
    """Checked run lengths: int64 (n,), not negative, with the sum H * W, the first of the background."""
    if isinstance(segmentation, Mapping):
        return _rle_runs(segmentation, height, width)
    return filled(_polygons(segmentation, height, width), height, width)


def _rle_runs(rle: Mapping[str, Any], height: int, width: int) -> NDArray[np.int64]:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, Sequence | np.ndarray) or list(size) != [height, width]:
        raise DataError(f"the RLE has size {size!r}, the image is [{height}, {width}] (height, width)")
    if isinstance(counts, str | bytes):
        try:
            runs, _ = decode_counts([counts.encode("ascii") if isinstance(counts, str) else counts])
        except UnicodeEncodeError:
            raise DataError("the compressed RLE holds characters other than ASCII") from None
    elif isinstance(counts, Sequence | np.ndarray):
        if not all(isinstance(run, int | np.integer) and not isinstance(run, bool) for run in counts):
            raise DataError("the RLE counts must be whole numbers")
        if not all(0 <= run <= height * width for run in counts):
            raise DataError("the RLE has a run that is negative or longer than the image")
        runs = np.asarray(counts, np.int64)
    else:
        raise DataError(f"the RLE counts must be a string or a list, got {type(counts).__name__}")
    if len(runs) and runs.min() < 0:
        raise DataError("the RLE has a negative run")
    if runs.sum() != height * width:
        raise DataError(f"the RLE covers {runs.sum()} pixels, the image has {height * width} ({height} x {width})")
    return runs


def _polygons(segmentation: Any, height: int, width: int) -> list[NDArray[np.float64]]:
    """Checked polygons: at least one, each of at least three finite points near the image."""
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str | bytes):
        raise DataError(f"a segmentation must be an RLE or a list of polygons, got {type(segmentation).__name__}")
    if not segmentation:
        raise DataError("the segmentation is an empty list of polygons")
    checked = []
    for k, polygon in enumerate(segmentation):
        try:
            points = np.asarray(polygon, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"polygon {k} must be a flat list of numbers [x0, y0, x1, y1, ...]") from None
        if points.ndim != 1 or len(points) % 2:
            raise DataError(f"polygon {k} must be a flat list [x0, y0, x1, y1, ...] with an even number of values")
        if len(points) < 6:
            raise DataError(f"polygon {k} has {len(points) // 2} points and needs at least 3")
        if not np.isfinite(points).all():
            raise DataError(f"polygon {k} has a coordinate that is NaN or infinite")
        # Annotated points may lie a little outside, never by more than the image's size.
        xs, ys = points[0::2], points[1::2]
        if xs.min() < -width or xs.max() > 2 * width or ys.min() < -height or ys.max() > 2 * height:
            raise DataError(f"polygon {k} leaves the image of {height}x{width} pixels by more than its size")
        checked.append(points)
    return checked
