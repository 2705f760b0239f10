"""The doors: each takes a source of chance, and gives the input and a call that must be refused well or answered."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.fuzz.mutate import VALUES, altered, damaged

from crispmask import CRFParams, DenseCRF, Gaussian, Instances, Window, evaluate, read_image, refine
from crispmask.coco import CocoDataset, read_results, results_to_instances
from crispmask.crf import Bilateral
from crispmask.errors import CrispmaskError
from crispmask.formats import convert
from crispmask.pydensecrf import densecrf
from crispmask.refinement.named import read_params

Case = tuple[bytes, Callable[[Path, bytes], Any]]
"""The input as bytes, and what is done with a file of it, which lies in a folder of its own."""

PARAMS = CRFParams(iterations=2)
SIZE = (24, 32)
TRUTH = {
    "images": [{"id": 1, "file_name": "a.png", "height": 24, "width": 32}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [4, 4, 12, 10], "area": 120.0,
         "segmentation": [[4, 4, 16, 4, 16, 14, 4, 14]]},
        {"id": 2, "image_id": 1, "category_id": 2, "iscrowd": 1,
         "segmentation": {"size": [24, 32], "counts": [700, 68]}},
    ],
}  # fmt: skip
RESULTS = [
    {"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [4, 4, 12, 10], "segmentation": [[5, 4, 16, 4, 16, 14]]},
    {"image_id": 1, "category_id": 2, "score": 0.3, "segmentation": {"size": [24, 32], "counts": "P1n00h0"}},
]  # fmt: skip
LABELME = {
    "version": "5.5.0", "flags": {}, "imagePath": "a.png", "imageData": None, "imageHeight": 24, "imageWidth": 32,
    "shapes": [{"label": "cat", "shape_type": "polygon", "points": [[1, 1], [9, 1], [9, 9]], "group_id": None}],
}  # fmt: skip
YOLO = "0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.2 0.2 0.6 0.2 0.6 0.8 0.9\n"
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


@cache
def photo() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(60, 90, (*SIZE, 3))
    pixels[6:16, 6:20] += 100
    return pixels.astype(np.uint8)


@cache
def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, kind)
    return buffer.getvalue()


def image(dice: random.Random) -> Case:
    return damaged(encoded(dice.choice(IMAGE_FORMATS)), dice), lambda file, _: read_image(file)


def _altered(value: Any, dice: random.Random) -> bytes:
    content = text(altered(value, dice))
    return damaged(content, dice) if dice.random() < 0.3 else content


def annotations(dice: random.Random) -> Case:
    return _altered(TRUTH, dice), lambda file, _: CocoDataset.from_file(file).instances(1, crowds=True)


def results(dice: random.Random) -> Case:
    return _altered(RESULTS, dice), lambda file, _: results_to_instances(read_results(file), *SIZE)


def scores(dice: random.Random) -> Case:
    def run(file: Path, content: bytes) -> Any:
        truth = file.with_name("truth.json")
        truth.write_bytes(text(TRUTH))
        return evaluate(truth, file).to_dict()

    return _altered(RESULTS, dice), run


def labelme(dice: random.Random) -> Case:
    def run(file: Path, content: bytes) -> Any:
        (file.parent / "in").mkdir(exist_ok=True)
        (file.parent / "in" / "a.json").write_bytes(content)
        out = file.parent / "out.json"
        convert(file.parent / "in", out, to="coco", source_format="labelme")
        return out.read_bytes()

    return _altered(LABELME, dice), run


def toml(dice: random.Random) -> Case:
    values = dict(CRFParams().as_dict())
    values[dice.choice(list(values))] = dice.choice(VALUES)
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    content = "\n".join(lines).encode()
    return (damaged(content, dice) if dice.random() < 0.6 else content), lambda file, _: read_params(file)


def arrays(dice: random.Random) -> Case:
    """Arguments of public functions, one of which has a wrong kind, size or value."""
    call = dice.choice(list(CALLS))
    arguments = [dice.choice([None, dice.randrange(len(ODD))]) for _ in range(CALLS[call][1])]
    return text([call, arguments]), _called


def _called(file: Path, content: bytes) -> Any:
    name, chosen = json.loads(content)
    function, _, good = CALLS[name]
    return function(*(value if k is None else ODD[k] for value, k in zip(good, chosen, strict=True)))


ODD: list[Any] = [
    None, "2", b"x", {}, [], [[1], [1, 2]], [1, [2]], float("inf"), float("nan"), -1, 0, 2**70, 1e308, 1.5, True,
    np.array("x"), np.array(None), np.zeros(0), np.zeros((1, 2, 3, 4)), 1j, (1, 2), {"a": 1}, [None], set(),
    np.full(SIZE, np.nan), np.full(SIZE, 1e38, np.float32), np.zeros((*SIZE, 3), np.uint16),
    np.ones(SIZE, bool)[:, ::2],
]  # fmt: skip


def _crf(unary: Any, theta: Any, weight: Any, iterations: Any, threads: Any) -> Any:
    if isinstance(iterations, int) and iterations > 100:
        raise CrispmaskError("takes as long as it is told")
    kernels = [Bilateral(photo(), theta_alpha=theta, theta_beta=5, weight=weight), Gaussian(theta, weight)]
    return DenseCRF(unary, kernels).run(iterations, threads=threads).marginals


def _drop_in(unary: Any, sxy: Any, compat: Any) -> Any:
    crf = densecrf.DenseCRF2D(SIZE[1], SIZE[0], 2)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=sxy, compat=compat)
    crf.addPairwiseBilateral(sxy=sxy, srgb=5, rgbim=photo(), compat=compat)
    return np.array(crf.inference(2))


MASK = np.zeros(SIZE, bool)
MASK[5:15, 5:20] = True
UNARY = np.stack([MASK, ~MASK]).astype(np.float32)
CALLS: dict[str, tuple[Callable[..., Any], int, list[Any]]] = {
    "refine": (lambda i, m, p: refine(i, m, p, threads=1), 3, [photo(), MASK, PARAMS]),
    "threads": (lambda t: refine(photo(), MASK, PARAMS, threads=t), 1, [1]),
    "boxes": (lambda b: refine(photo(), boxes=b, params=PARAMS, threads=1), 1, [[[4, 4, 20, 16]]]),
    "window": (Window, 3, [MASK, 0, 0]),
    "masks": (lambda m, b, s, c: Instances.from_masks(m, boxes=b, scores=s, category_ids=c), 4, [MASK] + [None] * 3),
    "params": (lambda v: CRFParams.from_dict({"theta_alpha": v}), 1, [3]),
    "crf": (_crf, 5, [UNARY, 3.0, 1.0, 2, 1]),
    "drop-in": (_drop_in, 3, [UNARY.reshape(2, -1), 3, 2]),
}
DOORS: dict[str, Callable[[random.Random], Case]] = {
    "image": image, "annotations": annotations, "results": results, "scores": scores, "labelme": labelme, "toml": toml,
    "arrays": arrays,
}  # fmt: skip
