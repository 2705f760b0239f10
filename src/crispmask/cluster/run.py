"""The driver: plans a run, has the cluster do it, goes on after an interruption, and puts the results together."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow.dataset as ds
import ray
from ray.data import ActorPoolStrategy
from ray.data.checkpoint import CheckpointConfig
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from crispmask._version import __version__
from crispmask.cluster.manifest import Manifest, find_photos, is_manifest, make_manifest
from crispmask.cluster.output import check_rows, write_coco
from crispmask.cluster.stages import KEY, RESULT, Detect, Refine, read_photos
from crispmask.cluster.storage import Place
from crispmask.coco import CocoDataset
from crispmask.detectors import load_detector
from crispmask.detectors.base import Detector
from crispmask.detectors.runtime import onnx_runtime
from crispmask.errors import ClusterError, CrispmaskError, DataError, ParamsError
from crispmask.pipeline import Failure, Report, Settings
from crispmask.pipeline.journal import refuse_other_settings
from crispmask.pipeline.provenance import IN_FOLDER, describe, write_provenance

UNFINISHED, MANIFEST, CHECKPOINT, TABLE = "unfinished.json", "manifest.parquet", "checkpoint", "photos.parquet"

BLOCK = 16  # photos that a task takes at a time: seconds of work, and few enough to spread over the machines
SMALL = 4  # processors; a cluster below it shares each between a detector and a task, so that none waits for ever
EVERY = 0.5  # seconds between two looks at the progress


@dataclass(frozen=True)
class Progress:
    """`done` of `total` photos, `resumed` of them by an earlier run, and the objects found by this one.

    Photos that are done anew because a machine was lost count again, up to the total.
    """

    done: int
    total: int
    resumed: int
    objects: int


def segment_on_ray(
    sources: Sequence[str | Path],
    output: str | Path,
    detector: str = "embedded",
    settings: Settings | None = None,
    *,
    address: str | None = None,
    annotations: str | Path | None = None,
    photos_per_file: int = 100,
    gpus: float | None = None,
    json: bool = True,
    restart: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Segment photos on a Ray cluster; go on where an interrupted run with the same settings stopped.

    Writes into `output` the folder ``photos.parquet`` with a row a photo (`crispmask.cluster.stages.RESULT`) and, with
    `json`, the files of `crispmask.pipeline.segment_folder`, which are the same bytes as a run without a cluster gives
    on processors of the same kind.

    Args:
        sources: files, folders, glob patterns, URLs of object stores; or manifests (``.parquet``, ``.jsonl``), with
            the columns ``file_name`` and, where wanted, ``uri`` and ``image_id``.
        output: folder or URL that all machines of the cluster can write to.
        detector: as for `crispmask.load_detector`; a file must be there on every machine.
        settings: by default ``Settings()``.
        address: of the cluster, ``auto`` for the one on this machine; by default that of ``RAY_ADDRESS``, or a
            cluster of this machine alone that ends with the call. A process that Ray knows already uses its cluster.
        annotations: COCO annotation file, as for `segment_folder`.
        photos_per_file: at least so many rows a Parquet file; so much is done anew after an interruption.
        gpus: graphics processors of one detector, also a fraction; by default one where the cluster has any and ONNX
            Runtime here can use them, else none.
        json: whether to write COCO JSON too.
        restart: drop the progress of an interrupted run.
        on_progress: called once at the start, and then about twice a second from another thread.

    Returns:
        The report; photos that cannot be read are among its failures and do not stop the others.

    Raises:
        ImageError: sources without any image.
        DataError: a manifest, annotation file or output that cannot be used.
        ParamsError: an interrupted run with other settings in `output`.
        ModelError: a detector that fails.
        ClusterError: a cluster that cannot be reached or loses more than it can make good.
    """
    settings, out = settings or Settings(), Place.of(output)
    if photos_per_file < 1:
        raise ParamsError(f"photos_per_file must be at least 1, got {photos_per_file}")
    if out.is_file():
        raise DataError(f"the output {output} is a file: name a folder")
    loaded = load_detector(detector)
    dataset = CocoDataset.from_file(annotations, annotations=False) if annotations else None
    categories = _Categories.make(loaded, dataset)
    fingerprint = {
        "crispmask": __version__,
        "detector": loaded.checksum,
        "sources": [Place.of(source).url for source in sources],
        "annotations": Place.of(annotations).url if annotations else None,
        **settings.as_dict(),
    }
    manifest = _begin(out, fingerprint, sources, dataset, restart)
    with _connected(address):
        resumed = _count(out / CHECKPOINT)
        with _telling(on_progress, manifest.photos, resumed) as counter:
            rows = _stages(manifest, detector, loaded, settings, counter, gpus, resumed > 0)
            _write(rows, out, photos_per_file)
        objects, failed = check_rows(out / TABLE, manifest.photos)
        done = manifest.photos - len(failed)
        facts = {
            "detector": {"name": loaded.name, "sha256": loaded.checksum},
            "annotations": describe(Path(annotations)) if annotations else None,
            "images": [str(source) for source in sources],
            "settings": settings.as_dict(),
            "photos": {"segmented": done, "unusable": len(failed)},
        }
        if done:
            with out.filling() as folder, _failing_clearly():
                names = []
                if json:
                    ids_given = "image_id" in manifest.columns
                    names = write_coco(out / TABLE, folder, categories.ids, categories.named, ids_given)
                write_provenance(folder / IN_FOLDER, "segment", facts, [folder / name for name in names])
    _end(out)
    failures = tuple(Failure(Path(name), reason) for name, reason in failed.items())
    missing = len(dataset.images) - manifest.photos if dataset else 0
    return Report(done, resumed, objects, failures, categories.left_out, missing=missing)


