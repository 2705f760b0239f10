"""What every run on a cluster needs: the connection, progress, rows that are written once, and resuming."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import ray
from ray.data import ActorPoolStrategy
from ray.data.checkpoint import CheckpointConfig
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from crispmask.crf.tensors import device_of
from crispmask.errors import ClusterError, CrispmaskError, DataError, ParamsError
from crispmask.files import locked, refuse_other_settings
from crispmask.pipeline.journal import CHECKSUMS
from crispmask.pipeline.output import TABLE
from crispmask.pipeline.progress import Progress
from crispmask.pipeline.ray.manifest import Manifest
from crispmask.pipeline.ray.stages import KEY
from crispmask.pipeline.ray.storage import Place

UNFINISHED, MANIFEST, CHECKPOINT = "unfinished.json", "manifest.parquet", "checkpoint"

BLOCK = 16  # images that a task takes at a time: seconds of work, and few enough to spread over the machines
EVERY = 0.5  # seconds between two looks at the progress
FEW = 4  # processors; in a cluster of fewer, actors share them with the tasks


def goes_on(out: Place, settings: dict[str, Any], restart: bool) -> dict[str, Any] | None:
    """What `begin` noted of the interrupted run in `out` that this one continues; None where there is none.

    The file that holds it is written last (`begin`) and removed first, so that a crash in between leaves either a run
    that can be continued or none.

    Raises:
        ParamsError: a run with other settings.
        DataError: a file that cannot be read.
    """
    mark = out / UNFINISHED
    if restart:
        mark.remove()
    if not mark.exists():
        return None
    content = mark.read_json()
    try:
        old, notes = dict(content["settings"]), dict(content["notes"])
    except (LookupError, TypeError, ValueError):
        raise DataError(f"{mark.url} is not from a run of crispmask: remove it, or begin anew with --restart") from None
    refuse_other_settings(out.url, old, settings, CHECKSUMS)
    return notes


def begin(out: Place, settings: dict[str, Any], notes: dict[str, Any]) -> None:
    """Remove the rows of older runs, and note that a run with these settings has begun, and what it needs to go on."""
    (out / CHECKPOINT).remove()
    (out / TABLE).remove()
    (out / UNFINISHED).write_json({"settings": settings, "notes": notes})


def end(out: Place) -> None:
    """Remove what only an unfinished run needs."""
    for name in (UNFINISHED, CHECKPOINT, MANIFEST):
        (out / name).remove()


@contextmanager
def held(out: Place) -> Iterator[None]:
    """Hold the output for this process where it is a folder of this machine; object stores have no locks."""
    if out.is_local:
        with locked(Path(out.path)):
            yield
    else:
        yield


def read_blocks(manifest: Manifest) -> ray.data.Dataset:
    """The manifest in blocks of work, as a data set whose options are its own."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    with ray.data.DataContext.current(context):
        return manifest.read().repartition(target_num_rows_per_block=BLOCK)


def write_once(rows: ray.data.Dataset, out: Place, images_per_file: int, schema: pa.Schema) -> None:
    """Run the stages; files appear in `TABLE`, and which images they hold in `CHECKPOINT`, in two steps of Ray's."""
    table, checkpoint = out / TABLE, out / CHECKPOINT
    rows.context.checkpoint_config = CheckpointConfig(
        id_column=KEY,
        checkpoint_path=checkpoint.path,
        override_filesystem=checkpoint.filesystem,
        delete_checkpoint_on_success=False,  # it is needed until the results are put together
    )
    rows.write_parquet(table.path, filesystem=table.filesystem, min_rows_per_file=images_per_file, schema=schema)


def finished(out: Place) -> ds.Dataset | None:
    """The names of the images that are finished, as rows."""
    checkpoint = out / CHECKPOINT
    done = [file.path for file in checkpoint.files() if not file.path.endswith(".pending.parquet")]
    return ds.dataset(done, filesystem=checkpoint.filesystem, format="parquet") if done else None


class _Counter:
    """An actor that adds up what the tasks did."""

    def __init__(self) -> None:
        self._images = self._objects = 0

    def add(self, images: int, objects: int) -> None:
        self._images += images
        self._objects += objects

    def read(self) -> tuple[int, int]:
        return self._images, self._objects


