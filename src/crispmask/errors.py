"""The one family of exceptions. Each message is a sentence: what is wrong, what was expected, what to do."""

from __future__ import annotations


class CrispmaskError(Exception):
    """Base of everything that crispmask raises on bad input; the command line prints it and exits with 1."""


class ShapeError(CrispmaskError, ValueError):
    """Arrays whose shapes, sizes or number of dimensions do not fit."""


class ValueRangeError(CrispmaskError, ValueError):
    """Numbers that are NaN, infinite or outside their range."""


class ParamsError(CrispmaskError, ValueError):
    """A parameter, or a parameter file, that cannot be used."""


class ImageError(CrispmaskError, ValueError):
    """A file that is not an image that can be read safely."""


class DataError(CrispmaskError, ValueError):
    """An annotation or results file that cannot be used."""


class ModelError(CrispmaskError, RuntimeError):
    """A detector that cannot be found, loaded or run."""


class ClusterError(CrispmaskError, RuntimeError):
    """A cluster that cannot be reached or cannot do the work."""


class MissingExtraError(CrispmaskError, ImportError):
    """A package that belongs to an extra which is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is needed for this and is not installed: run pip install 'crispmask[{extra}]'")
