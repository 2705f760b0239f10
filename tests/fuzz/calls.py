"""Doors of the Python interface: public functions with arguments of wrong kinds, sizes and values."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.mutate import NUMBERS, text

from crispmask import (
    Bilateral,
    CRFParams,
    DenseCRF,
    Gaussian,
    Instances,
    Kernel,
    Segmenter,
    Window,
    evaluate,
    load_detector,
    read_image,
    refine,
    refine_volume,
    show,
)
from crispmask.coco import CocoDataset
from crispmask.detectors import select
from crispmask.errors import CrispmaskError
from crispmask.pydensecrf import densecrf, utils
from crispmask.refinement.prompts import from_boxes

Case = tuple[bytes, Callable[[Path, bytes], Any]]
"""The input, and what is done with a file of it."""

SIZE = (24, 32)
PARAMS = CRFParams(iterations=2)
TRUTH = {
    "images": [{"id": 1, "file_name": "a.png", "height": 24, "width": 32}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [4, 4, 12, 10], "area": 120.0,
         "segmentation": [[4, 4, 16, 4, 16, 14, 4, 14]]},
        {"id": 2, "image_id": 1, "category_id": 2, "iscrowd": 1, "bbox": [29, 4, 3, 20], "area": 68.0,
         "segmentation": {"size": [24, 32], "counts": [700, 68]}},
    ],
}  # fmt: skip
RESULTS = [
    {"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [4, 4, 12, 10], "segmentation": [[5, 4, 16, 4, 16, 14]]},
    {"image_id": 1, "category_id": 2, "score": 0.3, "bbox": [20, 4, 10, 16],
     "segmentation": {"size": [24, 32], "counts": "T?`0800000000000000000\\1"}},
]  # fmt: skip
MASK = np.zeros(SIZE, bool)
MASK[5:15, 5:20] = True
UNARY = np.stack([MASK, ~MASK]).astype(np.float32)
TWO = Instances.from_masks(np.stack([MASK, np.roll(MASK, 5, 1)]), scores=[0.9, 0.4])


@cache
def photo() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(60, 90, (*SIZE, 3))
    pixels[6:16, 6:20] += 100
    return pixels.astype(np.uint8)


class Finder:
    """A detector that finds the same object everywhere."""

    name, checksum, categories = "finder", "0" * 64, {1: "cat", 2: "dog"}

    def __call__(self, image: np.ndarray) -> Instances:
        mask = np.zeros(image.shape[:2], bool)
        mask[image.shape[0] // 4 :, : max(1, image.shape[1] // 2)] = True
        return Instances.from_masks(mask, scores=[0.8])


ODD: list[Any] = [
    None, "2", b"x", {}, [], [[1], [1, 2]], [1, [2]], float("inf"), float("nan"), -1, 0, 2**70, 1e308, 1.5, True,
    np.array("x"), np.array(None), np.zeros(0), np.zeros((1, 2, 3, 4)), 1j, (1, 2), {"a": 1}, [None], set(),
    np.full(SIZE, np.nan), np.full(SIZE, 1e38, np.float32), np.zeros((*SIZE, 3), np.uint16),
    np.ones(SIZE, bool)[:, ::2], "a\0b", "\ud800", b"\xff", {1: "cat"}, [1.5, "x"], range(3), TWO, 10**400,
    ["cat"], "cat,dog", [0, 0, 5, 5], [5, 5, 0, 0], np.datetime64("2020-01-01"), np.float16(3), -0.0,
]  # fmt: skip
KINDS = ("bool", "uint8", "int64", "float16", "float32", "float64", "complex64", "object", "U3", "uint64")


def arrays(dice: random.Random) -> Case:
    """A call of a function in which some arguments are others than they should be."""
    return _chosen(CALLS, dice), _called


def drop_in(dice: random.Random) -> Case:
    return _chosen(DROP_IN, dice), _called


def _chosen(calls: dict[str, tuple[Callable[..., Any], list[Any]]], dice: random.Random) -> bytes:
    name = dice.choice(list(calls))
    return text([name, [_odd(dice) if dice.random() < 0.5 else None for _ in calls[name][1]]])


def _odd(dice: random.Random) -> Any:
    """What stands for an odd value in an input: its place in `ODD`, a number, or kind, shape and values of an array."""
    match dice.randrange(3):
        case 0:
            return dice.randrange(len(ODD))
        case 1:
            return ["number", dice.choice((dice.uniform(-2, 40), dice.randrange(-3, 40), 10 ** dice.uniform(-40, 40)))]
    shape = [max(0, side + dice.choice((0, 0, 0, 0, -1, 1))) for side in dice.choice(((), (2,), (4,), (1, 4), SIZE))]
    extra = dice.choice(((), (), (), (2,), (3,), (2, 768)))
    shape = [*extra, *shape] if dice.random() < 0.5 else [*shape, *extra]
    return ["array", dice.choice(KINDS), shape[:3], dice.choice((0.0, 1.0, 3.0, *NUMBERS)), dice.randrange(2**31)]


def _value(odd: Any) -> Any:
    if isinstance(odd, int):
        return ODD[odd]
    if odd[0] == "number":
        return odd[1]
    _, kind, shape, fill, seed = odd
    made = np.random.default_rng(seed).integers(0, 3, shape).astype(object)
    if seed % 2 and made.size:
        made.flat[seed % made.size] = fill
    with np.errstate(all="ignore"):
        try:
            return made.astype(kind)
        except (OverflowError, TypeError, ValueError):
            return made


def _called(file: Path, content: bytes) -> Any:
    name, chosen = json.loads(content)
    function, good = {**CALLS, **DROP_IN}[name]
    return function(*(value if odd is None else _value(odd) for value, odd in zip(good, chosen, strict=True)))


def _few(iterations: Any) -> Any:
    """Refuses what would rightly take long."""
    if isinstance(iterations, int | float) and iterations > 100:
        raise CrispmaskError("takes as long as it is told")
    return iterations


def _crf(unary: Any, theta: Any, weight: Any, iterations: Any, threads: Any, compatibility: Any) -> Any:
    kernels = [Bilateral(photo(), theta_alpha=theta, theta_beta=5, weight=weight), Gaussian(theta, weight)]
    return DenseCRF(unary, kernels, compatibility).run(_few(iterations), threads=threads).marginals


@cache
def _truth() -> CocoDataset:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "truth.json"
        file.write_bytes(text(TRUTH))
        return CocoDataset.from_file(file)


def _evaluated(results: Any, categories: Any, all_categories: Any, bootstrap: Any, seed: Any) -> Any:
    options = {"categories": categories, "all_categories": all_categories, "bootstrap": _few(bootstrap), "seed": seed}
    return evaluate(_truth(), results, **options).to_dict()


def _drawn(image: Any, before: Any, after: Any, titles: Any, names: Any, labels: Any) -> Any:
    return np.asarray(show(image, before, after, titles=titles, names=names, labels=labels))


def _found(score: Any, classes: Any, tiles: Any) -> Any:
    if isinstance(tiles, int | float) and tiles > 4:
        raise CrispmaskError("takes as long as it is told")
    return select(Finder(), score=score, classes=classes, tiles=tiles)(photo())


def _segmented(detector: Any, params: Any, score: Any, image: Any, threads: Any) -> Any:
    return Segmenter(detector, params=params, score=score, threads=threads)(image)


CALLS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "refine": (lambda i, m, p, j: refine(i, m, p, threads=1, joint=j), [photo(), MASK, PARAMS, False]),
    "threads": (lambda t: refine(photo(), MASK, PARAMS, threads=t), [1]),
    "boxes": (lambda b, s, c: from_boxes(b, SIZE, scores=s, category_ids=c), [[[4, 4, 20, 16]], None, None]),
    "window": (Window, [MASK, 0, 0]),
    "over": (lambda r: TWO.windows[0].over(r), [(0, 0, 5, 5)]),
    "scale": (TWO.scale, [0]),
    "mask": (lambda i, j: TWO.mask(i) | (TWO.probability(j) > 0), [0, 1]),
    "above": (lambda s, w: TWO.above(s).with_windows(w), [0.95, []]),
    "concatenate": (Instances.concatenate, [[TWO, TWO]]),
    "masks": (
        lambda m, b, s, c: Instances.from_masks(m, boxes=b, scores=s, category_ids=c),
        [MASK, None, None, None],
    ),
    "instances": (Instances, [TWO.image_size, TWO.boxes, TWO.scores, TWO.category_ids, TWO.windows]),
    "params": (lambda v: CRFParams.from_dict({"theta_alpha": v}), [3]),
    "crf": (_crf, [UNARY, 3.0, 1.0, 2, 1, None]),
    "kernel": (
        lambda f, w, n: DenseCRF(UNARY, [Kernel(f, w, normalization=n)]).run(2).marginals,
        [np.stack(np.mgrid[:24, :32]).astype(np.float32) / 3, 1.0, "symmetric"],
    ),
    "probabilities": (
        lambda p, k: DenseCRF.from_probabilities(p, k).run(1).labels,
        [UNARY * 0.8 + 0.1, [Gaussian(2.0, 1.0)]],
    ),
    "labels": (
        lambda y, n, c, u: DenseCRF.from_labels(y, n, [Gaussian(2.0, 1.0)], confidence=c, unknown=u).run(1).labels,
        [MASK.astype(np.int64), 2, 0.7, None],
    ),
    "energy": (lambda y: DenseCRF(UNARY, [Gaussian(2.0, 1.0)]).energy(y), [MASK.astype(np.int64)]),
    "volume": (
        lambda v, m, a, b, s: refine_volume(v, m, theta_alpha=a, theta_beta=b, spacing=s, iterations=1),
        [np.linspace(0, 1, 150).reshape(3, 5, 10), np.arange(150).reshape(3, 5, 10) % 10 > 4, 2.0, 0.2, (1, 1, 1)],
    ),
    "evaluate": (_evaluated, [RESULTS, None, False, 0, 0]),
    "show": (_drawn, [photo(), TWO, None, ("a", "b"), None, None]),
    "select": (_found, [0.5, None, 1]),
    "detector": (
        lambda n, s, c, t, th, d, h: load_detector(n, score=s, classes=c, tiles=t, threads=th, device=d, half=h).name,
        ["no such file.onnx", 0.5, None, 1, 0, None, False],
    ),
    "segmenter": (_segmented, [Finder(), PARAMS, 0.5, photo(), 1]),
    "read": (read_image, ["no such file.png"]),
}


def _drop_in(unary: Any, sxy: Any, srgb: Any, image: Any, compat: Any) -> Any:
    crf = densecrf.DenseCRF2D(SIZE[1], SIZE[0], 2)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=sxy, compat=compat)
    crf.addPairwiseBilateral(sxy=sxy, srgb=srgb, rgbim=image, compat=compat)
    return np.array(crf.inference(2))


def _features(size: Any, labels: Any, unary: Any, features: Any, compat: Any, kernel: Any, normalization: Any) -> Any:
    with suppress(TypeError, ValueError, OverflowError):
        if not (abs(float(size)) < 1e4 and abs(float(labels)) < 1e4):
            raise CrispmaskError("takes as much memory as it is told")
    crf = densecrf.DenseCRF(size, labels)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseEnergy(features, compat, kernel, normalization)
    q, one, other = crf.startInference()
    crf.stepInference(q, one, other)
    return np.append(np.array(q), crf.klDivergence(q))


def _labels(labels: Any, count: Any, *rest: Any) -> Any:
    with suppress(TypeError, ValueError, OverflowError):
        if not abs(float(count)) < 1e4:
            raise CrispmaskError("takes as much memory as it is told")
    return utils.unary_from_labels(labels, count, *rest)


def _plain(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, whose answer may be infinite or NaN as that of the original: it computes with whatever it is given."""
    return lambda *given: call(*given).tobytes()


DROP_IN: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "drop-in": (_drop_in, [UNARY.reshape(2, -1), 3, 5, photo(), 2]),
    "drop-in features": (
        _features,
        [768, 2, UNARY.reshape(2, -1), np.mgrid[:24, :32].reshape(2, -1).astype(np.float32), 3, 1, 1],
    ),
    "drop-in labels": (_plain(_labels), [MASK.astype(np.int64) + 1, 2, 0.7, True]),
    "drop-in softmax": (_plain(utils.unary_from_softmax), [UNARY * 0.8 + 0.1, None, 1e-5]),
    "drop-in pairs": (_plain(utils.create_pairwise_bilateral), [(3, 3), (5,), photo(), 2]),
}
DROP_IN_ERRORS = (TypeError, AttributeError, ValueError, IndexError, AssertionError, ZeroDivisionError, OverflowError)
"""What the original raises, and the drop-in documents."""


def warm() -> None:
    """Call everything with good arguments."""
    for name, (function, good) in CALLS.items():
        if name not in ("detector", "read"):  # no such files
            function(*good)


def warm_drop_in() -> None:
    """The same."""
    for function, good in DROP_IN.values():
        function(*good)
