"""The differentiable layer: against the oracle, `DenseCRF`, finite differences, and itself on padded batches."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="extra torch is not installed")

from crispmask.coco import CocoDataset, segmentation_to_mask  # noqa: E402
from crispmask.crf import Bilateral, DenseCRF, Gaussian, exact  # noqa: E402
from crispmask.crf.layer import CRFLayer  # noqa: E402
from crispmask.errors import MissingExtraError, ParamsError, ShapeError, ValueRangeError  # noqa: E402
from crispmask.image import read_image  # noqa: E402
from crispmask.params import CRFParams  # noqa: E402
from crispmask.refinement.colour import rgb_to_lab  # noqa: E402
from crispmask.refinement.unary import log_odds, unary_energies  # noqa: E402

NORMALIZATIONS = ["none", "before", "after", "symmetric"]
OPTIONS: dict[str, Any] = {"theta_alpha": 3.0, "theta_beta": 40.0, "theta_gamma": 1.2, "iterations": 4}
LOGARITHMS = [f"log_{n}" for n in ("theta_alpha", "theta_beta", "theta_gamma", "bilateral_weight", "smoothness_weight")]


def scene(seed: int, labels: int = 2, shape: tuple[int, int] = (9, 12)) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies (1, L, H, W) and an image (1, 3, H, W) in 0..255, float32."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 120, (3, *shape))
    image[:, :, shape[1] // 2 :] += 100
    unary = rng.normal(size=(labels, *shape))
    return torch.from_numpy(unary[None]).float(), torch.from_numpy(image[None]).float()


def dense(unary: torch.Tensor, image: torch.Tensor, layer: CRFLayer) -> DenseCRF:
    """The same CRF for arrays."""
    options: dict[str, Any] = {"normalization": layer.normalization, "self_term": layer.self_term}
    value = {name: v.tolist() for name, v in layer.values().items()}
    kernels: list[Any] = []
    if "theta_beta" in value:
        pixels = image[0].permute(1, 2, 0).numpy()
        theta = value["theta_alpha"], value["theta_beta"]
        kernels.append(Bilateral(pixels, *theta, value["bilateral_weight"], **options))
    if "theta_gamma" in value:
        kernels.append(Gaussian(value["theta_gamma"], value["smoothness_weight"], **options))
    compatibility = None if layer.compatibility is None else layer.compatibility.detach().numpy()
    return DenseCRF(unary[0].numpy(), kernels, compatibility)


def marginals(layer: CRFLayer, *inputs: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return layer(*inputs)[0].numpy()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("self_term", [True, False])
@pytest.mark.parametrize("labels", [2, 5])
def test_both_engines_are_the_dense_crf(normalization: Any, self_term: bool, labels: int) -> None:
    unary, image = scene(labels, labels)
    weights = (0.05, 0.1) if normalization == "none" else (2.0, 0.7)
    options = OPTIONS | {"bilateral_weight": weights[0], "smoothness_weight": weights[1], "self_term": self_term}
    if labels == 5:
        mu = np.random.default_rng(0).uniform(0, 1, (5, 5)).astype(np.float32)
        options["compatibility"] = torch.from_numpy(mu + mu.T)
    layer = CRFLayer(**options, normalization=normalization)
    crf = dense(unary, image, layer)
    np.testing.assert_allclose(marginals(layer, unary, image), exact.run(crf, 4).marginals, atol=1e-5)
    layer = CRFLayer(**options, normalization=normalization, engine="lattice")
    np.testing.assert_allclose(marginals(layer, unary, image), crf.run(4).marginals, atol=2e-5)


@pytest.mark.parametrize("engine", ["exact", "lattice"])
@pytest.mark.parametrize("without", ["bilateral_weight", "smoothness_weight", "both"])
def test_a_kernel_of_weight_zero_is_left_out(engine: Any, without: str) -> None:
    unary, image = scene(1)
    names = ["bilateral_weight", "smoothness_weight"] if without == "both" else [without]
    layer = CRFLayer(**OPTIONS, **dict.fromkeys(names, 0.0), engine=engine)
    assert len(list(layer.parameters())) == {"both": 0, "bilateral_weight": 2, "smoothness_weight": 3}[without]
    crf = dense(unary, image, layer)
    expected = exact.run(crf, 4) if engine == "exact" else crf.run(4)
    np.testing.assert_allclose(marginals(layer, unary, image), expected.marginals, atol=2e-5)
    assert getattr(layer.to_params(), names[0]) == 0


def crops(folder: Path, count: int, height: int, cells: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Pedestrians in their windows: unary of masks with so many cells a side; Lab (1, 3, H, W); the mask (1, H, W)."""
    data = CocoDataset.from_file(folder / "annotations" / "instances_train.json")
    found = []
    for info in list(data.images.values())[:count]:
        mask = segmentation_to_mask(data.annotations[info.id][0]["segmentation"], *info.size)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        window = (max(0, columns[0] - 10), max(0, rows[0] - 10), columns[-1] + 10, rows[-1] + 10)
        size = (height * (window[2] - window[0]) // (window[3] - window[1]), height)
        photo = Image.fromarray(read_image(folder / "train" / info.file_name)).crop(window).resize(size)
        full = Image.fromarray((255 * mask).astype(np.uint8)).crop(window)
        coarse = np.asarray(full.resize((cells, cells), Image.Resampling.BOX).resize(size, Image.Resampling.BILINEAR))
        unary = unary_energies(log_odds(coarse[None].astype(np.float32) / 255, 0.97))
        lab = torch.from_numpy(rgb_to_lab(np.asarray(photo)).transpose(2, 0, 1).copy())
        truth = torch.from_numpy(np.asarray(full.resize(size)) > 127)
        found.append((torch.from_numpy(unary)[None], lab[None], truth[None]))
    return found


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_agreement_on_photos(shared_data, normalization: Any) -> None:
    """The default parameters: each engine is its twin for arrays; between them is the error of the lattice."""
    params = replace(CRFParams(), normalization=normalization)
    layers = [CRFLayer.from_params(params, engine=engine) for engine in ("exact", "lattice")]
    spacing = torch.full((1, 2), 1 / 50)
    errors = []
    for height in (96, 96, 40):
        crop = crops(shared_data / "penn_fudan", len(errors) + 1, height, 28)[-1]
        by_exact, by_lattice = (marginals(layer, *crop[:2], None, spacing) for layer in layers)
        theta = 50 * params.theta_alpha, params.theta_beta
        bilateral = Bilateral(crop[1][0].permute(1, 2, 0).numpy(), *theta, 2.5, normalization=normalization)
        crf = DenseCRF(crop[0][0].numpy(), [bilateral, Gaussian(1, 0.7, normalization=normalization)])
        expected = crf.run(params.iterations).marginals
        assert abs(by_lattice - expected).mean() < 1e-6
        errors.append(abs(by_exact - expected).mean())
    assert abs(by_exact - exact.run(crf, params.iterations).marginals).mean() < 1e-6
    # Without normalisation nothing makes up for the mass that the lattice loses where points are few.
    assert np.mean(errors[:-1]) < (0.015 if normalization == "none" else 0.005)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients_of_the_exact_engine(normalization: Any) -> None:
    """Against finite differences, with a padded batch: all parameters, the unary, the image and the spacing."""
    (first, image), (second, other) = scene(0, 3, (4, 5)), scene(1, 3, (4, 5))
    weights = {"bilateral_weight": 0.3, "smoothness_weight": 0.2} if normalization == "none" else {}
    compatibility = torch.tensor([[0.1, 1, 0.5], [0.9, 0, 0.7], [0.4, 1.2, 0]])
    layer = CRFLayer(**OPTIONS, **weights, normalization=normalization, compatibility=compatibility).double()
    mask = torch.ones(2, 4, 5, dtype=torch.bool)
    mask[1, :, 3:] = False
    inputs = {"unary": torch.cat([first, second]), "image": torch.cat([image, other]), "spacing": torch.ones(2, 2)}
    inputs |= {name: getattr(layer, name).detach() for name in [*LOGARITHMS, "compatibility"]}
    inputs = {name: value.double().requires_grad_() for name, value in inputs.items()}
    weight = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def value(given: dict[str, torch.Tensor]) -> torch.Tensor:
        state = {name: given[name] for name in [*LOGARITHMS, "compatibility"]}
        tensors = (given["unary"], given["image"], mask, given["spacing"])
        return (weight * torch.func.functional_call(layer, state, tensors)).sum()

    value(inputs).backward()
    for name, tensor in inputs.items():
        direction = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        with torch.no_grad():
            up, down = (value(inputs | {name: tensor + step * direction}) for step in (1e-4, -1e-4))
        assert float((tensor.grad * direction).sum()) == pytest.approx(float(up - down) / 2e-4, rel=1e-4), name


def gradients(layer: CRFLayer, unary: torch.Tensor, lab: torch.Tensor, truth: torch.Tensor) -> list[np.ndarray]:
    """Of the cross entropy to the logarithms, the unary and the image."""
    unary, lab = unary.clone().requires_grad_(), lab.clone().requires_grad_()
    loss = torch.nn.functional.nll_loss(layer(unary, lab).log(), truth.long())
    names = [name for name in LOGARITHMS if getattr(layer, name) is not None]
    found = torch.autograd.grad(loss, [*(getattr(layer, name) for name in names), unary, lab])
    return [torch.stack(found[:-2]).numpy(), found[-2].numpy(), found[-1].numpy()]


def test_gradients_of_the_lattice_on_photos(shared_data) -> None:
    """They differentiate the Gaussian and sum on the lattice: no finite differences, but those of the exact engine."""
    options = {"theta_alpha": 5.0, "theta_beta": 5.0, "bilateral_weight": 2.5, "theta_gamma": 1.0}
    found: dict[str, list[list[np.ndarray]]] = {"exact": [], "lattice": []}
    for engine, results in found.items():
        layer = CRFLayer(**options, smoothness_weight=0.7, engine=engine)  # type: ignore[arg-type]
        results += [gradients(layer, *crop) for crop in crops(shared_data / "penn_fudan", 6, 64, 14)]
    exact_mean, lattice_mean = (np.mean([r[0] for r in results], axis=0) for results in found.values())
    assert np.linalg.norm(lattice_mean - exact_mean) < 0.2 * np.linalg.norm(exact_mean)
    for part, error in ((1, 0.5), (2, 0.7)):
        pairs = zip(found["exact"], found["lattice"], strict=True)
        errors = [np.linalg.norm(b[part] - a[part]) / np.linalg.norm(a[part]) for a, b in pairs]
        assert np.mean(errors) < error


def test_the_lattice_s_gradient_to_the_unary_is_that_of_what_it_computes() -> None:
    unary, image = scene(3, shape=(20, 24))
    layer = CRFLayer(**OPTIONS, engine="lattice")
    direction = torch.randn(unary.shape, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(unary.shape, generator=torch.Generator().manual_seed(1))

    def value(step: float) -> torch.Tensor:
        return (layer(unary + step * direction, image).double() * weight).sum()

    moved = unary.clone().requires_grad_()
    (layer(moved, image) * weight).sum().backward()
    with torch.no_grad():
        difference = (value(1e-2) - value(-1e-2)) / 2e-2
    assert float((moved.grad * direction).sum()) == pytest.approx(float(difference), rel=2e-3)


@pytest.mark.parametrize("engine", ["exact", "lattice"])
@pytest.mark.parametrize("normalization", ["none", "symmetric"])
def test_padding_changes_nothing(engine: Any, normalization: Any) -> None:
    """Windows of different sizes in one batch, junk beside them: marginals and gradients are those of each alone."""
    shapes = [(9, 12), (6, 12), (9, 7)]
    scenes = [scene(i, 3, shape) for i, shape in enumerate(shapes)]
    unary, image = torch.full((3, 3, 9, 12), torch.nan), torch.full((3, 3, 9, 12), torch.inf)
    mask = torch.zeros(3, 9, 12, dtype=torch.bool)
    for i, (u, m) in enumerate(scenes):
        h, w = shapes[i]
        unary[i, :, :h, :w], image[i, :, :h, :w], mask[i, :h, :w] = u[0], m[0], True
    options = OPTIONS | {"bilateral_weight": 0.5, "smoothness_weight": 0.3, "self_term": False}
    layer = CRFLayer(**options, normalization=normalization, engine=engine)
    together = layer(unary, image, mask)
    torch.testing.assert_close(together.sum(1), torch.ones(3, 9, 12))
    together[:, 0][mask].square().sum().backward()
    gradient = {name: p.grad.clone() for name, p in layer.named_parameters()}
    layer.zero_grad()
    for i, (u, m) in enumerate(scenes):
        alone = layer(u, m)
        h, w = shapes[i]
        torch.testing.assert_close(together[i : i + 1, :, :h, :w], alone, rtol=0, atol=2e-6)
        alone[:, 0].square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, gradient[name], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("engine", ["exact", "lattice"])
def test_an_item_without_pixels_is_left_alone(engine: Any) -> None:
    unary, image = (torch.cat([t, t]) for t in scene(0))
    mask = torch.ones(2, 9, 12, dtype=torch.bool)
    mask[1] = False
    layer = CRFLayer(**OPTIONS, engine=engine)
    q = layer(unary, image, mask)
    torch.testing.assert_close(q[:1], layer(unary[:1], image[:1]))
    q.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_exact_engine_compiles_without_graph_breaks(backend: str) -> None:
    unary, image = scene(0)
    mask = torch.ones(1, 9, 12, dtype=torch.bool)
    mask[:, 7:] = False
    layer = CRFLayer(**OPTIONS | {"iterations": 2})
    found = []
    for call in (layer, torch.compile(layer, backend=backend, fullgraph=True)):
        q = call(unary, image, mask, torch.tensor([[0.9, 1.1]]))
        q[:, 1].square().sum().backward()
        found.append((q.detach(), layer.log_theta_alpha.grad.clone()))
        layer.zero_grad()
    torch.testing.assert_close(found[0], found[1])


def test_the_lattice_works_within_a_compiled_network() -> None:
    unary, image = scene(0)
    layer = CRFLayer(**OPTIONS, engine="lattice")
    compiled = torch.compile(lambda u, m: layer(2 * u, m) + 1, backend="eager")
    torch.testing.assert_close(compiled(unary, image), layer(2 * unary, image) + 1)


def test_mixed_precision_leaves_the_layer_alone() -> None:
    unary, image = scene(0)
    layer = CRFLayer(**OPTIONS)
    with torch.autocast("cpu", torch.bfloat16):
        q = layer(unary.bfloat16(), image)
    assert q.dtype == torch.float32
    torch.testing.assert_close(q, layer(unary.bfloat16().float(), image))


def test_features_of_a_network() -> None:
    """One bandwidth per channel, positions left out, and gradients into the network that made the features."""
    unary, image = scene(0)
    reduce = torch.nn.Conv2d(3, 2, 1)
    options: dict[str, Any] = {"theta_alpha": None, "smoothness_weight": 0.0, "iterations": 3}
    features = reduce(image / 255)
    q = CRFLayer(theta_beta=[0.1, 0.3], **options)(unary, features)
    scaled = features / torch.tensor([0.1, 0.3])[:, None, None]
    torch.testing.assert_close(q, CRFLayer(theta_beta=1.0, **options)(unary, scaled))
    q[:, 1].square().sum().backward()
    assert (reduce.weight.grad.abs().amax((1, 2, 3)) > 0).all()


def test_spacing_is_the_unit_of_theta_alpha() -> None:
    unary, image = scene(0)
    options = {"theta_beta": 40.0, "theta_gamma": 1.2}
    q = CRFLayer(theta_alpha=0.1, **options)(unary, image, spacing=torch.tensor([[1 / 30, 1 / 20]]))
    crf = DenseCRF(unary[0].numpy(), [Bilateral(image[0].permute(1, 2, 0), (3, 2), 40, 3), Gaussian(1.2, 1)])
    np.testing.assert_allclose(q[0].detach(), exact.run(crf, 5).marginals, atol=1e-5)


@pytest.mark.parametrize("engine", ["exact", "lattice"])
def test_learning_finds_the_bandwidths(engine: Any) -> None:
    """A CRF teaches a layer that starts with all bandwidths and weights wrong by 30 to 60 %."""
    true = {"theta_alpha": 5, "theta_beta": 30, "bilateral_weight": 3, "theta_gamma": 1.5, "smoothness_weight": 1}
    start = {"theta_alpha": 8, "theta_beta": 20, "bilateral_weight": 2, "theta_gamma": 1, "smoothness_weight": 0.7}
    shape = (20, 20) if engine == "exact" else (32, 32)
    unary, image = (torch.cat(parts) for parts in zip(*(scene(i, shape=shape) for i in range(2)), strict=True))
    image = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    with torch.no_grad():
        target = CRFLayer(**true, engine=engine)(unary, image)
    layer = CRFLayer(**start, engine=engine)

    def loss() -> torch.Tensor:
        layer.zero_grad()
        value = -(target * layer(unary, image).log()).sum(1).mean()
        value.backward()
        return value

    if engine == "exact":
        torch.optim.LBFGS(layer.parameters(), max_iter=30, line_search_fn="strong_wolfe").step(loss)
    else:  # a line search wants a gradient that belongs to its loss
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.08)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, 100)
        for _ in range(100):
            optimizer.step(loss)
            schedule.step()
    found = {name: value.item() for name, value in layer.values().items()}
    assert found == pytest.approx(true, rel=0.05 if engine == "exact" else 0.1)


