"""A folder of images: a journal line per finished image, and the results put together at the end.

Since the results are written from the journal, those of a run that was interrupted and continued are the same bytes
as those of an undisturbed one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from crispmask._version import __version__
from crispmask.coco import CocoDataset, instances_to_results
from crispmask.coco.images import other_size
from crispmask.crf.tensors import device_of
from crispmask.detectors.base import Detector, detect_all
from crispmask.errors import DataError, ImageError, ParamsError
from crispmask.files import locked
from crispmask.image import Found, Frame, describe_unread, read_frame, search_images
from crispmask.instances import Instances
from crispmask.pipeline.cutouts import CutoutStyle, write_cutouts
from crispmask.pipeline.journal import Journal, readable_records, stamp
from crispmask.pipeline.naming import named_files, picture_names, relative_names
from crispmask.pipeline.output import (
    CUTOUTS,
    JOURNAL,
    PICTURES,
    Output,
    Segmented,
    pictures_in,
    run_facts,
    write_picture,
)
from crispmask.pipeline.plan import Categories, Plan
from crispmask.pipeline.progress import Failure, Progress, SegmentReport, one_image
from crispmask.pipeline.provenance import IN_FOLDER, write_provenance
from crispmask.pipeline.segmenter import ImageResult, refine_found, refine_photos
from crispmask.pipeline.settings import Settings
from crispmask.threads import interruptible_pool

MANY = 100
"""Instances of an image whose progress is shown one by one."""


def segment_folder(
    sources: Sequence[str | Path],
    output: str | Path,
    detector: Detector,
    settings: Settings | None = None,
    *,
    annotations: str | Path | None = None,
    pictures: bool = True,
    threads: int | None = None,
    device: Any = None,
    batch_size: int = 1,
    restart: bool = False,
    overwrite: bool = False,
    cutouts: CutoutStyle | None = None,
    on_image: Callable[[Progress], None] | None = None,
) -> SegmentReport:
    """Segment images and write the results; continue an interrupted run with the same settings.

    Writes into `output`: ``results.json`` (refined masks) and ``results_before.json`` (the detector's), both COCO
    results; ``images.json``, a COCO annotation file without annotations that names the images of the image ids;
    ``provenance.json``, which says what made them from what; and before/after pictures under ``pictures/``, in the
    sub-folders of their images; with `cutouts` also each object as a PNG file with an alpha channel under
    ``cutouts/``, a folder for each image. Nothing is written where no image can be used.

    Args:
        sources: files, folders and glob patterns.
        output: folder, created where needed; images inside its ``pictures/`` and ``cutouts/`` are not segmented.
        detector: see `crispmask.load_detector`.
        settings: by default ``Settings()``.
        annotations: COCO annotation file that gives the image ids by file name and the category ids by category
            name; images in folders that it does not name are left out. By default images are numbered from 1 by
            sorted file name, and category ids are the detector's.
        pictures: whether to write the pictures.
        threads: of the refinement; by default one per processor.
        device: of the refinement; see `crispmask.refine`. The detector has its own.
        batch_size: images that are read, given to a detector that can take several, and refined on a device at once.
        restart: drop the progress of an interrupted run.
        overwrite: remove results of another run in `output`, rather than refuse to write there.
        cutouts: how to cut objects out; by default none are.
        on_image: called once at the start, and after each image; in an image with more than `MANY` instances also
            after each of them.

    Returns:
        The report; images that cannot be read are among its failures and do not stop the others.

    Raises:
        ImageError: sources without any image that can be read.
        DataError: an annotation file that cannot be used, or names none of the images or not one named as a source;
            results of another run in `output`, or a run that writes there now.
        ParamsError: an interrupted run with other settings in `output`, a class that the detector does not have, a
            batch size or number of tiles out of range, or a device that there is not.
        MissingExtraError: a device without torch.
        ModelError: a detector that fails.
    """
    output = Path(output)
    detector, settings = (settings or Settings()).applied_to(detector)
    if batch_size < 1:
        raise ParamsError(f"batch_size must be at least 1, got {batch_size}")
    device = device_of(device, None)
    if output.exists() and not output.is_dir():
        raise DataError(f"the output {output} is a file: name a folder")
    dataset = CocoDataset.from_file(annotations, annotations=False) if annotations else None
    found = _search(sources, output)
    names = {name: str(file) for name, file in relative_names(sources, found.images).items()}
    plan = Plan.make(names, found.unread, dataset, named_files(sources))
    categories = Categories.make(detector.categories, dataset)
    facts = run_facts(detector, annotations, sources, settings)
    with locked(output):
        run = _Run(plan, Output(output, facts, overwrite), detector, settings, pictures, threads, device, cutouts)
        wanted = {"pictures": pictures, "cutouts": cutouts and asdict(cutouts)}
        with run.journal({**wanted, "sources": facts["sources"]}, restart) as journal:
            run.work(journal, batch_size, on_image or (lambda progress: None))
            order = sorted(journal, key=lambda name: plan.images[str(name)].image_id)
            left_alone: Counter[str] = Counter()
            animated: list[str] = []

            def finished() -> Iterator[Segmented]:
                for record in (journal[name] for name in order):
                    left_alone.update(record["left_alone"])
                    animated.extend([record["name"]] * record["animated"])
                    image_id, (height, width) = plan.images[record["name"]].image_id, record["size"]
                    sides = record["before"], record["after"]
                    drawn = record["picture"], pictures_in({"cutouts": record.get("cutouts")})
                    yield Segmented(image_id, record["name"], (height, width), *sides, *drawn)

            if journal:
                files = run.output.finish(finished(), categories)
                facts["images"] = {"segmented": len(journal), "unusable": len(run.failures)}
                write_provenance(output / IN_FOLDER, "segment", facts, files)
            journal.remove()
    return SegmentReport(
        len(order),
        run.resumed,
        run.objects,
        tuple(run.failures),
        tuple(detector.categories.values()),
        categories.left_out,
        plan.unnamed,
        plan.missing,
        plan.unread,
        tuple(animated),
        left_alone,
        settings,
    )


class _Run:
    """The work of a run, image by image, and what came of it until now."""

    def __init__(
        self,
        plan: Plan,
        output: Output,
        detector: Detector,
        settings: Settings,
        pictures: bool,
        threads: int | None,
        device: Any,
        cutouts: CutoutStyle | None,
    ) -> None:
        self.plan, self.output, self.detector, self.settings = plan, output, detector, settings
        self.threads, self.device = threads, device
        self.names = picture_names(list(plan.images))
        self.pictures, self.cutouts = pictures, cutouts
        self.failures: list[Failure] = []
        self.objects = self.resumed = 0

    def journal(self, facts: Mapping[str, Any], restart: bool) -> Journal:
        """The journal of an interrupted run, or of a new one."""
        settings = {"crispmask": __version__, "detector": self.detector.checksum, **facts, **self.settings.as_dict()}
        path = self.output.folder / JOURNAL
        if restart:
            self.output.old_pictures.update(name for record in readable_records(path) for name in pictures_in(record))
        return Journal(path, settings, restart, self._usable)

    def _usable(self, record: dict[str, Any]) -> bool:
        """Whether a record of the journal is of an image as it is now; counts it, and notes its picture."""
        self.output.old_pictures.update(pictures_in(record))
        image = self.plan.images.get(record["name"])
        if image is None or record["stamp"] != stamp(Path(image.uri)):
            return False
        self.objects += len(record["after"])
        self.resumed += 1
        return True

    def work(self, journal: Journal, batch_size: int, on_image: Callable[[Progress], None]) -> None:
        """Segment what the journal does not have."""

        def tell(path: Path | None = None, within: tuple[int, int] | None = None) -> None:
            done = len(journal) + len(self.failures)
            on_image(Progress(done, len(self.plan.images), self.resumed, self.objects, path, within))

        if journal:
            self.output.remove_partial_files()
        tell()
        names = list(self.plan.images)
        chunks = [names[k : k + batch_size] for k in range(0, len(names), batch_size)]
        # The same images together, whatever is finished: the last bit of what is found in one can depend on the others.
        chunks = [chunk for chunk in chunks if any(name not in journal for name in chunk)]
        reading = _read_ahead([Path(self.plan.images[name].uri) for chunk in chunks for name in chunk], batch_size)
        for chunk in chunks:
            frames: dict[str, Frame] = {}
            for name in chunk:
                with one_image(self.plan.images[name].uri, self._failed(name)):
                    frames[name] = self._checked(name, next(reading).result())
            found = self._detect(frames)
            refined = self._refine(frames, found)
            for name in [name for name in chunk if name not in journal]:
                if name in frames:
                    with one_image(self.plan.images[name].uri, self._failed(name)):
                        journal.append(self._segment(name, frames[name], found.get(name), refined.get(name), tell))
                tell(Path(self.plan.images[name].uri))
        self.failures.sort(key=lambda failure: str(failure.path))

    def _failed(self, name: str) -> Callable[[str], None]:
        path = Path(self.plan.images[name].uri)
        return lambda reason: self.failures.append(Failure(path, reason))

    def _checked(self, name: str, frame: Frame) -> Frame:
        """The image; DataError where the annotation file says another size."""
        image, size = self.plan.images[name], (frame.pixels.shape[0], frame.pixels.shape[1])
        if image.size is not None and image.size != size:
            raise other_size(Path(image.uri), size, image.size)
        return frame

    def _detect(self, frames: Mapping[str, Frame]) -> dict[str, Instances]:
        """What is in several images that are given to the detector at once; nothing where one of them stops it."""
        found: dict[str, Instances] = {}
        if len(frames) > 1:
            with one_image("batch", lambda reason: None):  # each image will be on its own then, and say the reason
                instances = detect_all(self.detector, [frame.pixels for frame in frames.values()])
                found = dict(zip(frames, instances, strict=True))
        return found

    def _refine(self, frames: Mapping[str, Frame], found: Mapping[str, Instances]) -> dict[str, ImageResult]:
        """The same of several images that are refined at once on a device."""
        refined: dict[str, ImageResult] = {}
        if self.device is not None and len(found) > 1:
            with one_image("batch", lambda reason: None):
                pixels = [frames[name].pixels for name in found]
                results = refine_photos(pixels, list(found.values()), self.settings, self.device)
                refined = dict(zip(found, results, strict=True))
        return refined

    def _segment(
        self,
        name: str,
        frame: Frame,
        found: Instances | None,
        result: ImageResult | None,
        tell: Callable[[Path, tuple[int, int]], None],
    ) -> dict[str, Any]:
        """The journal's record of an image, whose picture is in place then; `tell` shows its finished instances."""
        path = Path(self.plan.images[name].uri)
        seen = stamp(path)
        found = self.detector(frame.pixels) if found is None else found
        total = len(found)

        def step(done: int) -> None:
            if total > MANY:
                tell(path, (done, total))

        if result is None:
            result = refine_found(
                frame.pixels, found, self.settings, threads=self.threads, device=self.device, on_progress=step
            )
        picture = f"{PICTURES}/{self.names[name]}" if self.pictures else None
        self.output.begin()
        if picture is not None:
            names, refined = self.detector.categories, self.settings.refine
            write_picture(
                self.output.folder / picture, frame.pixels, result.before, result.after, names=names, refined=refined
            )
        cut = []
        if self.cutouts is not None:
            folder = f"{CUTOUTS}/{self.names[name].removesuffix('.jpg')}"
            files = write_cutouts(
                self.output.folder / folder, frame.pixels, result.after, self.detector.categories, self.cutouts
            )
            cut = [f"{folder}/{file}" for file in files]
        self.objects += len(result.after)
        return {
            "name": name,
            "stamp": seen,
            "size": list(frame.pixels.shape[:2]),
            "animated": frame.animated,
            "picture": picture,
            "cutouts": cut,
            "before": instances_to_results(result.before, 0),
            "after": instances_to_results(result.after, 0),
            "left_alone": [reason for reason in result.left_alone if reason],
        }


def _search(sources: Sequence[str | Path], output: Path) -> Found:
    """What there is to segment; what an earlier run wrote under `output` is not."""
    own = [(output / name).absolute() for name in (PICTURES, CUTOUTS)]
    found = search_images(sources)
    images = [image for image in found.images if not any(map(image.absolute().is_relative_to, own))]
    if not images:
        raise ImageError(
            f"{', '.join(map(str, sources))} holds no image but the pictures of an earlier run"
            + (f", and {describe_unread(found.unread)}" if found.unread else "")
        )
    return Found(images, found.unread)


def _read_ahead(files: Sequence[Path], ahead: int) -> Iterator[Future[Frame]]:
    """The pixels of each file; the next ones are read while the caller works on these."""
    waiting = iter(files)
    with interruptible_pool(1) as pool:
        coming = deque(pool.submit(read_frame, file) for file in islice(waiting, ahead))
        while coming:
            done = coming.popleft()
            done.exception()  # wait for it, then begin the next one
            coming.extend(pool.submit(read_frame, file) for file in islice(waiting, 1))
            yield done
