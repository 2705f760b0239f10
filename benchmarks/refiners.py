"""The ways people refine masks, on the same coarse masks: time, and IoU with the annotation before and after.

    python benchmarks/refiners.py --annotations instances.json --images FOLDER [--category person] [--limit 20]
        [--detector embedded] [--sweep]

Every annotated object is made as coarse as a detector makes it (28x28 or 14x14 cells over its box, pasted back), or as
a quick annotator (a polygon of few corners, and such a polygon cut anew by GrabCut). Every method gets the same window,
the box plus the context that `CRFParams` take, and one thread. Those that need a trimap get an unknown band in
proportion to the error that was made, which `refine` is not told; --sweep also tries the settings that theirs were
chosen from. Needs `pip install 'crispmask[bench,dev]'`; a peer that is not installed has a row that says so.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from crispmask import CRFParams, Instances, read_image, refine
from crispmask.coco import CocoDataset, segmentation_to_mask
from crispmask.detectors import Detector, load_detector
from crispmask.detectors.paste import paste_window
from crispmask.evaluation.overlap import mask_overlaps
from crispmask.refinement import default_params, read_params

MIN_SIDE = 32  # sqrt of the box area, pixels: below, the cells of a 28x28 grid are as fine as the pixels
POLYGON_TOLERANCE = 0.04  # of sqrt of the box area: people are left with 10 to 20 corners


@dataclass(frozen=True)
class Sample:
    """One object.

    Attributes:
        image: uint8 (H, W, 3).
        truth: bool (H, W), the annotation.
        coarse: `Instances` of one.
        error: how far the coarse edge can be off, pixels.
    """

    image: np.ndarray
    truth: np.ndarray
    coarse: Instances
    error: float

    @property
    def window(self) -> tuple[slice, slice]:
        """The box and its context, as `refine` cuts it."""
        defaults, (height, width) = CRFParams(), self.truth.shape
        x0, y0, x1, y1 = (float(v) for v in self.coarse.boxes[0])
        margin_x = max(defaults.context * (x1 - x0), defaults.context_min)
        margin_y = max(defaults.context * (y1 - y0), defaults.context_min)
        rows = slice(max(0, int(y0 - margin_y)), min(height, math.ceil(y1 + margin_y)))
        return rows, slice(max(0, int(x0 - margin_x)), min(width, math.ceil(x1 + margin_x)))


def grid_mask(truth: Instances, cells: int) -> tuple[Instances, float]:
    """Share of the object in each of cells x cells over its box, pasted back; and half the side of a cell, pixels."""
    box = truth.boxes[0]
    full = Image.fromarray(truth.probability(0))
    shares = np.asarray(full.resize((cells, cells), Image.Resampling.BOX, box=tuple(float(v) for v in box)))
    pasted = paste_window(shares, box, truth.image_size)
    return truth.with_windows([pasted]), _side(box) / cells / 2


def polygon_mask(truth: Instances) -> tuple[Instances, float]:
    """The outlines with all corners dropped that move them by less than the tolerance, in pixels, which is returned."""
    from skimage.measure import approximate_polygon, find_contours

    tolerance = POLYGON_TOLERANCE * _side(truth.boxes[0])
    polygons = []
    for contour in find_contours(np.pad(truth.probability(0), 1), 0.5):
        corners = approximate_polygon(contour - 0.5, tolerance)[:-1, ::-1]  # to x, y of the pixels' corners
        if len(corners) >= 3:
            polygons.append(corners.ravel().tolist())
    mask = segmentation_to_mask(polygons, *truth.image_size)
    return replace(Instances.from_masks(mask), boxes=truth.boxes), tolerance


COARSENERS: dict[str, Callable[[Instances], tuple[Instances, float]]] = {
    "28x28 grid": lambda truth: grid_mask(truth, 28),
    "14x14 grid": lambda truth: grid_mask(truth, 14),
    "coarse polygons": polygon_mask,
}


def _side(box: np.ndarray) -> float:
    return math.sqrt(float((box[2] - box[0]) * (box[3] - box[1])))


GRABCUT = "GrabCut masks"


def grabcut_masks(polygons: list[Sample]) -> Iterator[Sample]:
    """Coarse polygons, cut anew by GrabCut: binary masks with the errors of a colour model."""
    for sample in polygons:
        mask = grabcut(sample, band=0.5, iterations=1)
        if mask.any():
            yield replace(sample, coarse=replace(Instances.from_masks(mask), boxes=sample.coarse.boxes))


# The methods: (sample, settings) -> bool (H, W)


def crispmask_refine(sample: Sample, params: str) -> np.ndarray:
    """`crispmask.refine`."""
    return refine(sample.image, sample.coarse, read_params(params), threads=1).mask(0)


def best_choice(sample: Sample) -> np.ndarray:
    """The oracle: of the mask and the refined mask without the gate, the one nearer to the annotation."""
    ungated = replace(default_params(), gated="none")
    masks = [sample.coarse.mask(0), refine(sample.image, sample.coarse, ungated, threads=1).mask(0)]
    return max(masks, key=lambda mask: sum(mask_overlaps(mask, sample.truth)))


def grabcut(sample: Sample, band: float, iterations: int) -> np.ndarray:
    """OpenCV: colours of either side as mixtures of Gaussians, cut by max-flow; decides on the band only."""
    import cv2

    crop, coarse, inside, outside = _trimap(sample, band)
    if (coarse > 0.5).all():  # no colours of the other side to learn
        return sample.coarse.mask(0)
    labels = np.where(coarse > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[inside], labels[outside] = cv2.GC_FGD, cv2.GC_BGD
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(crop[..., ::-1]), labels, None, *models, iterations, cv2.GC_INIT_WITH_MASK)
    return _full(sample, (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def guided_filter(sample: Sample, radius: float, epsilon: float) -> np.ndarray:
    """OpenCV's ximgproc: probabilities as locally linear functions of the colours; epsilon for colours in [0, 1]."""
    import cv2

    crop, coarse = sample.image[sample.window], sample.coarse.probability(0)[sample.window]
    size = max(1, round(radius * sample.error))
    return _full(sample, cv2.ximgproc.guidedFilter(np.ascontiguousarray(crop), coarse, size, epsilon * 255**2) > 0.5)


