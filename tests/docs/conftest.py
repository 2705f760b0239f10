"""What the pages take for granted: the files that their commands name, and the names in their snippets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import crispmask
from crispmask.coco import instances_to_results, mask_to_rle, write_results
from crispmask.formats import convert
from crispmask.samples import sample_images

ROOT = Path(__file__).parents[2]
PHOTO_FOLDERS = (
    "photos",
    "new-photos",
    "more-photos",
    "new",
    "coco/val2017",
    "coco/train2017",
    "penn_fudan/train",
    "val2017",
)
ANNOTATIONS = (
    "instances", "train", "val", "instances_train", "instances_val", "instances_val2017",
    "coco/annotations/instances_train2017", "coco/annotations/instances_val2017",
    "penn_fudan/annotations/instances_train",
)  # fmt: skip
UNREFINED = (
    "results_before", "detections", "sam", "out/coco_instances_results", "out/mmdet.segm",
    "runs/segment/val/predictions",
)  # fmt: skip


class Remembering:
    """The embedded detector, which looks at each photo once: many commands on the same photos take its time."""

    def __init__(self) -> None:
        self._detector = crispmask.load_detector()
        self._found: dict[bytes, crispmask.Instances] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def __call__(self, image: np.ndarray) -> crispmask.Instances:
        key = sha256(image).digest()
        if key not in self._found:
            self._found[key] = self._detector(image)
        return self._found[key]


@pytest.fixture(scope="session")
def detect() -> Remembering:
    return Remembering()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, detect) -> Path:
    """The folder `world`, made once: six small photos with people, under COCO's names, and their masks."""
    folder = tmp_path_factory.mktemp("docs") / "world"
    photos = folder / PHOTO_FOLDERS[0]
    photos.mkdir(parents=True)
    images, before, after = [], [], []
    for image_id, photo in enumerate(variants(), start=139):
        name = f"{image_id:012}.jpg"
        photo.save(photos / name)
        image = crispmask.read_image(photos / name)
        images.append({"id": image_id, "file_name": name, "width": image.shape[1], "height": image.shape[0]})
        found = detect(image).above(0.4)
        before += instances_to_results(found, image_id)
        after += instances_to_results(crispmask.refine(image, found), image_id)
    highest = {r["image_id"]: r for r in sorted(after, key=lambda r: r["score"])}
    assert len(highest) == len(images)
    objects = [
        {**{k: v for k, v in record.items() if k != "score"}, "id": k, "iscrowd": 0}
        for k, record in enumerate(highest.values(), 1)
    ]
    categories = [{"id": key, "name": name} for key, name in detect.categories.items()]
    for name in (*ANNOTATIONS, "images"):
        labels = [] if name == "images" else objects
        content = {"images": images, "categories": categories, "annotations": labels}
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(content))
    write_results(folder / "results.json", after)
    for name in UNREFINED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_results(folder / f"{name}.json", before)
    named = [{**record, "image_id": f"{record['image_id']:012}"} for record in before]  # as Ultralytics names them
    (folder / "runs/segment/val/named.json").write_text(json.dumps(named))
    for name in PHOTO_FOLDERS[1:]:
        shutil.copytree(photos, folder / name)
    convert(folder / "instances.json", folder / "runs/segment/predict", to="yolo")
    convert(folder / "instances.json", folder / "annotations.xml", to="cvat")
    shutil.copy(sample_images()[0], folder / "photo.jpg")
    Image.new("L", (512, 512), 255).save(folder / "mask.png")
    shutil.copy(Path(crispmask.__file__).parent / "detectors/embedded/model.onnx", folder / "model.onnx")
    return folder


def variants() -> Iterator[Image.Image]:
    """The sample photos of one person in colour, mirrored and brightened too, at 256 pixels."""
    for path in (path for path in sample_images() if path.stem in ("astronaut", "grace_hopper")):
        photo = Image.open(path).convert("RGB")
        photo.thumbnail((256, 256))
        yield photo
        yield photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        yield photo.point(lambda value: min(255, value + 20))


@pytest.fixture
def world(prepared: Path, detect: Remembering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the prepared folder, in which the test works, with the repository's scripts."""
    load = crispmask.load_detector
    monkeypatch.setattr(
        "crispmask.detectors.load_detector",
        lambda name="embedded", **options: detect if name == "embedded" else load(name, **options),
    )
    folder = tmp_path / "world"
    shutil.copytree(prepared, folder)
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    monkeypatch.chdir(folder)
    return folder


def everything(photo: np.ndarray) -> list[dict[str, Any]]:
    """What SAM's generator returns, of one thing in the middle of the photo."""
    height, width = photo.shape[:2]
    mask = np.zeros((height, width), bool)
    mask[height // 4 : -height // 4, width // 4 : -width // 4] = True
    box = [width // 4, height // 4, width // 2, height // 2]
    return [{"segmentation": mask_to_rle(mask), "bbox": box, "predicted_iou": 0.97, "stability_score": 0.9}]


@pytest.fixture
def names(world: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the snippets: a photo, two masks on it, energies, and models that found those masks."""
    for name in ("", ".densecrf", ".eigen", ".utils"):  # which the page of the drop-in replaces
        monkeypatch.setitem(sys.modules, f"pydensecrf{name}", None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    image = crispmask.read_image(world / "photo.jpg")
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    masks = np.stack([(x - c) ** 2 + (y - 200) ** 2 < 90**2 for c in (200, 260)])
    boxes = np.array([[110, 110, 291, 291], [170, 110, 351, 291]], np.float32)
    result = SimpleNamespace(
        orig_shape=image.shape[:2],
        boxes=SimpleNamespace(xyxy=boxes, conf=np.array([0.9, 0.8]), cls=np.array([0.0, 0.0])),
        masks=SimpleNamespace(data=masks.astype(np.float32)),
    )
    fields = {
        "scores": np.array([0.9, 0.8]),
        "image_size": image.shape[:2],
        "pred_boxes": SimpleNamespace(tensor=boxes),
    }
    detectron = SimpleNamespace(**fields, pred_classes=np.array([0, 0]), pred_masks=masks)
    openmmlab = SimpleNamespace(bboxes=boxes, scores=np.array([0.9, 0.8]), labels=np.array([0, 0]), masks=masks)
    unary = np.stack([masks[0], ~masks[0]]).astype(np.float32)
    return {
        **{"np": np, "crispmask": crispmask, "image": image, "masks": masks, "mask": masks[0], "unary": unary},
        "model": lambda photo: [result],
        "predictor": lambda photo: {"instances": detectron},
        "detector": None,
        "inference_detector": lambda detector, photo: SimpleNamespace(pred_instances=openmmlab),
        "sam_predictor": SimpleNamespace(predict=lambda **prompts: (masks, np.array([0.9, 0.8]), None)),
        "sam_generator": SimpleNamespace(generate=everything),
    }


@pytest.fixture(scope="session")
def page_server() -> Iterator[Callable[[str], str]]:
    """Starts ``crispmask app ...`` on a free port: its address. Ended as its users end it."""
    running: dict[str, tuple[subprocess.Popen[str], str]] = {}

    def start(command: str) -> str:
        if command not in running:
            words = [sys.executable, "-m", *command.split(), "--no-browser", "--port", "0"]
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            said = process.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert address, f"{command}: {said}"
            running[command] = process, address[0]
        return running[command][1]

    yield start
    for process, _ in running.values():
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
