"""A run of `crispmask learn`: train the network, export it, tune the CRF behind it, learn the gates.

What follows the training is learned on images that it did not see. Everything unfinished lies in a folder of its own,
so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crispmask.errors import DataError, ParamsError
from crispmask.files import checksum, write_bytes, write_text
from crispmask.params import CRFParams
from crispmask.plots import Axis, Line, Panel, draw_panels
from crispmask.refinement import LearnedParams, default_params
from crispmask.refinement.features import FEATURES
from crispmask.refinement.gate import Gate
from crispmask.structured import parse_json
from crispmask.training.refiner.batches import Batches, examples
from crispmask.training.refiner.config import LearnConfig
from crispmask.training.refiner.cuts import cut_all
from crispmask.training.refiner.export import export_network
from crispmask.training.refiner.fit import Step, device_type, fit
from crispmask.training.refiner.gate import Gates, learn_gates
from crispmask.training.refiner.measure import Setting, boxes_after, chosen, masks_after, measure
from crispmask.training.refiner.objects import AnnotatedObject, Source, chances, read_objects, split
from crispmask.training.refiner.resident import ResidentBatches
from crispmask.training.refiner.settings import BOX_PASSES, Tried, best_passes, candidates, compare
from crispmask.training.refiner.start import initial_network, onnx_content

TUNED = 4
"""The CRF is tuned on this part of the objects that the gates are learned from: one in so many."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Learned:
    """What a run made.

    Attributes:
        params: the parameters.
        path: their file.
        gates: what they do to masks of images that nothing was learned from.
        tried: settings of the CRF, the best first.
        boxes: mean IoU and boundary IoU of masks made from exact boxes, with the chosen number of passes.
    """

    params: LearnedParams
    path: Path
    gates: Gates
    tried: tuple[Tried, ...]
    boxes: tuple[float, float]


def learn(
    sources: Sequence[Source],
    output: Path,
    config: LearnConfig,
    *,
    device: str = "cpu",
    workers: int = 1,
    threads: int = 1,
    on_progress: Progress | None = None,
) -> Learned:
    """Learn parameters from annotated images, or go on where an interrupted run stopped.

    Args:
        sources: annotated sets of images.
        output: folder of ``params.toml``, ``network.onnx``, ``report.json`` and ``curves.png``; ``unfinished/`` until
            they are there.
        config: the run.
        device: of torch, for the training.
        workers: processes that make batches; 0: this one makes them between its steps.
        threads: of everything else. On the CPU the result is the same for the same number, bit for bit.
        on_progress: called with what is being done, and how much of it: (words, done, total).

    Raises:
        DataError: files that cannot be used, or too few objects.
        ParamsError: an interrupted run with other settings in `output`, or a device that there is not.
        ModelError: a network to start from that cannot be used, or a loss that diverged.
    """
    tell = on_progress or (lambda what, done, total: None)
    begun = time.monotonic()
    tell("Reading the annotations", 0, 0)
    objects = read_objects(sources)
    start = onnx_content(config.init)
    if start is None and not config.training:
        raise ParamsError("without training there must be a network: give --init 'shipped' or an ONNX file")
    # Without training, no image was seen by this run.
    seen, unseen = split(objects, config.held_out, config.seed) if config.training else ([], objects)
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise DataError(f"the output {output} is a file: name a folder")
    work = output / "unfinished"
    _claim(work, config, sources, start)
    steps: list[Step] = []
    with _torch_threads(threads):
        if config.training:
            content, steps = _trained(seen, work, config, start, device, workers, tell)
        else:
            assert start is not None
            content = start
    no_gate = Gate.constant(0, 0)
    params = LearnedParams(content, CRFParams(), no_gate, no_gate, box_passes=1)
    measured = chosen(unseen, config.measured, config.seed)
    if len({one.image.number for one in measured}) < 2:
        raise DataError("there are large enough objects on fewer than two images to learn the gates from: give more")
    tried, passes, boxes = _tuned(params, measured[::TUNED], work, config, threads, tell)
    best = tried[0].setting
    masks = measure(
        measured,
        masks_after(params, [best, replace(best, reach=params.reach)]),
        config.seed,
        journal=work / "masks.jsonl",
        threads=threads,
        on_image=lambda done, total: tell("Measuring masks", done, total),
    )
    tell("Learning the gates", 0, 0)
    gates = learn_gates(masks, config.seed, least_margin=config.least_margin)
    params = replace(
        params,
        crf=best.crf,
        temperature=best.temperature,
        box_passes=passes,
        binary_gate=gates.binary,
        soft_gate=gates.soft,
        about=_about(config, seen, masks),
    )
    path = params.save(output)
    report = {
        "config": config.as_dict(),
        "objects": {"trained on": len(seen), "measured": len(measured)},
        "images": {"trained on": _images(seen), "measured": _images(measured)},
        "seconds": {"this run": round(time.monotonic() - begun, 1)},
        "settings": [{"gain": t.gain, **t.changes()} for t in tried],
        "boxes": {str(n): value for n, value in zip(BOX_PASSES, boxes, strict=True)},
        "masks": [asdict(outcome) for outcome in gates.outcomes],
    }
    write_text(output / "report.json", json.dumps(report, indent=1) + "\n")
    if steps:
        _draw(output / "curves.png", steps, config.batch_size)
    shutil.rmtree(work)
    return Learned(params, path, gates, tuple(tried), boxes[BOX_PASSES.index(passes)])