def test_parameters_travel() -> None:
    params = CRFParams(theta_beta=7, bilateral_weight=1.5, normalization="after", self_term=False, iterations=3)
    layer = CRFLayer.from_params(params, engine="lattice")
    for name, value in layer.to_params(params).as_dict().items():
        expected = getattr(params, name)
        assert value == (pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else expected)
    twin = CRFLayer(normalization="after", self_term=False, iterations=3)
    twin.load_state_dict(layer.state_dict())
    unary, image = scene(0)
    twin.engine = "lattice"
    np.testing.assert_array_equal(marginals(twin, unary, image), marginals(layer, unary, image))
    for odd in (CRFLayer(theta_beta=[1, 2]), CRFLayer(theta_alpha=None), CRFLayer(compatibility=torch.eye(2))):
        with pytest.raises(ParamsError, match="written as CRFParams"):
            odd.to_params()


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "crispmask.crf.layer")
    with pytest.raises(MissingExtraError, match=r"crispmask\[torch\]"):
        importlib.import_module("crispmask.crf.layer")


def test_the_page_s_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "layer.md").read_text(encoding="utf-8")
    exec(page.partition("```python\n")[2].partition("```")[0], {})
    assert "theta_alpha" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"engine": "magic"}, ParamsError, "engine must be one of exact, lattice, auto"),
        ({"theta_alpha": 0.0}, ParamsError, "theta_alpha must be positive"),
        ({"theta_beta": [1.0, float("nan")]}, ParamsError, "theta_beta must be positive"),
        ({"bilateral_weight": -1.0}, ParamsError, "bilateral_weight must be positive"),
        ({"iterations": 2.5}, ValueRangeError, "whole number"),
        ({"normalization": "both"}, ValueRangeError, "normalization must be one of"),
        ({"compatibility": torch.zeros(2)}, ShapeError, r"compatibility must have shape \(L, L\)"),
    ],
)
def test_layers_that_cannot_be(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        CRFLayer(**options)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unary": torch.zeros(2, 5, 5)}, r"unary must have shape \(B, L, H, W\)"),
        ({"unary": torch.zeros(1, 1, 9, 12)}, "at least two labels"),
        ({"image": torch.zeros(1, 3, 9, 11)}, r"image must have shape \(1, C, 9, 12\)"),
        ({"mask": torch.ones(1, 9, 12)}, r"mask must be bool of shape \(1, 9, 12\)"),
        ({"spacing": torch.ones(2)}, r"spacing must have shape \(1, 2\)"),
        ({"unary": torch.zeros(1, 3, 9, 12)}, "compatibility is for 2 labels, the unary has 3"),
    ],
)
def test_tensors_that_do_not_fit(changes: dict[str, torch.Tensor], words: str) -> None:
    unary, image = scene(0)
    with pytest.raises(ShapeError, match=words):
        CRFLayer(compatibility=1 - torch.eye(2))(**{"unary": unary, "image": image} | changes)


