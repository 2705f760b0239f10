"""The trained unary network as ONNX, and the proof that the file computes the same."""

from __future__ import annotations

import io
import json
import warnings

import numpy as np
import onnx
import torch

from crispmask.errors import ModelError
from crispmask.refinement.network import FORMAT
from crispmask.refinement.network import UnaryNetwork as OnnxNetwork
from crispmask.training.detector.export import halve_weights
from crispmask.training.refiner.network import UnaryNetwork

_TOLERANCE = 0.05  # log-odds; the weights are stored as float16


def export_network(network: UnaryNetwork, side: int) -> bytes:
    """The ONNX file of a trained network, for windows of side x side cells; weights stored as float16.

    Raises:
        ModelError: a file that computes something else than torch.
    """
    network = network.eval()
    example = _example(side)
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on constants
        torch.onnx.export(
            network,
            example,
            written,
            dynamo=False,
            opset_version=17,
            input_names=["image", "probability", "size"],
            output_names=["correction"],
        )
    graph = onnx.load_model_from_string(written.getvalue())
    halve_weights(graph)
    for key, value in {"format": FORMAT, "side": side}.items():
        graph.metadata_props.add(key=key, value=json.dumps(value))
    content = graph.SerializeToString()
    session = OnnxNetwork(content)._session
    inputs = dict(zip(("image", "probability", "size"), (t.numpy() for t in example), strict=True))
    with torch.inference_mode():
        expected = network(*example).numpy()
    worst = float(np.abs(session.run(None, inputs)[0] - expected).max())
    if worst > _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ModelError(f"the exported unary network disagrees with torch: log-odds differ by {worst:.3f}")
    return content


def _example(side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 4, 6, 6), generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return smooth[:, :3] * 255, smooth[:, 3:], torch.tensor([200.0])
