"""The exceptions of crispmask. Each message is a sentence that says what is wrong, what was expected, what to do."""

from __future__ import annotations


class CrispmaskError(Exception):
    """Base class of the exceptions for bad input; the command line prints the message and exits with code 1."""


class ShapeError(CrispmaskError, ValueError):
    """Arrays of wrong shape, size or number of dimensions."""


class ValueRangeError(CrispmaskError, ValueError):
    """Numbers that are NaN, infinite or out of range."""


class ParamsError(CrispmaskError, ValueError):
    """A parameter, or a parameter file, that cannot be used."""


class ImageError(CrispmaskError, ValueError):
    """A file that is not an image that can be read safely."""


class DataError(CrispmaskError, ValueError):
    """An annotation or results file that cannot be used."""


class ModelError(CrispmaskError, RuntimeError):
    """A detector that cannot be found, loaded or run."""


class ClusterError(CrispmaskError, RuntimeError):
    """A cluster that cannot be reached, or cannot run the job."""


class MissingExtraError(CrispmaskError, ImportError):
    """A package is missing because its extra is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is needed for this and is not installed: run pip install 'crispmask[{extra}]'")
