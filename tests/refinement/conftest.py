from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from crispmask.params import CRFParams
from crispmask.refinement import LearnedParams
from crispmask.refinement.gate import Gate
from crispmask.refinement.network import FORMAT


@pytest.fixture(scope="session")
def echo() -> bytes:
    """A network that says what its prompt says: the log-odds of the prompt, clipped to [0.03, 0.97]."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    def tensor(name: str, channels: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "s", "s"])

    def constant(name: str, value: float) -> onnx.TensorProto:
        return helper.make_tensor(name, TensorProto.FLOAT, [], [value])

    nodes = [
        helper.make_node("Clip", ["prompt", "low", "high"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Div", ["p", "q"], ["ratio"]),
        helper.make_node("Log", ["ratio"], ["log"]),
        helper.make_node("ReduceMean", ["rgb"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["grey", "zero"], ["nothing"]),
        helper.make_node("Add", ["log", "nothing"], ["odds"]),
    ]
    constants = [constant("low", 0.03), constant("high", 0.97), constant("one", 1.0), constant("zero", 0.0)]
    graph = helper.make_graph(nodes, "echo", [tensor("rgb", 3), tensor("prompt", 1)], [tensor("odds", 1)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="format", value=json.dumps(FORMAT))
    return model.SerializeToString()


@pytest.fixture
def learned(echo) -> Callable[..., LearnedParams]:
    """Makes parameters of the network `echo` whose gates expect the same gain and risk of every mask."""

    def make(
        gain: float = 0.01,
        risk: float = 0.1,
        *,
        near: dict[str, float] | None = None,
        margin: float = 0.0,
        risk_cost: float = 0.0,
        **options,
    ) -> LearnedParams:
        gate = Gate.constant(gain, risk, margin=margin, risk_cost=risk_cost, **(near or {}))
        return LearnedParams(echo, CRFParams(), gate, gate, **options)

    return make


@pytest.fixture
def disc() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright disc on a dark ground, its mask as probabilities, three pixels too far right, and its true mask."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:90, :100]
    truth = (y - 45) ** 2 + (x - 50) ** 2 < 28**2
    image = np.where(truth[..., None], (210, 180, 60), (40, 60, 120)) + rng.normal(0, 6, (90, 100, 3))
    distance = np.sqrt((y - 45) ** 2 + (x - 53) ** 2) - 28
    return np.clip(image, 0, 255).astype(np.uint8), (1 / (1 + np.exp(distance / 2))).astype(np.float32), truth