@dataclass(frozen=True)
class Counted:
    """A stage whose rows are counted."""

    stage: Callable[[pa.Table], pa.Table]
    counter: Any

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = self.stage(batch)
        ray.get(self.counter.add.remote(rows.num_rows, sum(rows["objects"].to_pylist())))
        return rows


class _CountedOn(Counted):
    """The same in an actor, which ends at once where it has no such device."""

    def __init__(self, stage: Callable[[pa.Table], pa.Table], counter: Any, device: str) -> None:
        super().__init__(stage, counter)
        device_of(device, None)


def counted(
    rows: ray.data.Dataset, stage: Callable[[pa.Table], pa.Table], counter: Any, device: str | None, gpus: float | None
) -> ray.data.Dataset:
    """The rows after a last stage; on ``"cuda"`` in actors that have so many `gpus` each, else in tasks."""
    if device != "cuda":
        return rows.map_batches(Counted(stage, counter), batch_format="pyarrow")
    return rows.map_batches(
        _CountedOn,
        fn_constructor_args=(stage, counter, device),
        batch_format="pyarrow",
        batch_size=BLOCK,  # on GPUs Ray asks for a number
        compute=ActorPoolStrategy(min_size=1),
        num_cpus=0 if few_processors() else None,
        num_gpus=gpus or 1,
    )


def few_processors() -> bool:
    """Whether the tasks need all processors of the cluster: an actor would hold one for the whole run."""
    return int(ray.cluster_resources().get("CPU", 0)) < FEW


def check_device(device: str | None) -> None:
    """ParamsError for a device of the refinement that a cluster does not know."""
    if device not in (None, "cpu", "cuda"):
        raise ParamsError(f"on a cluster the device is cpu or cuda, not {device!r}")


def check_gpus(device: str | None, gpus: float | None) -> None:
    """ParamsError where the refinement would wait for a GPU without end; who says how many may know of more to come."""
    if device == "cuda" and not gpus and not ray.cluster_resources().get("GPU", 0):
        raise ParamsError("no machine of the cluster has a GPU: leave the device out")


@contextmanager
def counting(on_progress: Callable[[Progress], None] | None, total: int, resumed: int) -> Iterator[Any]:
    """A counter for the tasks; while the block runs, `on_progress` is called with what it holds.

    Images that are done again because a machine was lost count twice, up to the total.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    counter = ray.remote(_Counter).options(num_cpus=0, scheduling_strategy=here).remote()
    finished = Event()

    def tell() -> None:
        images, objects = ray.get(counter.read.remote())
        if on_progress:
            on_progress(Progress(min(resumed + images, total), total, resumed, objects))

    def watch() -> None:
        while not finished.wait(EVERY):
            tell()

    tell()
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield counter
        finally:
            finished.set()
        watching.result()
        tell()


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A cluster: the one that this process is connected to, the one at an address, or one of this machine alone."""
    if ray.is_initialized():
        with _failing_clearly():
            yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address or os.environ.get("RAY_ADDRESS"):
        options["address"] = address
    else:
        options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    for handler in logging.getLogger("ray.data").handlers:
        if not isinstance(handler, logging.FileHandler):  # what it reports on stderr stays in Ray's log files
            handler.setLevel(logging.CRITICAL)
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = f" at {address}" if address else ""
        raise ClusterError(f"cannot reach a Ray cluster{where}: {_reason(error)}") from None
    try:
        with _failing_clearly():
            yield
    finally:
        ray.shutdown()


@contextmanager
def _failing_clearly() -> Iterator[None]:
    """Errors of ours that were raised on another machine are raised here; Ray's own become one sentence."""
    try:
        yield
    except RayTaskError as error:
        cause: BaseException | None = error
        while isinstance(cause, RayTaskError):
            cause = cause.cause
        if isinstance(cause, CrispmaskError):
            raise cause from None
        raise ClusterError(f"a task of the cluster failed: {_reason(cause)}") from error
    except RayError as error:
        raise ClusterError(f"the cluster failed: {_reason(error)}") from error


def _reason(error: BaseException | None) -> str:
    """The line of a report that names the exception, else its first: Ray puts a whole traceback into the message."""
    lines = str(error).splitlines() or [type(error).__name__]
    return next((line for line in reversed(lines) if re.match(r"[\w.]*(Error|Exception): ", line)), lines[0])
