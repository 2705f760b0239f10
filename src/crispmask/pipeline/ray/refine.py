"""``refine`` on many machines: a results file in, the same records with refined masks out."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crispmask.coco import write_results
from crispmask.coco.stream import open_plain
from crispmask.errors import ParamsError
from crispmask.pipeline.job import RefineJob
from crispmask.pipeline.progress import Progress, RefineReport
from crispmask.pipeline.ray import engine
from crispmask.pipeline.ray.manifest import COLUMNS, Manifest
from crispmask.pipeline.ray.output import BATCH, check_rows, dataset_of
from crispmask.pipeline.ray.stages import KEY, RECORDS, REFINED, RefineRecords, read_images
from crispmask.pipeline.ray.storage import Place
from crispmask.pipeline.records import RecordPlan
from crispmask.pipeline.settings import Settings


def refine_on_ray(
    results: str | Path,
    images: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    *,
    address: str | None = None,
    annotations: str | Path | None = None,
    images_per_file: int = 100,
    device: str | None = None,
    gpus: float | None = None,
    restart: bool = False,
    skip_bad: bool = False,
    on_bad: Callable[[str], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RefineReport:
    """Refine every mask of a COCO results file on a Ray cluster; continue an interrupted run.

    Writes the same bytes as `crispmask.pipeline.refine_results`. Until they are complete, progress is kept in a folder
    ``OUTPUT.unfinished``. The file is checked here, and put together here from rows that must fit into memory; the
    refinement is the cluster's.

    Args:
        results, images, output, settings, annotations, restart, skip_bad, on_bad: as for `refine_results`; the images
            and the folder of the output must be there under the same path on all machines.
        address, images_per_file, device, on_progress: as for `segment_on_ray`.
        gpus: graphics processors of one actor, also a fraction; by default one, with ``device="cuda"``.

    Raises:
        DataError, ParamsError: as `refine_results`; an image that can no longer be read is reported at the end.
        ClusterError: as `segment_on_ray`.
    """
    if images_per_file < 1:
        raise ParamsError(f"images_per_file must be at least 1, got {images_per_file}")
    engine.check_device(device)
    job = RefineJob(results, images, output, settings, annotations, skip_bad, on_bad)
    state = Place.of(job.state)
    with engine.held(state):
        with open_plain(job.results) as file:
            fingerprint = {"engine": "ray", **job.fingerprint()}
            going_on = engine.goes_on(state, fingerprint, restart)
            plan = job.plan(file)
            manifest = _write_manifest(plan, state / engine.MANIFEST)
            if going_on is None:
                engine.begin(state, fingerprint, {})
        before = engine.finished(state)
        resumed = {int(name) for name in before.to_table()[KEY].to_pylist()} if before is not None else set()
        refined = REFINED.empty_table()
        if manifest.images:
            with (
                engine.connected(address),
                engine.counting(on_progress, manifest.images, len(resumed)) as counter,
            ):
                engine.check_gpus(device, gpus)
                rows = engine.read_blocks(manifest).map_batches(
                    partial(read_images, base=None, carry=(RECORDS,)), batch_format="pyarrow"
                )
                rows = engine.counted(rows, RefineRecords(job.settings, device), counter, device, gpus)
                engine.write_once(rows, state, images_per_file, REFINED)
            check_rows(state / engine.TABLE, manifest.images)
            refined = dataset_of(state / engine.TABLE).to_table()
        for row in refined.filter(pc.is_valid(refined["error"])).to_pylist():
            for entry in row["records"]:
                job.bad(f"{job.results}: result {entry['number']}: {row['error']}")
        numbers, left_alone = _write(refined, job.output)
        report = job.conclude(plan, numbers, sum(plan.owner[k] in resumed for k in numbers), left_alone)
        state.remove()
    return report


def _write_manifest(plan: RecordPlan, place: Place) -> Manifest:
    """A row an image, named by its number in the plan, with its records."""
    schema = pa.schema([*(pa.field(name, kind) for name, kind in COLUMNS.items()), RECORDS])
    with place.writing() as partial_file, pq.ParquetWriter(partial_file, schema) as writer:
        rows: list[dict[str, Any]] = []
        for group in plan.groups():
            image, owner = plan.image_of(group[0]), plan.owner[group[0]]
            records = [{"number": k, "record": json.dumps(plan.record(k))} for k in group]
            size = {"height": image.size[0], "width": image.size[1]}
            rows.append({KEY: str(owner), "uri": os.path.abspath(image.path), **size, RECORDS.name: records})  # noqa: PTH100
            if len(rows) == BATCH:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))
    return Manifest.open([place.url])


def _write(refined: pa.Table, output: Path) -> tuple[list[int], Counter[str]]:
    """Write the refined records in the order of the input; their numbers there, and why masks were left alone."""
    usable = refined.filter(pc.is_null(refined["error"]))
    records = pa.Table.from_struct_array(pc.list_flatten(usable[RECORDS.name])).sort_by("number")

    def lines() -> Iterator[dict[str, Any]]:
        for batch in records.to_batches(max_chunksize=BATCH):
            for text in batch["record"].to_pylist():
                yield json.loads(text)

    write_results(output, lines())
    return records["number"].to_pylist(), Counter(records["left_alone"].drop_null().to_pylist())
