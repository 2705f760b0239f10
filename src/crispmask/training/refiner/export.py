"""The trained network as an ONNX file, in float16 or int8, and the proof that the file computes the same."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from crispmask.errors import ModelError
from crispmask.refinement.network import FORMAT
from crispmask.refinement.network import MaskNetwork as OnnxNetwork
from crispmask.training.detector.export import halve_weights
from crispmask.training.refiner.network import MaskNetwork

OPSET = 17

_QUANTISED = ["Conv", "Add", "Concat", "Resize"]
_PERCENTILE = 99.99  # of a layer's values, which become the largest whole number
_HALF_APART = 0.05  # log-odds by which a float16 file may differ from torch, relative to the largest
_INT8_IOU = 0.9  # mean IoU of the masks of an int8 file and of torch, at least

Example = tuple[NDArray[np.float32], NDArray[np.float32]]
"""A crop (1, 3, S, S) and a prompt (1, 1, S, S)."""


def export_network(network: MaskNetwork, examples: Sequence[Example], precision: str) -> bytes:
    """The ONNX file of a network, for any number of crops of any size.

    Args:
        network: trained, on the CPU.
        examples: crops with prompts, of one size, as the network will see them: they calibrate int8 and check the file.
        precision: 'float16' stores weights so and computes in float32; 'int8' computes in whole numbers, per channel.

    Raises:
        ModelError: a file that computes something else than torch.
    """
    network = network.eval().float().to(memory_format=torch.contiguous_format)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        _trace(network, path)
        if precision == "int8":
            path = _quantised(path, examples)
        model = onnx.load(str(path))
    if precision == "float16":
        halve_weights(model)
    model.metadata_props.add(key="format", value=json.dumps(FORMAT))
    content: bytes = model.SerializeToString()
    _check(network, content, examples, precision)
    return content


def _trace(network: MaskNetwork, path: Path) -> None:
    axes = {"rgb": {0: "n", 2: "s", 3: "s"}, "prompt": {0: "n", 2: "s", 3: "s"}, "odds": {0: "n", 2: "s", 3: "s"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on constants
        torch.onnx.export(
            network,
            (torch.rand(1, 3, 256, 256), torch.rand(1, 1, 256, 256)),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["rgb", "prompt"],
            output_names=["odds"],
            dynamic_axes=axes,
        )
    model = onnx.load(str(path))
    _fold_padding(model.graph, network)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _fold_padding(graph: onnx.GraphProto, network: MaskNetwork) -> None:
    """The explicit padding of a strided block becomes its convolution's: ONNX Runtime then keeps its blocked layout."""
    made = {node.output[0]: node for node in graph.node}
    for conv in [node for node in graph.node if node.op_type == "Conv"]:
        pad = made.get(conv.input[0])
        if pad is None or pad.op_type != "Pad":
            continue
        block: Any = network.blocks[int(pad.name.split("blocks.")[1].split("/")[0])]
        left, right, top, bottom = block.padding
        for attribute in conv.attribute:
            if attribute.name == "pads":
                attribute.ints[:] = [top, left, bottom, right]
        conv.input[0] = pad.input[0]
    _drop_unused(graph)


def _drop_unused(graph: onnx.GraphProto) -> None:
    while True:
        used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        unused = [node for node in graph.node if not any(name in used for name in node.output)]
        if not unused:
            return
        for node in unused:
            graph.node.remove(node)


def _quantised(path: Path, examples: Sequence[Example]) -> Path:
    """Static int8 with quantise and dequantise nodes (QDQ) around each layer."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._inputs: Iterator[Example] = iter(examples)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            found = next(self._inputs, None)
            return None if found is None else {"rgb": found[0], "prompt": found[1]}

    prepared, made = path.with_name("prepared.onnx"), path.with_name("int8.onnx")
    with _quiet():
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(made),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=_QUANTISED,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": _PERCENTILE},
        )
    return made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's quantisation prints what it does, and advises to do what has just been done."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _check(network: MaskNetwork, content: bytes, examples: Sequence[Example], precision: str) -> None:
    """ModelError unless the file and torch agree on the examples."""
    session, ious, apart, largest = OnnxNetwork(content)._session, [], 0.0, 1.0
    for rgb, prompt in examples:
        with torch.inference_mode():
            expected = network(torch.from_numpy(rgb), torch.from_numpy(prompt)).numpy()[0, 0]
        found = session.run(["odds"], {"rgb": rgb, "prompt": prompt})[0][0, 0]
        union = float(((found > 0) | (expected > 0)).sum())
        ious.append(float(((found > 0) & (expected > 0)).sum()) / union if union else 1.0)
        apart = max(apart, float(np.abs(found - expected).max()))
        largest = max(largest, float(np.abs(expected).max()))
    if precision == "float16" and apart > _HALF_APART * largest:
        raise ModelError(f"the exported network disagrees with torch: log-odds differ by {apart:.3f}")
    if precision == "int8" and np.mean(ious) < _INT8_IOU:
        raise ModelError(
            f"the int8 network disagrees with torch (mean IoU of their masks {np.mean(ious):.3f}): "
            "give --precision float16"
        )
