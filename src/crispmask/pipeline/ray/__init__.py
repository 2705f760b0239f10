"""The pipeline on many machines, as stages of Ray Data (extra ``cluster``)."""

from __future__ import annotations

import os

from crispmask.errors import MissingExtraError

# Ray sends usage statistics to its vendor unless this is 0; set it to 1 to allow them.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's C++ parts write to the terminal directly, not through Python's logging.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

try:
    from crispmask.pipeline.ray.refine import refine_on_ray
    from crispmask.pipeline.ray.segment import segment_on_ray
except ModuleNotFoundError as error:
    if (error.name or "").startswith("crispmask"):
        raise
    raise MissingExtraError(error.name or "ray", "cluster") from None

__all__ = ["refine_on_ray", "segment_on_ray"]
