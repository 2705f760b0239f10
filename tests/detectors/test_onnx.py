"""Model files that are not ours, or not sound, end in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import crispmask
from crispmask.detectors import load_detector
from crispmask.errors import ModelError, ParamsError

onnx = pytest.importorskip("onnx", reason="extra torch is not installed")

OUTPUTS = ("boxes", "scores", "labels", "masks")
FACTS = {
    "format": "crispmask-mask-rcnn-1",
    "names": ["person"],
    "category_ids": [1],
    "min_size": 64,
    "max_size": 96,
    "size_divisor": 32,
}


def constant(name, array):
    return onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(array)))


def write_model(path, facts, *, found=None, entry="image", metadata=None):
    """A graph with our interface that finds the same objects in every image; without `found` it echoes the image."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    if found is None:
        nodes = [helper.make_node("Identity", [entry], [name]) for name in OUTPUTS]
        outputs = [helper.make_tensor_value_info(name, kind, [None] * 4) for name in OUTPUTS]
    else:
        nodes = [constant(name, array) for name, array in zip(OUTPUTS, found, strict=True)]
        outputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(OUTPUTS, found, strict=True)
        ]
    canvas = [helper.make_tensor_value_info(entry, kind, [1, 3, "height", "width"])]
    graph = helper.make_graph(nodes, "graph", canvas, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {key: json.dumps(value) for key, value in facts.items()}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def objects(box, label=1):
    return (
        np.array([box], np.float32),
        np.array([0.9], np.float32),
        np.array([label], np.int64),
        np.ones((1, 28, 28), np.float32),
    )


def test_boxes_are_scaled_back_to_the_photo(tmp_path):
    detector = load_detector(write_model(tmp_path / "one.onnx", FACTS, found=objects([16, 8, 48, 40])))
    found = detector(np.zeros((128, 192, 3), np.uint8))  # scaled by one half: to 64x96
    np.testing.assert_allclose(found.boxes, [[32, 16, 96, 80]])
    assert detector.categories == {1: "person"}
    y, x = np.nonzero(found.mask(0))
    assert (y.min(), x.min(), y.max() + 1, x.max() + 1) == (16, 32, 80, 96)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_images_of_any_shape(tmp_path, shape):
    detector = load_detector(write_model(tmp_path / "one.onnx", FACTS, found=objects([0, 0, 32, 32])))
    assert detector(np.zeros((*shape, 3), np.uint8)).image_size == shape


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        (FACTS, {"metadata": {"author": "J. Doe"}}),
        ({"format": FACTS["format"]}, {}),
        ({**FACTS, "format": "another"}, {}),
        ({**FACTS, "category_ids": [1, 2]}, {}),
        ({**FACTS, "category_ids": ["one"]}, {}),
        ({**FACTS, "names": 1}, {}),
        ({**FACTS, "names": "p"}, {}),
        ({**FACTS, "category_ids": [True]}, {}),
        ({**FACTS, "category_ids": {"1": 1}}, {}),
        ({**FACTS, "category_ids": [2**70]}, {}),
        (FACTS, {"metadata": dict.fromkeys(FACTS, "[" * 100000)}),
        (FACTS, {"entry": "x"}),
    ],
)
def test_refuses_files_of_others(tmp_path, facts, options):
    with pytest.raises(ModelError, match="not one that crispmask train exported"):
        load_detector(write_model(tmp_path / "foreign.onnx", facts, **options))


@pytest.mark.parametrize("key", ["min_size", "max_size", "size_divisor"])
@pytest.mark.parametrize("value", ["small", 0, -1, 30_000, 64.0, True, None, 2**70, float("inf")])
def test_sizes_have_a_range(tmp_path, key, value):
    with pytest.raises(ModelError, match=rf"foreign\.onnx: {key} must be a whole number from "):
        load_detector(write_model(tmp_path / "foreign.onnx", {**FACTS, key: value}))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x08\x12\x07"])
def test_refuses_what_is_no_model(tmp_path, content):
    (tmp_path / "broken.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        load_detector(tmp_path / "broken.onnx")


@pytest.mark.parametrize("found", [None, objects([0, 0, 9, 9], label=2), objects([0, 0, 9, 9], label=0)])
def test_outputs_that_are_not_detections(tmp_path, found):
    detector = load_detector(write_model(tmp_path / "wrong.onnx", FACTS, found=found))
    with pytest.raises(ModelError, match=r"wrong\.onnx"):
        detector(np.zeros((40, 60, 3), np.uint8))


def test_absurd_numbers_of_threads(tmp_path):
    detector = load_detector(write_model(tmp_path / "one.onnx", FACTS, found=objects([0, 0, 9, 9])), threads=10**6)
    assert len(detector(np.zeros((40, 60, 3), np.uint8))) == 1


@pytest.mark.parametrize(("chosen", "expected"), [(None, "1"), ("0", "0")])
def test_nothing_is_reported_to_anybody(chosen, expected):
    """The variable must be set before the package is imported, and what the user says counts."""
    code = """
        import os, sys
        from crispmask.runtime import onnx_runtime
        assert "onnxruntime" not in sys.modules
        onnx_runtime()
        print(os.environ["ORT_DISABLE_TELEMETRY"])
    """
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path)} | ({"ORT_DISABLE_TELEMETRY": chosen} if chosen else {})
    lines = "\n".join(line.strip() for line in code.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == f"{expected}\n"


def test_only_one_place_imports_the_runtime():
    package = Path(crispmask.__file__).parent
    importing = [path.name for path in package.rglob("*.py") if "import onnxruntime" in path.read_text("utf-8")]
    assert importing == ["runtime.py"]


def test_names_what_can_be_given():
    with pytest.raises(ModelError, match=r"'embedded'.*ONNX file"):
        load_detector("yolo")


def test_onnx_runtime_without_cuda(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A GPU that is asked for and that ONNX Runtime cannot use is no reason to stop, but it is said."""
    from crispmask.detectors.onnx import _providers
    from crispmask.runtime import onnx_runtime

    there = ["CPUExecutionProvider"]
    monkeypatch.setattr(onnx_runtime(), "get_available_providers", lambda: there)
    assert _providers(None) == _providers("cpu") == ["CPUExecutionProvider"]
    assert not caplog.text
    load_detector("embedded", device="cuda")
    assert "pip install onnxruntime-gpu" in caplog.text
    there.insert(0, "CUDAExecutionProvider")
    assert _providers(None) == _providers("cuda") == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert _providers("cuda:1") == [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]
    assert _providers("cpu") == ["CPUExecutionProvider"]
    for device in ("mps", "cuda:x", "cpu:1"):
        with pytest.raises(ParamsError, match="run on cpu or cuda"):
            _providers(device)
