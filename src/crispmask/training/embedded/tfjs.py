"""TensorFlow.js graph models: reading them, and running the few operations that NanoDet's has with torch.

The graph is run as it is written, so that a network rebuilt from its weights can be compared with the original.
Format: https://github.com/tensorflow/tfjs/tree/master/tfjs-converter (``model.json`` and binary weights).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crispmask.errors import ModelError


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph model.

    Attributes:
        nodes: by name, as the file has them.
        constants: the weights by the name of their node; float16 and float32 as float32, whole numbers as int64.
    """

    nodes: Mapping[str, Mapping[str, Any]]
    constants: Mapping[str, Tensor]


def read_graph(path: Path) -> Graph:
    """Read a graph model whose weights are in one file, ``NAME.bin`` beside ``NAME.json``.

    Raises:
        ModelError: files that cannot be read, or that are no such model.
    """
    try:
        content = json.loads(path.read_text())
        data = path.with_suffix(".bin").read_bytes()
        nodes = {node["name"]: node for node in content["modelTopology"]["node"]}
        constants, offset = {}, 0
        for entry in content["weightsManifest"][0]["weights"]:
            stored = np.dtype(entry.get("quantization", entry)["dtype"])
            array = np.frombuffer(data, stored, int(np.prod(entry["shape"], dtype=int)), offset)
            offset += array.nbytes
            kind = np.float32 if stored.kind == "f" else np.int64
            constants[entry["name"]] = torch.from_numpy(array.reshape(entry["shape"]).astype(kind))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is not a TensorFlow.js graph model with its weights beside it: {error!r}") from None
    return Graph(nodes, constants)


@torch.inference_mode()
def run_graph(graph: Graph, inputs: Mapping[str, Tensor], outputs: list[str]) -> list[Tensor]:
    """The values of some nodes.

    Args:
        graph: the model.
        inputs: the values of its placeholders.
        outputs: names of nodes.

    Raises:
        ModelError: an operation that NanoDet's graph does not have.
    """
    known: dict[str, Any] = dict(inputs)

    def value(name: str) -> Any:
        name, _, which = name.partition(":")
        if name not in known:
            node = graph.nodes[name]
            if node["op"] == "Const":
                known[name] = graph.constants[name]
            else:
                arguments = [value(other) for other in node.get("input", ()) if not other.startswith("^")]
                known[name] = _run(node, arguments)
        found = known[name]
        return found[int(which or 0)] if isinstance(found, tuple) else found

    return [value(name) for name in outputs]


def _run(node: Mapping[str, Any], a: list[Any]) -> Any:
    """One operation; images are (N, H, W, C), as TensorFlow has them."""
    op, attributes = node["op"], node.get("attr", {})
    if op in ("Pad", "PadV2"):
        sides = [side for pair in reversed(a[1].tolist()) for side in pair]
        return F.pad(a[0], sides, value=float(a[2]) if len(a) > 2 else 0.0)
    if op == "Conv2D":
        stride = int(attributes["strides"]["list"]["i"][1])
        return _channels_last(F.conv2d(_channels_first(a[0]), a[1].permute(3, 2, 0, 1).contiguous(), stride=stride))
    if op == "MaxPool":
        size, stride = (int(attributes[key]["list"]["i"][1]) for key in ("ksize", "strides"))
        return _channels_last(F.max_pool2d(_channels_first(a[0]), size, stride))
    if op == "ResizeBilinear":
        resized = F.interpolate(_channels_first(a[0]), size=a[1].tolist(), mode="bilinear", align_corners=False)
        return _channels_last(resized)
    if op == "SparseToDense":
        dense = torch.full(a[1].reshape(-1).tolist(), int(a[3]) if a[3].ndim == 0 else 0, dtype=torch.int64)
        dense[a[0].reshape(-1)] = a[2].reshape(-1)
        return dense
    simple = {
        "Identity": lambda: a[0],
        "Transpose": lambda: a[0].permute(a[1].tolist()),
        "Add": lambda: a[0] + a[1],
        "AddV2": lambda: a[0] + a[1],
        "LeakyRelu": lambda: F.leaky_relu(a[0], attributes["alpha"]["f"]),
        "ConcatV2": lambda: torch.cat(a[:-1], int(a[-1])),
        "SplitV": lambda: torch.split(a[0], a[1].tolist(), int(a[2])),
        "Sigmoid": lambda: torch.sigmoid(a[0]),
        "Reshape": lambda: a[0].reshape(a[1].tolist()),
    }
    if op not in simple:
        raise ModelError(f"{node['name']}: the operation {op} is not known here")
    return simple[op]()


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)
