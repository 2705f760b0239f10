"""The unary network: a photo's window and a mask in, the log-odds of a better mask out (ONNX Runtime)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.errors import ModelError
from crispmask.refinement.unary import log_odds
from crispmask.runtime import onnx_runtime

FORMAT = "crispmask-unary-1"
CONFIDENCE = 0.97
"""Probabilities are clipped to [1 - CONFIDENCE, CONFIDENCE] before the network sees their log-odds."""


class UnaryNetwork:
    """Corrects masks inside their windows.

    Args:
        content: the ONNX file that `crispmask learn` wrote.

    Raises:
        ModelError: another file.
    """

    def __init__(self, content: bytes) -> None:
        onnxruntime = onnx_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the instances of a photo are what is spread over threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            facts = self._session.get_modelmeta().custom_metadata_map
            self.side = int(json.loads(facts["side"]))
            if facts["format"] != json.dumps(FORMAT) or self.side < 16:
                raise ValueError(facts["format"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(f"the unary network is not one that crispmask learn wrote: {error}") from None

    def __call__(
        self, image: NDArray[np.uint8], probabilities: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        """Correct a mask.

        Args:
            image: uint8 (h, w, 3) RGB, the window's pixels.
            probabilities: float32 (h, w) in [0, 1], the mask's.

        Returns:
            Log-odds of the better mask, float32 (h, w); and as the network saw them on its grid of S x S cells: the
            photo uint8 (S, S, 3), the mask and the better mask float32 (S, S) in [0, 1].

        Raises:
            ModelError: a network that fails.
        """
        height, width = probabilities.shape
        inputs = network_inputs(image, probabilities, self.side)
        try:
            (correction,) = self._session.run(["correction"], inputs)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(f"the unary network failed: {error}") from None
        correction, mask = correction.reshape(self.side, self.side), inputs["probability"][0, 0]
        odds = log_odds(probabilities, CONFIDENCE) + resized(correction, (width, height))
        better = 1 / (1 + np.exp(-(log_odds(mask, CONFIDENCE) + correction)))
        return odds, inputs["image"][0].transpose(1, 2, 0).astype(np.uint8), mask, better


def network_inputs(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], side: int
) -> dict[str, NDArray[np.float32]]:
    """What the network takes, by name: ``image`` (1, 3, S, S), ``probability`` (1, 1, S, S) and ``size`` (1,)."""
    height, width = probabilities.shape
    small = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR), np.float32)
    mask = np.clip(resized(probabilities, (side, side)), 0, 1)
    size = np.array([np.sqrt(height * width)], np.float32)
    return {
        "image": np.ascontiguousarray(small.transpose(2, 0, 1))[None],
        "probability": mask[None, None],
        "size": size,
    }


def resized(values: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Bilinear, smoothed where it shrinks; `size` is (width, height)."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)
