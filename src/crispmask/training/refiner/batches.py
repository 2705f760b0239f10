"""Batches of crops with prompts made on the fly; all of a batch follows from the seed and the step."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from crispmask.errors import CrispmaskError
from crispmask.training.refiner.config import LearnConfig
from crispmask.training.refiner.errors import Mask, draw_patch_prompt, draw_prompt
from crispmask.training.refiner.objects import AnnotatedObject, SourceImage, chances, decode

SIZES, SIZE_CHANCES = (192, 256), (0.3, 0.7)
"""Sides of the crops, one for all of a batch."""

PATCH_FROM, PATCHES = 224, 0.3
"""Objects with a longer side, in pixels, are seen in patches along their edge so often."""

EXAMPLES = 32
"""Crops that calibrate int8 and on which an exported network is checked."""

_CACHED = 600  # images that a process keeps decoded: half a gigabyte of COCO's size

Square = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the image, which it may leave
Batch = tuple[Tensor, Tensor, Tensor]


class Batches(Dataset[Batch | CrispmaskError]):
    """The batches of a run by step: crops (B, 3, S, S), prompts and exact masks (B, 1, S, S), float32 in [0, 1].

    A batch that cannot be made is its error, which torch would wrap in a traceback.
    """

    def __init__(self, objects: Sequence[AnnotatedObject], config: LearnConfig) -> None:
        self.objects, self.config, self.chances = list(objects), config, chances(objects)

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch | CrispmaskError:
        cv2.setNumThreads(1)
        rng = np.random.default_rng((self.config.seed, step))
        size = int(rng.choice(SIZES, p=SIZE_CHANCES))
        chosen = rng.choice(len(self.objects), self.config.batch_size, p=self.chances)
        try:
            drawn = [sample(self.objects[int(i)], size, self.config.detected, rng) for i in chosen]
        except CrispmaskError as error:
            return error
        rgb, prompt, truth = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
        return rgb.permute(0, 3, 1, 2), prompt[:, None], truth[:, None]  # rgb is channels-last as it stands

    def loader(self, first: int, workers: int, pinned: bool = False) -> DataLoader[Batch | CrispmaskError]:
        """The batches from a step on, in order, made by so many processes; 0: by this one."""
        return DataLoader(
            self,
            batch_size=None,
            sampler=range(first, len(self)),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=pinned,
        )


def sample(
    one: AnnotatedObject, size: int, detected: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Mask, Mask]:
    """Crop (S, S, 3), prompt (S, S) and exact mask (S, S) of an object, float32 in [0, 1]."""
    exact = decode([one.rle], one.image.size)
    square, patch = _choose(one, exact, rng)
    flip = rng.random() < 0.5

    def view(mask: NDArray[np.uint8]) -> Mask:
        made = np.asarray(_cut(Image.fromarray(mask * np.uint8(255)), square, size), np.float32) / np.float32(255)
        return np.ascontiguousarray(made[:, ::-1]) if flip else made

    crop = np.asarray(_cut(_image(one.image), square, size))
    rgb, truth = np.ascontiguousarray(crop[:, ::-1]) if flip else crop, view(exact)
    if patch:
        prompt = draw_patch_prompt(truth, rng)
    elif one.found and rng.random() < detected:
        prompt = view(decode([one.found[int(rng.integers(len(one.found)))][0]], one.image.size))
    else:
        others = view(decode(one.others, one.image.size))
        prompt = draw_prompt(truth, others, rgb, min(square[2] - square[0], square[3] - square[1]), rng)
    return _recoloured(rgb, rng), np.clip(prompt, 0, 1).astype(np.float32), truth


def examples(
    objects: Sequence[AnnotatedObject], config: LearnConfig
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Crops (1, 3, S, S) with prompts (1, 1, S, S) of the largest size, as the network sees them in training."""
    one = replace(config, batch_size=1, samples=10**9)
    made: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    for step in range(config.steps, config.steps + 20 * EXAMPLES):  # steps that the training does not reach
        batch = Batches(objects, one)[step]
        if isinstance(batch, CrispmaskError):
            raise batch
        if batch[0].shape[-1] == SIZES[-1]:
            made.append((np.ascontiguousarray(batch[0].numpy()), batch[1].numpy()))
        if len(made) == EXAMPLES:
            break
    return made


def _choose(one: AnnotatedObject, mask: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Square, bool]:
    """Where the crop lies, around the object or on a large one's edge, and whether it is such a patch."""
    x0, y0, x1, y1 = one.box
    if max(x1 - x0, y1 - y0) >= PATCH_FROM and rng.random() < PATCHES:
        axis = int(rng.integers(2))
        ys, xs = np.nonzero(np.diff(mask, axis=axis))
        if len(ys):
            k, side = int(rng.integers(len(ys))), int(rng.integers(112, 257))
            left, top = (int(v[k] - side / 2 + rng.normal() * side / 8) for v in (xs, ys))
            return (left, top, left + side, top + side), True
    wide = max(x1 - x0, y1 - y0) * rng.uniform(1.25, 1.8) + 8
    stretch = math.exp(rng.normal() * 0.06)
    cx, cy = ((a + b) / 2 + rng.uniform(-0.08, 0.08) * wide for a, b in ((x0, x1), (y0, y1)))
    sx, sy = max(8, round(wide * stretch)), max(8, round(wide / stretch))
    left, top = math.floor(cx - sx / 2), math.floor(cy - sy / 2)
    return (left, top, left + sx, top + sy), False


def _recoloured(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """In other light, now and then grey or blurred, with noise: float32 (S, S, 3) in [0, 1]."""
    made = rgb.astype(np.float32) / np.float32(255)
    mean = made.mean()
    made = (made - mean) * np.float32(math.exp(rng.normal() * 0.18)) + mean
    made = made * (1 + np.float32(0.07) * rng.standard_normal(3, np.float32)) + np.float32(rng.normal() * 0.09)
    if rng.random() < 0.15:
        grey = made.mean(2, keepdims=True)
        made = grey + (made - grey) * np.float32(rng.random())
    if rng.random() < 0.2:
        made = np.asarray(cv2.GaussianBlur(made, (0, 0), rng.uniform(0.5, 1.6)))
    return np.clip(made + np.float32(0.012) * rng.standard_normal(made.shape, np.float32), 0, 1)


@functools.lru_cache(maxsize=_CACHED)
def _image(image: SourceImage) -> Image.Image:
    return Image.fromarray(image.read())


def _cut(image: Image.Image, square: Square, size: int) -> Image.Image:
    """A rectangle of the image at size x size; what lies outside is black. The filter is as wide as the scale asks."""
    return image.crop(square).resize((size, size), Image.Resampling.BILINEAR)
