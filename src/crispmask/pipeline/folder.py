"""A folder of photos: a journal line per finished photo, and the results put together at the end.

Since the results are written from the journal, those of a run that was interrupted and continued are the same bytes
as those of an undisturbed one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask._version import __version__
from crispmask.coco import CocoDataset, instances_to_results, write_results
from crispmask.detectors.base import Detector
from crispmask.errors import CrispmaskError, DataError, ImageError, ModelError
from crispmask.files import write_text
from crispmask.image import find_images, read_image
from crispmask.pipeline.journal import Journal
from crispmask.pipeline.naming import match_annotations, picture_names, relative_names
from crispmask.pipeline.photo import Settings, process, write_picture

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
    """

    photos: int
    resumed: int
    objects: int
    failures: tuple[Failure, ...]
    left_out: tuple[str, ...] = ()


def segment_folder(
    sources: Sequence[str | Path],
    output: str | Path,
    detector: Detector,
    settings: Settings | None = None,
    *,
    annotations: str | Path | None = None,
    pictures: bool = True,
    threads: int | None = None,
    restart: bool = False,
    on_photo: Callable[[PhotoDone], None] | None = None,
) -> Report:
    """Segment photos and write the results; go on where an interrupted run with the same settings stopped.

    Writes into `output`: ``results.json`` (refined masks) and ``results_before.json`` (the detector's), both COCO
    results; ``images.json``, a COCO annotation file without annotations that names the photos of the image ids; and
    before/after pictures under ``pictures/``, in the sub-folders of their photos. Nothing is written where no photo
    can be used.

    Args:
        sources: files, folders and glob patterns.
        output: folder, created where needed; photos inside its ``pictures/`` are not segmented.
        detector: see `crispmask.load_detector`.
        settings: by default ``Settings()``.
        annotations: COCO annotation file that gives the image ids by file name and the category ids by category
            name. By default images are numbered from 1 by sorted file name, and category ids are the detector's.
        pictures: whether to write the pictures.
        threads: of the refinement; by default one per processor.
        restart: drop the progress of an interrupted run.
        on_photo: called once at the start, and after each photo.

    Returns:
        The report; photos that cannot be read are among its failures and do not stop the others.

    Raises:
        ImageError: sources without any image.
        DataError: an annotation file that cannot be used or does not name a photo.
        ParamsError: an interrupted run with other settings in `output`.
        ModelError: a detector that fails.
    """
    output, settings = Path(output), settings or Settings()
    if output.exists() and not output.is_dir():
        raise DataError(f"the output {output} is a file: name a folder")
    plan = _Plan.make(_find(sources, output), CocoDataset.from_file(annotations) if annotations else None, detector)
    fingerprint = {"crispmask": __version__, "detector": detector.checksum, "pictures": pictures, **settings.as_dict()}
    failures: list[Failure] = []

    def tell(path: Path | None) -> None:
        if on_photo:
            on_photo(PhotoDone(len(finished) + len(failures), len(plan.photos), resumed, objects, path))

    with Journal(output / JOURNAL, fingerprint, restart) as journal:
        finished = {n: r for n, r in journal.records.items() if n in plan.photos and r["stamp"] == plan.stamp(n)}
        resumed, objects = len(finished), sum(len(record["after"]) for record in finished.values())
        if resumed:
            _remove_partial_files(output)
        tell(None)
        for name, image in _read_ahead({n: file for n, file in plan.photos.items() if n not in finished}):
            try:
                record = _segment(name, image, plan, detector, settings, output if pictures else None, threads)
            except ModelError:
                raise
            except CrispmaskError as error:
                failures.append(Failure(plan.photos[name], str(error)))
            except MemoryError:
                failures.append(Failure(plan.photos[name], f"{plan.photos[name]} does not fit into memory"))
            else:
                journal.append(record)
                finished[name] = record
                objects += len(record["after"])
            tell(plan.photos[name])
        if finished:
            _write_results(output, plan, finished)
        journal.remove()
    return Report(len(finished), resumed, objects, tuple(failures), plan.left_out)


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

    @classmethod
    def make(cls, photos: dict[str, Path], dataset: CocoDataset | None, detector: Detector) -> _Plan:
        names = detector.categories
        if dataset is None:
            image_ids, sizes = {name: k for k, name in enumerate(photos, start=1)}, {}
            known = dict(names)
        else:
            matched = match_annotations(photos, dataset)
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
        )

    def stamp(self, name: str) -> list[int] | None:
        """Size and time of a photo's file: another file under the same name is not taken for the finished one."""
        try:
            status = self.photos[name].stat()
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]


