"""Masks to learn from: every annotated object made coarse in several ways, and what detectors found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.coco import CocoDataset
from crispmask.coco.results import read_results, results_to_instances
from crispmask.detectors.base import Detector
from crispmask.errors import DataError
from crispmask.evaluation.matching import match_instances
from crispmask.image import read_image
from crispmask.instances import Instances, Window
from crispmask.training.refiner.config import LearnConfig
from crispmask.training.refiner.kinds import KINDS, coarse
from crispmask.training.refiner.perturb import perturb
from crispmask.training.refiner.store import Crop, cut

_LEAST_SIDE = (
    24  # square root of the box area, pixels, of objects that are made coarse: below, grids are finer than pixels
)
_STRENGTHS = (0.5, 0.8)  # of the views, in turn


@dataclass(frozen=True)
class Source:
    """An annotated set of photos, and perhaps a detector's results on it.

    Attributes:
        dataset: the annotations.
        images: folder of the photos.
        results: records by image id.
        number: of the source.
    """

    dataset: CocoDataset
    images: Path
    results: Mapping[int, Sequence[Mapping[str, Any]]]
    number: int

    @classmethod
    def read(cls, annotations: Path, images: Path, results: Path | None, number: int) -> Source:
        """Check and read the files; DataError where they cannot be used or do not belong together."""
        dataset = CocoDataset.from_file(annotations)
        by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for k, record in enumerate(read_results(results) if results else []):
            if record["image_id"] not in dataset.images:
                raise DataError(f"{results}: result {k}: {annotations} has no image with the id {record['image_id']}")
            by_image[record["image_id"]].append(record)
        missing = [info.file_name for info in dataset.images.values() if not (images / info.file_name).is_file()]
        if missing:
            raise DataError(
                f"{images / missing[0]} does not exist ({len(missing)} of its annotated photos are missing)"
            )
        return cls(dataset, images, by_image, number)


@dataclass(frozen=True)
class Mask:
    """A mask to refine and its object: `one` is of length 1, `truth` too."""

    one: Instances
    truth: Instances
    kind: str


@dataclass(frozen=True)
class Photo:
    """A photo of a source; `group` numbers the photos of all sources."""

    source: Source
    image_id: int
    group: int
    seed: int

    def image(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) RGB."""
        info = self.source.dataset.images[self.image_id]
        pixels = read_image(self.source.images / info.file_name)
        if pixels.shape[:2] != info.size:
            raise DataError(
                f"{self.source.images / info.file_name} has {pixels.shape[1]}x{pixels.shape[0]} pixels (width x "
                f"height), {self.source.dataset.path} says {info.size[1]}x{info.size[0]}"
            )
        return pixels

    def objects(self, config: LearnConfig) -> Instances:
        """The annotated objects that are large enough, without crowds."""
        annotated = self.source.dataset.instances(self.image_id)
        return annotated[
            [
                i
                for i in range(len(annotated))
                if _side(annotated, i) >= config.min_size and annotated.windows[i].mask.any()
            ]
        ]

    def degraded(self, objects: Instances, share: float) -> Iterator[Mask]:
        """Each object as masks of `KINDS`, each kind with a chance of `share`."""
        for i, truth in enumerate(objects):
            rng = np.random.default_rng([self.seed, self.source.number, self.image_id, i])
            if _side(truth, 0) < _LEAST_SIDE:
                continue
            # Scores as detectors give them, or none at all: the rules must not know these masks by a score of 1.
            score = 1.0 if rng.random() < 0.4 else rng.uniform(0.2, 1)
            truth = replace(truth, scores=np.array([score], np.float32))
            for kind in KINDS:
                if rng.random() < share:
                    one = coarse(kind, truth, rng)
                    if one.windows[0].mask.any():
                        yield Mask(one, truth, kind)

    def detected(
        self, image: NDArray[np.uint8], objects: Instances, detector: Detector | None, config: LearnConfig
    ) -> Iterator[Mask]:
        """What the results hold and the detector finds, on the photo and on changed copies, beside its object."""
        height, width = image.shape[:2]
        found: list[tuple[str, Instances]] = []
        records = self.source.results.get(self.image_id)
        if records:
            found.append(("results", results_to_instances(records, height, width)))
        if detector is not None:
            names = {name: key for key, name in self.source.dataset.categories.items()}
            ids = {key: names.get(name, -1) for key, name in detector.categories.items()}
            wanted = {key for key, own in ids.items() if (objects.category_ids == own).any()}
            for k in range(1 + config.views if wanted else 0):
                view = None
                if k:
                    rng = np.random.default_rng([self.seed, self.source.number, self.image_id, 10**6 + k])
                    view = perturb(image, rng, _STRENGTHS[(k - 1) % len(_STRENGTHS)])
                raw = detector(image if view is None else view.image)
                if view is not None:
                    raw = view.restore(raw, (height, width))
                own = np.array([ids.get(int(key), -1) for key in raw.category_ids], np.int64)
                raw = Instances(raw.image_size, raw.boxes, raw.scores, own, raw.windows)
                found.append((f"detector{'' if view is None else ', changed photo'}", raw))
        for kind, instances in found:
            sure = instances.above(config.min_score)
            for i, t in match_instances(sure, objects, config.min_iou):
                if sure.windows[i].mask.any():
                    yield Mask(sure[i], objects[t], kind)


def without_probabilities(mask: Mask) -> Mask:
    """The same mask as a file of results holds it."""
    window = mask.one.windows[0]
    binary = Window(window.mask.astype(np.float32), window.y, window.x)
    return replace(mask, one=mask.one.with_windows([binary]), kind=f"{mask.kind}, binary")


def photos_of(sources: Sequence[Source], config: LearnConfig) -> list[Photo]:
    """The photos with annotated objects, of all sources."""
    wanted = [(s, key) for s in sources for key in s.dataset.images if s.dataset.annotations[key]]
    if not wanted:
        raise DataError(f"{', '.join(str(s.dataset.path) for s in sources)} has no annotated object to learn from")
    return [Photo(source, key, group, config.seed) for group, (source, key) in enumerate(wanted)]


def crops_of(photo: Photo, detector: Detector | None, config: LearnConfig, weight: float) -> list[Crop]:
    """What the network learns from a photo; `weight` is how much one of its objects counts."""
    image, objects = photo.image(), photo.objects(config)
    made = [cut(image, truth.windows[0], truth.boxes[0], photo.group, weight=weight) for truth in objects]

    def add(mask: Mask, share: float, soft: bool) -> None:
        own, truth = mask.one, mask.truth.windows[0]
        made.append(cut(image, truth, own.boxes[0], photo.group, own.windows[0], soft=soft, weight=weight * share))

    for mask in photo.degraded(objects, 0.35):
        add(mask, 0.5, mask.kind in ("28x28", "14x14"))
    for mask in photo.detected(image, objects, detector, config):
        add(mask, 1.2, mask.kind != "results")
    return made


def gather(
    photos: Sequence[Photo], work: Callable[[Photo], Any], threads: int, on_photo: Callable[[], None] | None = None
) -> list[Any]:
    """`work` on every photo, in threads; the results in the order of the photos."""

    def step(photo: Photo) -> Any:
        made = work(photo)
        if on_photo:
            on_photo()
        return made

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(step, photos))


def _side(instances: Instances, i: int) -> float:
    x0, y0, x1, y1 = (float(v) for v in instances.boxes[i])
    return float(np.sqrt(max(0.0, (x1 - x0) * (y1 - y0))))
