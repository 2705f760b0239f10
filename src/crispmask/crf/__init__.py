"""The fully connected CRF on arrays; this package knows no image files, instances or COCO.

Importing it loads no Numba and compiles nothing; that happens at the first inference.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crispmask.crf._warmup import warmup
    from crispmask.crf.dense import CRFResult, DenseCRF, two_label_marginals
    from crispmask.crf.gaussian import GaussianFilter
    from crispmask.crf.kernels import Bilateral, Gaussian, Kernel
    from crispmask.crf.lattice import PermutohedralLattice

_HOME = {
    "Bilateral": "kernels",
    "CRFResult": "dense",
    "DenseCRF": "dense",
    "Gaussian": "kernels",
    "GaussianFilter": "gaussian",
    "Kernel": "kernels",
    "PermutohedralLattice": "lattice",
    "two_label_marginals": "dense",
    "warmup": "_warmup",
}

__all__ = [
    "Bilateral",
    "CRFResult",
    "DenseCRF",
    "Gaussian",
    "GaussianFilter",
    "Kernel",
    "PermutohedralLattice",
    "two_label_marginals",
    "warmup",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
