"""Drop-in for the package pydensecrf: the same modules, names, signatures and numbers, without a compiler.

Either change one line of your code::

    import crispmask.pydensecrf.densecrf as dcrf

or leave it unchanged and call :func:`install` once before the first import::

    import crispmask.pydensecrf
    crispmask.pydensecrf.install()
    import pydensecrf.densecrf as dcrf

The modules are ``densecrf`` (the CRF), ``utils`` (unaries and features) and ``eigen`` (matrices). As in the original,
importing the package alone loads none of them.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["install", "path", "warmup"]

_MODULES = ("densecrf", "eigen", "utils")


def install() -> None:
    """Make every later ``import pydensecrf...`` import the modules of this package, in this process and its workers.

    Worker processes that start afresh (``spawn``, ``forkserver``, joblib's loky, ``torch.multiprocessing``, Ray on this
    machine) find it too: a folder with a small module ``pydensecrf`` is put first on ``sys.path``, which
    multiprocessing hands on, and on the environment variable PYTHONPATH, which every later subprocess inherits.

    Nothing on disk changes; an installed pydensecrf is hidden. Names that were imported from it before the call are not
    changed. A second call has no effect.
    """
    sys.modules["pydensecrf"] = sys.modules[__name__]
    for name in _MODULES:
        sys.modules[f"pydensecrf.{name}"] = importlib.import_module(f"{__name__}.{name}")
    folder = path()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if folder not in inherited:
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, inherited)])


def path() -> str:
    """The folder that :func:`install` puts on the search path.

    For machines that the environment of this process does not reach, such as the nodes of a Ray cluster:
    ``ray.init(runtime_env={"env_vars": {"PYTHONPATH": crispmask.pydensecrf.path()}})``.
    """
    return str(Path(__file__).with_name("path"))


def warmup(dimensions: Iterable[int] = (2, 5), labels: Iterable[int] = (2, 21)) -> None:
    """Compile inference, or load it from Numba's cache: in the parent, before a pool forks, it is done once for all.

    Args:
        dimensions: of the features: 2 for ``addPairwiseGaussian``, 5 for ``addPairwiseBilateral``, others for features
            of your own. Each takes some seconds the first time.
        labels: numbers of labels.

    Raises:
        ValueError: dimensions or labels out of their range.
    """
    import numpy as np

    from crispmask.pydensecrf.densecrf import DenseCRF

    wanted = list(labels)
    for dimension in dimensions:
        for count in wanted:
            model = DenseCRF(4, count)
            model.setUnaryEnergy(np.zeros((count, 4), np.float32))
            model.addPairwiseEnergy(np.zeros((dimension, 4), np.float32), compat=1)
            model.inference(1)
