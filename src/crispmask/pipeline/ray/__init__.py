"""The path of photos on many machines: the pipeline as stages of Ray Data (extra ``cluster``)."""

from __future__ import annotations

import os

from crispmask.errors import MissingExtraError

# Ray reports its use to its maker unless it is told not to; who wants that sets the variable to 1.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# What its C++ parts have to say goes past Python's logging, straight to the terminal.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

try:
    from crispmask.pipeline.ray.engine import Progress
    from crispmask.pipeline.ray.refine import refine_on_ray
    from crispmask.pipeline.ray.segment import segment_on_ray
except ModuleNotFoundError as error:
    if (error.name or "").startswith("crispmask"):
        raise
    raise MissingExtraError(error.name or "ray", "cluster") from None

__all__ = ["Progress", "refine_on_ray", "segment_on_ray"]
