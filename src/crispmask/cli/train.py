"""``crispmask train``: fine-tune a Mask R-CNN and export it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from crispmask.cli.annotated import Annotations, Images, needs_torch, pair
from crispmask.cli.console import note, progress_bar, say, waiting
from crispmask.cli.models import ensure_weights
from crispmask.cli.options import options_from
from crispmask.errors import DataError, ParamsError
from crispmask.training.detector.config import TrainingConfig

CHECKED_PHOTOS = 20  # on which the exported file is compared with torch


@options_from(TrainingConfig, "overrides", "Training")
def train(
    annotations: Annotations,
    images: Images,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for checkpoint and model.")],
    overrides: dict[str, Any],
    val_annotations: Annotated[
        Path | None,
        typer.Option(
            metavar="A.json",
            help="COCO annotation file of the validation set: the weights with the best mask AP are kept.",
        ),
    ] = None,
    val_images: Annotated[Path | None, typer.Option(metavar="DIR", help="Its photos.")] = None,
    focus: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Category the model is for; repeatable; by default all."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="Torch device: cpu, cuda, mps.")] = "cpu",
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Processes that prepare photos.")] = 1,
    save_every: Annotated[int, typer.Option(min=1, metavar="N", help="Steps between checkpoints.")] = 200,
) -> None:
    """Train a detector on your own photos and export it to ONNX (extra 'torch').

    Writes checkpoint.pt, best.pt, log.csv, validation.csv, curves.png, and model.onnx, which crispmask segment takes as
    its --detector; with --crf also crf.toml, which it takes as its --params. A run that was interrupted goes on from
    its last checkpoint. On several GPUs: torchrun --nproc-per-node N -m crispmask train ...
    """
    sources = pair(annotations, images)
    if (val_annotations is None) != (val_images is None):
        raise DataError("--val-annotations and --val-images belong together: give both, or neither")
    if val_annotations and val_images:
        pair([val_annotations], [val_images])
    config = TrainingConfig.starting_from(**overrides)
    if config.patience and not val_annotations:
        raise ParamsError("patience needs a validation set: give --val-annotations and --val-images")
    with waiting("Loading torch"), needs_torch():
        from crispmask.training.detector.data import read_data
        from crispmask.training.detector.export import export_onnx
        from crispmask.training.detector.hardware import is_main_process
        from crispmask.training.detector.joint import learnt_params
        from crispmask.training.detector.loop import train as run
        from crispmask.training.detector.validation import Validation
    data = read_data(sources)
    data.labels_of(focus)
    validation = None
    if val_annotations and val_images:
        validation = Validation.read(val_annotations, val_images, data.names, focus)
    main = is_main_process()
    if main:
        ensure_weights(config.init)
    with progress_bar("step") as progress:
        task = progress.add_task("Reading", total=config.steps, visible=main)
        first = True

        def show(step: int, losses: dict[str, float]) -> None:
            nonlocal first
            if first:  # steps of an earlier run must not count for the rate
                first = False
                progress.reset(task, total=config.steps, completed=step - 1)
            progress.update(task, completed=step, description=f"Loss {sum(losses.values()):.2f}")

        def tell(step: int, found: dict[str, float]) -> None:
            note(f"Step {step}: " + ", ".join(f"{name} {100 * value:.1f}" for name, value in found.items()))

        checkpoint = run(
            data,
            output,
            config,
            focus=focus,
            validation=validation,
            device=device,
            workers=workers,
            save_every=save_every,
            on_step=show,
            on_evaluation=tell,
        )
    if not main:
        return
    with waiting("Exporting to ONNX and comparing with torch"):
        model = output / "model.onnx"
        found = export_onnx(
            checkpoint,
            model,
            focus=focus,
            category_ids=data.category_ids(focus),
            photos=[photo.path for photo in data.photos[:CHECKED_PHOTOS]],
        )
    crf, learnt = output / "crf.toml", learnt_params(checkpoint) if config.crf else None
    if learnt:
        learnt.to_toml(crf)
    say(f"Checkpoint  {checkpoint}")
    say(f"Curves      {output / 'curves.png'}")
    say(f"Model       {model}")
    if learnt:
        names = ("theta_alpha", "theta_beta", "theta_gamma", "bilateral_weight", "smoothness_weight")
        say(f"CRF         {crf}: " + ", ".join(f"{name} {getattr(learnt, name):.3g}" for name in names))
    say(
        f"Agreement   {found['compared']:.0f} detections in ONNX Runtime and torch: "
        f"boxes within {found['boxes']:.4f} px, scores within {found['scores']:.4f}, "
        f"mask probabilities within {found['masks']:.4f}"
    )
    params = f" --params {crf}" if learnt else ""
    say(f"Try it:     crispmask segment PHOTOS --detector {model}{params} -o results")
