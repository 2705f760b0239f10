"""A run of `crispmask learn`: gather masks, train the network, measure what each setting does, learn the rules.

The rules are learnt with a network that never saw their photos, and kept with one that saw all photos: on new photos it
is at least as good as theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from crispmask.detectors.base import Detector
from crispmask.errors import DataError, ParamsError
from crispmask.files import difference, write_bytes, write_text
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.refinement import LearnedParams, Setting
from crispmask.refinement.features import FEATURES
from crispmask.refinement.rules import Rules
from crispmask.refinement.unary import is_binary
from crispmask.training.refiner.config import LearnConfig
from crispmask.training.refiner.gather import Mask, Photo, Source, crops_of, gather, photos_of, without_probabilities
from crispmask.training.refiner.samples import Sample, measure
from crispmask.training.refiner.select import Choice, learn_rules

if TYPE_CHECKING:
    from crispmask.training.refiner.store import Crop

CONTEXT, CONTEXT_MIN = 0.2, 8  # the margin that masks are refined with
SIDE = 96  # cells of the network's window
_DEGRADED = 0.35  # share of the kinds of each object that the rules are learnt from

Progress = Callable[[str, int, int], None]


def settings(network: bool) -> tuple[Setting, ...]:
    """What the rules choose from: the CRF on the mask's own probabilities, and on the network's."""

    def crf(alpha: float, bilateral: float, smoothness: float, **more: Any) -> CRFParams:
        return CRFParams(
            theta_alpha=alpha,
            bilateral_weight=bilateral,
            smoothness_weight=smoothness,
            context=CONTEXT,
            context_min=CONTEXT_MIN,
            **more,
        )

    own = (
        Setting("mask, CRF", crf(0.1, 2.5, 0.7)),
        Setting("mask, light CRF", crf(0.06, 1.0, 0.4)),
    )
    if not network:
        return (
            *own,
            Setting("mask, strong CRF", crf(0.15, 4.0, 1.0)),
            Setting("doubted mask, CRF", crf(0.15, 3.0, 0.7, confidence=0.85)),
        )
    return (
        *own,
        Setting("network", crf(0.1, 0.0, 0.0, iterations=0), True),
        Setting("network, light CRF", crf(0.05, 1.0, 0.3), True),
        Setting("network, CRF", crf(0.08, 2.0, 0.5), True),
        Setting("network, strong CRF", crf(0.1, 3.5, 0.7), True),
    )


@dataclass(frozen=True)
class Learned:
    """What a run made: the parameters, their file, and what they did to masks of photos they had not seen."""

    params: LearnedParams
    path: Path
    choice: Choice


def learn(
    sources: Sequence[tuple[Path, Path, Path | None]],
    output: Path,
    config: LearnConfig,
    *,
    detector: Detector | None = None,
    threads: int = 1,
    on_progress: Progress | None = None,
) -> Learned:
    """Learn parameters from annotated photos, or go on where an interrupted run stopped.

    Args:
        sources: triples (COCO annotation file, image folder, COCO results file or None).
        output: folder of ``params.toml``, ``unary.onnx`` and ``report.json``; ``unfinished/`` until they are there.
        config: the run.
        detector: run on the photos as well.
        threads: of everything; results are the same for one and two. With more the sums of the network differ, which
            torch orders by its threads.
        on_progress: called with what is being done, and how much of it: (words, done, total).

    Raises:
        DataError: files that cannot be used, or too few masks.
        ParamsError: an interrupted run with other settings in `output`.
        ModelError: a detector that fails, or a loss that diverged.
    """
    read = [Source.read(*paths, number=k) for k, paths in enumerate(sources)]
    photos = photos_of(read, config)
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise DataError(f"the output {output} is a file: name a folder")
    work = output / "unfinished"
    _claim(work, config, read, detector)
    tell = on_progress or (lambda what, done, total: None)
    held_out = [photo for photo in photos if photo.group % config.held_out == 0]
    contents: list[bytes | None] = [None, None]
    if config.network:
        contents = _networks(photos, held_out, work, config, detector, threads, tell)
    else:
        held_out = photos
    tried = LearnedParams(
        settings(config.network),
        _unlearnt(config.network),
        network=contents[0],
        context=CONTEXT,
        context_min=CONTEXT_MIN,
    )
    samples = _samples(held_out, tried, config, detector, threads, tell)
    if len({sample.group for sample in samples}) < 2:
        raise DataError("there are masks of fewer than two photos to learn rules from: give more annotated photos")
    choice = learn_rules(samples, category_min=config.category_min)
    about = {
        "learnt by crispmask learn from": f"{len(photos)} photos; rules from {len(samples)} masks of {len(held_out)}",
        "settings of the run": json.dumps(config.as_dict()),
    }
    params = replace(
        tried,
        rules=choice.rules,
        margin=choice.margin,
        risks=choice.risks,
        max_risk=choice.max_risk,
        network=contents[1],
        about=about,
    )
    path = params.save(output)
    write_text(output / "report.json", json.dumps([vars(o) for o in choice.outcomes], indent=1) + "\n")
    for file in work.iterdir():
        file.unlink()
    work.rmdir()
    return Learned(params, path, choice)


def _claim(work: Path, config: LearnConfig, sources: Sequence[Source], detector: Detector | None) -> None:
    """Make the folder of unfinished work, or check that what is there belongs to the same run."""
    run = {
        **config.as_dict(),
        "detector": None if detector is None else detector.checksum,
        "sources": [[str(s.dataset.path), str(s.images), sum(map(len, s.results.values()))] for s in sources],
    }
    file = work / "run.json"
    if file.exists():
        what = difference(json.loads(file.read_text(encoding="utf-8")), run, {"detector": "another detector"})
        if what is not None:
            raise ParamsError(
                f"{work} holds an unfinished run with other settings ({what}): use another folder, or remove it"
            )
        return
    work.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(run))


def _networks(
    photos: Sequence[Photo],
    held_out: Sequence[Photo],
    work: Path,
    config: LearnConfig,
    detector: Detector | None,
    threads: int,
    tell: Progress,
) -> list[bytes | None]:
    """Two ONNX files: of the network that did not see the photos held out, and of the one that saw all."""
    from crispmask.training.refiner.export import export_network
    from crispmask.training.refiner.fit import fit

    files = [work / "held_out.onnx", work / "network.onnx"]
    if not all(file.exists() for file in files):
        crops = _crops(photos, config, detector, threads, tell)
        unseen = {photo.group for photo in held_out}
        seen = [crop for crop in crops if crop.group not in unseen]
        if not seen:
            raise DataError("there are too few photos to learn a network from: give more, or --no-network")
        wanted = [(file, part) for file, part in zip(files, (seen, crops), strict=True) if not file.exists()]
        done = dict.fromkeys(files, 0)
        stop = Event()

        def train(file: Path, part: Sequence[Crop]) -> None:
            def on_step(step: int, value: float) -> None:
                if stop.is_set():
                    raise CancelledError
                done[file] = step
                tell(f"Training the networks: loss {value:.2f}", sum(done.values()), config.steps * len(wanted))

            network = fit(
                part,
                file.with_suffix(".pt"),
                steps=config.steps,
                batch_size=config.batch_size,
                side=SIDE,
                learning_rate=config.learning_rate,
                context=CONTEXT,
                context_min=CONTEXT_MIN,
                seed=config.seed,
                on_step=on_step,
            )
            write_bytes(file, export_network(network, SIDE))

        # Both at once: convolutions this small keep one core each busier than they would keep two together.
        with _torch_threads(max(1, threads // len(wanted))), ThreadPoolExecutor(min(threads, len(wanted))) as pool:
            tasks = [pool.submit(train, *each) for each in wanted]
            try:
                wait(tasks, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
            for error in [task.exception() for task in tasks]:
                if error and not isinstance(error, CancelledError):
                    raise error
    return [file.read_bytes() for file in files]


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Torch computes with so many threads, and afterwards with as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _crops(
    photos: Sequence[Photo], config: LearnConfig, detector: Detector | None, threads: int, tell: Progress
) -> list[Crop]:
    # Sources count by the root of their size: a small, exact one is not drowned by a large one.
    objects = {s.number: max(1, sum(map(len, s.dataset.annotations.values()))) for s in (p.source for p in photos)}
    most = max(objects.values())
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        tell("Gathering masks", done, len(photos))

    parts = gather(
        photos,
        lambda photo: crops_of(photo, detector, config, (most / objects[photo.source.number]) ** 0.5),
        threads,
        count,
    )
    return [crop for part in parts for crop in part]


def _samples(
    photos: Sequence[Photo],
    params: LearnedParams,
    config: LearnConfig,
    detector: Detector | None,
    threads: int,
    tell: Progress,
) -> list[Sample]:
    done, alone = 0, len({photo.source.number for photo in photos}) == 1

    def count() -> None:
        nonlocal done
        done += 1
        tell("Trying the settings", done, len(photos))

    def work(photo: Photo) -> list[Sample]:
        image, objects = photo.image(), photo.objects(config)
        masks = [*photo.degraded(objects, _DEGRADED), *photo.detected(image, objects, detector, config)]
        masks += [without_probabilities(m) for m in masks[1::2] if not is_binary(m.one.windows[0].probabilities)]
        if config.network:  # which comes with torch
            masks += _as_mask_head(photo, objects)
        truths = [mask.truth.mask(0) for mask in masks]
        return [
            measure(
                image,
                mask.one,
                truth,
                params,
                photo.group,
                mask.kind if alone else f"{mask.kind} ({photo.source.dataset.path.stem})",
            )
            for mask, truth in zip(masks, truths, strict=True)
        ]

    return [sample for part in gather(photos, work, threads, count) for sample in part]


def _as_mask_head(photo: Photo, objects: Instances) -> list[Mask]:
    from crispmask.training.refiner.degrade import as_mask_head

    made = []
    for i, truth in enumerate(objects):
        rng = np.random.default_rng([photo.seed, photo.source.number, photo.image_id, i, 1])
        if rng.random() < _DEGRADED:
            scored = replace(truth, scores=np.array([rng.uniform(0.2, 1)], np.float32))
            one = as_mask_head(scored, int(rng.integers(2**62)))
            if one.windows[0].mask.any():
                made.append(Mask(one, scored, "mask head"))
    return made


def _unlearnt(network: bool) -> Rules:
    """Rules that say nothing, for trying settings before there are any."""
    return Rules.constant(FEATURES, np.zeros(len(settings(network))))
