"""``segment`` on many machines: plans the run, has the cluster do it, and puts the results together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from crispmask._version import __version__
from crispmask.coco import CocoDataset
from crispmask.detectors import load_detector
from crispmask.detectors.base import Detector
from crispmask.errors import DataError, ParamsError
from crispmask.pipeline import Failure, Report, Settings
from crispmask.pipeline.provenance import IN_FOLDER, describe, write_provenance
from crispmask.pipeline.ray.engine import (
    MANIFEST,
    TABLE,
    Counted,
    Progress,
    begin,
    connected,
    end,
    finished,
    goes_on,
    read_blocks,
    telling,
    write_once,
)
from crispmask.pipeline.ray.manifest import Manifest, find_photos, is_manifest, make_manifest
from crispmask.pipeline.ray.output import check_rows, write_coco
from crispmask.pipeline.ray.stages import RESULT, Detect, Refine, read_photos
from crispmask.pipeline.ray.storage import Place
from crispmask.runtime import onnx_runtime

FEW = 4  # processors; in a cluster of fewer, detectors share them with the tasks


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

    Writes into `output` the folder ``photos.parquet`` with one row per photo (`crispmask.pipeline.ray.stages.RESULT`)
    and, with `json`, the files of `crispmask.pipeline.segment_folder`, which are the same bytes as a run without a
    cluster gives on processors of the same kind.

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
    with connected(address):
        before = finished(out)
        resumed = before.count_rows() if before is not None else 0
        with telling(on_progress, manifest.photos, resumed) as counter:
            rows = _stages(manifest, detector, loaded, settings, counter, gpus)
            write_once(rows, out, photos_per_file, RESULT)
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
            with out.filling() as folder:
                names = []
                if json:
                    ids_given = "image_id" in manifest.columns
                    names = write_coco(out / TABLE, folder, categories.ids, categories.named, ids_given)
                write_provenance(folder / IN_FOLDER, "segment", facts, [folder / name for name in names])
    end(out)
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
    """The photos of the run that was interrupted, or of a new one."""
    going_on = goes_on(out, fingerprint, restart)
    if is_manifest(sources) and dataset is None:
        manifest = Manifest.open(sources)
    elif going_on:
        manifest = Manifest.open([(out / MANIFEST).url])
    else:
        photos = Manifest.open(sources).find() if is_manifest(sources) else find_photos(sources)
        outright = {Path(os.path.abspath(s)) for s in sources if os.path.isfile(s)}  # noqa: PTH100, PTH113
        manifest = make_manifest(photos, dataset, out / MANIFEST, outright)
    if not going_on:
        begin(out, fingerprint)
    return manifest


def _stages(
    manifest: Manifest,
    detector: str,
    loaded: Detector,
    settings: Settings,
    counter: Any,
    gpus: float | None,
) -> ray.data.Dataset:
    """Manifest, pixels, detections, refined rows: the lazy data set that `write_once` runs."""
    cluster = ray.cluster_resources()
    if gpus is None:
        usable = "CUDAExecutionProvider" in onnx_runtime().get_available_providers()
        gpus = 1 if usable and cluster.get("GPU", 0) else 0
    # A detector keeps its processor for the whole run. Of few, none may be kept from the tasks, even after a loss.
    processors = int(cluster.get("CPU", 0))
    shared = not gpus and processors < FEW
    return (
        read_blocks(manifest)
        .map_batches(partial(read_photos, base=manifest.base), batch_format="pyarrow")
        .map_batches(
            Detect,
            fn_constructor_args=(detector, loaded.checksum, settings, "cuda" if gpus else "cpu"),
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1, max_size=max(1, processors) if shared else None),
            num_cpus=0 if shared else None,
            num_gpus=gpus or None,
        )
        .map_batches(
            Counted(Refine(settings, dict(loaded.categories), loaded.checksum), counter),
            batch_format="pyarrow",
        )
    )
