"""Training the mask network: the loss, the loop, and a checkpoint from which the CPU goes on bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crispmask.errors import CrispmaskError, ModelError, ParamsError
from crispmask.files import replacing
from crispmask.training.refiner.batches import Batch, Batches
from crispmask.training.refiner.network import MaskNetwork
from crispmask.training.refiner.norms import LEAST_BATCH, with_norms, without_norms
from crispmask.training.refiner.resident import ResidentBatches

SECOND_PASS = 0.25
"""Share of the steps whose prompt is the network's own answer."""

WARM_UP, LAST_RATE = 150, 0.004
WEIGHT_DECAY, LARGEST_GRADIENT, MEAN = 0.01, 3.0, 0.998
SAVE_EVERY = 100  # steps


@dataclass(frozen=True)
class Step:
    """What a step of the training told.

    Attributes:
        step: its number, from 1.
        loss: of the batch.
        before, after: mean IoU of the prompts, and of the answers.
        seconds: since this process began to train.
    """

    step: int
    loss: float
    before: float
    after: float
    seconds: float


def fit(
    network: MaskNetwork,
    batches: Batches | ResidentBatches,
    checkpoint: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    on_step: Callable[[Step], None] | None = None,
) -> tuple[MaskNetwork, list[Step]]:
    """Train a network, or go on where the checkpoint stopped.

    The rate rises for `WARM_UP` steps and falls along a cosine. On one device and number of threads the weights are
    the same, bit for bit on the CPU, for any number of workers and of interruptions.

    Args:
        network: at step 0; trained in place.
        batches: what it is trained on.
        checkpoint: written every `SAVE_EVERY` steps.
        device: of torch.
        workers: processes that make batches; 0: this one.
        on_step: called after each step.

    Returns:
        The network with the running mean of its weights, on the CPU, and all steps.

    Raises:
        ParamsError: a device that there is not.
        ModelError: a loss that diverged, or a damaged checkpoint.
        CrispmaskError: images that cannot be used.
    """
    kind = device_type(device)
    network = network.to(device, memory_format=torch.channels_last).train()
    config = batches.config
    if config.batch_size >= LEAST_BATCH:
        rgb, prompt, _ = (part.to(device) for part in _unfailed(batches[len(batches)]))  # a step that is not trained on
        with_norms(network, rgb, prompt)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=WEIGHT_DECAY)
    mean = {name: value.detach().clone() for name, value in network.state_dict().items()}
    steps: list[Step] = []
    if checkpoint.exists():
        state = _read(checkpoint, device)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        mean, steps = state["mean"], [Step(*row) for row in state["steps"]]

    def save() -> None:
        content = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "mean": mean,
            "steps": [tuple(vars(one).values()) for one in steps],
        }
        with replacing(checkpoint) as partial:
            torch.save(content, partial)

    half, total, begun = _bfloat16(kind), len(batches), time.monotonic()
    for batch in batches.loader(len(steps), workers, pinned=kind == "cuda"):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(len(steps), total)
        rgb, prompt, truth = (part.to(device, non_blocking=True) for part in _unfailed(batch))
        second = np.random.default_rng((config.seed, len(steps), 1)).random() < SECOND_PASS
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            if second:
                with torch.no_grad():
                    prompt = network(rgb, prompt)[0].float().sigmoid()
            odds, coarse = network(rgb, prompt)
        value = loss(odds, coarse, truth)
        told = torch.stack([value.detach(), mean_iou(prompt, truth), mean_iou(odds.detach().sigmoid(), truth)]).tolist()
        if not math.isfinite(told[0]):
            raise ModelError(f"the loss became {told[0]} at step {len(steps)}: give a lower --learning-rate")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        steps.append(Step(len(steps) + 1, told[0], told[1], told[2], time.monotonic() - begun))
        keep = min(MEAN, (1 + len(steps)) / (10 + len(steps)))
        with torch.no_grad():
            pairs = [(mean[name], w) for name, w in network.state_dict().items() if w.is_floating_point()]
            torch._foreach_lerp_([m for m, _ in pairs], [w for _, w in pairs], 1 - keep)
        if len(steps) % SAVE_EVERY == 0 or len(steps) == total:
            save()
        if on_step:
            on_step(steps[-1])
    network.load_state_dict(mean)
    return without_norms(network.eval().to("cpu", memory_format=torch.contiguous_format)), steps


def loss(odds: Tensor, coarse: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy, three times as much at the edge; soft IoU; cross entropy at a quarter of the resolution.

    Args:
        odds: (B, 1, S, S) log-odds.
        coarse: (B, 1, S / 4, S / 4) log-odds.
        truth: (B, 1, S, S) in [0, 1].
    """
    odds, coarse = odds.float(), coarse.float()
    width = 2 * round(truth.shape[-1] * 6 / 256) + 1
    edge = F.max_pool2d(truth, width, 1, width // 2) + F.max_pool2d(-truth, width, 1, width // 2)
    cross = (F.binary_cross_entropy_with_logits(odds, truth, reduction="none") * (1 + 2 * edge)).mean()
    p = odds.sigmoid()
    shared = (p * truth).sum((1, 2, 3))
    iou = (shared + 1) / (p.sum((1, 2, 3)) + truth.sum((1, 2, 3)) - shared + 1)
    low = F.binary_cross_entropy_with_logits(coarse, F.interpolate(truth, scale_factor=0.25, mode="area"))
    return cross + 0.7 * (1 - iou.mean()) + 0.4 * low


def mean_iou(p: Tensor, truth: Tensor) -> Tensor:
    """Mean IoU of probabilities (B, 1, S, S) above one half with exact masks: a scalar."""
    a, b = p > 0.5, truth > 0.5
    return ((a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3)).clamp(min=1)).float().mean()


def _unfailed(batch: Batch | CrispmaskError) -> Batch:
    if isinstance(batch, CrispmaskError):
        raise batch
    return batch


def _rate(step: int, total: int) -> float:
    rise = min(1.0, (step + 1) / min(WARM_UP, max(1, total // 10)))
    return rise * 0.5 * (1 + math.cos(math.pi * step / total)) + LAST_RATE


def device_type(device: str) -> str:
    """The type of a device of torch; ParamsError where it cannot be used."""
    try:
        kind = torch.device(device).type
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0].split(". ")[0]
        raise ParamsError(f"torch cannot use the device {device!r}: {reason}; give --device cpu") from None
    return kind


def _bfloat16(kind: str) -> bool:
    """Whether layers are computed in bfloat16: on a CPU only where its matrix units have it."""
    if kind == "cpu":
        return any(getattr(torch.cpu, has, bool)() for has in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _read(checkpoint: Path, device: str) -> dict[str, Any]:
    from crispmask.detectors.networks import UNREADABLE

    try:
        state: dict[str, Any] = torch.load(checkpoint, map_location=device, weights_only=True)
        if set(state) != {"network", "optimizer", "mean", "steps"}:
            raise ValueError("not a checkpoint of crispmask learn")
    except (*UNREADABLE, ValueError):
        raise ModelError(f"{checkpoint} is damaged: remove it, and the training begins anew") from None
    return state