def _find(sources: Sequence[str | Path], output: Path) -> dict[str, Path]:
    """Photos by name; what an earlier run wrote under `output` is not a photo."""
    own = (output / PICTURES).absolute()
    photos = [photo for photo in find_images(sources) if not photo.absolute().is_relative_to(own)]
    if not photos:
        raise ImageError(f"{', '.join(map(str, sources))} holds no image but the pictures of an earlier run")
    return relative_names(sources, photos)


def _read_ahead(photos: dict[str, Path]) -> Iterator[tuple[str, NDArray[np.uint8] | Exception]]:
    """Each photo's pixels, or why it has none; the next photo is read while the caller works on this one."""

    def read(file: Path) -> NDArray[np.uint8] | Exception:
        try:
            return read_image(file)
        except (CrispmaskError, MemoryError) as error:
            return error

    items = list(photos.items())
    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(read, file) for _, file in items[:1]]
        for k, (name, _) in enumerate(items):
            image = coming.pop().result()
            coming = [pool.submit(read, file) for _, file in items[k + 1 : k + 2]]
            yield name, image


def _segment(
    name: str,
    image: NDArray[np.uint8] | Exception,
    plan: _Plan,
    detector: Detector,
    settings: Settings,
    output: Path | None,
    threads: int | None,
) -> dict[str, Any]:
    """The journal's record of a photo, whose picture is in place then (None: no picture)."""
    stamp, file = plan.stamp(name), plan.photos[name]
    if isinstance(image, Exception):
        raise image
    size = image.shape[:2]
    if size != plan.sizes.get(name, size):
        expected = plan.sizes[name]
        raise DataError(
            f"{file} has {size[1]}x{size[0]} pixels (width x height), the annotation file says "
            f"{expected[1]}x{expected[0]}"
        )
    before, after = process(image, detector, settings, threads=threads)
    if output is not None:
        write_picture(output / PICTURES / plan.pictures[name], image, before, after, refined=settings.refine)
    return {
        "name": name,
        "stamp": stamp,
        "size": list(size),
        "before": instances_to_results(before, 0),
        "after": instances_to_results(after, 0),
    }


def _write_results(output: Path, plan: _Plan, finished: dict[str, dict[str, Any]]) -> None:
    order = sorted(finished, key=lambda name: plan.image_ids[name])
    for side, file in (("before", "results_before.json"), ("after", "results.json")):
        results = [
            {**record, "image_id": plan.image_ids[name], "category_id": plan.category_ids[record["category_id"]]}
            for name in order
            for record in finished[name][side]
            if record["category_id"] in plan.category_ids
        ]
        write_results(output / file, results)
    images = [
        {"id": plan.image_ids[n], "file_name": n, "height": finished[n]["size"][0], "width": finished[n]["size"][1]}
        for n in order
    ]
    content = {"images": images, "categories": plan.categories, "annotations": []}
    write_text(output / "images.json", json.dumps(content, indent=1) + "\n")


def _remove_partial_files(output: Path) -> None:
    """Remove what a killed run left half-written, and nothing else: the folder may hold more than results."""
    for path in (*output.glob(".*.part"), *(output / PICTURES).rglob(".*.part")):
        path.unlink(missing_ok=True)
