"""Drop-in for the package pydensecrf: the same modules, names, signatures and numbers, without a compiler.

Either change one line of the client::

    import crispmask.pydensecrf.densecrf as dcrf

or leave the client alone and call :func:`install` once before it imports anything::

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
    """Answer every later ``import pydensecrf...`` of this process with the modules of this package.

    Nothing on disk changes, and an installed pydensecrf is merely hidden. Names that were imported from it before
    the call keep what they had. Calling it again has no further effect.
    """
    sys.modules["pydensecrf"] = sys.modules[__name__]
    for name in _MODULES:
        sys.modules[f"pydensecrf.{name}"] = importlib.import_module(f"{__name__}.{name}")