@dataclass(frozen=True)
class _Categories:
    """The detector's category ids to the results', the results' categories, and those that the data set lacks."""

    ids: dict[int, int]
    named: list[dict[str, Any]]
    left_out: tuple[str, ...]

    @classmethod
    def make(cls, detector: Detector, dataset: CocoDataset | None) -> _Categories:
        known = dict(detector.categories if dataset is None else dataset.categories)
        id_of = {name: key for key, name in known.items()}
        ids = {key: id_of[name] for key, name in detector.categories.items() if name in id_of}
        if dataset is not None and not ids:
            names = ", ".join(detector.categories.values())
            raise DataError(f"{dataset.path} has none of the detector's categories ({names})")
        left_out = tuple(name for name in detector.categories.values() if name not in id_of)
        return cls(ids, [{"id": key, "name": name} for key, name in sorted(known.items())], left_out)


def _begin(
    out: Place, fingerprint: dict[str, Any], sources: Sequence[str | Path], dataset: CocoDataset | None, restart: bool
) -> Manifest:
    """The photos of the run that was interrupted, or of a new one, before which older rows are removed.

    The file that says that a run is unfinished is written last and removed first, so that a crash in between leaves
    either a run to go on with or none.
    """
    mark, made = out / UNFINISHED, out / MANIFEST
    going_on = mark.exists() and not restart
    if going_on:
        refuse_other_settings(out.url, mark.read_json(), fingerprint)
    else:
        mark.remove()
    if is_manifest(sources) and dataset is None:
        manifest = Manifest.open(sources)
    elif going_on:
        return Manifest.open([made.url])
    else:
        photos = Manifest.open(sources).find() if is_manifest(sources) else find_photos(sources)
        outright = {Path(os.path.abspath(source)) for source in sources if os.path.isfile(source)}  # noqa: PTH100, PTH113
        manifest = make_manifest(photos, dataset, made, outright)
    if not going_on:
        (out / CHECKPOINT).remove()
        (out / TABLE).remove()
        mark.write_json(fingerprint)
    return manifest


def _end(out: Place) -> None:
    for name in (UNFINISHED, CHECKPOINT, MANIFEST):
        (out / name).remove()


