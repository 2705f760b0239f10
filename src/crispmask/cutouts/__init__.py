"""Cut-outs: the objects of an image with a soft edge and without the colours of the old background."""

from __future__ import annotations

from crispmask.cutouts.cut import cutout

__all__ = ["cutout"]
