"""Training of the mask branch on the stored features: jittered boxes, and those that the detector finds itself."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from crispmask.training.embedded.branch import SIDE, MaskBranch, align, aligned
from crispmask.training.embedded.features import Features
from crispmask.training.refiner.objects import AnnotatedObject, SourceImage, decode

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
_BOXES = 32  # of a step
_LEAST_OF_IMAGE, _OF_IMAGE = 2, 8  # boxes of an image in one step
_WARM_UP = 100  # steps
_JITTER = 0.12  # standard deviation of a side's shift, of the box's width or height
_LEAST_IOU = 0.5  # with the object, of a box to learn from
_MARGIN = 1  # pixels of background around a stored mask


class TrainingImage:
    """An image with the masks of its objects, cut out of it at its own size.

    Args:
        image: where its features are.
        objects: at least one.
    """

    def __init__(self, image: SourceImage, objects: Sequence[AnnotatedObject]) -> None:
        self.image = image
        self.boxes = torch.tensor([one.box for one in objects])
        self._masks = [_cut(decode([one.rle], image.size), one.box) for one in objects]

    def __len__(self) -> int:
        return len(self._masks)

    def target(self, k: int, box: Tensor, mirrored: bool) -> Tensor:
        """(28, 28): the share of each cell of a grid over a box, xyxy in pixels of the image, that object k covers."""
        x0, y0, x1, y1 = box.tolist()
        width = self.image.size[1]
        if mirrored:
            x0, x1 = width - x1, width - x0
        left, top = (int(v) - _MARGIN for v in self.boxes[k, :2])
        mask = torch.from_numpy(self._masks[k])[None].float()
        within = torch.tensor([[x0 - left, y0 - top, x1 - left, y1 - top]])
        covered = align(mask, within, SIDE)[0, 0]
        return covered.flip(1) if mirrored else covered


def training_images(objects: Sequence[AnnotatedObject]) -> list[TrainingImage]:
    """The objects by image."""
    by_image: dict[int, list[AnnotatedObject]] = defaultdict(list)
    for one in objects:
        by_image[one.image.number].append(one)
    return [TrainingImage(some[0].image, some) for some in by_image.values()]


def chances(images: Sequence[TrainingImage], shares: Sequence[float]) -> NDArray[np.float64]:
    """How often each image is drawn, float64 (N,) with the sum 1.

    Args:
        images: to draw from.
        shares: of each source among all boxes.
    """
    boxes = np.array([min(max(len(image), _LEAST_OF_IMAGE), _OF_IMAGE) for image in images])
    sources = np.array([image.image.source for image in images])
    weights = np.array(shares)[sources] / np.bincount(sources, boxes)[sources]
    return weights / weights.sum()


def fit(
    branch: MaskBranch,
    images: Sequence[TrainingImage],
    features: Features,
    chances: NDArray[np.float64],
    seconds: float,
    seed: int,
    on_step: Callable[[int, float, float], None],
) -> None:
    """Train the branch, in place.

    Args:
        branch: with the weights to start from.
        images: to learn from.
        features: of the images.
        chances: (N,) how often each image is drawn, with the sum 1.
        seconds: how long; the learning rate falls to zero by then.
        seed: of the images and boxes drawn.
        on_step: called after each step with its number, the share of the time that is gone, and the loss.
    """
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(branch.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    branch.train()
    began = time.monotonic()
    step, gone = 0, 0.0
    while gone < 1:
        rate = LEARNING_RATE * min(1, (step + 1) / _WARM_UP) * (0.5 + 0.5 * np.cos(np.pi * gone))
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        late, early, wanted = _batch(images, features, chances, rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = branch(late, early)
        loss = mask_loss(logits.float(), wanted)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(branch.parameters(), 1.0)
        optimizer.step()
        step, gone = step + 1, (time.monotonic() - began) / seconds
        on_step(step, gone, float(loss.detach()))
    branch.eval()


def mask_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Binary cross-entropy of each cell, and one minus the Dice coefficient of each mask; both (N, 28, 28)."""
    entropy = F.binary_cross_entropy_with_logits(logits, wanted)
    found = torch.sigmoid(logits)
    overlap = (found * wanted).sum((1, 2))
    dice = (2 * overlap + 1) / (found.sum((1, 2)) + wanted.sum((1, 2)) + 1)
    return entropy + 0.5 * (1 - dice).mean()


@torch.no_grad()
def _batch(
    images: Sequence[TrainingImage], features: Features, chances: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Aligned late and early maps, and masks (N, 28, 28), of the boxes of a step."""
    late, early, wanted = [], [], []
    count = 0
    while count < _BOXES:
        image = images[int(rng.choice(len(images), p=chances))]
        mirrored = bool(rng.random() < 0.5)
        maps, size, found = features.of(image.image, mirrored)
        height, width = image.image.size
        scale = torch.tensor([size[1] / width, size[0] / height] * 2)
        own = image.boxes.clone()
        if mirrored:
            own[:, [0, 2]] = width - own[:, [2, 0]]
        chosen = rng.permutation(len(image))[: min(_OF_IMAGE, _BOXES - count)]
        chosen = np.resize(chosen, max(_LEAST_OF_IMAGE, len(chosen)))  # a single object in two boxes
        boxes = torch.stack([_box(own[k], found / scale, rng) for k in chosen])
        wanted += [image.target(int(k), box, mirrored) for k, box in zip(chosen, boxes, strict=True)]
        with torch.autocast("cpu", torch.bfloat16):
            one, two = aligned(maps, boxes * scale)
        late.append(one)
        early.append(two)
        count += len(chosen)
    return torch.cat(late), torch.cat(early), torch.stack(wanted)


def _box(own: Tensor, found: Tensor, rng: np.random.Generator) -> Tensor:
    """A box that the detector found of an object, else the object's own with shifted sides; (4,) each."""
    overlaps = box_iou(own[None], found)[0] if len(found) else torch.zeros(0)
    fitting = torch.nonzero(overlaps >= _LEAST_IOU)[:, 0]
    if len(fitting) and rng.random() < 0.5:
        return found[fitting[int(rng.integers(len(fitting)))]]
    sides = own[2:] - own[:2]
    while True:
        shift = torch.from_numpy(rng.normal(0, _JITTER * rng.random(), 4).astype(np.float32))
        moved = own + shift * sides.repeat(2)
        if float(box_iou(own[None], moved[None])) >= _LEAST_IOU:
            return moved


def _cut(mask: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """The mask under its box with a margin, which may stick out of the image."""
    x0, y0, x1, y1 = (int(v) for v in box)
    return np.pad(mask[y0:y1, x0:x1], _MARGIN)
