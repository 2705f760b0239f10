"""The training loop: AdamW, warm-up, plateau and linear cool-down, moving average of the weights, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from crispmask.detectors.networks import check_device, locate_in_float32
from crispmask.errors import CrispmaskError, DataError, ModelError
from crispmask.files import remove_partial_files
from crispmask.training.detector.checkpoint import read_checkpoint, write_checkpoint
from crispmask.training.detector.config import TrainingConfig
from crispmask.training.detector.data import AnnotatedImage, TrainingData, TrainingSet
from crispmask.training.detector.hardware import accelerator_for
from crispmask.training.detector.history import LOG, VALIDATION, Table, draw_curves
from crispmask.training.detector.init import initial_model
from crispmask.training.detector.joint import PREFIX, attach_crf
from crispmask.training.detector.validation import Validation

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"


def train(
    data: TrainingData,
    output: Path,
    config: TrainingConfig,
    *,
    focus: list[str] | None = None,
    validation: Validation | None = None,
    device: str = "cpu",
    workers: int = 1,
    save_every: int = 200,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    on_evaluation: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Train, or resume from the checkpoint in `output`; as a single process, or as one of those of ``torchrun``.

    Args:
        data: annotated images.
        output: folder of the checkpoints, the tables and the curves.
        config: the run's configuration. On the CPU, a run that is resumed with the same one gives the same weights,
            bit for bit, as one without interruption. The number of steps may be changed.
        focus: class names that the model is for; None means all.
        validation: images whose mask AP decides which weights are kept as the best, and when to stop.
        device: torch device.
        workers: processes that load images, for each training process.
        save_every: steps between checkpoints.
        on_step: called after each step with its number (from 1) and its losses, averaged over all processes.
        on_evaluation: called after each evaluation with the step and the AP as `Validation.score` gives them.

    Returns:
        The checkpoint with the weights to use: ``best.pt`` if there is a validation set, else ``checkpoint.pt``.

    Raises:
        DataError: annotations or images that cannot be used; missing images are found before the first step.
        ImageError: a image that cannot be decoded.
        ModelError: a checkpoint of other classes or of another network, weights that cannot be fetched, or a loss
            that diverged.
        ParamsError: a device or a precision that torch cannot use, or a batch that the processes cannot share.
    """
    where = check_device(device)
    labels = set(data.labels_of(focus))
    _check_files(data.images)
    accelerator = accelerator_for(where, config.precision, config.batch_size)
    output.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        remove_partial_files(output)
    run = _Run(data, config, accelerator, output)
    step = run.step
    tables = {name: Table(output / name, step) for name in (LOG, VALIDATION)} if accelerator.is_main_process else {}
    loader = _loader(data.images, labels, config, accelerator, step, workers)
    for batch in () if run.stalled else loader:
        if isinstance(batch, CrispmaskError):
            raise batch
        started = time.perf_counter()
        losses = run.advance(*batch)
        step += 1
        if tables:
            tables[LOG].append(step, {**losses, "seconds": round(time.perf_counter() - started, 3)})
        if on_step and accelerator.is_main_process:
            on_step(step, losses)
        evaluated = validation is not None and (step % config.evaluate_every == 0 or step == config.steps)
        if validation is not None and evaluated:
            found = run.evaluate(validation)
            if tables:
                tables[VALIDATION].append(step, found)
            if on_evaluation and accelerator.is_main_process:
                on_evaluation(step, found)
        if evaluated or step % save_every == 0 or step == config.steps:
            run.save()
        if run.stalled:
            break
    accelerator.wait_for_everyone()
    return output / (BEST if validation is not None and (output / BEST).exists() else CHECKPOINT)


