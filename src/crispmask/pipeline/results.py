"""A results file of any detector: every mask refined, a journal line per finished record.

Memory does not grow with the file: a first pass checks every record and remembers its place, then each image's
records are read, refined and written into the journal, from which the output is put together in the order of the
input. An interrupted run that is continued therefore gives the same bytes as an undisturbed one.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from crispmask.coco import mask_to_rle, results_to_instances, write_results
from crispmask.coco.images import read_sized
from crispmask.coco.stream import open_plain
from crispmask.errors import CrispmaskError, DataError, ValueRangeError
from crispmask.pipeline.job import RefineJob, RefineReport
from crispmask.pipeline.journal import Journal
from crispmask.pipeline.photo import Settings
from crispmask.pipeline.plan import Plan
from crispmask.refinement import Decision, refine_instances

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class RecordsDone:
    """Progress: `done` of `total` records, `resumed` of them by an earlier run."""

    done: int
    total: int
    resumed: int


def refine_records(
    image: NDArray[np.uint8],
    records: Sequence[Mapping[str, Any]],
    settings: Settings,
    *,
    threads: int | None = None,
    decisions: list[Decision | None] | None = None,
) -> list[dict[str, Any]]:
    """The results of one photo with refined masks.

    Args:
        image: uint8 (H, W, 3) RGB.
        records: COCO results of this photo, masks in any spelling.
        settings: how to refine; its score is not looked at.
        threads: by default one per processor. The result has the same bits for any number.
        decisions: filled as by `refine_instances`.

    Returns:
        The same records in the same order. Only ``segmentation`` is new, as compressed RLE: ``bbox`` is still the
        detector's, which is a finding of its own.

    Raises:
        DataError: a record that breaks the format, by its number and the reason.
    """
    # The scores of some detectors leave [0, 1].
    sound = [{**record, "score": min(max(float(record["score"]), 0.0), 1.0)} for record in records]
    before = results_to_instances(sound, *image.shape[:2])
    after = refine_instances(image, before, settings.params, threads=threads, joint=settings.joint, decisions=decisions)
    return [{**record, "segmentation": mask_to_rle(after.mask(i))} for i, record in enumerate(records)]


def refine_results(
    results: str | Path,
    images: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    *,
    annotations: str | Path | None = None,
    threads: int | None = None,
    restart: bool = False,
    skip_bad: bool = False,
    on_bad: Callable[[str], None] | None = None,
    on_progress: Callable[[RecordsDone], None] | None = None,
) -> RefineReport:
    """Refine every mask of a COCO results file; go on where an interrupted run with the same settings stopped.

    Writes `output`, the same records in the same order with other masks, and its provenance beside it. Until both
    are complete, progress is kept in a folder ``OUTPUT.unfinished``.

    Args:
        results: the file, gzip-compressed or not.
        images: folder of the photos.
        output: the file to write; one that ends in ``.gz`` is compressed.
        settings: by default ``Settings(score=0)``: every record is refined. Records below the score are left out.
        annotations: COCO annotation file that gives the photos' names by image id. By default ``images.json`` beside
            `results`, as `segment_folder` writes it, or else COCO's own naming (``000000000139.jpg``).
        threads: by default one per processor; over images, and over instances where there are fewer images.
        restart: drop the progress of an interrupted run.
        skip_bad: leave out records that cannot be refined, and go on.
        on_bad: called with a sentence for each of them.
        on_progress: called once when all records have been checked, and after each photo.

    Raises:
        DataError: a file that cannot be used; without `skip_bad` also the first record that cannot, before
            any work where reading the records and the photos' headers shows it.
        ParamsError: an interrupted run with other settings.
    """
    if threads is not None and threads < 1:
        raise ValueRangeError(f"threads must be at least 1, got {threads}")
    job = RefineJob(results, images, output, settings, annotations, skip_bad, on_bad)
    with ExitStack() as opened:
        file = opened.enter_context(open_plain(job.results))
        journal = opened.enter_context(Journal(job.state / "journal.jsonl", job.fingerprint(), restart))
        plan = job.plan(file)
        finished, left = _divide(plan, journal)
        resumed, failed = len(finished), 0

        def tell() -> None:
            if on_progress:
                on_progress(RecordsDone(len(finished) + failed, len(plan.numbers), resumed))

        tell()
        workers = min(threads or os.cpu_count() or 1, max(1, len(left)))
        inner = max(1, (threads or os.cpu_count() or 1) // workers)
        for group, done in _side_by_side(lambda group: _refine(plan, group, job.settings, inner), left, workers):
            if isinstance(done, CrispmaskError):
                for k in group:
                    failed += 1
                    job.bad(f"{job.results}: result {k}: {done}")
            else:
                journal.append(*done)
                finished.update(group)
            tell()
        kept = [k for k in plan.numbers if k in finished]
        records = (journal[k]["record"] for k in kept)
        write_results(job.output, records, partial_in=job.state if len(journal) else None)
        reasons = Counter(journal[k]["kept"] for k in kept if journal[k]["kept"])
        report = job.conclude(plan, kept, resumed, reasons)
        journal.remove()
    shutil.rmtree(job.state, ignore_errors=True)
    return report


def _divide(plan: Plan, journal: Journal) -> tuple[set[int], list[list[int]]]:
    """The records of photos that are finished, and the groups of the other photos."""
    finished: set[int] = set()
    left = []
    for group in plan.groups():
        photo = plan.photo_of(group[0])
        if all(k in journal and journal[k]["stamp"] == photo.stamp for k in group):
            finished.update(group)
        else:
            left.append(group)
    return finished, left


def _refine(plan: Plan, group: list[int], settings: Settings, threads: int) -> list[dict[str, Any]] | CrispmaskError:
    """The journal's records of a photo, or why there are none."""
    photo = plan.photo_of(group[0])
    try:
        image = read_sized(photo.path, photo.size)
        decisions: list[Decision | None] = []
        refined = refine_records(image, [plan.record(k) for k in group], settings, threads=threads, decisions=decisions)
    except CrispmaskError as error:
        return error
    except MemoryError:
        return DataError(f"{photo.path} does not fit into memory")
    reasons = [d.reason if d is not None and d.setting is None else "" for d in decisions]
    return [
        {"name": k, "stamp": photo.stamp, "record": record, "kept": reason}
        for k, record, reason in zip(group, refined, reasons, strict=True)
    ]


def _side_by_side(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[tuple[T, R]]:
    """Each item with its result, in order, while a few further ones are worked on."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= 4 * threads:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
