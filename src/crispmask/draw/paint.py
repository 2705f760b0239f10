"""Instances on their image: translucent fills, crisp contours, and labels that do not cover one another.

Drawn with NumPy and Pillow alone, so that pictures are the same everywhere.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from crispmask.arguments import shown
from crispmask.errors import ShapeError
from crispmask.image import as_image
from crispmask.instances import Instances, Window

Colour = tuple[int, int, int]
"""RGB, 0..255."""

INK: Colour = (28, 30, 34)
PAPER: Colour = (255, 255, 255)


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
    picture = checked(image, instances).copy()
    if not isinstance(names, Mapping | None):
        raise ShapeError(f"names must be a dict of names by category id, got {shown(names)}")
    line = max(2.0, max(instances.image_size) / 500) if line is None else line
    colours = palette(len(instances)) if colours is None else colours
    areas = [int(window.mask.sum()) for window in instances.windows]
    for i in sorted(range(len(instances)), key=lambda i: -areas[i]):
        _paint(picture, instances, i, colours[i], fill, line)
    return labelled(picture, instances, colours, names) if labels else picture


def checked(image: ArrayLike, instances: Instances) -> NDArray[np.uint8]:
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
    blend(part, colour, np.float32(fill) * mask[inside])
    # Along the image's own edge no line is drawn: the object goes on there.
    blend(part, colour, _line(_edge_distance(mask[inside]), line))


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


def outline(picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Colour, line: float) -> None:
    """Draw in place the contour of a mask that is scaled to the picture."""
    if not mask.any() or mask.all():
        return
    shape = picture.shape[1], picture.shape[0]
    soft = Image.fromarray(mask.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)
    distance = _edge_distance(np.asarray(soft) > 0.5)
    # A dark rim keeps the line readable on pixels of its own colour.
    blend(picture, INK, 0.45 * _line(distance, line + 2))
    blend(picture, colour, _line(distance, line))


def blend(picture: NDArray[np.uint8], colour: Colour, opacity: NDArray[np.float32]) -> None:
    touched = opacity > 0
    alpha = opacity[touched][:, None]
    mixed = picture[touched] * (1 - alpha) + np.array(colour, np.float32) * alpha
    picture[touched] = np.round(mixed).astype(np.uint8)


def labelled(
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
