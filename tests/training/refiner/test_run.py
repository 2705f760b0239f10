from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crispmask import explain, read_image, refine
from crispmask.coco import CocoDataset
from crispmask.coco.results import read_results, results_to_instances
from crispmask.errors import DataError, ParamsError
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.refinement import default_params, read_params
from crispmask.refinement.answer import Answer
from crispmask.refinement.features import FEATURES, instance_features
from crispmask.refinement.instance import InstanceView
from crispmask.training.refiner import fit, measure, settings
from crispmask.training.refiner.config import LearnConfig
from crispmask.training.refiner.objects import Source, decode
from crispmask.training.refiner.run import learn

CONFIG = LearnConfig(init="none", samples=6, batch_size=2, precision="float16", held_out=0.3, measured=10)

pytestmark = pytest.mark.usefixtures("small_crops")


@pytest.fixture(autouse=True)
def few_settings(monkeypatch):
    monkeypatch.setattr(settings, "GRID", {"theta_alpha": (0.05,)})
    monkeypatch.setattr(settings, "TEMPERATURES", (1.0,))


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("params.toml", "network.onnx")}


def test_an_interrupted_run_goes_on_to_the_same_bytes(world, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "SAVE_EVERY", 1)
    whole = learn([world.source], tmp_path / "whole", CONFIG, workers=0)
    assert whole.path == tmp_path / "whole" / "params.toml"
    assert {file.name for file in whole.path.parent.iterdir()} == {
        "params.toml", "network.onnx", "report.json", "curves.png",
    }  # fmt: skip

    for part, at in (("Training", 2), ("Tuning the CRF", 1), ("Measuring masks", 2)):
        seen: list[tuple[str, int]] = []

        def stop(what: str, done: int, total: int, part=part, at=at, seen=seen) -> None:
            seen.append((what.partition(":")[0], done))
            if seen[-1][0] == part and done >= at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            learn([world.source], tmp_path / "parts", CONFIG, workers=0, on_progress=stop)
        assert seen[-1][0] == part
        assert not (tmp_path / "parts" / "params.toml").exists()
    again = learn([world.source], tmp_path / "parts", CONFIG, workers=0, threads=1)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert not (tmp_path / "parts" / "unfinished").exists()
    report = json.loads((tmp_path / "parts" / "report.json").read_text())
    assert {entry["kind"] for entry in report["masks"]} >= {"annotation", "detector", "mask head", "prototypes"}
    assert report["images"]["measured"] >= 2
    assert again.boxes[0] > 0.5


def test_the_parameters_are_used_by_refine(world, tmp_path):
    made = learn([world.source], tmp_path, CONFIG, workers=0)
    params = read_params(made.path)
    assert params.checksum == made.params.checksum
    record = read_results(world.results)[0]
    info = CocoDataset.from_file(world.annotations).images[record["image_id"]]
    found = results_to_instances([record], *info.size)
    image = read_image(world.images / info.file_name)
    (decision,) = explain(image, found, params)
    after = refine(image, found, params)
    if not decision.refined:
        assert np.array_equal(after.mask(0), found.mask(0))
    assert after.mask(0).any()


def test_without_training_the_network_stays_and_all_images_are_measured(world, tmp_path):
    first = learn([world.source], tmp_path / "first", CONFIG, workers=0)
    network = first.path.with_name("network.onnx")
    config = LearnConfig(init=str(network), training=False, measured=12)
    made = learn([world.source], tmp_path / "second", config)
    assert made.path.with_name("network.onnx").read_bytes() == network.read_bytes()
    report = json.loads((tmp_path / "second" / "report.json").read_text())
    assert report["objects"] == {"trained on": 0, "measured": 12}
    assert not (tmp_path / "second" / "curves.png").exists()
    with pytest.raises(ParamsError, match="must be a network"):
        learn([world.source], tmp_path / "third", LearnConfig(init="none", training=False))


