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
from crispmask.pipeline import Progress, Segmenter, Settings, refine_results, results, segment_folder  # noqa: E402
from crispmask.refinement import on_device  # noqa: E402

some_at_a_time = on_device._lots


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


@pytest.mark.parametrize("joint", [False, True])
def test_several_photos_at_once(
    on_tensors: None, photos: Path, tmp_path: Path, blob_detector: Any, monkeypatch: pytest.MonkeyPatch, joint: bool
) -> None:
    """Photos of a batch are refined together, the same ones after an interruption; a bad one spoils no other."""
    lots = []
    monkeypatch.setattr(on_device, "_lots", lambda *given: lots.append(len(given[0])) or some_at_a_time(*given))
    names = sorted(path for path in photos.rglob("*.*"))
    names[1].write_bytes(names[1].read_bytes()[:60])
    settings = Settings(score=0, joint=joint)
    reports = [
        segment_folder([photos], tmp_path / name, blob_detector(), settings, pictures=False, **options)
        for name, options in (("cpu", {}), ("gpu", {"device": "cuda", "batch_size": 3}))
    ]
    assert [len(report.failures) for report in reports] == [1, 1]
    assert reports[0].left_alone == reports[1].left_alone
    known = json.loads((tmp_path / "cpu/images.json").read_text())["images"]
    for image_id, name in ((entry["id"], entry["file_name"]) for entry in known):
        expected, ours = (masks(tmp_path / run / "results.json", photos / name, image_id) for run in ("cpu", "gpu"))
        assert (ours == expected).mean() >= 0.999

    def interrupt(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    options = {"device": "cuda", "batch_size": 3, "pictures": False}
    with pytest.raises(KeyboardInterrupt):
        segment_folder([photos], tmp_path / "again", blob_detector(), settings, on_image=interrupt, **options)
    report = segment_folder([photos], tmp_path / "again", blob_detector(), settings, **options)
    assert (report.resumed, report.objects) == (1, reports[1].objects)
    assert (tmp_path / "again" / "results.json").read_bytes() == (tmp_path / "gpu" / "results.json").read_bytes()
    assert joint or max(lots) > max(len(blob_detector()(read_image(photos / entry["file_name"]))) for entry in known)


def test_records_of_several_photos_at_once(
    on_tensors: None, photos: Path, tmp_path: Path, blob_detector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks and boxes; the same bytes after an interruption, and a photo that cannot be read spoils no other."""
    segment_folder([photos], tmp_path / "found", blob_detector(), Settings(score=0, refine=False), pictures=False)
    records = json.loads((tmp_path / "found" / "results.json").read_text())
    records += [{key: record[key] for key in ("image_id", "category_id", "bbox", "score")} for record in records[:2]]
    (tmp_path / "found" / "results.json").write_text(json.dumps(records))
    known = json.loads((tmp_path / "found" / "images.json").read_text())["images"]
    names = {entry["id"]: entry["file_name"] for entry in known}
    batches: list[int] = []
    together = results.refine_photos

    def counted(images: Any, *rest: Any, **options: Any) -> Any:
        batches.append(len(images))
        return together(images, *rest, **options)

    monkeypatch.setattr(results, "TOGETHER", 6)
    monkeypatch.setattr(results, "refine_photos", counted)

    def run(name: str, device: str | None = "cuda", **options: Any) -> bytes:
        given = tmp_path / "found" / "results.json"
        refine_results(given, photos, tmp_path / name, Settings(score=0), device=device, threads=1, **options)
        return (tmp_path / name).read_bytes()

    expected = run("undisturbed.json")
    assert max(batches) > 1
    run("cpu.json", device=None)
    for image_id, name in names.items():
        ours, theirs = (masks(tmp_path / run, photos / name, image_id) for run in ("undisturbed.json", "cpu.json"))
        assert (ours == theirs).mean() >= 0.999

    def interrupt(progress: Progress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("interrupted.json", on_progress=interrupt)
    assert run("interrupted.json") == expected

    broken = photos / names[records[0]["image_id"]]
    broken.write_bytes(broken.read_bytes()[:-40])  # its header is whole
    said: list[str] = []
    kept = json.loads(run("broken.json", skip_bad=True, on_bad=said.append))
    assert len(said) == sum(record["image_id"] == records[0]["image_id"] for record in records)
    assert len(kept) == len(json.loads(expected)) - len(said)


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
