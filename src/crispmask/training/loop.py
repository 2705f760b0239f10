"""The training loop: AdamW, warm-up, plateau and linear cool-down, moving average of the weights, exact resume."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from crispmask.errors import CrispmaskError, DataError, ModelError, ParamsError
from crispmask.files import replacing, write_text
from crispmask.training.checkpoint import read_checkpoint
from crispmask.training.config import TrainingConfig
from crispmask.training.data import Photo, TrainingSet, read_photos
from crispmask.training.model import build_model


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
        config: the run. With the same one, a resumed run equals an undisturbed one bit for bit on the CPU; another
            number of steps lengthens or shortens it.
        focus: class names that the model is for; None means all.
        device: torch device.
        workers: loader processes.
        save_every: steps between checkpoints.
        on_step: called after each step with its number (from 1) and its losses.

    Returns:
        The checkpoint's path.

    Raises:
        DataError: annotations or photos that cannot be used; missing photos are found before the first step.
        ImageError: a photo that cannot be decoded.
        ModelError: a checkpoint of other classes or of another network, or a loss that diverged.
        ParamsError: a device that torch cannot use.
    """
    _check_device(device)
    photos, names = read_photos(sources)
    _check_files(photos)
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / "checkpoint.pt"
    torch.manual_seed(config.seed)
    model = build_model(len(names) + 1, variant=config.variant, channels=config.channels)
    model = model.to(device, memory_format=torch.channels_last).train()
    model.transform._skip_resize = True  # samples arrive at their training size

    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.average))
    optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, 0.999))
    step = 0
    if checkpoint.exists():
        state = read_checkpoint(checkpoint, device)
        if state["names"] != names:
            raise ModelError(f"{checkpoint} was trained on other classes: use another output folder, or remove it")
        try:
            model.load_state_dict(state["model"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError):
            raise ModelError(
                f"{checkpoint} holds another network (other channels or variant): use another folder, or remove it"
            ) from None
        step = state["step"]

    unknown = [name for name in focus or [] if name not in names]
    if unknown:
        raise DataError(f"no annotation file has the class {unknown[0]!r}; they have {', '.join(names)}")
    focus_labels = {names.index(name) + 1 for name in focus or names}
    items = config.steps * config.batch_size
    samples = TrainingSet(
        photos, seed=config.seed, batch_size=config.batch_size, size=config.size, length=items, focus=focus_labels
    )
    loader = DataLoader(
        _From(samples, step * config.batch_size),
        batch_size=config.batch_size,
        num_workers=workers,
        collate_fn=_collate,
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
        with replacing(checkpoint) as partial:
            torch.save(state, partial)

    _cut_log(output / "log.csv", step)
    with (output / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        for batch in loader:
            if isinstance(batch, CrispmaskError):
                raise batch
            images, targets = batch
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
                raise ModelError(f"the loss became {loss.item()} at step {step}: try a lower learning rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            average.update_parameters(model)
            step += 1
            values = {name: round(value.item(), 4) for name, value in losses.items()}
            if file.tell() == 0:
                log.writerow(["step", *values, "seconds"])
            log.writerow([step, *values.values(), round(time.perf_counter() - started, 3)])
            if on_step:
                on_step(step, values)
            if step % save_every == 0 or step == config.steps:
                file.flush()
                save()
    return checkpoint


def _cut_log(path: Path, step: int) -> None:
    """Drop the rows after a step: those that a killed run wrote past its last checkpoint will be written again."""
    if path.exists():
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line[0].isdigit() or int(line.partition(",")[0]) <= step]
        write_text(path, "".join(kept) if step else "")


class _From(Dataset):
    """The samples from a number on; one that cannot be made is its error, which torch would wrap in a traceback."""

    def __init__(self, samples: TrainingSet, start: int) -> None:
        self.samples, self.start = samples, start

    def __len__(self) -> int:
        return max(0, len(self.samples) - self.start)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.samples[self.start + index]
        except CrispmaskError as error:
            return error


def _collate(batch: list[Any]) -> tuple | CrispmaskError:
    errors = [item for item in batch if isinstance(item, CrispmaskError)]
    return errors[0] if errors else tuple(zip(*batch, strict=True))


def _check_device(name: str) -> None:
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ParamsError(f"torch cannot use the device {name!r}: {reason}") from None


def _check_files(photos: list[Photo]) -> None:
    missing = [photo.path for photo in photos if not photo.path.is_file()]
    if missing:
        raise DataError(f"{missing[0]} does not exist ({len(missing)} of {len(photos)} annotated photos are missing)")


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
