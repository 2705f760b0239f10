"""Detections of a FiftyOne dataset, refined into another field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crispmask.arguments import number
from crispmask.errors import CrispmaskError, DataError, ParamsError
from crispmask.image import read_image
from crispmask.image.scaling import resized
from crispmask.instances import MASK_THRESHOLD, Instances, Rect, Window
from crispmask.params import CRFParams
from crispmask.refinement import Params, refine_instances
from crispmask.refinement.masks import checked_params
from crispmask.refinement.prompts import from_boxes


def refine_fiftyone(
    samples: Any,
    field: str,
    new_field: str,
    params: Params | None = None,
    *,
    joint: bool = False,
    threads: int | None = None,
    device: Any = None,
    progress: bool = False,
) -> int:
    """Refine the detections of every image of a FiftyOne dataset into another field.

    Detections without a mask get one, made from their boxes. Labels, tags, confidences and other attributes stay; boxes
    become those of the new masks. Masks that the learned gate leaves alone are copied. Samples are saved one after the
    other: after an interruption, ``dataset.exists(new_field, False)`` is the view of those that are left.

    Args:
        samples: a ``fiftyone.Dataset`` or a view of one, of images.
        field: with ``fiftyone.Detections``; samples without a value there are left out.
        new_field: is added, or written over.
        params: learned or fixed; by default the learned ones that ship. Only learned ones make masks from boxes.
        joint, threads, device: as for `crispmask.refine`.
        progress: show FiftyOne's progress bar.

    Returns:
        How many masks were refined or made.

    Raises:
        DataError: samples that are no images, a field of another type, or a detection that is damaged.
        ImageError: an image that cannot be read.
        ParamsError: the same name for both fields, or boxes with fixed parameters.
    """
    chosen = checked_params(params)
    if field == new_field:
        raise ParamsError(f"the refined detections need another field than {field!r}")
    if samples.media_type != "image":
        raise DataError(f"the samples must be images, not {samples.media_type}")
    found = samples.get_field(field)
    kind = getattr(getattr(found, "document_type", None), "__name__", "none")
    if kind != "Detections":
        raise DataError(f"the field {field!r} must hold Detections, got {kind}")
    count = 0
    for sample in samples.iter_samples(autosave=True, progress=progress):
        before = sample[field]
        if before is None:
            continue
        after = before.copy()
        after.detections = [one.copy() for one in before.detections]
        try:
            count += _refine(sample.filepath, after.detections, chosen, joint=joint, threads=threads, device=device)
        except CrispmaskError as error:
            raise type(error)(f"sample {sample.id}: {error}") from None
        sample[new_field] = after
    return count


def _refine(path: str, detections: Sequence[Any], params: Params, **options: Any) -> int:
    """Give detections of an image other masks, in place; returns how many."""
    if not detections:
        return 0
    image = read_image(path)
    size = image.shape[0], image.shape[1]
    parts = [_instance(one, size) for one in detections]
    flags = [not one.has_mask for one in detections]
    if isinstance(params, CRFParams) and any(flags):
        raise ParamsError("fixed parameters refine masks and cannot make them from boxes: use the learned ones")
    before = Instances.concatenate(parts)
    after, _ = refine_instances(image, before, params, from_boxes=flags, **options)
    count = 0
    for one, old, new in zip(detections, before.windows, after.windows, strict=True):
        if new is not old and new.mask.any():
            window = Window(new.mask.astype(np.float32), new.y, new.x).cropped_to_mask()
            one.mask, one.mask_path = window.mask, None
            one.bounding_box = _shares(window.mask_box, size)
            count += 1
    return count


def _instance(detection: Any, size: tuple[int, int]) -> Instances:
    """One detection on an image of (H, W) pixels."""
    shares = detection.bounding_box
    if not isinstance(shares, list | tuple) or len(shares) != 4:
        raise DataError(f"a detection must have a bounding box of 4 numbers, got {shares!r}")
    x, y, w, h = (number(v, "a bounding box", -10, 10, error=DataError) for v in shares)
    corners = x * size[1], y * size[0], (x + w) * size[1], (y + h) * size[0]
    confidence = detection.confidence
    score = 1.0 if confidence is None else number(confidence, "a confidence", 0, 1, error=DataError)
    if not detection.has_mask:
        return from_boxes(corners, size, scores=[score])
    mask = np.asarray(detection.get_mask())
    if mask.ndim != 2 or not mask.size:
        raise DataError(f"the mask of a detection must have shape (h, w), got {mask.shape}")
    y0, x0, y1, x1 = _place(corners, mask.shape)
    if y1 <= y0 or x1 <= x0:
        raise DataError("a detection with a mask covers less than one pixel of the image")
    if mask.shape != (y1 - y0, x1 - x0):
        mask = resized((mask != 0).astype(np.float32), (y1 - y0, x1 - x0)) > MASK_THRESHOLD
    inside = max(0, y0), max(0, x0), min(size[0], y1), min(size[1], x1)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise DataError("a detection with a mask lies outside the image")
    window = Window(Window((mask != 0).astype(np.float32), y0, x0).over(inside), inside[0], inside[1])
    box = np.clip(np.array([corners], np.float32), 0, [size[1], size[0]] * 2)
    return Instances(size, box, np.array([score]), np.array([1]), (window,))


def _place(corners: tuple[float, float, float, float], shape: tuple[int, int]) -> Rect:
    """The pixels of a mask: corners are rounded, or else cut off as FiftyOne does, whichever gives the mask's size."""
    rounded, cut = ([math.floor(v + add) for v in corners] for add in (0.5, 1e-6))
    for x0, y0, x1, y1 in (rounded, cut):
        if (y1 - y0, x1 - x0) == shape:
            return y0, x0, y1, x1
    x0, y0, x1, y1 = cut
    return y0, x0, y1, x1


def _shares(box: tuple[int, int, int, int], size: tuple[int, int]) -> list[float]:
    """A box x0, y0, x1, y1 in shares of the image, such that FiftyOne finds the same pixels when it cuts off."""
    x, w = _share(box[0], box[2], size[1])
    y, h = _share(box[1], box[3], size[0])
    return [x, y, w, h]


def _share(start: int, end: int, side: int) -> tuple[float, float]:
    first = start / side
    while int(side * first) < start:
        first = math.nextafter(first, math.inf)
    length = (end - start) / side
    while int(side * (first + length)) < end:
        length = math.nextafter(length, math.inf)
    return first, length
