"""A folder of photos: a journal line per finished photo, and the results put together at the end.

Since the results are written from the journal, those of a run that was interrupted and continued are the same bytes
as those of an undisturbed one.
"""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask._version import __version__
from crispmask.coco import CocoDataset, instances_to_results, write_results
from crispmask.coco.images import other_size
from crispmask.detectors.base import Detector, detect_all
from crispmask.errors import CrispmaskError, DataError, ImageError, ModelError, ParamsError
from crispmask.files import write_text
from crispmask.image import find_images, read_image
from crispmask.instances import Instances
from crispmask.pipeline.journal import Journal, stamp
from crispmask.pipeline.naming import match_annotations, picture_names, relative_names
from crispmask.pipeline.photo import Settings, choose_and_refine, write_picture
from crispmask.pipeline.provenance import IN_FOLDER, describe, write_provenance
from crispmask.refinement import Decision

JOURNAL = "unfinished.jsonl"
PICTURES = "pictures"


@dataclass(frozen=True)
class Failure:
    """A photo that could not be used, and the reason in one sentence."""

    path: Path
    reason: str


@dataclass(frozen=True)
class PhotoDone:
    """Progress: `done` of `total` photos, `resumed` of them by an earlier run; `path` is the last one."""

    done: int
    total: int
    resumed: int
    objects: int
    path: Path | None


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        photos: photos in the results.
        resumed: those of them that an earlier, interrupted run had finished.
        objects: instances in the results.
        failures: photos that are not in the results.
        left_out: categories of the detector that the annotation file does not have; they are not in the results.
        kept: how many masks learnt parameters left alone, by reason.
        unnamed: photos found in folders that the annotation file does not name; they are not segmented.
        missing: images that the annotation file names and that are not among the photos.
    """

    photos: int
    resumed: int
    objects: int
    failures: tuple[Failure, ...]
    left_out: tuple[str, ...] = ()
    unnamed: int = 0
    missing: int = 0
    kept: Mapping[str, int] = field(default_factory=dict)


def segment_folder(
    sources: Sequence[str | Path],
    output: str | Path,
    detector: Detector,
    settings: Settings | None = None,
    *,
    annotations: str | Path | None = None,
    pictures: bool = True,
    threads: int | None = None,
    batch_size: int = 1,
    restart: bool = False,
    on_photo: Callable[[PhotoDone], None] | None = None,
) -> Report:
    """Segment photos and write the results; go on where an interrupted run with the same settings stopped.

    Writes into `output`: ``results.json`` (refined masks) and ``results_before.json`` (the detector's), both COCO
    results; ``images.json``, a COCO annotation file without annotations that names the photos of the image ids;
    ``provenance.json``, which says what made them from what; and before/after pictures under ``pictures/``, in the
    sub-folders of their photos. Nothing is written where no photo can be used.

    Args:
        sources: files, folders and glob patterns.
        output: folder, created where needed; photos inside its ``pictures/`` are not segmented.
        detector: see `crispmask.load_detector`.
        settings: by default ``Settings()``.
        annotations: COCO annotation file that gives the image ids by file name and the category ids by category
            name; photos in folders that it does not name are left alone. By default images are numbered from 1 by
            sorted file name, and category ids are the detector's.
        pictures: whether to write the pictures.
        threads: of the refinement; by default one per processor.
        batch_size: photos that are read, and given to a detector that can take several, at once.
        restart: drop the progress of an interrupted run.
        on_photo: called once at the start, and after each photo.

    Returns:
        The report; photos that cannot be read are among its failures and do not stop the others.

    Raises:
        ImageError: sources without any image.
        DataError: an annotation file that cannot be used, or names none of the photos or not one named outright.
        ParamsError: an interrupted run with other settings in `output`, or a batch size below 1.
        ModelError: a detector that fails.
    """
    output, settings = Path(output), settings or Settings()
    if batch_size < 1:
        raise ParamsError(f"batch_size must be at least 1, got {batch_size}")
    if output.exists() and not output.is_dir():
        raise DataError(f"the output {output} is a file: name a folder")
    dataset = CocoDataset.from_file(annotations, annotations=False) if annotations else None
    plan = _Plan.make(_find(sources, output), dataset, detector, _outright(sources))
    fingerprint = {"crispmask": __version__, "detector": detector.checksum, "pictures": pictures, **settings.as_dict()}
    failures: list[Failure] = []

    def tell(path: Path | None) -> None:
        if on_photo:
            on_photo(PhotoDone(len(finished) + len(failures), len(plan.photos), resumed, objects, path))

    with Journal(output / JOURNAL, fingerprint, restart) as journal:
        finished, objects = set(), 0
        for name, record in journal.items():
            if name in plan.photos and record["stamp"] == stamp(plan.photos[name]):
                finished.add(name)
                objects += len(record["after"])
        resumed = len(finished)
        if resumed:
            _remove_partial_files(output)
        tell(None)
        photos = {n: file for n, file in plan.photos.items() if n not in finished}
        for name, image, found in _detect(photos, plan, detector, batch_size):
            try:
                record = _segment(name, image, found, plan, settings, output if pictures else None, threads)
            except ModelError:
                raise
            except CrispmaskError as error:
                failures.append(Failure(plan.photos[name], str(error)))
            except MemoryError:
                failures.append(Failure(plan.photos[name], f"{plan.photos[name]} does not fit into memory"))
            else:
                journal.append(record)
                finished.add(name)
                objects += len(record["after"])
            tell(plan.photos[name])
        kept = Counter(reason for name in finished for reason in journal[name]["kept"])
        if finished:
            _write_results(output, plan, finished, journal)
            facts = {
                "detector": {"name": detector.name, "sha256": detector.checksum},
                "annotations": describe(Path(annotations)) if annotations else None,
                "images": [str(source) for source in sources],
                "settings": settings.as_dict(),
                "photos": {"segmented": len(finished), "unusable": len(failures)},
            }
            outputs = [output / name for name in ("images.json", "results.json", "results_before.json")]
            write_provenance(output / IN_FOLDER, "segment", facts, outputs)
        journal.remove()
    missing = len(dataset.images) - len(plan.photos) if dataset else 0
    return Report(len(finished), resumed, objects, tuple(failures), plan.left_out, plan.unnamed, missing, kept)


@dataclass(frozen=True)
class _Plan:
    """The photos by name, their pictures' names, image ids, expected sizes, and the categories' ids and names."""

    photos: dict[str, Path]
    pictures: dict[str, str]
    image_ids: dict[str, int]
    sizes: dict[str, tuple[int, int]]
    names: dict[int, str]  # of the detector
    category_ids: dict[int, int]  # the detector's to the results'
    categories: list[dict[str, Any]]  # of the results
    left_out: tuple[str, ...]
    unnamed: int

    @classmethod
    def make(
        cls, photos: dict[str, Path], dataset: CocoDataset | None, detector: Detector, outright: set[Path]
    ) -> _Plan:
        names, found = detector.categories, len(photos)
        if dataset is None:
            image_ids, sizes = {name: k for k, name in enumerate(photos, start=1)}, {}
            known = dict(names)
        else:
            matched = match_annotations(photos, dataset, outright)
            photos = {name: photos[name] for name in matched}
            image_ids = {name: image.id for name, image in matched.items()}
            sizes = {name: image.size for name, image in matched.items()}
            known = dict(dataset.categories)
        id_of = {name: key for key, name in known.items()}
        category_ids = {key: id_of[name] for key, name in names.items() if name in id_of}
        if dataset is not None and not category_ids:
            raise DataError(f"{dataset.path} has none of the detector's categories ({', '.join(names.values())})")
        return cls(
            photos,
            picture_names(list(photos)),
            image_ids,
            sizes,
            names,
            category_ids,
            [{"id": key, "name": name} for key, name in sorted(known.items())],
            tuple(name for name in names.values() if name not in id_of),
            found - len(photos),
        )

    def check(self, name: str, image: NDArray[np.uint8] | Exception) -> NDArray[np.uint8] | Exception:
        """The photo's pixels, or an error where the annotation file says another size."""
        if isinstance(image, Exception) or image.shape[:2] == self.sizes.get(name, image.shape[:2]):
            return image
        return other_size(self.photos[name], (image.shape[0], image.shape[1]), self.sizes[name])


def _find(sources: Sequence[str | Path], output: Path) -> dict[str, Path]:
    """Photos by name; what an earlier run wrote under `output` is not a photo."""
    own = (output / PICTURES).absolute()
    photos = [photo for photo in find_images(sources) if not photo.absolute().is_relative_to(own)]
    if not photos:
        raise ImageError(f"{', '.join(map(str, sources))} holds no image but the pictures of an earlier run")
    return relative_names(sources, photos)


def _outright(sources: Sequence[str | Path]) -> set[Path]:
    """The sources that are files."""
    return {Path(source) for source in sources if os.path.isfile(source)}  # noqa: PTH113 - names may be too long


def _read_ahead(photos: dict[str, Path], ahead: int) -> Iterator[tuple[str, NDArray[np.uint8] | Exception]]:
    """Each photo's pixels, or why it has none; the next ones are read while the caller works on this one."""

    def read(file: Path) -> NDArray[np.uint8] | Exception:
        try:
            return read_image(file)
        except (CrispmaskError, MemoryError) as error:
            return error

    waiting = iter(photos.items())
    with ThreadPoolExecutor(1) as pool:
        coming = deque((name, pool.submit(read, file)) for name, file in islice(waiting, ahead))
        while coming:
            name, reading = coming.popleft()
            image = reading.result()
            coming.extend((name, pool.submit(read, file)) for name, file in islice(waiting, 1))
            yield name, image


def _detect(
    photos: dict[str, Path], plan: _Plan, detector: Detector, batch_size: int
) -> Iterator[tuple[str, NDArray[np.uint8] | Exception, Instances | Exception]]:
    """Each photo's pixels and objects, or why it has none; so many photos at once."""
    reading = _read_ahead(photos, batch_size)
    while chunk := [(name, plan.check(name, image)) for name, image in islice(reading, batch_size)]:
        images = [image for _, image in chunk if not isinstance(image, Exception)]
        found = iter(_find_objects(detector, images))
        for name, image in chunk:
            yield name, image, image if isinstance(image, Exception) else next(found)


def _find_objects(detector: Detector, images: list[NDArray[np.uint8]]) -> list[Instances | Exception]:
    try:
        return [*detect_all(detector, images)]
    except ModelError:
        raise
    except (CrispmaskError, MemoryError) as error:  # of one photo: the others are not to suffer
        return [error] if len(images) == 1 else [found for one in images for found in _find_objects(detector, [one])]


def _segment(
    name: str,
    image: NDArray[np.uint8] | Exception,
    found: Instances | Exception,
    plan: _Plan,
    settings: Settings,
    output: Path | None,
    threads: int | None,
) -> dict[str, Any]:
    """The journal's record of a photo, whose picture is in place then (None: no picture)."""
    if isinstance(image, Exception):
        raise image
    if isinstance(found, Exception):
        raise found
    seen = stamp(plan.photos[name])
    decisions: list[Decision | None] = []
    before, after = choose_and_refine(image, found, settings, threads=threads, decisions=decisions)
    if output is not None:
        write_picture(output / PICTURES / plan.pictures[name], image, before, after, refined=settings.refine)
    return {
        "name": name,
        "stamp": seen,
        "size": list(image.shape[:2]),
        "before": instances_to_results(before, 0),
        "after": instances_to_results(after, 0),
        "kept": [d.reason for d in decisions if d is not None and d.setting is None],
    }


def _write_results(output: Path, plan: _Plan, finished: set[str], journal: Journal) -> None:
    order = sorted(finished, key=lambda name: plan.image_ids[name])
    for side, file in (("before", "results_before.json"), ("after", "results.json")):
        results = (
            {**record, "image_id": plan.image_ids[name], "category_id": plan.category_ids[record["category_id"]]}
            for name in order
            for record in journal[name][side]
            if record["category_id"] in plan.category_ids
        )
        write_results(output / file, results)
    sizes = {name: journal[name]["size"] for name in order}
    images = [{"id": plan.image_ids[n], "file_name": n, "height": sizes[n][0], "width": sizes[n][1]} for n in order]
    content = {"images": images, "categories": plan.categories, "annotations": []}
    write_text(output / "images.json", json.dumps(content, indent=1) + "\n")


def _remove_partial_files(output: Path) -> None:
    """Remove what a killed run left half-written, and nothing else: the folder may hold more than results."""
    for path in (*output.glob(".*.part"), *(output / PICTURES).rglob(".*.part")):
        path.unlink(missing_ok=True)
