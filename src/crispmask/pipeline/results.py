"""A results file of any detector: every mask refined, a journal line per finished record.

Memory does not grow with the file: a first pass checks every record and remembers its place, then each image's
records are read, refined and written into the journal, from which the output is put together in the order of the
input. An interrupted run that is continued therefore gives the same bytes as an undisturbed one.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import closing
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
from crispmask.files import locked
from crispmask.instances import Instances
from crispmask.pipeline.job import RefineJob
from crispmask.pipeline.journal import Journal
from crispmask.pipeline.progress import Progress, RefineReport, one_image
from crispmask.pipeline.records import RecordPlan
from crispmask.pipeline.segmenter import refine_found
from crispmask.pipeline.settings import Settings
from crispmask.refinement.prompts import from_boxes

PIECE = 50
"""Records of one image that are refined at a time: about a second of work."""

MASK_PIXELS = 400_000_000
"""Of an image that is so large that `PIECE` masks which fill it have more pixels, fewer masks are in memory at once."""

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
    # The scores of some detectors leave [0, 1].
    sound = [{**record, "score": min(max(float(record["score"]), 0.0), 1.0)} for record in records]
    refined: list[dict[str, Any]] = []
    left_alone: list[str] = []
    size = image.shape[0], image.shape[1]
    together = max(1, len(records) if settings.joint else MASK_PIXELS // (size[0] * size[1]))
    for start in range(0, len(records), together):
        part = records[start : start + together]
        found, flags = _instances(sound[start : start + together], size)

        def step(done: int, start: int = start) -> None:
            on_progress(start + done)

        result = refine_found(
            image, found, settings, from_boxes=flags, threads=threads, device=device, on_progress=step
        )
        for record, window in zip(part, result.after.windows, strict=True):
            refined.append({**record, "segmentation": window_to_rle(window, *size)})
        left_alone += result.left_alone
    return refined, tuple(left_alone)


def _instances(records: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> tuple[Instances, list[bool]]:
    """The instances of one image's records, and of which of them only the box is known."""
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
            pieces = list(_pieces(plan, journal, None if job.settings.joint else PIECE))
            resumed = len(plan.numbers) - sum(map(len, pieces))
            _work(job, plan, journal, pieces, threads, device, on_progress or (lambda progress: None))
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
    pieces: Sequence[list[int]],
    threads: int,
    device: Any,
    on_progress: Callable[[Progress], None],
) -> None:
    """Refine the records of the pieces, and write them into the journal."""
    total = len(plan.numbers)
    done = resumed = total - sum(map(len, pieces))
    on_progress(Progress(done, total, resumed))
    workers = min(threads, max(1, len(pieces)))
    inner = max(1, threads // workers)
    finished: dict[int, int] = {}  # records of the pieces that are worked on, by the first one's number
    stopped = Event()

    def refine(piece: list[int]) -> list[dict[str, Any]]:
        def step(count: int) -> None:
            if stopped.is_set():
                raise CancelledError
            finished[piece[0]] = count

        return _refine(plan, piece, job.settings, inner, device, step)

    with closing(_side_by_side(refine, pieces, workers)) as working:
        try:
            for piece, future in working:

                def bad(reason: str, piece: list[int] = piece) -> None:
                    for k in piece:
                        job.bad(f"{job.results}: result {k}: {reason}")

                while len(piece) > PIECE and not wait([future], 0.5).done:
                    on_progress(Progress(done + sum(list(finished.values())), total, resumed))
                with one_image(plan.image_of(piece[0]).path, bad):
                    journal.append(*future.result())
                finished.pop(piece[0], None)
                done += len(piece)
                on_progress(Progress(done, total, resumed))
        finally:
            stopped.set()


def _pieces(plan: RecordPlan, journal: Journal, largest: int | None) -> Iterator[list[int]]:
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
    numbers: list[int],
    settings: Settings,
    threads: int,
    device: Any,
    on_progress: Callable[[int], None],
) -> list[dict[str, Any]]:
    """The journal's records of some records of one image."""
    owner = plan.image_of(numbers[0])
    image = read_sized(owner.path, owner.size)
    records = [plan.record(k) for k in numbers]
    refined, left_alone = refine_records(
        image, records, settings, threads=threads, device=device, on_progress=on_progress
    )
    return [
        {"name": k, "stamp": owner.stamp, "left_alone": reason, "record": record}
        for k, record, reason in zip(numbers, refined, left_alone, strict=True)
    ]


def _side_by_side(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[tuple[T, Future[R]]]:
    """Each item with its work, in order, while a few further ones are worked on; an interruption waits for none."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= 4 * threads:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
