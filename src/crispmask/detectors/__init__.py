"""Detectors: image in, `Instances` out."""

from __future__ import annotations

from pathlib import Path

from crispmask.detectors.base import Detector
from crispmask.detectors.files import EMBEDDED_SHA256, embedded_model_path
from crispmask.errors import ModelError
from crispmask.files import checksum

__all__ = ["EMBEDDED_SHA256", "Detector", "checksum", "embedded_model_path", "load_detector"]


def load_detector(name_or_path: str | Path | None = None, *, threads: int = 0) -> Detector:
    """A detector by name or file.

    Args:
        name_or_path: None or ``"embedded"`` for the model for people inside the package, or an ONNX file that
            ``crispmask train`` exported.
        threads: of one call; 0 lets ONNX Runtime decide.

    Raises:
        ModelError: neither a known name nor a usable file; the message names what can be given.
    """
    from crispmask.detectors.onnx import OnnxDetector

    if name_or_path is None or str(name_or_path) == "embedded":
        return OnnxDetector(embedded_model_path(), "embedded", threads)
    path = Path(name_or_path)
    if path.suffix.lower() == ".onnx":
        return OnnxDetector(path, threads=threads)
    raise ModelError(
        f"unknown detector {str(name_or_path)!r}: give 'embedded' (people, ships with crispmask) or the path of an "
        "ONNX file that crispmask train exported"
    )
