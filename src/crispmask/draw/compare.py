"""Two versions of an image's masks: before beside after, and a close-up of the largest change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from crispmask.arguments import flag
from crispmask.draw.change import largest_change
from crispmask.draw.paint import INK, PAPER, Colour, blend, checked, draw_instances, labelled, outline, palette
from crispmask.draw.reduce import reduce_instances
from crispmask.errors import DataError, ShapeError
from crispmask.image import as_image, read_image
from crispmask.image.scaling import reduced
from crispmask.instances import MASK_THRESHOLD, Instances

BEFORE: Colour = (255, 70, 85)
AFTER: Colour = (0, 225, 150)
FRAME: Colour = (255, 214, 0)


def show(
    image: ArrayLike | str | Path,
    before: Any,
    after: Any = None,
    *,
    titles: tuple[str, str] = ("Before", "After"),
    names: Mapping[int, str] | None = None,
    labels: bool | None = None,
) -> Image.Image:
    """A picture of masks, or of two versions of them side by side with a close-up of where they differ most.

    In a notebook the result is shown as it is; elsewhere ``.show()`` opens it and ``.save("picture.png")`` writes it.

    Args:
        image: uint8 (H, W, 3), RGB, or an image file.
        before: `Instances`, `supervision.Detections`, or an array (N, H, W) or (H, W), bool or probabilities.
        after: the refined masks, in any of these forms; without them there is one picture, of the image's size.
        titles: written above the two pictures.
        names: category names by id.
        labels: whether to write category and score on each instance; by default on one picture of `Instances` or
            `Detections`.

    Returns:
        An RGB `PIL.Image`.

    Raises:
        ImageError: a file that cannot be read as an image.
        ShapeError: masks of another size than the image, or an array that is not a mask.
        DataError: detections without masks.
    """
    labels = labels if labels is None else flag(labels, "labels")
    photo = read_image(image) if isinstance(image, str | Path) else as_image(image)
    first = _as_instances(before)
    if after is not None:
        shown = bool(labels)
        pair = before_after(photo, first, _as_instances(after), titles=titles, names=names, labels=shown)
        return Image.fromarray(pair)
    known = isinstance(before, Instances) or hasattr(before, "xyxy")  # plain arrays have neither category nor score
    return Image.fromarray(draw_instances(photo, first, labels=known if labels is None else labels, names=names))


def _as_instances(masks: Any) -> Instances:
    if isinstance(masks, Instances):
        return masks
    if not hasattr(masks, "xyxy"):
        return Instances.from_masks(masks)
    if masks.mask is None:
        raise DataError("the detections have no masks to show: use a segmentation model")
    return Instances.from_masks(
        np.asarray(masks.mask), boxes=masks.xyxy, scores=masks.confidence, category_ids=masks.class_id
    )


def before_after(
    image: ArrayLike,
    before: Instances,
    after: Instances,
    *,
    titles: tuple[str, str] = ("Before", "After"),
    names: Mapping[int, str] | None = None,
    labels: bool = False,
    zoom: bool = True,
    side: int = 800,
) -> NDArray[np.uint8]:
    """Two versions of an image's masks side by side, and a close-up of where they differ most.

    Args:
        image: uint8 (H, W, 3), RGB.
        before: the coarse instances.
        after: the refined ones; instance i has the same colour in both pictures where the numbers are equal.
        titles: written above the pictures.
        names: category names by id, for labels.
        labels: whether to write category and score.
        zoom: whether to add the panel of `edge_zoom`; it is left out where nothing changed.
        side: larger photos are scaled down until their longer side has this many pixels; those below 320 are scaled
            up to that.

    Returns:
        uint8 (h, w, 3).

    Raises:
        ShapeError: instances of another image size.
    """
    photo = checked(image, before)
    checked(photo, after)
    height, width = before.image_size
    scale = min(max(1.0, 320 / max(height, width)), side / max(height, width))
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    colours = palette(max(len(before), len(after)))
    # Drawn at twice the size of the panels at most, whatever the size of the image.
    factor = max(1, max(height, width) // (2 * side))
    small, pair = photo, (before, after)
    if factor > 1:
        small, pair = reduced(photo, factor), (reduce_instances(before, factor), reduce_instances(after, factor))
    place = largest_change(*pair) if zoom else None
    panels = []
    for instances in pair:
        drawn = draw_instances(small, instances, labels=False, colours=colours, line=2 / (scale * factor))
        panel = np.asarray(Image.fromarray(drawn).resize((w, h), Image.Resampling.LANCZOS)).copy()
        if labels:
            panel = labelled(panel, instances, colours, names, scale * factor)
        if place is not None:
            _frame(panel, tuple(round(v * scale * factor) for v in place), FRAME)
        panels.append(panel)
    headings = [[(titles[0], INK)], [(titles[1], INK)]]
    if place is not None:
        x0, y0, x1, y1 = (v * factor for v in place)
        place = (x0, y0, min(x1, width), min(y1, height))
        panels.append(edge_zoom(photo, before, after, size=h, place=place))
        headings.append([(titles[0], BEFORE), (titles[1], AFTER)])
    return _row(panels, headings)


def edge_zoom(
    image: ArrayLike,
    before: Instances,
    after: Instances,
    *,
    size: int = 480,
    place: tuple[int, int, int, int] | None = None,
) -> NDArray[np.uint8]:
    """A close-up of the photo with the contour before (red, thin) and after (green).

    Args:
        image: uint8 (H, W, 3), RGB.
        before: the coarse instances.
        after: the refined ones.
        size: side of the square picture, pixels.
        place: x0, y0, x1, y1 of the part to show, pixels; by default `largest_change`, or the whole image where
            nothing changed.

    Returns:
        uint8 (size, size, 3); a place that is not square is shown in the middle of a dark square.

    Raises:
        ShapeError: instances of another image size.
    """
    photo = checked(image, before)
    checked(photo, after)
    height, width = before.image_size
    x0, y0, x1, y1 = place or largest_change(before, after) or (0, 0, width, height)
    scale = size / max(x1 - x0, y1 - y0)
    w, h = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    crop = Image.fromarray(np.ascontiguousarray(photo[y0:y1, x0:x1]))
    picture = np.asarray(crop.resize((w, h), Image.Resampling.BICUBIC)).copy()
    thin, thick = max(2.0, size / 220), max(2.0, size / 170)
    for instances, colour, line in ((before, BEFORE, thin), (after, AFTER, thick)):
        for i in range(len(instances)):
            outline(picture, instances.windows[i].over((y0, x0, y1, x1)) > MASK_THRESHOLD, colour, line)
    square = np.full((size, size, 3), INK, np.uint8)
    top, left = (size - h) // 2, (size - w) // 2
    square[top : top + h, left : left + w] = picture
    return square


def outline_crop(
    image: ArrayLike,
    mask: ArrayLike,
    place: tuple[int, int, int, int],
    *,
    colour: Colour,
    size: int = 320,
    fill: float = 0.0,
) -> NDArray[np.uint8]:
    """A part of the photo with the contour of one mask.

    Args:
        image: uint8 (H, W, 3), RGB.
        mask: bool (H, W).
        place: x0, y0, x1, y1 of the part, pixels, half-open.
        colour: of the contour.
        size: longer side of the picture, pixels.
        fill: opacity of the fill, 0 (none) to 1.

    Returns:
        uint8 (h, w, 3).

    Raises:
        ShapeError: a mask of another size than the image.
    """
    photo, inside = as_image(image), np.asarray(mask, bool)
    if photo.shape[:2] != inside.shape:
        raise ShapeError(f"the image has shape {photo.shape[:2]} and the mask {inside.shape} (height, width)")
    x0, y0, x1, y1 = place
    scale = size / max(x1 - x0, y1 - y0)
    w, h = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    crop, part = Image.fromarray(np.ascontiguousarray(photo[y0:y1, x0:x1])), inside[y0:y1, x0:x1]
    picture = np.asarray(crop.resize((w, h), Image.Resampling.LANCZOS)).copy()
    if fill:
        soft = Image.fromarray(part.astype(np.float32)).resize((w, h), Image.Resampling.BILINEAR)
        blend(picture, colour, np.float32(fill) * (np.asarray(soft) > 0.5))
    outline(picture, part, colour, max(2.0, size / 150))
    return picture


def _frame(picture: NDArray[np.uint8], place: Sequence[int], colour: Colour) -> None:
    canvas = Image.fromarray(picture)
    x0, y0, x1, y1 = place
    ImageDraw.Draw(canvas).rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=colour, width=2)
    picture[:] = np.asarray(canvas)


def _row(panels: list[NDArray[np.uint8]], headings: list[list[tuple[str, Colour]]]) -> NDArray[np.uint8]:
    """Panels of equal height in a row on white, a thin gutter between them, each under its coloured heading."""
    height = panels[0].shape[0]
    gutter = max(4, height // 100)
    # Headings share one size, the largest at which each fits above its panel.
    largest = min(30, max(12, round(height / 22)))
    points = next(
        (
            size
            for size in range(largest, 8, -1)
            if all(_heading(None, 0, h, size) <= p.shape[1] for p, h in zip(panels, headings, strict=True))
        ),
        8,
    )
    bar = round(largest * 1.9)
    canvas = Image.new("RGB", (sum(panel.shape[1] + gutter for panel in panels) - gutter, height + bar), PAPER)
    pen, x = ImageDraw.Draw(canvas), 0
    for panel, heading in zip(panels, headings, strict=True):
        canvas.paste(Image.fromarray(panel), (x, bar))
        _heading(pen, x + gutter, heading, points, bar / 2)
        x += panel.shape[1] + gutter
    return np.asarray(canvas).copy()


def _heading(
    pen: ImageDraw.ImageDraw | None, x: float, heading: list[tuple[str, Colour]], points: int, y: float = 0
) -> float:
    """Write a heading from x on at the middle height y, or only measure it without a pen; its right end."""
    font = ImageFont.load_default(points)
    for k, (text, colour) in enumerate(heading):
        x += points if k else 0
        if colour != INK:
            # A stroke of the contour's colour explains the line; the words stay dark on white.
            if pen is not None:
                pen.line((x, y, x + points, y), fill=colour, width=max(3, round(points / 5)))
            x += points * 1.35
        if pen is not None:
            pen.text((x, y), text, font=font, fill=INK, anchor="lm")
        x += font.getlength(text)
    return x
