"""Fixtures that several packages share, and which tests are skipped where something is not installed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

if TYPE_CHECKING:
    from crispmask.tuning.task import TuningTask


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photos with annotations (`coco`, `penn_fudan`), which is not part of the repository."""
    root = Path(os.environ.get("CRISPMASK_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip("the annotated photos are not here: set CRISPMASK_SHARED to the folder that holds data/")
    return root


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """Public-domain photo of a person: uint8 (512, 512, 3)."""
    from skimage import data

    return data.astronaut()


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if pillow-heif were not installed."""
    from crispmask.image import formats

    others = tuple(name for name in formats.readable_formats() if name != "HEIF")
    monkeypatch.setattr(formats, "readable_formats", lambda: others)


# The same examples in every run, however busy the machine is.
settings.register_profile("crispmask", deadline=None, derandomize=True)
settings.load_profile("crispmask")

# What the README's command does not install, by the names that the marker `needs` takes.
MISSING = {
    "pydensecrf": "pydensecrf2 is not installed (extra bench)",
    "cv2": "OpenCV is not installed (extra bench)",
    "pymatting": "PyMatting is not installed (extra bench)",
    "transformers": "transformers is not installed (extra bench)",
    "ultralytics": "Ultralytics is not installed (.ci/step peers says how)",
    "chromium": "Chromium is not installed: install the package chromium, or name the program in CHROMIUM",
    "curl": "curl is not installed",
    "fiftyone": "FiftyOne is not installed: it has an environment of its own (.ci/step fiftyone)",
    "label-studio": "Label Studio is not installed: name its program in LABEL_STUDIO (.ci/step peers says how)",
}


def _is_here(name: str) -> bool:
    if name == "chromium":
        return bool(os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome"))
    if name == "label-studio":
        return bool(os.environ.get("LABEL_STUDIO") or shutil.which("label-studio"))
    return bool(shutil.which(name)) if name == "curl" else find_spec(name) is not None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of code for torch devices, `torch_device` by name, run on the CPU and on the GPU where there is one."""
    if "torch_device" in metafunc.fixturenames:
        import torch

        names = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
        metafunc.parametrize("torch_device", [torch.device(name) for name in names], ids=names)


@pytest.fixture
def on_tensors(monkeypatch: pytest.MonkeyPatch, torch_device: Any) -> None:
    """Whatever device is asked for is `torch_device`, where tensors do the work."""
    for name, module in list(sys.modules.items()):
        if name.startswith("crispmask.") and hasattr(module, "device_of"):
            monkeypatch.setattr(module, "device_of", lambda device, values: torch_device if device else None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            if not _is_here(name):
                pytest.skip(MISSING[name])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With CRISPMASK_MAY_SKIP set, a test that is skipped for another reason fails the run.

    The variable holds parts of the reasons that are all right, separated by commas; empty: nothing may be skipped.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    allowed = os.environ.get("CRISPMASK_MAY_SKIP")
    if reporter is None or allowed is None or exitstatus != 0:
        return
    parts = [part.strip() for part in allowed.split(",") if part.strip()]
    wrong = [r for r in reporter.stats.get("skipped", []) if not any(part in str(r.longrepr) for part in parts)]
    if wrong:
        reporter.write_line(f"{len(wrong)} skipped for a reason that CRISPMASK_MAY_SKIP does not name:", red=True)
        for report in wrong:
            reporter.write_line(f"  {report.nodeid}: {report.longrepr}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def tricky_masks() -> dict[str, np.ndarray]:
    """Masks that break careless conversions, bool (37, 53) by name: holes, parts, one pixel, every edge, all."""
    names = ("holes", "parts", "one pixel", "corner pixel", "edges", "full", "diagonal")
    masks = {name: np.zeros((37, 53), bool) for name in names}
    masks["holes"][5:25, 8:40] = True
    masks["holes"][8:12, 10:16] = False
    masks["holes"][15, 20] = False
    masks["parts"][2:6, 3:9] = True
    masks["parts"][20:30, 40:50] = True
    masks["parts"][12, 12] = True
    masks["one pixel"][17, 31] = True
    masks["corner pixel"][-1, -1] = True
    masks["edges"][:, :4] = True
    masks["edges"][-3:, :] = True
    masks["edges"][0, :] = True
    masks["edges"][10:15, -1] = True
    masks["full"][:] = True
    np.fill_diagonal(masks["diagonal"], True)
    return masks


@dataclass(frozen=True)
class Discs:
    """A data set of bright discs, and detections that are a few pixels off."""

    annotations: Path
    results: Path
    images: Path

    def task(self, **options: Any) -> TuningTask:
        from crispmask.coco import CocoDataset, read_results
        from crispmask.tuning.task import TuningTask

        dataset, results = CocoDataset.from_file(self.annotations), read_results(self.results)
        return TuningTask(dataset, results, self.images, **options)


@pytest.fixture(scope="session")
def make_discs() -> Callable[..., Discs]:
    def make(folder: Path, count: int = 6) -> Discs:
        from crispmask.coco import mask_to_rle

        rng = np.random.default_rng(3)
        (folder / "images").mkdir(parents=True)
        images, annotations, results = [], [], []
        for k in range(1, count + 1):
            y, x = np.mgrid[:48, :64]
            image = rng.integers(60, 75, (48, 64, 3))
            for column in (16, 46)[: 1 + k % 2]:
                truth = (y - 24) ** 2 + (x - column) ** 2 < (8 + k) ** 2
                image[truth] += 120
                shared = {"image_id": k, "category_id": 1}
                annotations.append({"id": len(annotations) + 1, **shared, "segmentation": mask_to_rle(truth)})
                found = np.roll(truth, (2, int(rng.integers(1, 4))), (0, 1))
                score = round(float(rng.random()), 3)
                results.append({**shared, "segmentation": mask_to_rle(found), "score": score})
            # An unsure detection of nothing.
            nothing = (y < 6) & (x < 6)
            results.append({"image_id": k, "category_id": 1, "segmentation": mask_to_rle(nothing), "score": 0.1})
            Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{k}.png")
            images.append({"id": k, "file_name": f"{k}.png", "height": 48, "width": 64})
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "disc"}]}
        (folder / "truth.json").write_text(json.dumps(content))
        (folder / "results.json").write_text(json.dumps(results))
        return Discs(folder / "truth.json", folder / "results.json", folder / "images")

    return make


@pytest.fixture(scope="session")
def discs(make_discs, tmp_path_factory) -> Discs:
    return make_discs(tmp_path_factory.mktemp("discs") / "data")
