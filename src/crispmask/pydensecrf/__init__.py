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
import sys

__all__ = ["install"]

_MODULES = ("densecrf", "eigen", "utils")


def install() -> None:
    """Make every later ``import pydensecrf...`` of this process import the modules of this package.

    Nothing on disk changes; an installed pydensecrf is hidden. Names that were imported from it before the call are not
    changed. A second call has no effect.
    """
    sys.modules["pydensecrf"] = sys.modules[__name__]
    for name in _MODULES:
        sys.modules[f"pydensecrf.{name}"] = importlib.import_module(f"{__name__}.{name}")