def _stages(
    manifest: Manifest,
    detector: str,
    loaded: Detector,
    settings: Settings,
    counter: Any,
    gpus: float | None,
    going_on: bool,
) -> ray.data.Dataset:
    """Manifest, pixels, detections, refined rows: the lazy data set that `_write` runs."""
    available = ray.cluster_resources()
    processors = available.get("CPU", 0)
    if going_on and 0 < processors < 2:
        raise ClusterError("going on with an interrupted run takes a cluster of two processors, and this one has one")
    share = 0.5 if processors < SMALL else 1
    if gpus is None:
        usable = "CUDAExecutionProvider" in onnx_runtime().get_available_providers()
        gpus = 1 if usable and available.get("GPU", 0) else 0
    return (
        _read(manifest, share)
        .repartition(target_num_rows_per_block=BLOCK)
        .map_batches(partial(read_photos, base=manifest.base), batch_format="pyarrow", num_cpus=share)
        .map_batches(
            Detect,
            fn_constructor_args=(detector, loaded.checksum, settings),
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1),
            num_cpus=None if gpus else share,
            num_gpus=gpus or None,
        )
        .map_batches(
            _Counted(Refine(settings, dict(loaded.categories), loaded.checksum), counter),
            batch_format="pyarrow",
            num_cpus=share,
        )
    )


def _read(manifest: Manifest, share: float) -> ray.data.Dataset:
    """The manifest as a data set whose options are its own."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    # The second version of Ray's reader lists files in a task that takes a whole processor, whatever it is told.
    context.use_datasource_v2 = False
    with ray.data.DataContext.current(context):
        return manifest.read(num_cpus=share)


def _write(rows: ray.data.Dataset, out: Place, photos_per_file: int) -> None:
    """Run the stages; files appear in `TABLE`, and which photos they hold in `CHECKPOINT`, in two steps of Ray's."""
    table, checkpoint = out / TABLE, out / CHECKPOINT
    rows.context.checkpoint_config = CheckpointConfig(
        id_column=KEY,
        checkpoint_path=checkpoint.path,
        override_filesystem=checkpoint.filesystem,
        delete_checkpoint_on_success=False,  # it is needed until the results are put together
    )
    with _failing_clearly():
        rows.write_parquet(table.path, filesystem=table.filesystem, min_rows_per_file=photos_per_file, schema=RESULT)


def _count(checkpoint: Place) -> int:
    """Photos that an earlier run finished."""
    done = [file.path for file in checkpoint.files() if not file.path.endswith(".pending.parquet")]
    return ds.dataset(done, filesystem=checkpoint.filesystem, format="parquet").count_rows() if done else 0


class _Counter:
    """An actor that adds up what the tasks did."""

    def __init__(self) -> None:
        self._photos = self._objects = 0

    def add(self, photos: int, objects: int) -> None:
        self._photos += photos
        self._objects += objects

    def read(self) -> tuple[int, int]:
        return self._photos, self._objects


@dataclass(frozen=True)
class _Counted:
    """A stage that tells the counter of its rows."""

    stage: Refine
    counter: Any

    def __call__(self, batch: Any) -> Any:
        rows = self.stage(batch)
        self.counter.add.remote(rows.num_rows, sum(rows["objects"].to_pylist()))
        return rows


@contextmanager
def _telling(on_progress: Callable[[Progress], None] | None, total: int, resumed: int) -> Iterator[Any]:
    """A counter for the tasks; while the block runs, `on_progress` is told what it holds."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    counter = ray.remote(_Counter).options(num_cpus=0, scheduling_strategy=here).remote()
    finished = Event()

    def tell() -> None:
        photos, objects = ray.get(counter.read.remote())
        if on_progress:
            on_progress(Progress(min(resumed + photos, total), total, resumed, objects))

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
def _connected(address: str | None) -> Iterator[None]:
    """A cluster: the one that this process is connected to, the one at an address, or one of this machine alone."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address or os.environ.get("RAY_ADDRESS"):
        options["address"] = address
    else:
        options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    for handler in logging.getLogger("ray.data").handlers:
        if not isinstance(handler, logging.FileHandler):  # its diary on stderr; Ray's log files keep it
            handler.setLevel(logging.ERROR)
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClusterError(f"cannot reach a Ray cluster{f' at {address}' if address else ''}: {reason}") from None
    try:
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
        raise ClusterError(f"a task of the cluster failed: {cause}") from error
    except RayError as error:
        raise ClusterError(f"the cluster failed: {str(error).splitlines()[0]}") from error