def test_measuring_does_not_depend_on_threads(world):
    from crispmask.refinement import LearnedParams
    from crispmask.refinement.gate import Gate
    from crispmask.training.refiner.export import export_network
    from crispmask.training.refiner.start import initial_network

    rgb, prompt = np.zeros((1, 3, 64, 64), np.float32), np.full((1, 1, 64, 64), 0.7, np.float32)
    content = export_network(initial_network("none", 0, None), [(rgb, prompt)], "float16")
    gate = Gate.constant(0, 0)
    params = LearnedParams(content, CRFParams(), gate, gate)
    work = measure.masks_after(params, [measure.Setting(CRFParams(iterations=0))])
    objects = measure.chosen(world.objects, 4, 0)
    assert [one.image.number for one in objects] == sorted(one.image.number for one in objects)
    one, two = (measure.measure(objects, work, 0, threads=threads) for threads in (1, 2))
    assert one == two
    # An untrained network gives the prompt back, and without iterations the CRF leaves it so.
    (annotation, *_) = (m for m in one if m.kind == "annotation")
    assert annotation.before == (1, 1)
    assert annotation.after[0][0] > 0.95


def test_the_gate_learns_from_the_features_that_it_sees_in_use(world):
    """Of the annotation and of the detector's mask of an object without a score, what `refine` gives the gate."""
    one = next(one for one in world.objects if one.found)
    params = default_params()
    work = measure.masks_after(params, [measure.Setting(params.crf)])
    image = one.image.read()
    found = {m.kind: m for m in work(image, one, np.random.default_rng(0))}
    for kind, rle in (("annotation", one.rle), ("detector", one.found[0][0])):
        drawn = Instances.from_masks(decode([rle], one.image.size).astype(bool))
        view = InstanceView.of(image, drawn, 0)
        assert np.allclose(found[kind].features, instance_features(view, params.answer(view)))
        assert found[kind].features[FEATURES.index("size")] == pytest.approx(np.log2(drawn.scale(0)), abs=1e-4)


def test_within_reach_the_rectangle_is_that_of_the_whole_mask(world):
    """Of a network that sees the left half of a mask alone: the settings cannot share a lattice."""
    one = world.objects[0]
    window = Instances.from_masks(decode([one.rle], one.image.size).astype(bool)).windows[0]
    view = InstanceView(one.image.read(), window, window.mask_box)
    odds = np.where(view.prompt > 0.5, 5, -5).astype(np.float32)
    odds[:, odds.shape[1] // 2 :] = -5
    crf = CRFParams(context_min=2)
    free, held = measure._refined(
        view, Answer(view.crop, view.prompt, odds), [measure.Setting(crf), measure.Setting(crf, reach=0.02)]
    )
    assert free.mask.sum() < 0.7 * window.mask.sum()
    assert held.mask.sum() > 0.9 * window.mask.sum()


def test_an_interrupted_run_with_other_settings(world, tmp_path):
    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("Training"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn([world.source], tmp_path, CONFIG, workers=0, on_progress=stop)
    with pytest.raises(ParamsError, match="interrupted run"):
        learn([world.source], tmp_path, LearnConfig(init="none", seed=1), workers=0)


def test_images_that_are_missing(world, tmp_path):
    with pytest.raises(DataError, match=r"1\.png"):
        learn([Source(world.annotations, tmp_path)], tmp_path / "o", CONFIG)


def test_config_is_checked():
    with pytest.raises(ParamsError, match="held_out"):
        LearnConfig(held_out=1)
    with pytest.raises(ParamsError, match="precision"):
        LearnConfig(precision="int4")
    assert LearnConfig(samples=9, batch_size=4).steps == 3


@pytest.mark.slow
def test_the_shipped_network_keeps_its_gains_on_real_images(shared_data, tmp_path):
    folder = shared_data / "penn_fudan"
    source = Source(folder / "annotations/instances_train.json", folder / "train")
    made = learn([source], tmp_path, LearnConfig(samples=160, measured=40, precision="float16"), workers=1, threads=2)
    outcomes = {outcome.kind: outcome for outcome in made.gates.outcomes}
    assert outcomes["mask head"].after[0] > outcomes["mask head"].before[0] + 0.05
    assert outcomes["annotation"].after[0] > 0.995
    assert made.boxes[0] > 0.75
