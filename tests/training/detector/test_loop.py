"""Training: samples, resume, export."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra torch is not installed")
pytest.importorskip("torchvision", reason="extra torch is not installed")
pytest.importorskip("efficientnet_lite_pytorch", reason="extra torch is not installed")

from crispmask.errors import DataError, ImageError, ModelError, ParamsError  # noqa: E402
from crispmask.training.detector.config import TrainingConfig  # noqa: E402
from crispmask.training.detector.data import TrainingSet, canvases, load, random_view, read_data  # noqa: E402
from crispmask.training.detector.export import check_export, export_onnx  # noqa: E402
from crispmask.training.detector.inference import InferenceNetwork, load_checkpoint  # noqa: E402
from crispmask.training.detector.loop import train  # noqa: E402

CONFIG = TrainingConfig(steps=3, batch_size=1, warmup=2, channels=16, size=128)


def test_classes_are_merged_by_name(tiny_coco):
    data = read_data([tiny_coco, tiny_coco])
    assert data.names == ["disc", "square"]
    assert [p.labels.tolist() for p in data.images] == [[1], [1], [2]] * 2
    assert data.labels_of(None) == [1, 2]
    assert data.labels_of(["square"]) == [2]
    with pytest.raises(DataError, match="no annotation file has the class 'cat'"):
        data.labels_of(["cat"])


def test_category_ids_are_those_of_the_annotations(tiny_coco, tmp_path):
    assert read_data([tiny_coco]).category_ids(["square", "disc"]) == [2, 1]
    content = json.loads(tiny_coco[0].read_text())
    content["categories"] = [{"id": 1, "name": "ring"}]
    content["annotations"] = []
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    data = read_data([tiny_coco, (other, tiny_coco[1])])
    assert data.category_ids(["square", "ring"]) == [2, 1]
    assert data.category_ids(["disc", "ring"]) == [1, 2]  # both files say 1
    assert data.category_ids(None) == [1, 2, 3]


def test_views_move_image_and_mask_together(tiny_coco):
    images = read_data([tiny_coco]).images
    sample = load(images[0])
    for seed in range(20):
        view = random_view(sample, (128, 192), np.random.default_rng(seed))
        assert view.image.shape == (128, 192, 3)
        for mask in view.masks:
            assert view.image[mask].mean() > 200  # the bright square
            assert view.image[~mask].mean() < 140


def test_samples_depend_on_their_number_alone(tiny_coco):
    images = read_data([tiny_coco]).images
    options = {"seed": 3, "batch_size": 2, "size": 128, "length": 10, "focus": {1}}
    first, second = TrainingSet(images, **options), TrainingSet(images, **options)
    first[0]  # must leave no trace
    image, target = first[7]
    again, target_again = second[7]
    assert torch.equal(image, again)
    assert all(torch.equal(target[k], target_again[k]) for k in target)
    assert tuple(image.shape[1:]) in canvases(128)
    assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"])


@pytest.fixture(scope="module")
def tiny(tiny_coco):
    return read_data([tiny_coco])


def test_a_resumed_run_equals_an_undisturbed_one(tiny, tmp_path):
    whole = train(tiny, tmp_path / "whole", CONFIG, focus=["disc"], workers=0)

    class Stopped(Exception):
        pass

    def stop_after_two(step, losses):
        if step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(
            tiny,
            tmp_path / "parts",
            CONFIG,
            focus=["disc"],
            workers=0,
            save_every=1,
            on_step=stop_after_two,
        )
    parts = train(tiny, tmp_path / "parts", CONFIG, focus=["disc"], workers=0)
    a, b = (torch.load(path, weights_only=True) for path in (whole, parts))
    assert a["step"] == b["step"] == 3
    # Step 2 was logged before the stop and again after it: one row each is left, and the losses are the same.
    logs = [(path.parent / "log.csv").read_text().splitlines() for path in (whole, parts)]
    assert logs[0][0].startswith("step,loss_classifier,")
    assert [line.rpartition(",")[0] for line in logs[0]] == [line.rpartition(",")[0] for line in logs[1]]
    for part in ("model", "average"):
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])


@pytest.fixture(scope="module")
def confident(tiny, tmp_path_factory):
    """A checkpoint after one step, made to see objects everywhere so that there is something to compare."""
    path = train(
        tiny,
        tmp_path_factory.mktemp("run"),
        dataclasses.replace(CONFIG, steps=1),
        focus=["square"],
        workers=0,
    )
    state = torch.load(path, weights_only=True)
    state["average"]["module.roi_heads.box_predictor.cls_score.bias"] += torch.tensor([0.0, 8.0, 9.0])
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def exported(confident, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(confident, path, focus=["square"], category_ids=[7])
    return path


def noise(height, width):
    return np.random.default_rng(0).uniform(0, 255, (1, 3, height, width)).astype(np.float32)


def test_export_keeps_the_focus(tiny_coco, confident, exported):
    from crispmask.detectors import load_detector

    detector = load_detector(exported)
    assert detector.categories == {7: "square"}
    found = detector(load(read_data([tiny_coco]).images[0]).image)
    assert found.image_size == (96, 128)
    assert set(found.category_ids.tolist()) == {7}
    assert (np.diff(found.scores) <= 0).all()

    with pytest.raises(ModelError, match="was not trained on cat"):
        load_checkpoint(confident, ["cat"])


def test_keeping_one_class_keeps_its_scores(confident):
    full, names = load_checkpoint(confident)
    reduced, _ = load_checkpoint(confident, ["square"])
    x = torch.randn(5, 512)
    label = names.index("square") + 1
    scores, deltas = full.roi_heads.box_predictor(x)
    other_scores, other_deltas = reduced.roi_heads.box_predictor(x)
    torch.testing.assert_close(scores.softmax(1)[:, label], other_scores.softmax(1)[:, 1])
    torch.testing.assert_close(deltas[:, 4 * label : 4 * label + 4], other_deltas[:, 4:8])


def test_the_check_compares_and_notices(confident, exported, tmp_path):
    import onnx
    from onnx import numpy_helper

    network = InferenceNetwork(load_checkpoint(confident, ["square"])[0]).eval()
    worst = check_export(network, exported, [noise(128, 160)])
    assert worst["compared"] > 10

    graph = onnx.load(str(exported))
    for tensor in graph.graph.initializer:
        if tensor.name.startswith("model.roi_heads.mask_predictor"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2 + 1, tensor.name))
    broken = tmp_path / "broken.onnx"
    onnx.save(graph, str(broken))
    with pytest.raises(ModelError, match="disagrees with torch"):
        check_export(network, broken, [noise(128, 160)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"warmup": 0}, "warmup must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number"),
        ({"size": 100}, "multiple of 32"),
        ({"size": 64}, "size must be at least 96"),
        ({"variant": "lite9"}, "one of lite0, lite1, lite2"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_configurations_that_cannot_be_run(changes, words):
    with pytest.raises(ParamsError, match=words):
        dataclasses.replace(CONFIG, **changes)


def edited(tiny_coco, path, edit):
    """A copy of the annotation file in which `edit` changed something."""
    content = json.loads(tiny_coco[0].read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path, tiny_coco[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_mask_is_one_sentence(tiny_coco, tmp_path, workers):
    def breaks(content):
        for annotation in content["annotations"]:
            annotation["segmentation"] = [[1, 2, 3]]

    source = edited(tiny_coco, tmp_path / "a.json", breaks)
    with pytest.raises(DataError, match=r"instance 0 of .*: polygon 0") as caught:
        train(read_data([source]), tmp_path / "run", CONFIG, workers=workers)
    assert "\n" not in str(caught.value)


def test_a_broken_image_is_one_sentence(tiny_coco, tmp_path):
    for image in tiny_coco[1].iterdir():
        (tmp_path / image.name).write_bytes(image.read_bytes()[:60])
    with pytest.raises(ImageError, match="damaged or cut short") as caught:
        train(read_data([(tiny_coco[0], tmp_path)]), tmp_path / "run", CONFIG, workers=1)
    assert "\n" not in str(caught.value)


def test_data_that_cannot_be_learned_from(tiny_coco, tmp_path):
    with pytest.raises(DataError, match=r"does not exist \(3 of 3 annotated images are missing\)"):
        train(read_data([(tiny_coco[0], tmp_path)]), tmp_path / "run", CONFIG)
    empty = edited(tiny_coco, tmp_path / "empty.json", lambda content: content["annotations"].clear())
    with pytest.raises(DataError, match="nothing to learn from"):
        train(read_data([empty]), tmp_path / "run", CONFIG)
    bare = edited(tiny_coco, tmp_path / "bare.json", lambda content: content["annotations"][0].pop("segmentation"))
    with pytest.raises(DataError, match="has no 'segmentation'"):
        train(read_data([bare]), tmp_path / "run", CONFIG)


def test_devices_that_are_not_there(tiny, tmp_path):
    with pytest.raises(ParamsError, match="torch cannot use the device 'abacus'"):
        train(tiny, tmp_path / "run", CONFIG, device="abacus")
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_cannot_be_continued(tiny, confident, tmp_path):
    with pytest.raises(ModelError, match="holds another network"):
        train(tiny, confident.parent, dataclasses.replace(CONFIG, channels=24))
    whole = confident.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(ModelError, match="is damaged, or not a checkpoint"):
            train(tiny, tmp_path, CONFIG)
        with pytest.raises(ModelError, match="is damaged, or not a checkpoint"):
            load_checkpoint(tmp_path / "checkpoint.pt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="is not a checkpoint"):
        load_checkpoint(tmp_path / "checkpoint.pt")
