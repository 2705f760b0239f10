"""The annotated objects that a run learns from, and what a detector found of them. Masks stay run-length encoded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco import CocoDataset
from crispmask.coco.images import ImageFolder, read_sized
from crispmask.coco.results import read_results
from crispmask.coco.rle import segmentation_to_rle
from crispmask.errors import CrispmaskError, DataError

LEAST_AREA = 16**2
"""Pixels; the edge of a smaller object cannot be seen."""

LEAST_IOU, LEAST_SCORE = 0.4, 0.1
"""A detection and an object are a pair from this mask IoU and this score on."""

Rle = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """An annotated set of images.

    Attributes:
        annotations: COCO annotation file.
        images: folder of its images.
        results: COCO results of a detector on them, or None.
    """

    annotations: Path
    images: Path
    results: Path | None = None


@dataclass(frozen=True)
class SourceImage:
    """An image: its file, its (H, W) in pixels, its number among all images, the number of its source."""

    path: Path
    size: tuple[int, int]
    number: int
    source: int

    def read(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) RGB; DataError or ImageError where it cannot be used."""
        return read_sized(self.path, self.size)


@dataclass(frozen=True, eq=False)
class AnnotatedObject:
    """An object of an image.

    Attributes:
        image: where it is.
        rle: its mask.
        box: x0, y0, x1, y1 of the mask, pixels, half-open.
        others: the masks of the other objects of the image.
        found: a detector's masks of it, with their scores.
    """

    image: SourceImage
    rle: Rle
    box: tuple[float, float, float, float]
    others: tuple[Rle, ...]
    found: tuple[tuple[Rle, float], ...] = ()


def decode(rles: Sequence[Rle], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Union of masks as uint8 (H, W) of 0 and 1."""
    from faster_coco_eval.core import mask as api

    if not rles:
        return np.zeros(size, np.uint8)
    whole: NDArray[np.uint8] = api.decode(rles[0] if len(rles) == 1 else api.merge(list(rles)))
    return whole


def read_objects(sources: Sequence[Source], least_area: float = LEAST_AREA) -> list[AnnotatedObject]:
    """The objects of all sources that are large enough, without crowds.

    Args:
        sources: annotated sets of images.
        least_area: pixels.

    Raises:
        DataError: files that cannot be used, or that hold nothing to learn from.
    """
    objects: list[AnnotatedObject] = []
    numbered = 0
    for k, source in enumerate(sources):
        dataset = CocoDataset.from_file(source.annotations)
        folder = ImageFolder(source.images, dataset)
        found = _detections(dataset, source.results) if source.results else {}
        for key, info in dataset.images.items():
            rles = _rles(dataset, key)
            if rles:
                image = SourceImage(folder.path(key), info.size, numbered, k)
                numbered += 1
                objects += _objects(image, rles, {n: found.get((key, n), ()) for n in rles}, least_area)
    if not objects:
        names = ", ".join(str(source.annotations) for source in sources)
        raise DataError(f"{names}: no annotated object of at least {least_area:g} pixels to learn from")
    return objects


def split(
    objects: Sequence[AnnotatedObject], share: float, seed: int
) -> tuple[list[AnnotatedObject], list[AnnotatedObject]]:
    """Objects to train on, and those of the share of each source's images that is held out.

    Raises:
        DataError: fewer than two images to hold out or to train on.
    """
    held: set[int] = set()
    for source in sorted({one.image.source for one in objects}):
        numbers = sorted({one.image.number for one in objects if one.image.source == source})
        count = min(len(numbers) - 1, max(2, round(share * len(numbers))))
        held |= {int(n) for n in np.random.default_rng((seed, source)).permutation(numbers)[: max(0, count)]}
    seen = [one for one in objects if one.image.number not in held]
    unseen = [one for one in objects if one.image.number in held]
    if not seen or len(held) < 2:
        raise DataError("there are objects on too few images to hold some of them out: give at least three")
    return seen, unseen


def chances(objects: Sequence[AnnotatedObject]) -> NDArray[np.float64]:
    """How often each object is drawn, float64 (N,) with the sum 1.

    A source counts by the root of its size: a small, exact one is not drowned by a large one.
    """
    of = np.array([one.image.source for one in objects])
    weights = np.bincount(of)[of] ** -0.5
    return weights / weights.sum()


def _objects(
    image: SourceImage,
    rles: Mapping[int, Rle],
    found: Mapping[int, tuple[tuple[Rle, float], ...]],
    least_area: float,
) -> list[AnnotatedObject]:
    from faster_coco_eval.core import mask as api

    made = []
    for n, rle in rles.items():
        if float(api.area(rle)) >= least_area:
            x, y, w, h = (float(v) for v in api.toBbox(rle))
            others = tuple(other for k, other in rles.items() if k != n)
            made.append(AnnotatedObject(image, rle, (x, y, x + w, y + h), others, found[n]))
    return made


def _rles(dataset: CocoDataset, key: int) -> dict[int, Rle]:
    """Masks of an image's objects by the number of their annotation."""
    info = dataset.images[key]
    made: dict[int, Rle] = {}
    for n, record in enumerate(dataset.annotations[key]):
        if not record["iscrowd"]:
            try:
                made[n] = segmentation_to_rle(record.get("segmentation"), *info.size)
            except CrispmaskError as error:
                raise DataError(
                    f"{dataset.path}: annotation {record.get('id')!r} of {info.file_name}: {error}"
                ) from None
    return made


def _detections(dataset: CocoDataset, results: Path) -> dict[tuple[int, int], tuple[tuple[Rle, float], ...]]:
    """A detector's masks, with scores, by image id and number of the annotation that they belong to."""
    from crispmask.evaluation.matching import match_results

    records = read_results(results)
    for k, record in enumerate(records):
        if record["image_id"] not in dataset.images:
            raise DataError(f"{results}: result {k}: {dataset.path} has no image with the id {record['image_id']}")
    try:
        matches = match_results(dataset, records, LEAST_IOU, LEAST_SCORE)
    except CrispmaskError as error:
        raise DataError(f"{results}: {error}") from None
    if not matches:
        raise DataError(
            f"{results}: no mask overlaps an object of its category in {dataset.path} by an IoU of {LEAST_IOU}: "
            "are they results of these images, with the same category ids?"
        )
    found = defaultdict(list)
    for match in matches:
        record = records[match.result]
        rle = segmentation_to_rle(record["segmentation"], *dataset.images[match.image_id].size)
        found[match.image_id, match.annotation].append((rle, float(record["score"])))
    return {key: tuple(masks) for key, masks in found.items()}
