"""Pictures of masks: translucent fills, crisp contours, before beside after, and a close-up of the largest change.

All pictures are uint8 (H, W, 3), RGB. Drawn with NumPy and Pillow alone, so that they look the same everywhere.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from crispmask.errors import ShapeError
from crispmask.image import as_image
from crispmask.instances import Instances, Window

Colour = tuple[int, int, int]

BEFORE: Colour = (255, 70, 85)
AFTER: Colour = (0, 225, 150)
INK, PAPER, FRAME = (28, 30, 34), (255, 255, 255), (255, 214, 0)


def palette(n: int) -> list[Colour]:
    """`n` colours that are easy to tell apart, the same ones every time: hues a golden angle apart."""
    colours = []
    for i in range(n):
        hue, lightness = (0.56 + i * 0.6180339887) % 1, (0.56, 0.44, 0.66)[(i // 8) % 3]
        r, g, b = colorsys.hls_to_rgb(hue, lightness, 0.9)
        colours.append((round(255 * r), round(255 * g), round(255 * b)))
    return colours


def draw_instances(
    image: ArrayLike,
    instances: Instances,
    *,
    labels: bool = True,
    names: Mapping[int, str] | None = None,
    colours: Sequence[Colour] | None = None,
    fill: float = 0.38,
    line: float | None = None,
) -> NDArray[np.uint8]:
    """An image with its instances drawn on it.

    Args:
        image: uint8 (H, W, 3), RGB; it is not changed.
        instances: the objects, drawn in order of falling mask area, so that small ones stay visible.
        labels: whether to write category and score on each instance.
        names: category names by id; by default ids are written.
        colours: RGB 0..255 per instance; by default those of `palette`.
        fill: opacity of the fill, 0 (none) to 1.
        line: width of the contour, pixels; by default 2, more on images above 1000 pixels.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ShapeError: instances of another image size.
        ValueRangeError: an image that is not uint8.
    """
    picture = _checked(image, instances).copy()
    line = max(2.0, max(instances.image_size) / 500) if line is None else line
    colours = palette(len(instances)) if colours is None else colours
    areas = [int(window.mask.sum()) for window in instances.windows]
    for i in sorted(range(len(instances)), key=lambda i: -areas[i]):
        _paint(picture, instances, i, colours[i], fill, line)
    return _labelled(picture, instances, colours, names) if labels else picture


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
    photo = _checked(image, before)
    _checked(photo, after)
    height, width = before.image_size
    scale = min(max(1.0, 320 / max(height, width)), side / max(height, width))
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    colours = palette(max(len(before), len(after)))
    place = largest_change(before, after) if zoom else None
    panels = []
    for instances in (before, after):
        drawn = draw_instances(photo, instances, labels=False, colours=colours, line=2 / scale)
        panel = np.asarray(Image.fromarray(drawn).resize((w, h), Image.Resampling.LANCZOS)).copy()
        if labels:
            panel = _labelled(panel, instances, colours, names, scale)
        if place is not None:
            _frame(panel, tuple(round(v * scale) for v in place), FRAME)
        panels.append(panel)
    headings = [[(titles[0], INK)], [(titles[1], INK)]]
    if place is not None:
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
    photo = _checked(image, before)
    _checked(photo, after)
    height, width = before.image_size
    x0, y0, x1, y1 = place or largest_change(before, after) or (0, 0, width, height)
    scale = size / max(x1 - x0, y1 - y0)
    w, h = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    crop = Image.fromarray(np.ascontiguousarray(photo[y0:y1, x0:x1]))
    picture = np.asarray(crop.resize((w, h), Image.Resampling.BICUBIC)).copy()
    thin, thick = max(2.0, size / 220), max(2.0, size / 170)
    for instances, colour, line in ((before, BEFORE, thin), (after, AFTER, thick)):
        for i in range(len(instances)):
            _outline(picture, instances.mask(i)[y0:y1, x0:x1], colour, line)
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
        _blend(picture, colour, np.float32(fill) * (np.asarray(soft) > 0.5))
    _outline(picture, part, colour, max(2.0, size / 150))
    return picture


def largest_change(before: Instances, after: Instances) -> tuple[int, int, int, int] | None:
    """Where two versions of the same instances differ most, in a square that shows a part of the object's edge.

    Masks that vanish or appear as a whole, and changes along the image's own edge, count only where nothing else
    changed: they show no edge that moved.

    Returns:
        x0, y0, x1, y1 in pixels, square, inside the image; None where no pixel changed.
    """
    height, width = before.image_size
    best: tuple[tuple[bool, float], tuple[int, int, int, int]] | None = None
    for i in range(min(len(before), len(after))):
        top, left, changed = _changed(before.windows[i], after.windows[i])
        if not changed.any():
            continue
        margin = round(0.02 * min(height, width))
        inner = changed.copy()
        inner[: max(margin - top, 0)] = inner[max(height - margin - top, 0) :] = False
        inner[:, : max(margin - left, 0)] = inner[:, max(width - margin - left, 0) :] = False
        both = before.windows[i].mask.any() and after.windows[i].mask.any()
        box = before.boxes[i]
        extent = float(max(box[2] - box[0], box[3] - box[1], *changed.shape) if both else max(changed.shape))
        side = int(min(max(0.4 * extent, 48), height, width))
        y, x, count = _densest(inner if inner.any() else changed, side)
        x0 = min(max(left + x - side // 2, 0), width - side)
        y0 = min(max(top + y - side // 2, 0), height - side)
        # Pixels that changed per pixel of the square's side: large objects win, but not by their size alone.
        rank = (bool(both and inner.any()), count / side)
        if best is None or rank > best[0]:
            best = rank, (x0, y0, x0 + side, y0 + side)
    return None if best is None else best[1]


def _densest(changed: NDArray[np.bool_], side: int) -> tuple[int, int, int]:
    """Row and column around which a square of `side` holds the most pixels, centred on them, and their number."""
    from scipy.ndimage import uniform_filter

    density = uniform_filter(changed.astype(np.float32), side, mode="constant")
    y, x = (int(v) for v in np.unravel_index(int(density.argmax()), density.shape))
    count = round(float(density[y, x]) * side * side)
    # Many squares hold as many pixels; the one with them in its middle shows most of their surroundings.
    half = side // 2
    rows, columns = np.nonzero(changed[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1])
    return max(y - half, 0) + round(float(rows.mean())), max(x - half, 0) + round(float(columns.mean())), count


def _changed(before: Window, after: Window) -> tuple[int, int, NDArray[np.bool_]]:
    """Top, left and bool (h, w): the pixels that differ, in the smallest part of the image that holds both masks."""
    pair = [window for window in (before, after) if window.probabilities.size]
    if not pair:
        return 0, 0, np.zeros((0, 0), np.bool_)
    top, left = min(w.y for w in pair), min(w.x for w in pair)
    shape = max(w.y + w.height for w in pair) - top, max(w.x + w.width for w in pair) - left
    changed = np.zeros(shape, np.bool_)
    for w in pair:
        changed[w.y - top : w.y - top + w.height, w.x - left : w.x - left + w.width] ^= w.mask
    return top, left, changed


def _checked(image: ArrayLike, instances: Instances) -> NDArray[np.uint8]:
    photo = as_image(image)
    if photo.shape[:2] != instances.image_size:
        raise ShapeError(
            f"the image is {photo.shape[0]}x{photo.shape[1]} pixels and the instances belong to one of "
            f"{instances.image_size[0]}x{instances.image_size[1]} (height x width)"
        )
    return photo


def _paint(picture: NDArray[np.uint8], instances: Instances, i: int, colour: Colour, fill: float, line: float) -> None:
    """Fill and outline instance i in place, touching only its window and the line around it."""
    window, pad = instances.windows[i], int(np.ceil(line)) + 1
    if not window.mask.any():
        return
    mask = np.pad(window.mask, pad)
    # The padded window in the picture, and the part of the padding that lies inside the picture.
    y, x = window.y - pad, window.x - pad
    top, left = max(-y, 0), max(-x, 0)
    bottom = min(mask.shape[0], picture.shape[0] - y)
    right = min(mask.shape[1], picture.shape[1] - x)
    inside = (slice(top, bottom), slice(left, right))
    part = picture[y + top : y + bottom, x + left : x + right]
    _blend(part, colour, np.float32(fill) * mask[inside])
    # Along the image's own edge no line is drawn: the object goes on there.
    _blend(part, colour, _line(_edge_distance(mask[inside]), line))


def _edge_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of each pixel's centre to the mask's edge, float32 (h, w); infinite where there is no edge."""
    from scipy.ndimage import distance_transform_edt

    if mask.all() or not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    # The edge runs half a pixel before the first pixel of the other kind.
    return np.where(mask, distance_transform_edt(mask), distance_transform_edt(~mask)).astype(np.float32) - 0.5


