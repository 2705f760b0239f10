"""A graph of TensorFlow.js: what is read, and that NanoDet is rebuilt from it or refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")
pytest.importorskip("torchvision", reason="extra torch is not installed")

from crispmask.errors import ModelError  # noqa: E402
from crispmask.training.embedded.nanodet import from_graph  # noqa: E402
from crispmask.training.embedded.tfjs import read_graph, run_graph  # noqa: E402


def node(name, op, *inputs, **attributes):
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def write(path, nodes, **constants):
    """The nodes and float16 or int32 constants as a graph model."""
    weights, data = [], b""
    for name, array in constants.items():
        kind = "float32" if array.dtype.kind == "f" else "int32"
        stored = array.astype(np.float16 if array.dtype.kind == "f" else np.int32)
        entry = {"name": name, "shape": list(array.shape), "dtype": kind}
        weights.append(entry | ({"quantization": {"dtype": "float16"}} if kind == "float32" else {}))
        data += stored.tobytes()
        nodes = [*nodes, node(name, "Const")]
    path.write_text(json.dumps({"modelTopology": {"node": nodes}, "weightsManifest": [{"weights": weights}]}))
    path.with_suffix(".bin").write_bytes(data)
    return path


def test_a_strided_convolution_with_padding(tmp_path):
    """Against torch's, with images whose channels come first."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(3, 3, 2, 4)).astype(np.float16), rng.normal(size=4).astype(np.float16)
    nodes = [
        node("x", "Placeholder"),
        node("last", "Transpose", "x", "last/perm"),
        node("pad", "Pad", "last", "sides"),
        node("conv", "Conv2D", "pad", "kernel", strides={"list": {"i": ["1", "2", "2", "1"]}}),
        node("sum", "AddV2", "conv", "bias"),
        node("y", "LeakyRelu", "sum", alpha={"f": 0.1}),
        node("two", "SplitV", "y", "sizes", "axis"),
        node("second", "Identity", "two:1"),
    ]
    sides = np.array([[0, 0], [1, 1], [1, 1], [0, 0]])
    path = write(
        tmp_path / "graph.json",
        nodes,
        kernel=kernel,
        bias=bias,
        sides=sides,
        **{"last/perm": np.array([0, 2, 3, 1])},
        sizes=np.array([1, 3]),
        axis=np.array(3),
    )
    x = torch.randn(1, 2, 8, 10)
    [found] = run_graph(read_graph(path), {"x": x}, ["second"])
    weights = torch.from_numpy(kernel.astype(np.float32)).permute(3, 2, 0, 1)
    whole = torch.nn.functional.conv2d(x, weights, torch.from_numpy(bias.astype(np.float32)), 2, 1)
    expected = torch.nn.functional.leaky_relu(whole, 0.1)[:, 1:].permute(0, 2, 3, 1)
    torch.testing.assert_close(found, expected)


def test_unknown_operations_and_networks(tmp_path):
    graph = read_graph(write(tmp_path / "graph.json", [node("y", "Softplus", "x")], x=np.ones(3)))
    with pytest.raises(ModelError, match="y: the operation Softplus is not known"):
        run_graph(graph, {}, ["y"])
    with pytest.raises(ModelError, match="the graph is not NanoDet-g's"):
        from_graph(graph)


@pytest.mark.parametrize("content", ["", "{}", '{"modelTopology": {"node": [{}]}}'])
def test_what_is_no_graph(tmp_path, content):
    (tmp_path / "graph.json").write_text(content)
    (tmp_path / "graph.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"graph\.json is not a TensorFlow.js graph model"):
        read_graph(tmp_path / "graph.json")
