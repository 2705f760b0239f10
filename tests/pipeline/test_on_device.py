"""Segmenting and refining with the refinement on a torch device: what it does on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")

from crispmask.coco import read_results, results_to_instances  # noqa: E402
from crispmask.errors import ParamsError  # noqa: E402
from crispmask.image import read_image  # noqa: E402
from crispmask.params import CRFParams  # noqa: E402
from crispmask.pipeline import Segmenter, Settings, refine_results, segment_folder  # noqa: E402


def masks(path: Path, image: Path, image_id: int = 1) -> np.ndarray:
    height, width = read_image(image).shape[:2]
    records = [record for record in read_results(path) if record["image_id"] == image_id]
    return results_to_instances(records, height, width).masks()


@pytest.mark.parametrize("params", ["learned", "fixed"])
def test_a_segmenter(on_tensors: None, image: np.ndarray, blob_detector: Any, params: str) -> None:
    expected = Segmenter(blob_detector(), params=params, score=0)(image).masks()
    model = Segmenter(blob_detector(), params=params, score=0, device="cuda")
    assert (model(image).masks() == expected).mean() >= 0.999
    assert (model.refine(image, model.detect(image)).masks() == expected).mean() >= 0.999


def test_a_folder_and_a_results_file(on_tensors: None, photos: Path, tmp_path: Path, blob_detector: Any) -> None:
    settings = Settings(score=0, params=CRFParams(iterations=3))
    for name, device in (("cpu", None), ("gpu", "cuda")):
        segment_folder([photos], tmp_path / name, blob_detector(), settings, device=device, pictures=False)
        found = tmp_path / "cpu" / "results_before.json"
        refine_results(found, photos, tmp_path / f"{name}.json", settings, device=device, threads=2)
    known = json.loads((tmp_path / "cpu/images.json").read_text())["images"]
    for image_id, name in ((entry["id"], entry["file_name"]) for entry in known):
        for cpu, gpu in (("cpu/results.json", "gpu/results.json"), ("cpu.json", "gpu.json")):
            expected, ours = (masks(tmp_path / path, photos / name, image_id) for path in (cpu, gpu))
            assert (ours == expected).mean() >= 0.999


def test_a_device_that_is_not_there(image: np.ndarray, photos: Path, tmp_path: Path, blob_detector: Any) -> None:
    """It is said before any work."""
    (tmp_path / "none.json").write_text("[]")
    for work in (
        lambda: Segmenter(blob_detector(), device="cuda:77"),
        lambda: segment_folder([photos], tmp_path / "out", blob_detector(), device="cuda:77"),
        lambda: refine_results(tmp_path / "none.json", photos, tmp_path / "out.json", device="cuda:77"),
    ):
        with pytest.raises(ParamsError, match="device 'cuda:77' cannot be used"):
            work()
    assert not (tmp_path / "out").exists()
