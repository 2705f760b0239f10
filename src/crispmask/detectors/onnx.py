"""Mask R-CNN on ONNX Runtime: the embedded model, and any file that `crispmask train` exports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.detectors.files import checksum
from crispmask.detectors.paste import paste_window
from crispmask.errors import ModelError
from crispmask.image import as_image
from crispmask.instances import Instances

FORMAT = "crispmask-mask-rcnn-1"
PADDING = 127  # the grey level that training filled its canvases with


class OnnxDetector:
    """A `Detector` from an ONNX file.

    Args:
        path: the file.
        name: for messages; by default the path.
        threads: of one call; 0 lets ONNX Runtime decide.

    Raises:
        ModelError: a missing file, or one that `crispmask train` did not export.
    """

    def __init__(self, path: Path, name: str | None = None, threads: int = 0) -> None:
        import onnxruntime

        self.name = name or str(path)
        if not Path(path).is_file():
            raise ModelError(f"there is no model file {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=_providers())
            facts = {k: json.loads(v) for k, v in self._session.get_modelmeta().custom_metadata_map.items()}
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(f"{path} is not a model that ONNX Runtime can load: {error}") from None
        if facts.get("format") != FORMAT:
            raise ModelError(f"{path} is an ONNX file, but not one that crispmask train exported")
        self.checksum = checksum(path)
        self.categories: dict[int, str] = dict(zip(facts["category_ids"], facts["names"], strict=True))
        self._ids = np.array([0, *facts["category_ids"]], dtype=np.int64)
        self._min_size, self._max_size = facts["min_size"], facts["max_size"]
        self._divisor = facts["size_divisor"]

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Objects by falling score, down to 0.05, in an image (H, W, 3) uint8 RGB."""
        image = as_image(image)
        height, width = image.shape[:2]
        scale = min(self._min_size / min(height, width), self._max_size / max(height, width))
        size_h, size_w = max(1, round(height * scale)), max(1, round(width * scale))
        resized = np.asarray(Image.fromarray(image).resize((size_w, size_h), Image.Resampling.BILINEAR))
        padded = np.full((1, 3, *(-(-side // self._divisor) * self._divisor for side in (size_h, size_w))), PADDING)
        padded = padded.astype(np.float32)
        padded[0, :, :size_h, :size_w] = resized.transpose(2, 0, 1)
        boxes, scores, labels, masks = self._session.run(None, {"image": padded})

        boxes = boxes * np.array([width / size_w, height / size_h] * 2, np.float32)
        windows = tuple(paste_window(m, b, (height, width)) for m, b in zip(masks, boxes, strict=True))
        clipped = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
        keep = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
        found = Instances((height, width), clipped, np.clip(scores, 0, 1), self._ids[labels], windows)
        return found[keep] if not keep.all() else found


def _providers() -> list[str]:
    """The GPU where ONNX Runtime has one, then the CPU."""
    import onnxruntime

    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [p for p in wanted if p in onnxruntime.get_available_providers()]
