"""A results file of any detector: every mask refined, a journal line per finished record.

Memory does not grow with the file: a first pass checks every record and remembers its place, then each image's
records are read, refined and written into the journal, from which the output is put together in the order of the
input. An interrupted run that is continued therefore gives the same bytes as an undisturbed one.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from crispmask.arguments import thread_count
from crispmask.coco import results_to_instances, write_results
from crispmask.coco.images import read_sized
from crispmask.coco.results import is_box_only
from crispmask.coco.rle import window_to_rle
from crispmask.coco.stream import open_plain
from crispmask.crf.tensors import device_of
from crispmask.errors import CrispmaskError
from crispmask.files import locked
from crispmask.instances import Instances
from crispmask.pipeline.job import RefineJob
from crispmask.pipeline.journal import Journal
from crispmask.pipeline.progress import Progress, RefineReport, one_image
from crispmask.pipeline.records import RecordPlan
from crispmask.pipeline.segmenter import refine_found, refine_photos
from crispmask.pipeline.settings import Settings
from crispmask.refinement import LearnedParams
from crispmask.refinement.prompts import from_boxes
from crispmask.threads import interruptible_pool

PIECE = 50
"""Records of one image that are refined at a time: about a second of work."""

MASK_PIXELS = 400_000_000
"""Of an image that is so large that `PIECE` masks which fill it have more pixels, fewer masks are in memory at once."""

TOGETHER = 64
"""Records of several images that are refined at a time on a device."""

Batch = list[list[int]]
"""Numbers of records that are refined at a time: pieces of one image each."""

T = TypeVar("T")
R = TypeVar("R")


def refine_records(
    image: NDArray[np.uint8],
    records: Sequence[Mapping[str, Any]],
    settings: Settings,
    *,
    threads: int | None = None,
    device: Any = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The results of one image with refined masks.

    Args:
        image: uint8 (H, W, 3) RGB.
        records: COCO results of this image, masks in any of COCO's encodings; of a record with a ``bbox`` and no
            ``segmentation``, learned parameters make a mask.
        settings: how to refine; its score is not looked at.
        threads: by default one per processor. The result has the same bits for any number.
        device: see `crispmask.refine`.
        on_progress: called again and again with the number of finished records; what it raises ends the work.

    Returns:
        The same records in the same order, and of each mask that learned parameters left as it was the reason ("" of
        all others). Only ``segmentation`` is new, as compressed RLE: ``bbox`` is still the detector's, which is a
        finding of its own.

    Raises:
        DataError: a record that breaks the format, by its number and the reason.
    """
    refined: list[dict[str, Any]] = []
    left_alone: list[str] = []
    size = image.shape[0], image.shape[1]
    together = max(1, len(records) if settings.joint else MASK_PIXELS // (size[0] * size[1]))
    for start in range(0, len(records), together):
        part = records[start : start + together]
        found, flags = _instances(part, size)

        def step(done: int, start: int = start) -> None:
            on_progress(start + done)

        result = refine_found(
            image, found, settings, from_boxes=flags, threads=threads, device=device, on_progress=step
        )
        refined += _with_masks(part, result.after)
        left_alone += result.left_alone
    return refined, tuple(left_alone)


def _with_masks(records: Sequence[Mapping[str, Any]], after: Instances) -> list[dict[str, Any]]:
    """Records of one image with other masks."""
    return [
        {**record, "segmentation": window_to_rle(window, *after.image_size)}
        for record, window in zip(records, after.windows, strict=True)
    ]


def _instances(records: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> tuple[Instances, list[bool]]:
    """The instances of one image's records, and of which of them only the box is known."""
    # The scores of some detectors leave [0, 1].
    records = [{**record, "score": min(max(float(record["score"]), 0.0), 1.0)} for record in records]
    flags = [is_box_only(record) for record in records]
    boxed = [record for record, flag in zip(records, flags, strict=True) if flag]
    masked = results_to_instances([r for r, flag in zip(records, flags, strict=True) if not flag], *size)
    if not boxed:
        return masked, flags
    corners = [(x, y, x + width, y + height) for x, y, width, height in (record["bbox"] for record in boxed)]
    scores, categories = ([record[key] for record in boxed] for key in ("score", "category_id"))
    both = Instances.concatenate([masked, from_boxes(corners, size, scores=scores, category_ids=categories)])
    return both[np.argsort(np.argsort(flags, kind="stable"), kind="stable")], flags


def refine_results(
    results: str | Path,
    images: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    *,
    annotations: str | Path | None = None,
    threads: int | None = None,
    device: Any = None,
    restart: bool = False,
    skip_bad: bool = False,
    on_bad: Callable[[str], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RefineReport:
    """Refine every mask of a COCO results file; continue an interrupted run with the same settings.

    Writes `output`, the same records in the same order with other masks, and its provenance beside it. Until both
    are complete, progress is in a folder ``OUTPUT.unfinished``, which is locked.

    Args:
        results: the file, gzip-compressed or not.
        images: folder of the images.
        output: the file to write; one that ends in ``.gz`` is compressed.
        settings: by default ``Settings(score=0)``: every record is refined. Records below the score are left out.
        annotations: COCO annotation file that gives the images' names by image id. By default ``images.json`` beside
            `results`, as `segment_folder` writes it, or else COCO's own naming (``000000000139.jpg``).
        threads: by default one per processor; over images, and over instances where there are fewer images.
        device: see `crispmask.refine`.
        restart: drop the progress of an interrupted run.
        skip_bad: leave out records that cannot be refined, and go on.
        on_bad: called with a sentence for each of them.
        on_progress: called once when all records have been checked, and after each piece of work: `PIECE` records of
            an image, or with ``settings.joint`` all of an image; of larger pieces also while they are worked on.

    Raises:
        DataError: a file that cannot be used, or another run that writes `output` now; without `skip_bad` also the
            first record that cannot be refined, before any work where reading the records and the images' headers
            shows it.
        ParamsError: an interrupted run with other settings, or a device that there is not.
        MissingExtraError: a device without torch.
    """
    device, threads = device_of(device, None), thread_count(threads)
    job = RefineJob(results, images, output, settings, annotations, skip_bad, on_bad)
    with locked(job.state), open_plain(job.results) as file:
        plan = job.plan(file)

        def usable(record: dict[str, Any]) -> bool:
            k = record["name"]
            return plan.owner[k] >= 0 and bool(record["stamp"] == plan.image_of(k).stamp)

        with Journal(job.state / "journal.jsonl", job.fingerprint(), restart, usable) as journal:
            batches = list(_batches(plan, journal, job.settings, device))
            resumed = len(plan.numbers) - sum(map(_count, batches))
            _work(job, plan, journal, batches, threads, device, on_progress or (lambda progress: None))
            finished = [k for k in plan.numbers if k in journal]
            left_alone: Counter[str] = Counter()

            def refined() -> Iterator[dict[str, Any]]:
                for entry in (journal[k] for k in finished):
                    left_alone.update([entry["left_alone"]] if entry["left_alone"] else [])
                    yield entry["record"]

            write_results(job.output, refined(), partial_in=job.state)
            report = job.conclude(plan, finished, resumed, left_alone)
        shutil.rmtree(job.state, ignore_errors=True)
    return report


def _work(
    job: RefineJob,
    plan: RecordPlan,
    journal: Journal,
    batches: Sequence[Batch],
    threads: int,
    device: Any,
    on_progress: Callable[[Progress], None],
) -> None:
    """Refine the records of the batches, and write them into the journal."""
    total = len(plan.numbers)
    done = resumed = total - sum(map(_count, batches))
    on_progress(Progress(done, total, resumed))
    workers = min(threads, max(1, len(batches)))
    inner = max(1, threads // workers)
    finished: dict[int, int] = {}  # records of the batches that are worked on, by the first one's number
    stopped = Event()

    def refine(batch: Batch) -> list[list[dict[str, Any]] | Exception]:
        def step(count: int) -> None:
            if stopped.is_set():
                raise CancelledError
            finished[batch[0][0]] = count

        return _refine(plan, batch, job.settings, inner, device, step)

    with closing(_side_by_side(refine, batches, workers)) as working:
        try:
            for batch, future in working:
                while _count(batch) > PIECE and not wait([future], 0.5).done:
                    on_progress(Progress(done + sum(list(finished.values())), total, resumed))
                for piece, outcome in zip(batch, future.result(), strict=True):

                    def bad(reason: str, piece: list[int] = piece) -> None:
                        for k in piece:
                            job.bad(f"{job.results}: result {k}: {reason}")

                    with one_image(plan.image_of(piece[0]).path, bad):
                        if isinstance(outcome, Exception):
                            raise outcome
                        journal.append(*outcome)
                finished.pop(batch[0][0], None)
                done += _count(batch)
                on_progress(Progress(done, total, resumed))
        finally:
            stopped.set()


def _batches(plan: RecordPlan, journal: Journal, settings: Settings, device: Any) -> Iterator[Batch]:
    """The records that are left to refine; on a device several images at a time."""
    if device is None or settings.joint or not isinstance(settings.params, LearnedParams):
        yield from ([piece] for piece in _pieces(plan, journal, None if settings.joint else PIECE))
        return
    # The same images together, whatever is finished: the last bit of an answer can depend on what is asked beside it,
    # and a run that was interrupted must end with the same bytes.
    batch: Batch = []
    pixels = 0
    for piece in [*_pieces(plan, (), PIECE), []]:
        size = plan.image_of(piece[0]).size if piece else (0, 0)
        area = len(piece) * size[0] * size[1]
        if batch and (not piece or _count(batch) + len(piece) > TOGETHER or pixels + area > MASK_PIXELS):
            if any(k not in journal for part in batch for k in part):
                yield batch
            batch, pixels = [], 0
        batch.append(piece)
        pixels += area


def _count(batch: Batch) -> int:
    return sum(map(len, batch))


def _pieces(plan: RecordPlan, journal: Journal | tuple[()], largest: int | None) -> Iterator[list[int]]:
    """The records that are left to refine, in groups of one image; None: all of an image that is not complete."""
    for group in plan.groups():
        left = [k for k in group if k not in journal]
        if largest is None:
            if left:
                yield group
        else:
            yield from (left[k : k + largest] for k in range(0, len(left), largest))


def _refine(
    plan: RecordPlan,
    batch: Batch,
    settings: Settings,
    threads: int,
    device: Any,
    on_progress: Callable[[int], None],
) -> list[list[dict[str, Any]] | Exception]:
    """The journal's records of each piece of a batch, or why there are none."""
    if len(batch) > 1:
        with suppress(CrispmaskError, MemoryError):  # each image will be on its own then, and say the reason
            return [*_refine_together(plan, batch, settings, device, on_progress)]
    made: list[list[dict[str, Any]] | Exception] = []
    for piece in batch:
        try:
            image, records = _read(plan, piece)
            refined = refine_records(image, records, settings, threads=threads, device=device, on_progress=on_progress)
            made.append(_entries(plan, piece, *refined))
        except (CrispmaskError, MemoryError) as error:
            made.append(error)
    return made


def _refine_together(
    plan: RecordPlan, batch: Batch, settings: Settings, device: Any, on_progress: Callable[[int], None]
) -> list[list[dict[str, Any]]]:
    """The same for pieces whose records are refined at once."""
    read = [_read(plan, piece) for piece in batch]
    found = [_instances(records, (image.shape[0], image.shape[1])) for image, records in read]
    results = refine_photos(
        [image for image, _ in read],
        [instances for instances, _ in found],
        settings,
        device,
        from_boxes=[flags for _, flags in found],
        on_progress=on_progress,
    )
    return [
        _entries(plan, piece, _with_masks(records, result.after), result.left_alone)
        for piece, (_, records), result in zip(batch, read, results, strict=True)
    ]


def _read(plan: RecordPlan, numbers: list[int]) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """The image of some records, and these."""
    owner = plan.image_of(numbers[0])
    return read_sized(owner.path, owner.size), [plan.record(k) for k in numbers]


def _entries(
    plan: RecordPlan, numbers: list[int], refined: Sequence[dict[str, Any]], left_alone: Sequence[str]
) -> list[dict[str, Any]]:
    """The journal's records of some records of one image."""
    stamp = plan.image_of(numbers[0]).stamp
    return [
        {"name": k, "stamp": stamp, "left_alone": reason, "record": record}
        for k, record, reason in zip(numbers, refined, left_alone, strict=True)
    ]


def _side_by_side(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[tuple[T, Future[R]]]:
    """Each item with its work, in order, while a few further ones are worked on; an interruption waits for none."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    with interruptible_pool(threads) as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= 4 * threads:
                yield waiting.popleft()
        yield from waiting
