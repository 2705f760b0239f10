from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import mask_to_rle, read_results
from crispmask.evaluation import average_precision
from crispmask.samples import sample_images

FEW = ("--iterations", 1)  # these tests are about files


@pytest.fixture
def set_of_two(tmp_path) -> Path:
    """`r.json` and the photos 1.png and 2.png that it is about."""
    rng = np.random.default_rng(0)
    records = []
    for key in (1, 2):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / f"{key}.png")
        mask = np.zeros((40, 60), bool)
        mask[10:30, 10 + key : 40] = True
        records.append({"image_id": key, "category_id": 1, "score": 0.5 * key, "segmentation": mask_to_rle(mask)})
    (tmp_path / "r.json").write_text(json.dumps(records))
    return tmp_path


def test_a_results_file(invoke, set_of_two):
    result = invoke("refine", set_of_two / "r.json", "--images", set_of_two, "-o", set_of_two / "out.json", *FEW)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 objects in 2 images, ")
    assert f"Results    {set_of_two / 'out.json'}" in result.stdout
    assert result.stderr == ""
    assert len(read_results(set_of_two / "out.json")) == 2


def test_a_device_that_is_not_there(invoke, set_of_two):
    source, out = set_of_two / "r.json", set_of_two / "out.json"
    result = invoke("refine", source, "-i", set_of_two, "-o", out, *FEW, "--device", "cuda:77")
    assert result.exit_code == 1
    assert "device 'cuda:77' cannot be used" in result.stderr
    assert invoke("refine", source, "-i", set_of_two, "-o", out, *FEW, "--device", "cpu").exit_code == 0


def test_options_reach_the_run(invoke, set_of_two):
    source, out = set_of_two / "r.json", set_of_two / "out.json"
    result = invoke("refine", source, "-i", set_of_two, "-o", out, *FEW, "--score", 0.7, "--threads", 1)
    assert "Left out, with a score below 0.7: 1." in result.stdout
    assert [r["image_id"] for r in read_results(out)] == [2]
    nothing = ("--params", "fixed", "--bilateral-weight", 0, "--smoothness-weight", 0, "--smoothing", 0)
    invoke("refine", source, "-i", set_of_two, "-o", out, *nothing)
    assert read_results(out) == read_results(source)
    invoke("refine", source, "-i", set_of_two, "-o", out, "--params", "paper", "--joint", *FEW)
    assert read_results(out) != read_results(source)
    settings = json.loads((set_of_two / "out.provenance.json").read_text())["settings"]
    assert (settings["theta_alpha"], settings["iterations"], settings["joint"]) == (60, 1, True)


def test_the_gate_decides_for_masks_without_a_score(invoke, set_of_two):
    """Of the two masks the first has a score below 1."""
    kept = {}
    for gate in ("unscored", "all", "none"):
        command = ("refine", set_of_two / "r.json", "-i", set_of_two, "-o", set_of_two / "out.json", *FEW)
        lines = invoke(*command, "--gate", gate).stdout.splitlines()
        kept[gate] = [line.split(" left alone")[0] for line in lines if "left alone" in line]
    assert kept == {"unscored": ["1 of 2 masks"], "all": ["2 of 2 masks"], "none": []}


def test_a_bad_record(invoke, refused, set_of_two):
    records = json.loads((set_of_two / "r.json").read_text())
    records[0]["score"] = float("nan")
    (set_of_two / "r.json").write_text(json.dumps(records))
    command = ("refine", set_of_two / "r.json", "-i", set_of_two, "-o", set_of_two / "out.json", *FEW)
    reason = f"{set_of_two / 'r.json'}: result 0: 'score' must be a finite number, got nan"
    assert refused(*command) == f"{reason}; --skip-bad leaves such records out"
    assert not (set_of_two / "out.json").exists()
    result = invoke(*command, "--skip-bad")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {reason}\n"
    assert "1 object in 1 image" in result.stdout
    assert "1 of 2 results could not be used." in result.stdout
    assert [r["image_id"] for r in read_results(set_of_two / "out.json")] == [2]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--theta-alpha", "-3"], "theta_alpha must be at least 0.001"),
        (["--score", "1.5"], "score must be a number in [0, 1]"),
        (["--gate", "some"], "unscored, all, none"),
        (["--gate", "all", "--params", "fixed"], "--gate is for learned parameters"),
        (["--params", "papr"], "unknown parameters 'papr'"),
        (["--annotations", "gone.json"], "cannot read gone.json: No such file or directory"),
        (["--images", "gone"], "gone is not a folder"),
        (["--output", "/proc/none/out.json"], "No such file or directory"),
    ],
)
def test_bad_options(refused, set_of_two, options, reason):
    arguments = ["refine", set_of_two / "r.json", "-i", set_of_two, "-o", set_of_two / "out.json", *FEW, *options]
    assert reason in refused(*arguments)
    assert not (set_of_two / "out.json").exists()


