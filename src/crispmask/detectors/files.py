"""The embedded model: its path, its checksum, and what `crispmask models list` says of it."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_SHA256 = "b7bfb7c6fc572450da00ca69111781568c4815405fff2fb38fea150dd219453b"

EMBEDDED_MASK_AP = 20.4
"""On 200 images of COCO val2017 in percent, before refinement: docs/model-card.md."""

EMBEDDED_LICENCE = "Apache-2.0, MIT"


def embedded_model_path() -> Path:
    """The ONNX file that ships inside the package, with its licences beside it."""
    return Path(__file__).parent / "embedded" / "model.onnx"
