"""Doors for the labels of other programs."""

from __future__ import annotations

import io
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.fuzz.calls import SIZE, Case
from tests.fuzz.files import altered_text, encoded
from tests.fuzz.mutate import VALUES, damaged

from crispmask.formats import convert

LABELME = {
    "version": "5.5.0", "flags": {}, "imagePath": "a.png", "imageData": None, "imageHeight": 24, "imageWidth": 32,
    "shapes": [{"label": "cat", "shape_type": "polygon", "points": [[1, 1], [9, 1], [9, 9]], "group_id": None}],
}  # fmt: skip
NAMES = "path: .\nnames:\n  0: cat\n  1: dog\n"
YOLO = "0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.2 0.2 0.6 0.2 0.6 0.8 0.9\n"
INDEX = {
    "categories": [{"id": 3, "name": "cat"}],
    "images": [
        {"id": 1, "file_name": "a.jpg", "label_map": "a.png", "objects": [
            {"number": 1, "category_id": 3, "score": 0.5}, {"number": 2, "category_id": 3, "iscrowd": 1}]},
    ],
}  # fmt: skip
CUT = b"\n--- 8< ---\n"
"""Between the files of an input."""


def labelme(dice: random.Random) -> Case:
    def run(file: Path, content: bytes) -> Any:
        labels = file.parent / "labels"
        labels.mkdir()
        (labels / "a.json").write_bytes(content)
        return _as_coco(labels, "labelme")

    return altered_text(LABELME, dice), run


def yolo(dice: random.Random) -> Case:
    parts = [NAMES.encode(), YOLO.encode()]
    which = dice.randrange(3)
    if which == 2:
        words = YOLO.split(" ")
        words[dice.randrange(len(words))] = str(dice.choice((*VALUES, dice.random(), dice.randrange(-2, 5))))
        parts[1] = " ".join(words).encode("utf-8", "surrogatepass")
    else:
        parts[which] = damaged(parts[which], dice)

    def run(file: Path, content: bytes) -> Any:
        names, _, lines = content.partition(CUT)
        images, labels = file.parent / "images", file.parent / "labels"
        images.mkdir()
        (labels / "labels").mkdir(parents=True)
        (images / "a.png").write_bytes(encoded("PNG"))
        (labels / "data.yaml").write_bytes(names)
        (labels / "labels" / "a.txt").write_bytes(lines)
        return _as_coco(labels, "yolo", images)

    return CUT.join(parts), run


@cache
def _map(mode: str) -> bytes:
    numbers = np.zeros(SIZE, np.uint8)
    numbers[2:9, 3:12], numbers[5:20, 15:30] = 1, 2
    buffer = io.BytesIO()
    Image.fromarray(numbers).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def maps(dice: random.Random) -> Case:
    index, picture = json.dumps(INDEX).encode(), _map(dice.choice(("P", "L", "1", "I;16", "RGB")))
    match dice.randrange(3):
        case 0:
            index = b""
            picture = damaged(picture, dice)
        case 1:
            index = altered_text(INDEX, dice)
        case 2:
            picture = damaged(picture, dice)

    def run(file: Path, content: bytes) -> Any:
        listed, _, pixels = content.partition(CUT)
        labels = file.parent / "labels"
        labels.mkdir()
        if listed:
            (labels / "labels.json").write_bytes(listed)
        (labels / "a.png").write_bytes(pixels)
        return _as_coco(labels, "png")

    return index + CUT + picture, run


def _as_coco(labels: Path, kind: str, images: Path | None = None) -> bytes:
    out = labels.with_name("out.json")
    convert(labels, out, to="coco", source_format=kind, images=images)
    return out.read_bytes()
