"""The mask network: a crop of an image and a prompt in, log-odds of the object out (ONNX Runtime)."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from crispmask.errors import ModelError
from crispmask.refinement.unary import sigmoid
from crispmask.runtime import onnx_runtime

FORMAT = "crispmask-network-2"


class MaskNetwork:
    """The class-agnostic network that corrects masks and makes masks from boxes and scribbles.

    Args:
        content: the ONNX file: ``rgb`` float32 (N, 3, S, S) in [0, 1] and ``prompt`` float32 (N, 1, S, S) in [0, 1] in,
            ``odds`` float32 (N, 1, S, S) out.

    Raises:
        ModelError: another file.
    """

    def __init__(self, content: bytes) -> None:
        onnxruntime = onnx_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the instances of an image are what is spread over threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            facts = self._session.get_modelmeta().custom_metadata_map
            if facts["format"] != json.dumps(FORMAT):
                raise ValueError(facts["format"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(f"the mask network is not one that crispmask learn wrote: {error}") from None

    def __call__(self, image: NDArray[np.uint8], prompt: NDArray[np.float32], passes: int = 1) -> NDArray[np.float32]:
        """Log-odds of the object, float32 (S, S).

        Args:
            image: uint8 (S, S, 3) RGB, the crop.
            prompt: float32 (S, S) in [0, 1], what is known of the object.
            passes: how often the network runs; each further pass takes the answer before it as its prompt.

        Raises:
            ModelError: a network that fails.
        """
        rgb = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        odds = self._run(rgb, prompt)
        for _ in range(passes - 1):
            odds = self._run(rgb, sigmoid(odds))
        return odds

    def _run(self, rgb: NDArray[np.float32], prompt: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            (answer,) = self._session.run(["odds"], {"rgb": rgb, "prompt": prompt[None, None]})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(f"the mask network failed: {error}") from None
        odds: NDArray[np.float32] = answer[0, 0]
        return odds