def test_interrupted_and_continued(invoke, set_of_two, monkeypatch):
    from crispmask.pipeline import results

    command = ("refine", set_of_two / "r.json", "-i", set_of_two, "-o", set_of_two / "out.json", *FEW, "--threads", 1)
    invoke(*command)
    expected = (set_of_two / "out.json").read_bytes()
    (set_of_two / "out.json").unlink()
    real, calls = results.read_sized, []

    def interrupting(path: Path, size: tuple[int, int]) -> np.ndarray:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(results, "read_sized", interrupting)
        stopped = invoke(*command)
    assert stopped.exit_code == 130
    assert stopped.stderr == "Interrupted: the same command continues from here.\n"
    resumed = invoke(*command)
    assert resumed.stderr == "Continuing an interrupted run, which had finished 1 of 2 objects.\n"
    assert (set_of_two / "out.json").read_bytes() == expected


def test_what_segment_writes_refined_equals_what_it_refines(invoke, detector, tmp_path):
    """The same masks by both ways, but for what a mask as run lengths has lost: its probabilities."""
    folder = sample_images()[0].parent
    assert invoke("segment", folder, "-o", tmp_path / "seg", "--no-pictures", *FEW).exit_code == 0
    before = tmp_path / "seg" / "results_before.json"
    result = invoke("refine", before, "--images", folder, "-o", tmp_path / "refined.json", *FEW)
    assert result.exit_code == 0, result.output
    assert f"Images named by {tmp_path / 'seg' / 'images.json'}" in result.stdout
    # The fake detector's masks are binary.
    assert read_results(tmp_path / "refined.json") == read_results(tmp_path / "seg" / "results.json")
    found = json.loads((tmp_path / "refined.provenance.json").read_text())
    assert found["results"]["provenance"]["detector"] == {"name": "box", "sha256": "0" * 64}


def test_a_coco_subset_end_to_end(invoke, shared_data, tmp_path):
    """Annotated masks, coarsened, come nearer to the truth."""
    from scipy.ndimage import zoom

    from crispmask.coco import CocoDataset

    path, gt = shared_data / "penn_fudan" / "val", shared_data / "penn_fudan" / "annotations" / "instances_val.json"
    dataset = CocoDataset.from_file(gt)
    chosen = list(dataset.images.values())[:3]
    records = []
    for image in chosen:
        instances = dataset.instances(image.id)
        for i in range(len(instances)):
            small = zoom(instances.mask(i).astype(np.float32), 1 / 16, order=1)
            factors = np.array(image.size) / small.shape
            coarse = zoom(small, factors, order=1, grid_mode=True, mode="nearest") > 0.5
            if coarse.any():
                category = int(instances.category_ids[i])
                record = {"image_id": image.id, "category_id": category, "score": 0.9}
                records.append({**record, "segmentation": mask_to_rle(coarse)})
    (tmp_path / "coarse.json").write_text(json.dumps(records))
    result = invoke("refine", tmp_path / "coarse.json", "-i", path, "-a", gt, "-o", tmp_path / "fine.json.gz")
    assert result.exit_code == 0, result.output
    before = average_precision(gt, tmp_path / "coarse.json", "boundary")["AP"]
    after = average_precision(gt, tmp_path / "fine.json.gz", "boundary")["AP"]
    assert after > before > 0