def _line(distance: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Opacity of a line of `width` pixels along the edge: float32 (h, w), smooth at its sides."""
    return np.clip(width / 2 + 0.5 - distance, 0, 1)


def _outline(picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Colour, line: float) -> None:
    """Draw in place the contour of a mask that is scaled to the picture."""
    if not mask.any() or mask.all():
        return
    shape = picture.shape[1], picture.shape[0]
    soft = Image.fromarray(mask.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)
    distance = _edge_distance(np.asarray(soft) > 0.5)
    # A dark rim keeps the line readable on pixels of its own colour.
    _blend(picture, INK, 0.45 * _line(distance, line + 2))
    _blend(picture, colour, _line(distance, line))


def _blend(picture: NDArray[np.uint8], colour: Colour, opacity: NDArray[np.float32]) -> None:
    touched = opacity > 0
    alpha = opacity[touched][:, None]
    mixed = picture[touched] * (1 - alpha) + np.array(colour, np.float32) * alpha
    picture[touched] = np.round(mixed).astype(np.uint8)


def _labelled(
    picture: NDArray[np.uint8],
    instances: Instances,
    colours: Sequence[Colour],
    names: Mapping[int, str] | None,
    scale: float = 1.0,
) -> NDArray[np.uint8]:
    """The picture with category and score in a plate on top of each mask, below the plates already there."""
    canvas = Image.fromarray(picture)
    points = max(13, round(max(canvas.size) / 45))
    pen, font, pad = ImageDraw.Draw(canvas), ImageFont.load_default(points), round(points / 4)
    plates: list[tuple[int, int, int, int]] = []
    for i in range(len(instances)):
        category = int(instances.category_ids[i])
        text = f"{(names or {}).get(category, category)} {instances.scores[i]:.2f}"
        x0, y0, x1, y1 = pen.textbbox((0, 0), text, font=font)
        w, h = round(x1 - x0) + 2 * pad, round(y1 - y0) + 2 * pad
        peak = _peak(instances.windows[i])
        if peak is None:
            continue
        left = min(max(round(peak[0] * scale) - w // 2, 0), max(canvas.width - w, 0))
        top = min(max(round(peak[1] * scale) - h, 0), max(canvas.height - h, 0))
        for px, py, pw, ph in sorted(plates, key=lambda plate: plate[1]):
            if left < px + pw and px < left + w and top < py + ph and py < top + h:
                top = py + ph + 1
        plates.append((left, top, w, h))
        pen.rectangle((left, top, left + w - 1, top + h - 1), fill=colours[i])
        pen.text((left + pad - x0, top + pad - y0), text, font=font, fill=_readable(colours[i]))
    return np.asarray(canvas).copy()


def _peak(window: Window) -> tuple[float, int] | None:
    """x, y of the middle of the mask's first row; None where the mask is empty."""
    rows = np.flatnonzero(window.mask.any(axis=1))
    if not len(rows):
        return None
    return window.x + float(np.flatnonzero(window.mask[rows[0]]).mean()), window.y + int(rows[0])


def _readable(colour: Colour) -> Colour:
    """Black or white, whichever stands out more."""
    return INK if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140 else PAPER


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
