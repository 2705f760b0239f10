"""Coarse instance masks in, crisp ones out.

The public names below are resolved on first access: ``import crispmask`` loads neither NumPy, Numba nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crispmask._version import __version__

if TYPE_CHECKING:
    from crispmask.crf import Bilateral, DenseCRF, Gaussian, Kernel, refine_volume
    from crispmask.cutouts import cutout
    from crispmask.detectors import load_detector
    from crispmask.draw import show
    from crispmask.errors import CrispmaskError
    from crispmask.evaluation import evaluate
    from crispmask.image import read_image
    from crispmask.instances import Instances, Window
    from crispmask.params import CRFParams
    from crispmask.pipeline import Segmenter, segment
    from crispmask.refinement import LearnedParams, explain, refine

_HOME = {
    "Bilateral": "crispmask.crf",
    "CRFParams": "crispmask.params",
    "CrispmaskError": "crispmask.errors",
    "DenseCRF": "crispmask.crf",
    "Gaussian": "crispmask.crf",
    "Instances": "crispmask.instances",
    "LearnedParams": "crispmask.refinement",
    "Kernel": "crispmask.crf",
    "Segmenter": "crispmask.pipeline",
    "Window": "crispmask.instances",
    "cutout": "crispmask.cutouts",
    "evaluate": "crispmask.evaluation",
    "explain": "crispmask.refinement.masks",
    "load_detector": "crispmask.detectors",
    "read_image": "crispmask.image",
    "refine": "crispmask.refinement.masks",
    "refine_volume": "crispmask.crf",
    "segment": "crispmask.pipeline",
    "show": "crispmask.draw",
}

__all__ = [
    "Bilateral",
    "CRFParams",
    "CrispmaskError",
    "DenseCRF",
    "Gaussian",
    "Instances",
    "Kernel",
    "LearnedParams",
    "Segmenter",
    "Window",
    "__version__",
    "cutout",
    "evaluate",
    "explain",
    "load_detector",
    "read_image",
    "refine",
    "refine_volume",
    "segment",
    "show",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'crispmask' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
