"""Detectors: image in, `Instances` out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from crispmask.arguments import flag, shown, whole
from crispmask.detectors.base import Detector
from crispmask.detectors.files import EMBEDDED_SHA256, embedded_model_path
from crispmask.detectors.weights import NAMES
from crispmask.errors import MissingExtraError, ModelError, ParamsError
from crispmask.files import checksum

if TYPE_CHECKING:
    from crispmask.detectors.selection import Classes, Selection, select

__all__ = [
    "EMBEDDED_SHA256",
    "Classes",
    "Detector",
    "Selection",
    "checksum",
    "embedded_model_path",
    "load_detector",
    "select",
]


def __getattr__(name: str) -> Any:
    if name not in ("Classes", "Selection", "select"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from crispmask.detectors import selection  # which needs NumPy; the command line's help does not

    return getattr(selection, name)


def load_detector(
    name_or_path: str | Path | None = None,
    *,
    score: float | None = None,
    classes: Classes | None = None,
    tiles: int = 1,
    threads: int = 0,
    device: str | None = None,
    half: bool = False,
) -> Selection:
    """A detector by name or file.

    Args:
        name_or_path: None or ``"embedded"`` for the one inside the package (80 classes); an ONNX file that
            ``crispmask train`` exported; ``"maskrcnn_resnet50_fpn"`` or ``"maskrcnn_resnet50_fpn_v2"`` for
            torchvision's with their COCO weights, fetched at the first use; or a ``.pt`` or ``.pth`` file with the
            state dict of one of those networks (the last two need the extra ``torch``).
        score: finds below it are dropped, in [0, 1]; by default it gives whatever the network does.
        classes: the only classes that it gives, by name or category id: ``["person", "dog"]`` or ``"person,dog"``.
        tiles: N to look at N x N overlapping tiles of the image too, for small objects; see
            `crispmask.detectors.tiles`.
        threads: for one call of ONNX Runtime; 0 lets it decide. torch's number of threads is not changed.
        device: ``"cpu"``, ``"cuda"`` (or ``"cuda:1"``) or ``"mps"``; by default the CPU for torch, and for ONNX Runtime
            the GPU where it has one.
        half: compute in half precision; torch on a GPU only.

    Raises:
        ModelError: neither a known name nor a usable file; the message names what can be given.
        ParamsError: a device that cannot be used, half precision where there is none, a class that the detector does
            not have, or a score or number of tiles out of range.
        MissingExtraError: torch is needed and not installed.
    """
    from crispmask.detectors.selection import select

    network = _load_network(name_or_path, threads, device, half)
    return select(network, score=score, classes=classes, tiles=tiles)


def _load_network(name_or_path: str | Path | None, threads: int, device: str | None, half: bool) -> Detector:
    if not isinstance(name_or_path, str | Path | None):
        raise ModelError(f"a detector is named by a text or a path, got {shown(name_or_path)}")
    threads = whole(threads, "threads", 0, error=ParamsError)
    half = flag(half, "half")
    name = "embedded" if name_or_path is None else str(name_or_path)
    suffix = Path(name).suffix.lower()
    if name in NAMES or suffix in (".pt", ".pth"):
        try:
            from crispmask.detectors.torchvision import TorchvisionDetector
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("crispmask"):
                raise
            raise MissingExtraError(error.name or "torch", "torch") from None
        return TorchvisionDetector(name, device or "cpu", half)
    if name != "embedded" and suffix != ".onnx":
        raise ModelError(
            f"unknown detector {name!r}: give 'embedded' (ships with crispmask) or {' or '.join(NAMES)}, for COCO's 80 "
            "classes, or the path of an ONNX file that crispmask train exported or of a torchvision checkpoint (.pt)"
        )
    if half:
        raise ParamsError("half precision is for torchvision's detectors, not for ONNX files: leave it out")
    from crispmask.detectors.closer import SIZE, SURE
    from crispmask.detectors.onnx import OnnxDetector

    if name == "embedded":
        return OnnxDetector(embedded_model_path(), name, threads, device, closer=SIZE, default_score=SURE)
    return OnnxDetector(Path(name), threads=threads, device=device)
