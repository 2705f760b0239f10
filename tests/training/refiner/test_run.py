from __future__ import annotations

import numpy as np
import pytest

from crispmask import explain, read_image
from crispmask.coco import CocoDataset, read_results
from crispmask.coco.results import results_to_instances
from crispmask.errors import DataError, ParamsError
from crispmask.refinement.features import FEATURES
from crispmask.training.refiner.config import LearnConfig
from crispmask.training.refiner.run import learn
from crispmask.training.refiner.samples import Sample
from crispmask.training.refiner.select import ERRORS, learn_rules

CONFIG = LearnConfig(network=False)


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    output = tmp_path_factory.mktemp("learnt")
    return learn([(world.annotations, world.images, world.results)], output, CONFIG, threads=2)


def test_the_gate_opens_where_colours_show_the_edge(world, made):
    """The planted rule: a disc that can be seen is refined, one that cannot is left alone for its low contrast."""
    dataset = CocoDataset.from_file(world.annotations)
    reasons = {0: [], 1: []}
    for record in read_results(world.results):
        info = dataset.images[record["image_id"]]
        found = results_to_instances([record], *info.size)
        (decision,) = explain(read_image(world.images / info.file_name), found, made.params)
        reasons[record["image_id"] % 2].append("" if decision.setting else decision.reason)
    assert reasons[1].count("") >= 12
    assert reasons[0].count("low contrast") >= 13


def test_nothing_gets_worse_out_of_fold(made):
    assert {o.kind for o in made.choice.outcomes} >= {"results", "polygon"}
    for outcome in made.choice.outcomes:
        assert outcome.after[0] >= outcome.before[0] - ERRORS * outcome.error
        assert outcome.best[0] >= outcome.before[0]
    (results,) = (o for o in made.choice.outcomes if o.kind == "results")
    assert results.after[0] > results.before[0] + 0.03


def test_same_bytes_for_any_number_of_threads(world, made, tmp_path):
    again = learn([(world.annotations, world.images, world.results)], tmp_path, CONFIG, threads=1)
    assert again.path.read_bytes() == made.path.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["params.toml", "report.json"]


def test_both_networks_are_trained_at_once(world, tmp_path, monkeypatch):
    """Interrupted and resumed, in one thread or two: the same bytes."""
    pytest.importorskip("torch", reason="extra torch is not installed")
    from crispmask.training.refiner import fit

    monkeypatch.setattr(fit, "SAVE_EVERY", 1)
    sources = [(world.annotations, world.images, world.results)]
    config = LearnConfig(steps=3, batch_size=2)
    seen: list[tuple[str, int, int]] = []

    def stop(what: str, done: int, total: int) -> None:
        seen.append((what.partition(":")[0], done, total))
        if seen[-1][0] == "Training the networks" and done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(sources, tmp_path / "two", config, threads=2, on_progress=stop)
    assert ("Training the networks", 3, 6) in seen
    assert list((tmp_path / "two" / "unfinished").glob("*.pt"))
    resumed = learn(sources, tmp_path / "two", config, threads=2)
    whole = learn(sources, tmp_path / "one", config, threads=1)
    assert whole.path.read_bytes() == resumed.path.read_bytes()
    assert (tmp_path / "one" / "unary.onnx").read_bytes() == (tmp_path / "two" / "unary.onnx").read_bytes()


def test_an_interrupted_run_with_other_settings(world, tmp_path):
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    sources = [(world.annotations, world.images, None)]
    with pytest.raises(KeyboardInterrupt):
        learn(sources, tmp_path, CONFIG, on_progress=stop)
    with pytest.raises(ParamsError, match="interrupted run"):
        learn(sources, tmp_path, LearnConfig(network=False, seed=1))


def test_results_of_other_photos(world, tmp_path):
    (tmp_path / "r.json").write_text('[{"image_id": 99, "category_id": 1, "score": 0.5, "bbox": [0, 0, 1, 1]}]')
    with pytest.raises(DataError, match="no image with the id 99"):
        learn([(world.annotations, world.images, tmp_path / "r.json")], tmp_path / "o", CONFIG)


def test_photos_that_are_missing(world, tmp_path):
    with pytest.raises(DataError, match="30 of its annotated photos are missing"):
        learn([(world.annotations, tmp_path, None)], tmp_path / "o", CONFIG)


def test_luck_does_not_open_the_gate():
    """Gains that are noise around a loss: whatever features they are told by, no mask may be touched."""
    rng = np.random.default_rng(0)
    samples = []
    for k in range(300):
        before = rng.uniform(0.6, 0.9, 2)
        after = before + rng.normal(-0.01, 0.05, (3, 2))
        samples.append(
            Sample(rng.normal(0, 1, len(FEATURES)).astype(np.float32), np.vstack([before, after]), 1, k // 3, "noise")
        )
    choice = learn_rules(samples, category_min=100)
    (outcome,) = choice.outcomes
    assert outcome.after[0] >= outcome.before[0]
    assert outcome.kept > 250


def test_many_kinds_without_a_gain_do_not_close_the_gate_for_one_that_has():
    """Of twenty kinds that gain nothing, some fall by chance."""
    rng = np.random.default_rng(0)
    samples = []
    for k in range(630):
        kind = k % 21
        features = rng.normal(0, 1, len(FEATURES)).astype(np.float32)
        features[0] = 3 if kind == 0 else rng.normal()
        before = np.full((1, 2), 0.7)
        after = before + rng.normal(0.1 if kind == 0 else -0.002, 0.03, (2, 2))
        samples.append(Sample(features, np.vstack([before, after]), 1, k // 7, f"kind {kind}"))
    choice = learn_rules(samples, category_min=1000)
    gain = {o.kind: o.after[0] - o.before[0] for o in choice.outcomes}
    assert gain["kind 0"] > 0.05
    assert np.mean(list(gain.values())[1:]) > -0.005


def test_config_is_checked():
    with pytest.raises(ParamsError, match="held_out"):
        LearnConfig(held_out=1)
