"""Detectors on ONNX Runtime: the embedded one, and any file that `crispmask train` exported."""

from __future__ import annotations

import copy
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.detectors.canvas import detect
from crispmask.detectors.closer import with_small
from crispmask.errors import ModelError, ParamsError
from crispmask.files import checksum
from crispmask.image import as_image
from crispmask.instances import Instances
from crispmask.params import DEFAULT_SCORE
from crispmask.runtime import onnx_runtime
from crispmask.structured import parse_json

_log = logging.getLogger(__name__)

FORMAT = "crispmask-mask-rcnn-1"
FACTS = ("format", "names", "category_ids", "min_size", "max_size", "size_divisor")
# The canvas grows with all three, and the network's time and memory with the canvas: at 4096 x 4096 it has 200 MB, and
# the network takes a hundred times that of the embedded detector. The largest stride of a feature pyramid is 128.
RANGES = {"min_size": (16, 4096), "max_size": (16, 4096), "size_divisor": (1, 256)}
OUTPUTS = ("boxes", "scores", "labels", "masks")
LEAST_SCORE = 0.05  # customary for average precision


class OnnxDetector:
    """A `Detector` from an ONNX file.

    Args:
        path: the file.
        name: for messages; by default the path.
        threads: for one call, at most one per processor; 0 lets ONNX Runtime decide.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; by default the GPU where ONNX Runtime has one. Where it has
            none, ``"cuda"`` is the CPU, with a warning.
        closer: longer side of a second view of each image, pixels, from which small objects are taken; 0 for none.
        default_score: by default what the file says.

    Attributes:
        default_score: see `Detector`.

    Raises:
        ModelError: a missing file, or one that `crispmask train` did not export.
        ParamsError: a device of another kind.
    """

    def __init__(
        self,
        path: Path,
        name: str | None = None,
        threads: int = 0,
        device: str | None = None,
        *,
        closer: int = 0,
        default_score: float | None = None,
    ) -> None:
        onnxruntime = onnx_runtime()
        self.name = name or str(path)
        if not Path(path).is_file():
            raise ModelError(f"there is no model file {path}")
        providers = _providers(device)
        options = onnxruntime.SessionOptions()
        # ONNX Runtime starts as many threads as it is told; 100 000 of them take minutes.
        options.intra_op_num_threads = min(threads, os.cpu_count() or 1)
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(f"{path} is not a model that ONNX Runtime can load: {error}") from None
        try:
            facts = _facts(self._session, path)
        except (KeyError, TypeError, ValueError):
            raise ModelError(f"{path} is an ONNX file, but not one that crispmask train exported") from None
        self.checksum = checksum(path)
        self.categories: dict[int, str] = dict(zip(facts["category_ids"], facts["names"], strict=True))
        self._ids = np.array([0, *facts["category_ids"]], dtype=np.int64)
        self._min_size, self._max_size = facts["min_size"], facts["max_size"]
        self._divisor, self._closer = facts["size_divisor"], closer
        self.default_score = float(facts["default_score"]) if default_score is None else default_score
        # Mask R-CNNs have their least score built in.
        asked = any(entry.name == "least_score" for entry in self._session.get_inputs())
        self._options = {"least_score": np.array([LEAST_SCORE], np.float32)} if asked else {}

    def at_least(self, score: float) -> OnnxDetector:
        """The same detector, which makes no masks for lower scores where its file lets it leave them out."""
        other = copy.copy(self)
        other._options = {key: np.array([max(score, LEAST_SCORE)], np.float32) for key in self._options}
        return other

    def one_view(self) -> OnnxDetector:
        """The same detector, which looks at each image once."""
        other = copy.copy(self)
        other._closer = 0
        return other

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Objects by descending score, from 0.05 up, in an image (H, W, 3) uint8 RGB.

        Raises:
            ModelError: a network that fails, or whose outputs are not boxes with masks.
        """
        image = as_image(image)
        whole = detect(image, self._run, self._ids, self._min_size, self._max_size, self._divisor)
        if not self._closer:
            return whole
        return with_small(whole, detect(image, self._run, self._ids, self._closer, self._closer, self._divisor))

    def _run(self, padded: NDArray[np.float32]) -> list[NDArray[Any]]:
        """The network's boxes (N, 4), scores (N,), labels (N,) and masks (N, M, M) for a canvas (1, 3, H, W)."""
        try:
            outputs = self._session.run(list(OUTPUTS), {"image": padded, **self._options})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(
                f"{self.name} failed on a canvas of {padded.shape[2]}x{padded.shape[3]}: {error}"
            ) from None
        n, labels, side = len(outputs[0]), outputs[2], outputs[3].shape[-1]
        shapes = [output.shape for output in outputs]
        if shapes != [(n, 4), (n,), (n,), (n, side, side)] or not np.isin(labels, np.arange(1, len(self._ids))).all():
            raise ModelError(f"{self.name} does not give boxes with masks: its outputs have shapes {shapes}")
        return outputs


def _facts(session: Any, path: Path) -> dict[str, Any]:
    """The metadata that the exporter wrote into the file.

    Raises:
        ModelError: a number outside its range.
        KeyError, TypeError, ValueError: the file has no such metadata, or metadata that cannot be right.
    """
    written = session.get_modelmeta().custom_metadata_map
    facts = {key: parse_json(written[key], key) for key in FACTS}
    facts["default_score"] = parse_json(written.get("default_score", str(DEFAULT_SCORE)), "default_score")
    if facts["format"] != FORMAT or {output.name for output in session.get_outputs()} != set(OUTPUTS):
        raise ValueError
    if type(facts["default_score"]) not in (int, float) or not 0 <= facts["default_score"] <= 1:
        raise ValueError
    if [entry.name for entry in session.get_inputs()] not in (["image"], ["image", "least_score"]):
        raise ValueError
    ids, names = facts["category_ids"], facts["names"]
    if not isinstance(ids, list) or not isinstance(names, list) or len(ids) != len(names):
        raise ValueError
    if not all(type(number) is int for number in ids) or not all(isinstance(name, str) for name in names):
        raise ValueError
    for key, (low, high) in RANGES.items():
        if type(facts[key]) is not int or not low <= facts[key] <= high:
            raise ModelError(f"{path}: {key} must be a whole number from {low} to {high}, got {facts[key]!r}")
    return facts


def _providers(device: str | None) -> list[Any]:
    """ONNX Runtime's execution providers for a device, in order of preference; by default the GPU, then the CPU."""
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    if not isinstance(device, str | None):
        raise ParamsError(f"ONNX files run on cpu or cuda, not on {device!r}")
    kind, _, number = (device or "").partition(":")
    if kind not in ("", "cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise ParamsError(f"ONNX files run on cpu or cuda, not on {device!r}")
    if kind == "cpu":
        return [cpu]
    if cuda not in onnx_runtime().get_available_providers():
        if kind == "cuda":
            _log.warning(
                "The detector works on the CPU, since this ONNX Runtime has no CUDA: pip install onnxruntime-gpu"
            )
        return [cpu]
    return [(cuda, {"device_id": int(number)}) if number else cuda, cpu]
