"""What a search measures: detections refined with some parameters, scored on parts of the images."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from crispmask.arguments import thread_count
from crispmask.coco.dataset import CocoDataset
from crispmask.coco.rle import segmentation_to_mask, window_to_rle
from crispmask.errors import DataError, ParamsError
from crispmask.evaluation.detected_images import DetectedImages
from crispmask.evaluation.matching import match_results
from crispmask.evaluation.metrics import average_precision
from crispmask.evaluation.overlap import mask_overlaps
from crispmask.params import CRFParams
from crispmask.refinement import Params, refine_each, refine_instances
from crispmask.threads import interruptible_pool

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
    """The objective, a fraction in [0, 1], on all images, on those that fit fold k, and on those held out in it."""

    all: float
    fitted: tuple[float, ...]
    held_out: tuple[float, ...]


# Of one image and one setting: the refined records, or the overlaps of the matched ones.
_Evidence = list[Any]


class TuningTask:
    """Detections of annotated images, and the folds of a cross-validation.

    Detections are matched with annotated objects once, unrefined: whatever refinement does to them, they are measured
    against the same objects. The folds have about equally many matched objects.

    Args:
        dataset: the ground truth.
        results: COCO results, checked by `crispmask.coco.read_results`; neither is changed.
        images: folder that the data set's file names are relative to.
        objective: what is maximised: ``"ap"`` and ``"boundary-ap"`` of all detections, over the categories that any of
            them has, or the mean ``"iou"`` or ``"boundary-iou"`` of those that match an annotated object by an IoU of
            0.5.
        folds: how many parts the images are divided into, each held out once; at least 2.
        score: detections below it are left out.
        limit: use only so many of the images, drawn at random.
        seed: of the draw and of the folds.
        source: what the results are called in errors.

    Attributes:
        image_ids: the images that count for the objective.
        matches: number of matched detections in them.
        folds: image ids of each fold.

    Raises:
        ParamsError: an unknown objective, or more folds than images.
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
        self.dataset, self.objective = dataset, objective
        self._detected = DetectedImages(dataset, results, images, score=score, source=source)
        kept = self._detected.records
        # Categories that the detector does not have stay at an AP of 0: they would only make every difference smaller.
        self._categories = sorted({record["category_id"] for record in kept})
        matches = match_results(dataset, kept, MIN_IOU)
        if not matches:
            raise DataError(
                f"none of the {len(kept)} detections in {source} matches an annotated object in {dataset.path} (same "
                f"image and category, IoU of {MIN_IOU} or more): are these results of these images?"
            )
        # By image and record, the number of the annotation that it matches.
        self._matches: dict[int, dict[int, int]] = defaultdict(dict)
        for match in matches:
            self._matches[match.image_id][match.result] = match.annotation
        if self._average_precision:
            annotated = {k for k, found in dataset.annotations.items() if not all(one["iscrowd"] for one in found)}
            found = self._detected.by_image()
            self._numbers = {key: found.get(key, []) for key in sorted({*annotated, *found})}
        else:
            self._numbers = {key: list(self._matches[key]) for key in sorted(self._matches)}
        self._draw(limit, folds, seed)

    def _draw(self, limit: int | None, folds: int, seed: int) -> None:
        """Which images take part, and in which fold each is held out."""
        matches = {key: len(found) for key, found in self._matches.items()}
        order = np.random.default_rng(seed).permutation(list(self._numbers)).tolist()
        chosen = order[: limit or len(order)]
        if folds < 2:
            raise ParamsError(f"folds must be at least 2, got {folds}")
        if folds > len(chosen):
            raise ParamsError(f"{folds} folds are more than the {len(chosen)} images that can be used: give fewer")
        self.matches = sum(matches.get(key, 0) for key in chosen)
        if not self.matches:
            raise DataError(f"none of the {len(chosen)} images drawn has a matched detection: raise the limit")
        self.image_ids = tuple(sorted(chosen))
        ranked = sorted(chosen, key=lambda key: -matches.get(key, 0))  # stable: the draw decides among equals
        self.folds = tuple(tuple(sorted(ranked[k::folds])) for k in range(folds))

    @property
    def _average_precision(self) -> bool:
        return self.objective in ("ap", "boundary-ap")

    def measure(
        self,
        settings: Sequence[Params | None],
        *,
        threads: int | None = None,
        on_image: Callable[[], None] | None = None,
    ) -> list[Scores]:
        """Refine all detections with each of several parameters, and score them.

        Args:
            settings: the parameters; None stands for no refinement. `CRFParams` that share lattices save time.
            threads: over the images; by default one per processor. The scores are the same for any number.
            on_image: called after each image.

        Returns:
            One `Scores` per setting.

        Raises:
            ImageError, DataError: an image that cannot be read or has another size than annotated.
        """
        evidence: dict[int, list[_Evidence]] = {}
        with interruptible_pool(thread_count(threads)) as pool:
            coming = pool.map(lambda image_id: self._refine(image_id, settings), self.image_ids)
            for image_id, found in zip(self.image_ids, coming, strict=True):
                evidence[image_id] = found
                if on_image:
                    on_image()
        return [self._scores({key: found[k] for key, found in evidence.items()}) for k in range(len(settings))]

    def _refine(self, image_id: int, settings: Sequence[Params | None]) -> list[_Evidence]:
        numbers = self._numbers[image_id]
        if not numbers:
            return [[] for _ in settings]
        image, before = self._detected.read(image_id), self._detected.instances(image_id, numbers)
        fixed = [params for params in settings if isinstance(params, CRFParams)]
        refined = iter(refine_each(image, before, fixed))
        sides = []
        for params in settings:
            if isinstance(params, CRFParams):
                sides.append(next(refined))
            else:
                sides.append(before if params is None else refine_instances(image, before, params, threads=1)[0])
        if self._average_precision:
            records = [self._detected.records[k] for k in numbers]
            return [
                [
                    {**record, "segmentation": window_to_rle(window, *side.image_size)}
                    for record, window in zip(records, side.windows, strict=True)
                ]
                for side in sides
            ]
        annotations = self.dataset.annotations[image_id]
        truths = [
            segmentation_to_mask(annotations[self._matches[image_id][k]]["segmentation"], *before.image_size)
            for k in numbers
        ]
        which = ("iou", "boundary-iou").index(self.objective)
        return [[mask_overlaps(side.mask(i), truth)[which] for i, truth in enumerate(truths)] for side in sides]

    def _scores(self, evidence: Mapping[int, _Evidence]) -> Scores:
        everything = set(self.image_ids)
        return Scores(
            self._score(evidence, everything),
            tuple(self._score(evidence, everything - set(fold)) for fold in self.folds),
            tuple(self._score(evidence, set(fold)) for fold in self.folds),
        )

    def _score(self, evidence: Mapping[int, _Evidence], image_ids: set[int]) -> float:
        """NaN where these images have nothing to measure."""
        found = [item for key in self.image_ids if key in image_ids for item in evidence[key]]
        if self._average_precision:
            kind: Any = "segm" if self.objective == "ap" else "boundary"
            return average_precision(self.dataset, found, kind, category_ids=self._categories, image_ids=image_ids)[
                "AP"
            ]
        return float(np.mean(found)) if found else math.nan


def batches(points: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive parts of at most `size`."""
    return (points[start : start + size] for start in range(0, len(points), size))