def _claim(work: Path, config: LearnConfig, sources: Sequence[Source], start: bytes | None) -> None:
    """Make the folder of unfinished work, or check that what is there belongs to the same run."""
    run = {
        "config": config.as_dict(),
        "features": list(FEATURES),
        "start": hashlib.sha256(start).hexdigest() if start else None,
        "sources": [
            [str(s.images), checksum(s.annotations), checksum(s.results) if s.results else None] for s in sources
        ],
    }
    file = work / "run.json"
    if file.exists():
        if parse_json(file.read_bytes(), file) != run:
            raise ParamsError(
                f"{work} holds an interrupted run with other settings or data: use another output folder, or remove it"
            )
        return
    work.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(run))


def _trained(
    seen: Sequence[AnnotatedObject],
    work: Path,
    config: LearnConfig,
    start: bytes | None,
    device: str,
    workers: int,
    tell: Progress,
) -> tuple[bytes, list[Step]]:
    """The trained network's ONNX file, and the steps of its training."""
    batches: Batches | ResidentBatches = Batches(seen, config)
    if device_type(device) == "cuda":
        cuts = cut_all(
            seen,
            work / "cuts.npz",
            threads=torch.get_num_threads(),
            on_image=lambda done, total: tell("Cutting out the objects", done, total),
        )
        batches = ResidentBatches(cuts, chances(seen), config, device)
    total = len(batches) * config.batch_size

    def on_step(step: Step) -> None:
        words = f"Training: loss {step.loss:.2f}, IoU {step.before:.3f} to {step.after:.3f}"
        tell(words, step.step * config.batch_size, total)

    network, steps = fit(
        initial_network(config.init, config.seed, start),
        batches,
        work / "checkpoint.pt",
        device=device,
        workers=workers,
        on_step=on_step,
    )
    file = work / "network.onnx"
    if not file.exists():
        tell(f"Writing the network in {config.precision}", 0, 0)
        write_bytes(file, export_network(network, examples(seen, config), config.precision))
    return file.read_bytes(), steps


def _tuned(
    params: LearnedParams,
    objects: Sequence[AnnotatedObject],
    work: Path,
    config: LearnConfig,
    threads: int,
    tell: Progress,
) -> tuple[list[Tried], int, tuple[tuple[float, float], ...]]:
    """Settings of the CRF, the best first; the best number of passes on boxes, and what each number does."""
    settings = candidates() if config.tuning else [_shipped_setting()]
    masks = measure(
        objects,
        masks_after(params, settings),
        config.seed + 1,
        journal=work / "settings.jsonl",
        threads=threads,
        on_image=lambda done, total: tell("Tuning the CRF", done, total),
    )
    if not masks:
        raise DataError("no mask of the objects to tune the CRF on is large enough: give more annotated images")
    tried = compare(masks, settings)
    boxes = measure(
        objects,
        boxes_after(params, tried[0].setting, BOX_PASSES),
        config.seed,
        threads=threads,
        on_image=lambda done, total: tell("Measuring boxes", done, total),
    )
    return tried, *best_passes(boxes, BOX_PASSES)


def _shipped_setting() -> Setting:
    shipped = default_params()
    return Setting(shipped.crf, shipped.temperature)


def _about(config: LearnConfig, seen: Sequence[AnnotatedObject], masks: Sequence[Any]) -> dict[str, str]:
    trained = f"{config.steps * config.batch_size} prompts of {len(seen)} objects" if config.training else "not trained"
    return {
        "made by crispmask learn; network": f"from {config.init}, {trained}",
        "CRF and gates": f"from {len(masks)} masks of {len({m.image for m in masks})} images",
        "settings of the run": json.dumps(config.as_dict()),
    }


def _images(objects: Sequence[AnnotatedObject]) -> int:
    return len({one.image.number for one in objects})


def _draw(path: Path, steps: Sequence[Step], batch_size: int) -> None:
    """Loss, and IoU of prompts and answers, each a mean over a fiftieth of the run."""
    span = max(1, len(steps) // 50)
    count = len(steps) // span

    def mean(name: str) -> list[float]:
        values = np.array([getattr(step, name) for step in steps[: count * span]])
        found: list[float] = values.reshape(count, span).mean(1).tolist()
        return found

    at = [batch_size * value for value in mean("step")]
    iou = [Line(at, 100 * np.array(mean(name)), label) for name, label in (("before", "prompt"), ("after", "answer"))]
    draw_panels(
        path,
        [
            Panel(Axis("prompts"), Axis("loss"), [Line(at, mean("loss"))], "Loss"),
            Panel(Axis("prompts"), Axis("mean IoU, percent"), iou, "Prompts and the network's answers"),
        ],
    )


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Torch computes with so many threads, and afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
