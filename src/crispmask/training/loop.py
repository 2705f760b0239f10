"""The training loop: AdamW, warm-up, plateau and linear cool-down, moving average of the weights, exact resume."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset

from crispmask.training.data import TrainingSet, read_photos
from crispmask.training.model import build_model


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a run; stored in its checkpoints.

    Attributes:
        steps: optimiser steps in all.
        batch_size: photos per step.
        learning_rate: of the heads; the backbone gets `backbone_factor` of it.
        backbone_factor: see `learning_rate`.
        weight_decay: of AdamW, on weights of two and more dimensions.
        warmup: steps of linear warm-up.
        cooldown: last share of the steps in which the rate falls linearly to zero.
        average: decay of the exponential moving average of the weights, which is what gets exported.
        variant: EfficientNet-Lite variant of the backbone.
        channels: width of the pyramid and the heads.
        seed: of weights, samples and samplers.
    """

    steps: int = 6000
    batch_size: int = 2
    learning_rate: float = 4e-4
    backbone_factor: float = 0.5
    weight_decay: float = 0.03
    warmup: int = 300
    cooldown: float = 0.35
    average: float = 0.998
    variant: str = "lite2"
    channels: int = 128
    seed: int = 0

    def rate(self, step: int) -> float:
        """Factor on the learning rate at a step."""
        start = self.steps * (1 - self.cooldown)
        fall = 1.0 if step < start else max(0.0, (self.steps - step) / (self.steps - start))
        return min(1.0, (step + 1) / self.warmup) * fall


def train(
    sources: list[tuple[Path, Path]],
    output: Path,
    config: TrainingConfig,
    *,
    focus: list[str] | None = None,
    device: str = "cpu",
    workers: int = 1,
    save_every: int = 200,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Train, or go on where the checkpoint in `output` stopped.

    Args:
        sources: pairs (COCO annotation file, image folder).
        output: folder of ``checkpoint.pt`` and ``log.csv``.
        config: the run; on resume `steps` may differ from the checkpoint's, all else comes from here too.
        focus: class names that the model is for; None means all.
        device: torch device.
        workers: loader processes.
        save_every: steps between checkpoints.
        on_step: called after each step with its number (from 1) and its losses.

    Returns:
        The checkpoint's path.
    """
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / "checkpoint.pt"
    photos, names = read_photos(sources)
    torch.manual_seed(config.seed)
    model = build_model(len(names) + 1, variant=config.variant, channels=config.channels)
    model = model.to(device, memory_format=torch.channels_last).train()
    model.transform._skip_resize = True  # samples arrive at their training size

    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.average))
    optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, 0.999))
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]

    focus_labels = {names.index(n) + 1 for n in focus} if focus else set(range(1, len(names) + 1))
    items = config.steps * config.batch_size
    samples = TrainingSet(
        photos, seed=config.seed, batch_size=config.batch_size, length=items, focus=focus_labels
    )
    loader = DataLoader(
        Subset(samples, range(step * config.batch_size, items)),
        batch_size=config.batch_size,
        num_workers=workers,
        collate_fn=lambda batch: tuple(zip(*batch, strict=True)),
        prefetch_factor=4 if workers else None,
    )
    # bfloat16 pays where the matrix units have it, and not elsewhere.
    mixed = device != "cpu" or torch.cpu._is_amx_tile_supported()

    def save() -> None:
        state = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "names": names,
            "config": asdict(config),
        }
        partial = checkpoint.with_suffix(".part")
        torch.save(state, partial)
        os.replace(partial, checkpoint)

    with (output / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        for images, targets in loader:
            started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * config.rate(step)
            torch.manual_seed(config.seed * 1_000_003 + step)  # the proposal samplers draw from it
            images = [image.to(device) for image in images]
            targets = [{k: v.to(device) for k, v in t.items()} for t in targets]
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=mixed):
                losses = model(images, targets)
                loss = sum(losses.values())
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss became {loss.item()} at step {step}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            average.update_parameters(model)
            step += 1
            values = {name: round(value.item(), 4) for name, value in losses.items()}
            log.writerow([step, *values.values(), round(time.perf_counter() - started, 3)])
            if on_step:
                on_step(step, values)
            if step % save_every == 0 or step == config.steps:
                file.flush()
                save()
    return checkpoint


def parameter_groups(model: torch.nn.Module, config: TrainingConfig) -> list[dict]:
    """AdamW groups: backbone body and the rest, each with and without weight decay."""
    groups: dict[tuple[bool, bool], list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            body = name.startswith(("backbone.stem", "backbone.stages"))
            groups.setdefault((body, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "base": config.learning_rate * (config.backbone_factor if body else 1.0),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (body, decays), parameters in groups.items()
    ]