@pytest.mark.parametrize("normalization", ["none", "symmetric"])
@pytest.mark.parametrize("self_term", [True, False])
def test_the_lattice_s_own_derivative(torch_device: torch.device, normalization: Any, self_term: bool) -> None:
    """`derivative="lattice"` against finite differences of its own forward pass: everything, on a padded batch."""
    (first, image), (second, other) = scene(0, 3, (4, 5)), scene(1, 3, (4, 5))
    weights = {"bilateral_weight": 0.3, "smoothness_weight": 0.2} if normalization == "none" else {}
    # With round bandwidths some points lie on the edge of their simplex, where there is no derivative.
    options: dict[str, Any] = OPTIONS | weights | {"theta_alpha": 3.137, "theta_beta": 41.9}
    options |= {"normalization": normalization, "self_term": self_term}
    compatibility = torch.tensor([[0.1, 1, 0.5], [0.9, 0, 0.7], [0.4, 1.2, 0]])
    layer = CRFLayer(**options, compatibility=compatibility, engine="lattice", derivative="lattice")
    layer = layer.to(torch_device, torch.float64)
    mask = torch.ones(2, 4, 5, dtype=torch.bool, device=torch_device)
    mask[1, :, 3:] = False
    inputs = {"unary": torch.cat([first, second]), "image": torch.cat([image, other]) + 0.1234}
    inputs |= {name: getattr(layer, name).detach() for name in [*LOGARITHMS, "compatibility"]}
    inputs = {name: value.to(torch_device, torch.float64).requires_grad_() for name, value in inputs.items()}
    weight = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(torch_device)

    def value(given: dict[str, torch.Tensor]) -> torch.Tensor:
        state = {name: given[name] for name in [*LOGARITHMS, "compatibility"]}
        return (weight * torch.func.functional_call(layer, state, (given["unary"], given["image"], mask))).sum()

    value(inputs).backward()
    for name, tensor in inputs.items():
        random = torch.Generator().manual_seed(1)
        direction = torch.randn(tensor.shape, generator=random, dtype=torch.float64).to(torch_device)
        with torch.no_grad():
            up, down = (value(inputs | {name: tensor + step * direction}) for step in (1e-6, -1e-6))
        assert float((tensor.grad * direction).sum()) == pytest.approx(float(up - down) / 2e-6, rel=1e-3), name


def test_the_engine_is_chosen_by_the_number_of_pixels() -> None:
    for shape, engine in (((9, 12), "exact"), ((20, 24), "lattice")):
        unary, image = scene(0, shape=shape)
        auto = marginals(CRFLayer(**OPTIONS, engine="auto"), unary, image)
        np.testing.assert_array_equal(auto, marginals(CRFLayer(**OPTIONS, engine=engine), unary, image))  # type: ignore[arg-type]
