"""Training the unary network on stored crops: minutes on two cores, and the same weights after an interruption.

Several networks can be trained at once, each in a thread of its own: nothing here draws from torch's global random
state but the initial weights, which are made one network at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crispmask.errors import ModelError
from crispmask.files import replacing
from crispmask.refinement.network import CONFIDENCE
from crispmask.training.refiner.degrade import blur, degrade, displace, soften_binary
from crispmask.training.refiner.network import UnaryNetwork
from crispmask.training.refiner.store import Crop

WEIGHT_DECAY = 0.01
AVERAGE = 0.999
WARMUP = 100
SAVE_EVERY = 250
_INITIAL = Lock()


class Batches:
    """Random samples of stored crops: cut, turned, recoloured, and their masks made worse.

    Args:
        crops: what is drawn from, by their weights.
        side: pixels of a sample.
        context, context_min: the margin around a box, as in `CRFParams`.
    """

    def __init__(self, crops: Sequence[Crop], side: int, context: float, context_min: float) -> None:
        self.crops, self.side, self.context, self.context_min = crops, side, context, context_min
        weights = np.array([crop.weight for crop in crops], np.float64)
        self._chances = weights / weights.sum()

    def draw(self, size: int, seed: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Photos (B, 3, S, S) in 0..255, probabilities (B, 1, S, S), sizes (B,) and truths (B, 1, S, S)."""
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        chosen = [self.crops[i] for i in rng.choice(len(self.crops), size, p=self._chances)]
        placed = [self._place(crop, rng) for crop in chosen]
        theta = torch.tensor(np.array([p[0] for p in placed]), dtype=torch.float32)
        sizes = torch.tensor([p[1] for p in placed], dtype=torch.float32)
        layers = [
            np.concatenate([c.image, c.truth[..., None], (c.truth if c.mask is None else c.mask)[..., None]], 2)
            for c in chosen
        ]
        stack = torch.from_numpy(np.stack(layers)).permute(0, 3, 1, 2).float()
        grid = F.affine_grid(theta, [size, 5, self.side, self.side], align_corners=False)
        stack = F.grid_sample(stack, grid, padding_mode="border", align_corners=False)
        image, truth, mask = stack[:, :3], stack[:, 3:4] / 255, stack[:, 4:] / 255
        made, made_binary = degrade(truth, generator)
        given = torch.tensor([c.mask is not None for c in chosen])
        # Results that others wrote down have lost their probabilities.
        hard = torch.tensor([not c.soft or rng.random() < 0.25 for c in chosen])
        # A given mask is sometimes moved a little, so that there are more of its kind than were found.
        amount = 0.02 * torch.rand((size, 1, 1, 1), generator=generator)
        amount = amount * (torch.rand((size, 1, 1, 1), generator=generator) < 0.5)
        mask = displace(mask, amount, generator)
        mask = torch.where(hard.view(-1, 1, 1, 1), (mask > 0.5).float(), mask)
        mask = torch.where(given.view(-1, 1, 1, 1), mask, made)
        probability = soften_binary(mask, torch.where(given, hard, made_binary)).clamp(0, 1)
        return _recoloured(image, generator), probability, sizes, truth

    def _place(self, crop: Crop, rng: np.random.Generator) -> tuple[list[list[float]], float]:
        """Affine map from a sample to its place in the stored crop, and the size of its window in the photo."""
        x0, y0, x1, y1 = crop.box
        w, h = x1 - x0, y1 - y0
        jitter = rng.normal(0, 0.03, 4) * (w, h, w, h)
        x0, y0, x1, y1 = (float(v) for v in crop.box + jitter)
        spread = rng.uniform(0.7, 1.4)
        mx, my = (max(spread * self.context * side, self.context_min) for side in (w, h))
        left, top = max(0.0, x0 - mx), max(0.0, y0 - my)
        right, bottom = min(crop.image_size[1], x1 + mx), min(crop.image_size[0], y1 + my)
        rect_w, rect_h = crop.rect[2] - crop.rect[0], crop.rect[3] - crop.rect[1]
        sx, sy = (right - left) / rect_w, (bottom - top) / rect_h
        cx = ((left + right) / 2 - crop.rect[0]) / rect_w * 2 - 1
        cy = ((top + bottom) / 2 - crop.rect[1]) / rect_h * 2 - 1
        flip = -1.0 if rng.random() < 0.5 else 1.0
        return [[flip * sx, 0.0, cx], [0.0, sy, cy]], math.sqrt(max(1.0, (right - left) * (bottom - top)))