class _Run:
    """The state of a run: network, moving average, optimiser, step and evaluations."""

    def __init__(self, data: TrainingData, config: TrainingConfig, accelerator: Accelerator, output: Path) -> None:
        self.config, self.names, self.accelerator, self.output = config, data.names, accelerator, output
        self.step = 0
        self.evaluations: list[list[float]] = []  # step and AP
        torch.manual_seed(config.seed)
        with accelerator.main_process_first():  # which fetches the weights for all
            model = initial_model(config, data.names)
        if config.crf:
            attach_crf(model, config.crf_iterations)
        locate_in_float32(model)
        model.transform._skip_resize = True  # samples arrive at their training size
        self.model = model.to(accelerator.device, memory_format=torch.channels_last)
        self.average = AveragedModel(self.model)
        optimizer = torch.optim.AdamW(parameter_groups(self.model, config), betas=(0.9, 0.999))
        state = self._resume(optimizer) if (output / CHECKPOINT).exists() else {}
        self.network, self.optimizer = accelerator.prepare(self.model, optimizer)
        if accelerator.scaler is not None and state.get("scaler"):
            accelerator.scaler.load_state_dict(state["scaler"])
        self.network.train()
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):  # the statistics of a few images are noise
                module.eval()

    def _resume(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        path = self.output / CHECKPOINT
        state = read_checkpoint(path, str(self.accelerator.device))
        if state["names"] != self.names:
            raise ModelError(f"{path} was trained on other classes: use another output folder, or remove it")
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError):
            raise ModelError(
                f"{path} holds another network (other init, channels, variant or crf): use another folder, or remove it"
            ) from None
        self.step, self.evaluations = state["step"], state.get("evaluations", [])
        return state

    @property
    def stalled(self) -> bool:
        """Whether the last `config.patience` evaluations have not raised the AP."""
        scores = [ap for _, ap in self.evaluations]
        return 0 < self.config.patience <= len(scores) - 1 - scores.index(max(scores)) if scores else False

    def advance(self, images: tuple, targets: tuple) -> dict[str, float]:
        """Make one step; returns the losses by name."""
        config, accelerator, device = self.config, self.accelerator, self.accelerator.device
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * config.rate(self.step)
        # The seed of the proposal samplers, which differs from process to process.
        torch.manual_seed(config.seed * 1_000_003 + self.step + (accelerator.process_index << 40))
        losses = self.network(
            [image.to(device) for image in images], [{k: v.to(device) for k, v in t.items()} for t in targets]
        )
        loss = sum(losses.values())
        values = accelerator.reduce(torch.stack([value.detach() for value in losses.values()]), "mean").tolist()
        if not math.isfinite(sum(values)):
            raise ModelError(f"the loss became {sum(values)} at step {self.step}: try a lower learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.average.multi_avg_fn = get_ema_multi_avg_fn(config.decay(self.step))
        self.average.update_parameters(self.model)
        self.step += 1
        return {name: round(value, 4) for name, value in zip(losses, values, strict=True)}

    def evaluate(self, validation: Validation) -> dict[str, float]:
        """AP of the averaged weights, which are written to ``best.pt`` if it is the highest so far."""
        accelerator = self.accelerator
        share = list(validation.dataset.images)[accelerator.process_index :: accelerator.num_processes]
        results = gather_object(validation.detections(self.average.module, share, accelerator.device))
        found = validation.score(results)
        best = max((ap for _, ap in self.evaluations), default=-1.0)
        self.evaluations.append([self.step, found["AP"]])
        if found["AP"] > best and accelerator.is_main_process:
            state = {"average": self.average.state_dict(), "step": self.step, "names": self.names}
            write_checkpoint(self.output / BEST, {**state, "config": asdict(self.config), "validation": found})
        return found

    def save(self) -> None:
        """Write the checkpoint and draw the curves."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "step": self.step,
            "names": self.names,
            "config": asdict(self.config),
            "evaluations": self.evaluations,
        }
        write_checkpoint(self.output / CHECKPOINT, state)
        draw_curves(self.output)


def _loader(
    images: list[AnnotatedImage],
    labels: set[int],
    config: TrainingConfig,
    accelerator: Accelerator,
    step: int,
    workers: int,
) -> DataLoader:
    """Batches of this process, from `step` on."""
    items = config.steps * config.batch_size
    samples = TrainingSet(
        images, seed=config.seed, batch_size=config.batch_size, size=config.size, length=items, focus=labels
    )
    share = config.batch_size // accelerator.num_processes
    return DataLoader(
        _Share(samples, step, config.batch_size, accelerator.process_index * share, share),
        batch_size=share,
        num_workers=workers,
        collate_fn=_collate,
        prefetch_factor=4 if workers else None,
    )


class _Share(Dataset):
    """The samples of one process: `size` from `first` on of every step's batch, beginning with a step.

    All processes together use the same samples in the same steps as a single process. Where a sample cannot be made,
    the item is the error itself, because torch would wrap it in a traceback.
    """

    def __init__(self, samples: TrainingSet, step: int, batch_size: int, first: int, size: int) -> None:
        self.samples, self.step, self.batch_size, self.first, self.size = samples, step, batch_size, first, size

    def __len__(self) -> int:
        return max(0, len(self.samples) // self.batch_size - self.step) * self.size

    def index(self, k: int) -> int:
        """Number, within the whole run, of this process's sample k."""
        step, place = divmod(k, self.size)
        return (self.step + step) * self.batch_size + self.first + place

    def __getitem__(self, k: int) -> Any:
        try:
            return self.samples[self.index(k)]
        except CrispmaskError as error:
            return error


def _collate(batch: list[Any]) -> tuple | CrispmaskError:
    errors = [item for item in batch if isinstance(item, CrispmaskError)]
    return errors[0] if errors else tuple(zip(*batch, strict=True))


def _check_files(images: list[AnnotatedImage]) -> None:
    missing = [image.path for image in images if not image.path.is_file()]
    if missing:
        raise DataError(f"{missing[0]} does not exist ({len(missing)} of {len(images)} annotated images are missing)")


def parameter_groups(model: torch.nn.Module, config: TrainingConfig) -> list[dict]:
    """AdamW groups: backbone body, CRF and the rest, each with and without weight decay."""
    factors = {"body": config.backbone_factor, "crf": config.crf_factor, "heads": 1.0}
    groups: dict[tuple[str, bool], list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            body = name.startswith(("backbone.stem", "backbone.stages", "backbone.body"))
            part = "body" if body else "crf" if name.startswith(PREFIX) else "heads"
            groups.setdefault((part, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "base": config.learning_rate * factors[part],
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]
