"""The contact sheet of the paper's Figure 5: an object's mask after each iteration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from crispmask.draw import INK, PAPER, edge_zoom
from crispmask.instances import Instances, tight_box
from crispmask.tuning.convergence.trace import Trace

_TILE, _GAP, _CAPTION = 240, 8, 38


def contact_sheet(
    image: NDArray[np.uint8], instance: Instances, trace: Trace, *, label: str = "", columns: int = 4, tiles: int = 12
) -> NDArray[np.uint8]:
    """The mask's contour before (red) and after t iterations (green), tile by tile.

    Iterations that changed no label are left out, except for the last; of more than `tiles` the early ones are shown,
    where most happens, and the last.

    Args:
        image: uint8 (H, W, 3) RGB.
        instance: the object, one instance.
        trace: of its refinement.
        label: written before each tile's title.
        columns: tiles in a row.
        tiles: at most so many.

    Returns:
        uint8 (h, w, 3).
    """
    shown = _shown(trace, tiles)
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    pitch_x, pitch_y = _TILE + _GAP, _TILE + _CAPTION + _GAP
    canvas = Image.new("RGB", (columns * pitch_x + _GAP, rows * pitch_y + _GAP), PAPER)
    pen = ImageDraw.Draw(canvas)
    place = _place(trace, instance.image_size)
    start = instance.with_windows([trace.window(0)])
    for k, t in enumerate(shown):
        x, y = _GAP + k % columns * pitch_x, _GAP + k // columns * pitch_y
        after = instance.with_windows([trace.window(t)])
        canvas.paste(Image.fromarray(edge_zoom(image, start, after, size=_TILE, place=place)), (x, y + _CAPTION))
        title, detail = _captions(trace, t)
        pen.text((x, y), label + title, font=ImageFont.load_default(16), fill=INK)
        pen.text((x, y + 19), detail, font=ImageFont.load_default(12), fill=INK)
    return np.asarray(canvas)


def stack_sheets(sheets: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Sheets below each other, on white."""
    width = max(sheet.shape[1] for sheet in sheets)
    wide = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in sheets]
    return np.concatenate(wide)


def _shown(trace: Trace, tiles: int) -> list[int]:
    changing = [0, *(int(t) + 1 for t in np.flatnonzero(trace.changed))]
    return changing if len(changing) <= tiles else [*changing[: tiles - 1], changing[-1]]


def _place(trace: Trace, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the square around every mask of the trace, as far as the image allows."""
    touched = np.logical_or.reduce(trace.masks)
    y0, x0 = trace.corner
    left, top, right, bottom = (int(v) for v in tight_box(touched) + np.array([x0, y0, x0, y0], np.float32))
    if not touched.any():
        bottom, right = y0 + touched.shape[0], x0 + touched.shape[1]
    side = round(1.1 * max(bottom - top, right - left)) + 4
    middle_y, middle_x = (top + bottom) // 2, (left + right) // 2
    height, width = image_size
    return (
        max(middle_x - side // 2, 0),
        max(middle_y - side // 2, 0),
        min(middle_x - side // 2 + side, width),
        min(middle_y - side // 2 + side, height),
    )


def _captions(trace: Trace, t: int) -> tuple[str, str]:
    if t == 0:
        return "start", f"KL {trace.kl[0]:.0f} nats"
    return f"iteration {t}", f"{trace.changed[t - 1]} px changed, KL {trace.kl[t]:.0f} nats"
