"""Path and checksum of the embedded model."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_SHA256 = "727fe80317b67def1380edb10848700fffba3f5feccf1acbec1b84c279a68e89"


def embedded_model_path() -> Path:
    """The ONNX file that ships inside the package."""
    return Path(__file__).parent / "embedded.onnx"
