"""``segment`` on many machines: plan the run, let the cluster work, and put the results together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from crispmask.pipeline.naming import named_files
from crispmask.pipeline.output import COCO_FILES, refuse_other_results, remove_pictures, run_facts
from crispmask.pipeline.plan import Categories, Plan
from crispmask.pipeline.progress import Failure, Progress, SegmentReport
from crispmask.pipeline.provenance import IN_FOLDER, write_provenance
from crispmask.pipeline.ray import engine
from crispmask.pipeline.ray.manifest import Manifest, find_images_and_urls, is_manifest, make_manifest
from crispmask.pipeline.ray.output import summarize, write_coco_of
from crispmask.pipeline.ray.stages import RESULT, Detect, Refine, read_images
from crispmask.pipeline.ray.storage import Place
from crispmask.pipeline.settings import Settings
from crispmask.runtime import onnx_runtime


def segment_on_ray(
    sources: Sequence[str | Path],
    output: str | Path,
    detector: str = "embedded",
    settings: Settings | None = None,
    *,
    address: str | None = None,
    annotations: str | Path | None = None,
    images_per_file: int = 100,
    device: str | None = None,
    gpus: float | None = None,
    json: bool = True,
    restart: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> SegmentReport:
    """Segment images on a Ray cluster; continue an interrupted run with the same settings.

    Writes into `output` the folder ``images.parquet`` with one row per image (`crispmask.pipeline.ray.stages.RESULT`)
    and, with `json`, the files of `crispmask.pipeline.segment_folder`, which are the same bytes as a run without a
    cluster and without pictures gives on processors of the same kind. A local folder is held for the run; in an object
    store, see to it that two runs do not write to one place.

    Args:
        sources: files, folders, glob patterns, URLs of object stores; or manifests (``.parquet``, ``.jsonl``), with
            the columns ``file_name`` and, where wanted, ``uri`` and ``image_id``.
        output: folder or URL that all machines of the cluster can write to.
        detector: as for `crispmask.load_detector`; a file must be there on every machine.
        settings: by default ``Settings()``.
        address: of the cluster, ``auto`` for the one on this machine; by default that of ``RAY_ADDRESS``, or a
            cluster of this machine alone that ends with the call. A process that Ray knows already uses its cluster.
        annotations: COCO annotation file, as for `segment_folder`.
        images_per_file: at least so many rows a Parquet file; so much is done anew after an interruption.
        device: of the refinement: ``"cuda"`` for actors with a GPU (extra ``torch`` on every machine); by default the
            processors.
        gpus: graphics processors of one detector, and of one refining actor with ``device="cuda"``; also a fraction.
            By default a detector has one where the cluster has any and ONNX Runtime here can use them, else none; a
            refining actor has one; where there are both, they have one half each.
        json: whether to write COCO JSON too.
        restart: drop the progress of an interrupted run.
        overwrite: remove results of another run in `output`, rather than refuse to write there.
        on_progress: called once at the start, and then about twice a second from another thread.

    Returns:
        The report; images that cannot be read are among its failures and do not stop the others.

    Raises:
        ImageError: sources without any image.
        DataError: a manifest, annotation file or output that cannot be used, or results of another run in `output`.
        ParamsError: an interrupted run with other settings in `output`, a class that the detector does not have, a
            number of tiles out of range, or a device that the cluster does not have.
        ModelError: a detector that fails.
        ClusterError: a cluster that cannot be reached or loses more than it can compute again.
    """
    out = Place.of(output)
    if images_per_file < 1:
        raise ParamsError(f"images_per_file must be at least 1, got {images_per_file}")
    engine.check_device(device)
    if out.is_file():
        raise DataError(f"the output {output} is a file: name a folder")
    loaded, settings = (settings or Settings()).applied_to(load_detector(detector))
    dataset = CocoDataset.from_file(annotations, annotations=False) if annotations else None
    categories = Categories.make(loaded.categories, dataset)
    facts = run_facts(loaded, annotations, sources, settings)
    fingerprint = {
        "crispmask": __version__,
        "detector": loaded.checksum,
        "sources": [Place.of(source).url for source in sources],
        "annotations": Place.of(annotations).url if annotations else None,
        **settings.as_dict(),
    }
    with engine.held(out):
        replaces = _holds_other_results(out, facts, overwrite)
        manifest, notes = _begin(out, fingerprint, sources, dataset, restart, replaces)
        with engine.connected(address):
            engine.check_gpus(device, gpus)
            before = engine.finished(out)
            resumed = before.count_rows() if before is not None else 0
            with engine.counting(on_progress, manifest.images, resumed) as counter:
                rows = _stages(manifest, detector, loaded, settings, counter, device, gpus)
                engine.write_once(rows, out, images_per_file, RESULT)
            summary = summarize(out / engine.TABLE, manifest.images)
            done = manifest.images - len(summary.failed)
            facts["images"] = {"segmented": done, "unusable": len(summary.failed)}
            if done:
                with out.filling() as folder:
                    ids_given = "image_id" in manifest.columns
                    files = write_coco_of(out / engine.TABLE, folder, categories, ids_given) if json else []
                    write_provenance(folder / IN_FOLDER, "segment", facts, files)
        engine.end(out)
    return SegmentReport(
        done,
        resumed,
        summary.objects,
        tuple(Failure(Path(name), reason) for name, reason in summary.failed.items()),
        tuple(loaded.categories.values()),
        categories.left_out,
        notes["unnamed"],
        notes["missing"],
        tuple(map(Path, notes["unread"])),
        summary.animated,
        summary.left_alone,
        settings,
    )


def _holds_other_results(out: Place, facts: dict[str, Any], overwrite: bool) -> bool:
    """Whether `out` holds results of another run; DataError where they are not to be overwritten."""
    if not any((out / name).exists() for name in (IN_FOLDER, *COCO_FILES)):
        return False
    try:
        provenance = (out / IN_FOLDER).read_json()
    except DataError:
        provenance = None
    try:
        refuse_other_results(out.url, provenance, facts)
    except DataError:
        if not overwrite:
            raise
        return True
    return False


def _remove_results(out: Place) -> None:
    """Remove what an earlier run wrote; where that is a local folder, its pictures too."""
    if out.is_local:
        remove_pictures(Path(out.path))
    for name in (IN_FOLDER, *COCO_FILES, engine.TABLE):
        (out / name).remove()


def _begin(
    out: Place,
    fingerprint: dict[str, Any],
    sources: Sequence[str | Path],
    dataset: CocoDataset | None,
    restart: bool,
    replaces: bool,
) -> tuple[Manifest, dict[str, Any]]:
    """The images of the run that was interrupted, or of a new one; and what its report will say of the others."""
    notes = engine.goes_on(out, fingerprint, restart)
    if notes is not None:
        own = is_manifest(sources) and dataset is None
        return Manifest.open(sources if own else [(out / engine.MANIFEST).url]), notes
    notes = {"unnamed": 0, "missing": 0, "unread": []}
    if is_manifest(sources) and dataset is None:
        manifest = Manifest.open(sources)
    else:
        found, unread = (Manifest.open(sources).find(), []) if is_manifest(sources) else find_images_and_urls(sources)
        plan = Plan.make(found, unread, dataset, named_files(sources))
        manifest = make_manifest(plan, out / engine.MANIFEST, dataset is not None)
        notes = {"unnamed": plan.unnamed, "missing": plan.missing, "unread": [str(file) for file in plan.unread]}
    if replaces:
        _remove_results(out)
    engine.begin(out, fingerprint, notes)
    return manifest, notes


def _stages(
    manifest: Manifest,
    detector: str,
    loaded: Detector,
    settings: Settings,
    counter: Any,
    device: str | None,
    gpus: float | None,
) -> ray.data.Dataset:
    """Manifest, pixels, detections, refined rows: the lazy data set that `write_once` runs."""
    cluster = ray.cluster_resources()
    device = device if settings.refine else None
    if gpus is None:
        usable = "CUDAExecutionProvider" in onnx_runtime().get_available_providers()
        gpus = (0.5 if device == "cuda" else 1) if usable and cluster.get("GPU", 0) else 0
    # A detector holds its processor for the whole run. Where there are few, the tasks need all of them, even after a
    # machine is lost.
    processors = int(cluster.get("CPU", 0))
    shared = not gpus and engine.few_processors()
    found = (
        engine.read_blocks(manifest)
        .map_batches(partial(read_images, base=manifest.base), batch_format="pyarrow")
        .map_batches(
            Detect,
            fn_constructor_args=(detector, loaded.checksum, settings, "cuda" if gpus else "cpu"),
            batch_format="pyarrow",
            batch_size=engine.BLOCK if gpus else None,  # on GPUs Ray asks for a number
            compute=ActorPoolStrategy(min_size=1, max_size=max(1, processors) if shared else None),
            num_cpus=0 if shared else None,
            num_gpus=gpus or None,
        )
    )
    stage = Refine(settings, dict(loaded.categories), loaded.checksum, device)
    return engine.counted(found, stage, counter, device, gpus)