def random_walker(sample: Sample, band: float, beta: float, mode: str) -> np.ndarray:
    """scikit-image: the likelier of the two sides to be reached first by a walk that avoids edges."""
    from skimage.segmentation import random_walker

    crop, _, inside, outside = _trimap(sample, band)
    seeds = inside + 2 * outside.astype(np.int64)
    if seeds.all():
        return sample.coarse.mask(0)
    return _full(sample, random_walker(crop, seeds, beta=beta, mode=mode, channel_axis=-1) == 1)


def closed_form(sample: Sample, band: float) -> np.ndarray:
    """PyMatting: closed-form matting (Levin et al.), alpha above one half."""
    from pymatting import estimate_alpha_cf

    return _matting(sample, band, estimate_alpha_cf)


def knn(sample: Sample, band: float) -> np.ndarray:
    """PyMatting: KNN matting (Chen et al.), alpha above one half."""
    from pymatting import estimate_alpha_knn

    return _matting(sample, band, estimate_alpha_knn)


def _matting(sample: Sample, band: float, estimate: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    crop, _, inside, outside = _trimap(sample, band)
    trimap = np.where(inside, 1.0, np.where(outside, 0.0, 0.5))
    return _full(sample, estimate(crop / 255.0, trimap) > 0.5)


def _trimap(sample: Sample, band: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The window's colours and probabilities, and its pixels that lie further than band x error in and out."""
    crop, coarse = sample.image[sample.window], sample.coarse.probability(0)[sample.window]
    size = 2 * max(1, round(band * sample.error)) + 1
    mask = (coarse > 0.5).view(np.uint8)
    return crop, coarse, minimum_filter(mask, size) == 1, maximum_filter(mask, size) == 0


def _full(sample: Sample, mask: np.ndarray) -> np.ndarray:
    full = np.zeros(sample.truth.shape, bool)
    full[sample.window] = mask
    return full


@dataclass(frozen=True)
class Method:
    """A row: what runs, the module and the package that it needs, and its settings, of which the first is reported."""

    name: str
    run: Callable[..., np.ndarray]
    settings: tuple[dict[str, Any], ...]
    module: str = "crispmask"
    package: str = "crispmask"

    @property
    def installed(self) -> bool:
        """Whether its module is there."""
        return importlib.util.find_spec(self.module) is not None


def _grid(first: dict[str, Any], **values: list[Any]) -> tuple[dict[str, Any], ...]:
    """The settings to report, then those that differ from them in one value."""
    return first, *({**first, key: v} for key, tried in values.items() for v in tried if v != first[key])


# Chosen on photos that are not in the published tables (training sets of COCO and Penn-Fudan, 6 photos, 9 objects):
# a wider band costs GrabCut, random walk and matting thin parts such as legs, a narrower one their effect on polygons.
OPENCV = ("cv2", "opencv-contrib-python-headless")
PYMATTING = ("pymatting", "PyMatting")
METHODS = (
    Method("crispmask.refine", crispmask_refine, ({"params": "learned"},)),
    Method("best setting for each mask (oracle)", best_choice, ({},)),
    Method("crispmask.refine, one setting for all", crispmask_refine, ({"params": "fixed"},)),
    Method("crispmask.refine, paper's parameters", crispmask_refine, ({"params": "paper"},)),
    Method(
        "GrabCut (OpenCV)", grabcut, _grid({"band": 0.5, "iterations": 1}, band=[0.25, 1, 2], iterations=[5]), *OPENCV
    ),
    Method(
        "guided filter (OpenCV)",
        guided_filter,
        _grid({"radius": 1, "epsilon": 1e-3}, radius=[0.5, 2, 4], epsilon=[1e-2, 1e-4, 1e-5]),
        *OPENCV,
    ),
    Method(
        "random walker (scikit-image)",
        random_walker,
        _grid({"band": 0.5, "beta": 130, "mode": "bf"}, band=[0.25, 1, 2], beta=[30, 500], mode=["cg_j"]),
        "skimage",
        "scikit-image",
    ),
    Method("closed-form matting (PyMatting)", closed_form, _grid({"band": 0.5}, band=[0.25, 1, 2]), *PYMATTING),
    Method("KNN matting (PyMatting)", knn, _grid({"band": 0.5}, band=[0.25, 1, 2]), *PYMATTING),
)


@dataclass(frozen=True)
class Score:
    """Of one object: CPU seconds, IoU and boundary IoU before and after, and whether the coarse mask had to be kept."""

    seconds: float
    iou: tuple[float, float]
    boundary: tuple[float, float]
    kept: bool


def score(sample: Sample, method: Method, settings: dict[str, Any]) -> Score:
    """Run a method on an object; where it fails or finds nothing the coarse mask is kept, as `refine` does."""
    coarse = sample.coarse.mask(0)
    start = time.process_time()  # of one thread each: other work on the machine does not count
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # PyMatting's remarks would tear the table
            refined = method.run(sample, **settings)
    except ValueError:  # PyMatting, where the band leaves nothing known inside or outside
        refined = np.zeros_like(coarse)
    seconds = time.process_time() - start
    kept = not refined.any()
    pair = coarse, coarse if kept else refined
    ious = [mask_overlaps(mask, sample.truth) for mask in pair]
    return Score(seconds, (ious[0][0], ious[1][0]), (ious[0][1], ious[1][1]), kept)


Photo = tuple[np.ndarray, Instances]


def photos(dataset: CocoDataset, folder: Path, category: str | None, limit: int | None) -> Iterator[Photo]:
    """Images and their annotated objects: the first `limit` that have any of the category and size."""
    wanted = [key for key, name in dataset.categories.items() if category in (None, name)]
    if not wanted:
        raise SystemExit(
            f"{dataset.path} has no category {category!r}; it has {', '.join(dataset.categories.values())}"
        )
    images = 0
    for info in dataset.images.values():
        annotated = dataset.instances(info.id)
        chosen = [
            i
            for i, one in enumerate(annotated)
            if one.category_ids[0] in wanted and _side(one.boxes[0]) >= MIN_SIDE and one.mask(0).any()
        ]
        if chosen and images != limit:
            images += 1
            yield read_image(folder / info.file_name), annotated[chosen]


def degraded(photo: Photo, kind: str) -> Iterator[Sample]:
    """The objects of an image, made coarse."""
    image, annotated = photo
    for one in annotated:
        coarse, error = COARSENERS[kind](one)
        if coarse.mask(0).any():
            yield Sample(image, one.mask(0), coarse, error)


def detected(photo: Photo, detector: Detector) -> Iterator[Sample]:
    """Detections with the annotations whose mask they match with an IoU of one half at least, best score first."""
    image, annotated = photo
    truths = list(annotated.masks())
    for one in detector(image):
        ious = [mask_overlaps(one.mask(0), truth)[0] for truth in truths]
        if ious and max(ious) >= 0.5:
            truth = truths.pop(int(np.argmax(ious)))
            yield Sample(image, truth, one, _side(one.boxes[0]) / 28)


def row(method: Method, settings: dict[str, Any], objects: list[Sample], shown: str) -> str:
    """A line of the table."""
    score(objects[0], method, settings)  # imports, compiles
    scores = [score(sample, method, settings) for sample in objects]
    seconds = statistics.median(s.seconds for s in scores)
    cells = [f"{1000 * seconds:.1f} ms"]
    for values in ([s.iou for s in scores], [s.boundary for s in scores]):
        before, after = 100 * np.mean(values, axis=0)
        cells.append(f"{before:.1f} → {after:.1f}")
    better, worse = (100 * np.mean([sign * (s.iou[1] - s.iou[0]) > 1e-9 for s in scores]) for sign in (1, -1))
    cells.append(f"{better:.0f} / {worse:.0f} %")
    cells.append(str(sum(s.kept for s in scores)))
    return f"| {shown} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True, help="COCO annotation file")
    parser.add_argument("--images", type=Path, required=True, help="folder of its images")
    parser.add_argument("--category", help="only objects of this category")
    parser.add_argument("--limit", type=int, help="number of images; by default all")
    parser.add_argument("--detector", help="also the masks that it finds: 'embedded' or an ONNX file")
    parser.add_argument("--sweep", action="store_true", help="also the settings that were tried and not chosen")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only methods whose name holds one of these texts")
    arguments = parser.parse_args()
    methods = [m for m in METHODS if not arguments.only or any(text in m.name for text in arguments.only)]
    dataset = CocoDataset.from_file(arguments.annotations)
    if importlib.util.find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
    chosen = list(photos(dataset, arguments.images, arguments.category, arguments.limit))
    kinds = {kind: [s for photo in chosen for s in degraded(photo, kind)] for kind in COARSENERS}
    if importlib.util.find_spec("cv2"):
        kinds[GRABCUT] = list(grabcut_masks(kinds["coarse polygons"]))
    if arguments.detector:
        detector = load_detector(arguments.detector)
        kinds[f"detections of {Path(detector.name).name}"] = [s for photo in chosen for s in detected(photo, detector)]
    for kind, objects in kinds.items():
        if not objects:
            print(f"\n{kind}: no object to refine")
            continue
        print(f"\n{kind}, {len(objects)} objects of {MIN_SIDE} px or more\n")
        print(
            "| | median CPU time | IoU | boundary IoU | better / worse | kept |\n| --- | --- | --- | --- | --- | --- |",
        )
        for method in methods:
            if not method.installed:
                print(f"| {method.name} | not measured: {method.package} is not installed | | | | |")
                continue
            for settings in method.settings if arguments.sweep else method.settings[:1]:
                detail = ", ".join(f"{k} {v}" for k, v in settings.items())
                shown = f"{method.name}: {detail}" if arguments.sweep else method.name
                print(row(method, settings, objects, shown), flush=True)


if __name__ == "__main__":
    main()
