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
from crispmask.params import CRFParams
from crispmask.training.detector.config import TrainingConfig

CHECKED_IMAGES = 20  # the exported file is compared with torch on so many


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
            help="COCO annotation file of a validation set: the weights with the highest mask AP on it are kept.",
        ),
    ] = None,
    val_images: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of its images.")] = None,
    focus: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Category that the model finds; repeatable; by default all."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="Torch device: cpu, cuda, mps.")] = "cpu",
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Processes that load and augment images.")] = 1,
    save_every: Annotated[int, typer.Option(min=1, metavar="N", help="Steps between checkpoints.")] = 200,
) -> None:
    """Train a detector on your own images and export it to ONNX (extra 'torch').

    Writes model.onnx for segment --detector, and with --crf also crf.toml for segment --params; besides checkpoint.pt,
    best.pt, log.csv, validation.csv and curves.png. The same command resumes an interrupted run from its last
    checkpoint. On several GPUs: torchrun --nproc-per-node N -m crispmask train ...
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
        from crispmask.training.detector.joint import learned_params
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
            if first:  # the rate must not count the steps of an earlier run
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
        found = export_onnx(
            checkpoint,
            output / "model.onnx",
            focus=focus,
            category_ids=data.category_ids(focus),
            images=[image.path for image in data.images[:CHECKED_IMAGES]],
        )
    _report(output, checkpoint, found, learned_params(checkpoint) if config.crf else None)


def _report(output: Path, checkpoint: Path, agreement: dict[str, float], learned: CRFParams | None) -> None:
    """Name the files of a finished run; write the CRF's parameters if there are some."""
    model, crf = output / "model.onnx", output / "crf.toml"
    say(f"Checkpoint  {checkpoint}")
    say(f"Curves      {output / 'curves.png'}")
    say(f"Model       {model}")
    if learned:
        learned.to_toml(crf)
        names = ("theta_alpha", "theta_beta", "theta_gamma", "bilateral_weight", "smoothness_weight")
        say(f"CRF         {crf}: " + ", ".join(f"{name} {getattr(learned, name):.3g}" for name in names))
        say(f"            to refine with it: --params {crf}; the default parameters usually gain more")
    say(
        f"Agreement   of {agreement['compared']:.0f} detections in ONNX Runtime and torch: "
        f"boxes within {agreement['boxes']:.4f} px, scores within {agreement['scores']:.4f}, "
        f"mask probabilities within {agreement['masks']:.4f}"
    )
    say(f"Try it:     crispmask segment IMAGES --detector {model} -o results")