def _recoloured(image: Tensor, draw: torch.Generator) -> Tensor:
    """Other brightness, contrast, saturation and white, and some noise."""
    n = len(image)

    def around_one(spread: float, channels: int = 1) -> Tensor:
        return torch.exp(spread * torch.randn((n, channels, 1, 1), generator=draw))

    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * around_one(0.25)
    mean = image.mean((1, 2, 3), keepdim=True)
    image = (mean + (image - mean) * around_one(0.15)) * around_one(0.15) * around_one(0.06, 3)
    noise = torch.randn(image.shape, generator=draw) * 6 * torch.rand((n, 1, 1, 1), generator=draw)
    return (image + noise).clamp(0, 255)


def loss(network: Any, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Cross-entropy, more of it at the edge, and the overlap that is missing."""
    image, probability, size, truth = batch
    clipped = probability.clamp(1 - CONFIDENCE, CONFIDENCE)
    odds = torch.log(clipped / (1 - clipped)) + network(image, probability, size)
    edge = (truth - blur(truth, torch.full((len(truth), 1, 1, 1), 2.5))).abs()
    weight = 1 + 8 * edge
    entropy = (F.binary_cross_entropy_with_logits(odds, truth, reduction="none") * weight).sum() / weight.sum()
    p = torch.sigmoid(odds)
    both = (p * truth).sum((1, 2, 3))
    jaccard = 1 - (both + 1) / ((p + truth).sum((1, 2, 3)) - both + 1)
    return entropy + jaccard.mean()


def fit(
    crops: Sequence[Crop],
    checkpoint: Path | None,
    *,
    steps: int,
    batch_size: int = 16,
    side: int = 112,
    learning_rate: float = 2e-3,
    context: float = 0.2,
    context_min: float = 8,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> UnaryNetwork:
    """Train, or go on where the checkpoint stopped; the result is the moving average of the weights.

    Args:
        crops: at least one.
        checkpoint: written every `SAVE_EVERY` steps; None keeps no progress.
        steps: of AdamW, with a warm-up and a cosine to zero.
        batch_size, side, learning_rate, seed: of the training.
        context, context_min: margin of the windows, as in `CRFParams`.
        on_step: called after each step with its number (from 1) and its loss.

    Raises:
        ModelError: a loss that diverged, or a checkpoint of another run.
    """
    with _INITIAL:
        torch.manual_seed(seed)
        network = UnaryNetwork().train().to(memory_format=torch.channels_last)
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=learning_rate, weight_decay=WEIGHT_DECAY)
    average = {name: value.clone() for name, value in network.learnt().items()}
    # Where the processor has it, a step takes two thirds of the time; elsewhere it would take longer.
    half = any(getattr(torch.cpu, has, bool)() for has in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    facts = {
        "steps": steps, "batch_size": batch_size, "side": side, "seed": seed, "crops": len(crops), "bfloat16": half,
    }  # fmt: skip
    step = 0
    if checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if state["facts"] != facts:
            raise ModelError(f"{checkpoint} belongs to a run with other settings: use another folder, or remove it")
        network.load_state_dict(state["network"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        average, step = state["average"], state["step"]
    batches = Batches(crops, side, context, context_min)
    while step < steps:
        rate = min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate
        batch = batches.draw(batch_size, (seed, step))
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            value = loss(network, batch)
        if not torch.isfinite(value):
            raise ModelError(f"the loss became {value.item()} at step {step}: try a lower learning rate")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        step += 1
        decay = min(AVERAGE, step / (step + 10))
        for name, parameter in network.learnt().items():
            average[name].lerp_(parameter, 1 - decay)
        if on_step:
            on_step(step, value.item())
        if checkpoint is not None and (step % SAVE_EVERY == 0 or step == steps):
            content = {
                "facts": facts, "step": step, "network": network.learnt(), "average": average,
                "optimizer": optimizer.state_dict(),
            }  # fmt: skip
            with replacing(checkpoint) as partial:
                torch.save(content, partial)
    network.load_state_dict(average, strict=False)
    return network.eval()
