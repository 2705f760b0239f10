"""The fully connected CRF on arrays; this package knows no image files, instances or COCO.

Importing it loads no Numba and compiles nothing; that happens at the first inference.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crispmask.crf._warmup import warmup
    from crispmask.crf.batch import run_batch, window_marginals
    from crispmask.crf.dense import CRFResult, DenseCRF, two_label_marginals
    from crispmask.crf.gaussian import GaussianFilter
    from crispmask.crf.kernels import Bilateral, Gaussian, Kernel
    from crispmask.crf.lattice import PermutohedralLattice
    from crispmask.crf.unaries import unary_from_labels, unary_from_probabilities
    from crispmask.crf.volume import VolumeBilateral, refine_volume

_HOME = {
    "Bilateral": "kernels",
    "CRFResult": "dense",
    "DenseCRF": "dense",
    "Gaussian": "kernels",
    "GaussianFilter": "gaussian",
    "Kernel": "kernels",
    "PermutohedralLattice": "lattice",
    "VolumeBilateral": "volume",
    "refine_volume": "volume",
    "run_batch": "batch",
    "two_label_marginals": "dense",
    "unary_from_labels": "unaries",
    "unary_from_probabilities": "unaries",
    "warmup": "_warmup",
    "window_marginals": "batch",
}

__all__ = [
    "Bilateral",
    "CRFResult",
    "DenseCRF",
    "Gaussian",
    "GaussianFilter",
    "Kernel",
    "PermutohedralLattice",
    "VolumeBilateral",
    "refine_volume",
    "run_batch",
    "two_label_marginals",
    "unary_from_labels",
    "unary_from_probabilities",
    "warmup",
    "window_marginals",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
