"""What a search measures: detections refined with some parameters, scored on parts of the photos."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.matching import mask_overlaps, match_results
from crispmask.coco.metrics import evaluate
from crispmask.coco.results import results_to_instances
from crispmask.coco.rle import mask_to_rle, segmentation_to_mask, segmentation_to_rle
from crispmask.errors import DataError, ParamsError
from crispmask.image import read_image
from crispmask.params import CRFParams
from crispmask.refinement import refine_each

Objective = Literal["ap", "boundary-ap", "iou", "boundary-iou"]
LABELS: dict[str, str] = {
    "ap": "mask AP",
    "boundary-ap": "boundary AP",
    "iou": "mean IoU of matched masks",
    "boundary-iou": "mean boundary IoU of matched masks",
}
MIN_IOU = 0.5  # of a detection and the object that it is measured against


@dataclass(frozen=True)
class Scores:
    """The objective, a fraction in [0, 1], on all photos, on those that fit fold k, and on those held out in it."""

    all: float
    fitted: tuple[float, ...]
    held_out: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Photo:
    """A photo, its detections, and, per detection, the truth it is measured against (only for mean objectives)."""

    image_id: int
    path: Path
    records: list[Mapping[str, Any]]
    truths: list[Any]


# Of one photo and one setting: the refined detections, or the overlaps of the matched ones.
_Evidence = list[Any]


class TuningTask:
    """Detections of annotated photos, and the folds of a cross-validation.

    Detections are matched with annotated objects once, unrefined: whatever refinement does to them, they are measured
    against the same objects. Photos are dealt into folds so that each has about as many matched objects.

    Args:
        dataset: the ground truth.
        results: COCO results, checked by `crispmask.coco.read_results`; neither is changed.
        images: folder that the data set's file names are relative to.
        objective: what is maximised: ``"ap"`` and ``"boundary-ap"`` of all detections, or the mean ``"iou"`` or
            ``"boundary-iou"`` of those that match an annotated object by an IoU of 0.5.
        folds: how many parts the photos are dealt into, each held out once; at least 2.
        score: detections below it are left out.
        limit: use only so many of the photos, drawn at random.
        seed: of the draw and of the folds.
        source: what the results are called in errors.

    Attributes:
        photos: image ids, those that count for the objective.
        matches: number of matched detections in them.
        folds: image ids of each fold.

    Raises:
        ParamsError: an unknown objective, or more folds than photos.
        DataError: records that break the format, no match at all, or a file name that leaves the folder.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        results: Sequence[Mapping[str, Any]],
        images: str | Path,
        objective: Objective = "ap",
        *,
        folds: int = 5,
        score: float = 0.0,
        limit: int | None = None,
        seed: int = 0,
        source: str = "results",
    ) -> None:
        if objective not in get_args(Objective):
            raise ParamsError(f"the objective must be one of {', '.join(get_args(Objective))}, got {objective!r}")
        self.dataset, self.objective, self.folder = dataset, objective, Path(images)
        kept = _checked(dataset, results, score, source)
        matches = match_results(dataset, kept, MIN_IOU)
        if not matches:
            raise DataError(
                f"none of the {len(kept)} detections in {source} matches an annotated object in {dataset.path} (same "
                f"image and category, IoU of {MIN_IOU} or more): are these results of these photos?"
            )
        pairs: dict[int, dict[int, int]] = defaultdict(dict)
        for match in matches:
            pairs[match.image_id][match.result] = match.truth
        by_image: dict[int, list[int]] = defaultdict(list)
        for k, record in enumerate(kept):
            by_image[record["image_id"]].append(k)
        self._photos: dict[int, _Photo] = {}
        for image_id, info in dataset.images.items():
            found = by_image[image_id] if self._average_precision else list(pairs[image_id])
            annotated = any(not record["iscrowd"] for record in dataset.annotations[image_id])
            if found or (annotated and self._average_precision):
                truths = [self._truth(image_id, pairs[image_id].get(k)) for k in found]
                path = _inside(self.folder, info.file_name, dataset)
                self._photos[image_id] = _Photo(image_id, path, [kept[k] for k in found], truths)
        self._draw(limit, {key: len(found) for key, found in pairs.items()}, folds, seed)

    def _draw(self, limit: int | None, matches: Mapping[int, int], folds: int, seed: int) -> None:
        """Which photos take part, and in which fold each is held out."""
        order = np.random.default_rng(seed).permutation(sorted(self._photos)).tolist()
        chosen = order[: limit or len(order)]
        if folds < 2:
            raise ParamsError(f"folds must be at least 2, got {folds}")
        if folds > len(chosen):
            raise ParamsError(f"{folds} folds are more than the {len(chosen)} photos that can be used: give fewer")
        self.matches = sum(matches.get(key, 0) for key in chosen)
        if not self.matches:
            raise DataError(f"none of the {len(chosen)} photos drawn has a matched detection: raise the limit")
        self._photos = {key: self._photos[key] for key in sorted(chosen)}
        self.photos = tuple(self._photos)
        dealt = sorted(chosen, key=lambda key: -matches.get(key, 0))  # stable: the draw decides among equals
        self.folds = tuple(tuple(sorted(dealt[k::folds])) for k in range(folds))

    def _truth(self, image_id: int, number: int | None) -> Any:
        """The segmentation of an annotated object; None for a detection that matches none."""
        return None if number is None else self.dataset.annotations[image_id][number].get("segmentation")

    @property
    def _average_precision(self) -> bool:
        return self.objective in ("ap", "boundary-ap")

    def measure(
        self,
        settings: Sequence[CRFParams | None],
        *,
        threads: int | None = None,
        on_photo: Callable[[], None] | None = None,
    ) -> list[Scores]:
        """Refine all detections with each of several parameters, and score them.

        Args:
            settings: the parameters; None stands for no refinement. Those that share lattices save time.
            threads: over the photos; by default one per processor. The scores are the same for any number.
            on_photo: called after each photo.

        Returns:
            One `Scores` per setting.

        Raises:
            ImageError, DataError: a photo that cannot be read or has another size than annotated.
        """
        evidence: dict[int, list[_Evidence]] = {}
        with ThreadPoolExecutor(threads or cpu_count() or 1) as pool:
            coming = pool.map(lambda photo: self._refine(photo, settings), self._photos.values())
            try:
                for image_id, found in zip(self._photos, coming, strict=True):
                    evidence[image_id] = found
                    if on_photo:
                        on_photo()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [self._scores({key: found[k] for key, found in evidence.items()}) for k in range(len(settings))]

    def _refine(self, photo: _Photo, settings: Sequence[CRFParams | None]) -> list[_Evidence]:
        size = self.dataset.images[photo.image_id].size
        if not photo.records:
            return [[] for _ in settings]
        image = read_image(photo.path)
        if image.shape[:2] != size:
            raise DataError(
                f"{photo.path} has {image.shape[1]}x{image.shape[0]} pixels (width x height), {self.dataset.path} says "
                f"{size[1]}x{size[0]}"
            )
        before = results_to_instances(photo.records, *size)
        refined = iter(refine_each(image, before, [params for params in settings if params is not None]))
        sides = [before if params is None else next(refined) for params in settings]
        if self._average_precision:
            return [
                [{**record, "segmentation": mask_to_rle(side.mask(i))} for i, record in enumerate(photo.records)]
                for side in sides
            ]
        truths = [segmentation_to_mask(truth, *size) for truth in photo.truths]
        which = ("iou", "boundary-iou").index(self.objective)
        return [[mask_overlaps(side.mask(i), truth)[which] for i, truth in enumerate(truths)] for side in sides]

    def _scores(self, evidence: Mapping[int, _Evidence]) -> Scores:
        everything = set(self.photos)
        return Scores(
            self._score(evidence, everything),
            tuple(self._score(evidence, everything - set(fold)) for fold in self.folds),
            tuple(self._score(evidence, set(fold)) for fold in self.folds),
        )

    def _score(self, evidence: Mapping[int, _Evidence], image_ids: set[int]) -> float:
        """NaN where these photos have nothing to measure."""
        found = [item for key in self.photos if key in image_ids for item in evidence[key]]
        if self._average_precision:
            kind: Any = "segm" if self.objective == "ap" else "boundary"
            return evaluate(self.dataset, found, kind, image_ids=image_ids)["AP"]
        return float(np.mean(found)) if found else math.nan


def _checked(
    dataset: CocoDataset, results: Sequence[Mapping[str, Any]], score: float, source: str
) -> list[Mapping[str, Any]]:
    """The detections that count, with masks as checked run lengths."""
    kept: list[Mapping[str, Any]] = []
    for k, record in enumerate(results):
        if record["image_id"] not in dataset.images:
            raise DataError(f"{source}: result {k}: {dataset.path} has no image with the id {record['image_id']!r}")
        if record["score"] < score or record["category_id"] not in dataset.categories:
            continue
        try:
            rle = segmentation_to_rle(record.get("segmentation"), *dataset.images[record["image_id"]].size)
        except DataError as error:
            raise DataError(f"{source}: result {k}: {error}") from None
        kept.append({**record, "segmentation": rle})
    return kept


def _inside(folder: Path, name: str, dataset: CocoDataset) -> Path:
    path = Path(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{dataset.path}: the file name {name!r} leaves the image folder")
    return folder / path


def batches(points: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive parts of at most `size`."""
    return (points[start : start + size] for start in range(0, len(points), size))
