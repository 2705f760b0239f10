"""Pictures of masks: on their image, before beside after, and close-ups of the largest change.

All pictures are uint8 (H, W, 3), RGB; `show` makes them `PIL.Image`.
"""

from __future__ import annotations

from crispmask.draw.change import largest_change
from crispmask.draw.compare import AFTER, BEFORE, FRAME, before_after, edge_zoom, outline_crop, show
from crispmask.draw.paint import INK, PAPER, Colour, draw_instances, palette

__all__ = [
    "AFTER",
    "BEFORE",
    "FRAME",
    "INK",
    "PAPER",
    "Colour",
    "before_after",
    "draw_instances",
    "edge_zoom",
    "largest_change",
    "outline_crop",
    "palette",
    "show",
]
