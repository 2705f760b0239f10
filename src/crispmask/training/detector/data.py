"""Images with COCO annotations as training samples: large scale jitter, crops, copy-paste, colour.

Sample number i of a run depends on (seed, i) only. So a resumed run gives the same weights as one that was not
interrupted, with any number of loader processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import v2

from crispmask.coco.dataset import CocoDataset
from crispmask.coco.rle import segmentation_to_mask
from crispmask.errors import CrispmaskError, DataError
from crispmask.image import read_image
from crispmask.instances import tight_box

MIN_SIDE = 5  # pixels; smaller boxes are left out: at stride 4 they are about one cell of the feature map
MIN_VISIBLE = 0.15  # an instance of which a smaller share is left after a crop or a paste is dropped


def canvases(size: int) -> tuple[tuple[int, int], ...]:
    """Landscape, portrait and square canvas (H, W) of almost equal area, so that every step takes the same time."""
    return (size - 64, size + 64), (size + 64, size - 64), (size, size)


@dataclass(frozen=True)
class AnnotatedImage:
    """An image's file, its size in pixels, and for each instance a label from 1 to C and a COCO segmentation."""

    path: Path
    height: int
    width: int
    labels: np.ndarray
    segmentations: list


@dataclass(frozen=True)
class Sample:
    """Image (H, W, 3) uint8, masks (N, H, W) bool, labels (N,) int64."""

    image: np.ndarray
    masks: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """Annotated images, crowds left out.

    Attributes:
        images: also those without an annotation.
        ids: category id by class name, in alphabetical order, from the first annotation file that has the class.
    """

    images: list[AnnotatedImage]
    ids: dict[str, int]

    @property
    def names(self) -> list[str]:
        """The classes; label k is ``names[k - 1]``."""
        return list(self.ids)

    def labels_of(self, names: list[str] | None) -> list[int]:
        """Labels of some classes; None means all.

        Raises:
            DataError: a name that no annotation file has.
        """
        unknown = [name for name in names or [] if name not in self.names]
        if unknown:
            raise DataError(f"no annotation file has the class {unknown[0]!r}; they have {', '.join(self.names)}")
        return [self.names.index(name) + 1 for name in names or self.names]

    def category_ids(self, names: list[str] | None) -> list[int]:
        """Ids of some classes (None: all); 1, 2, ... where the annotation files contradict each other."""
        chosen = [self.ids[name] for name in names or self.ids]
        return chosen if len(set(chosen)) == len(chosen) else list(range(1, len(chosen) + 1))


def read_data(sources: list[tuple[Path, Path]]) -> TrainingData:
    """Images of several COCO annotation files, their categories merged by name.

    Args:
        sources: pairs (annotation file, image folder).

    Raises:
        DataError: a file that breaks COCO's format, or an annotation without mask.
    """
    sets = [(CocoDataset.from_file(annotations), Path(images)) for annotations, images in sources]
    ids: dict[str, int] = {}
    for data, _ in sets:
        for key, name in data.categories.items():
            ids.setdefault(name, key)
    ids = dict(sorted(ids.items()))
    label_of = {name: k for k, name in enumerate(ids, start=1)}
    images = []
    for data, folder in sets:
        for info in data.images.values():
            kept = [
                (label_of[data.categories[a["category_id"]]], _segmentation(data, a))
                for a in data.annotations[info.id]
                if not a["iscrowd"]
            ]
            labels = np.array([label for label, _ in kept], dtype=np.int64)
            images.append(
                AnnotatedImage(folder / info.file_name, *info.size, labels, [segmentation for _, segmentation in kept])
            )
    return TrainingData(images, ids)


def _segmentation(data: CocoDataset, annotation: Mapping[str, Any]) -> Any:
    if annotation.get("segmentation") is None:
        raise DataError(f"{data.path}: annotation {annotation.get('id')!r} has no 'segmentation': masks are needed")
    return annotation["segmentation"]


class TrainingSet(Dataset):
    """Augmented samples: item i is a pair (image float32 (3, H, W) in [0, 1], torchvision target).

    Args:
        images: of `read_data`.
        seed: of the whole run.
        batch_size: items of one step share a canvas.
        size: side of the square canvas, pixels.
        length: number of items.
        focus: labels that the model is for; images without any of them are negatives.
        negatives: share of samples drawn from the negatives.
        paste: probability of pasting instances of a second image (Ghiasi et al., Simple Copy-Paste, 2021).

    Raises:
        DataError: images without any instance of `focus`; when an item is made, a image or mask that cannot be read.
    """

    def __init__(
        self,
        images: list[AnnotatedImage],
        *,
        seed: int,
        batch_size: int,
        size: int,
        length: int,
        focus: set[int],
        negatives: float = 0.2,
        paste: float = 0.5,
    ) -> None:
        self.images, self.seed, self.batch_size, self.length = images, seed, batch_size, length
        self.canvases = canvases(size)
        self.focus = np.array(sorted(focus))
        self.with_focus = [i for i, p in enumerate(images) if np.isin(p.labels, self.focus).any()]
        self.without = [i for i, p in enumerate(images) if not np.isin(p.labels, self.focus).any()]
        if not self.with_focus:
            raise DataError("there is nothing to learn from: no image has an annotation of the wanted classes")
        self.negatives = negatives if self.without else 0.0
        self.paste = paste
        self.colour = v2.Compose(
            [
                v2.RandomApply([v2.ColorJitter(brightness=0.35, contrast=0.35, saturation=0.4, hue=0.06)], p=0.8),
                v2.RandomGrayscale(p=0.05),
                v2.RandomApply([v2.GaussianBlur(5, sigma=(0.3, 1.5))], p=0.1),
            ]
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        step_rng = np.random.default_rng((self.seed, 1, index // self.batch_size))
        canvas = self.canvases[step_rng.integers(len(self.canvases))]
        rng = np.random.default_rng((self.seed, 2, index))
        torch.manual_seed(int(rng.integers(2**62)))  # v2 transforms draw from torch's generator

        sample = self._draw(canvas, rng)
        if rng.random() < self.paste:
            sample = paste_instances(sample, self._draw(canvas, rng, positive=True), self.focus, rng)
        return self._to_torch(sample)

    def _draw(self, canvas: tuple[int, int], rng: np.random.Generator, positive: bool = False) -> Sample:
        pool = self.without if not positive and rng.random() < self.negatives else self.with_focus
        image = self.images[pool[rng.integers(len(pool))]]
        return random_view(load(image), canvas, rng)

    def _to_torch(self, sample: Sample) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        image = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1)
        image = self.colour(image).float() / 255
        boxes = boxes_of(sample.masks)
        keep = (boxes[:, 2] - boxes[:, 0] >= MIN_SIDE) & (boxes[:, 3] - boxes[:, 1] >= MIN_SIDE)
        return image, {
            "boxes": torch.from_numpy(boxes[keep]),
            "labels": torch.from_numpy(sample.labels[keep]),
            "masks": torch.from_numpy(sample.masks[keep].astype(np.uint8)),
        }


def load(image: AnnotatedImage) -> Sample:
    """The image and its full-size masks.

    Raises:
        ImageError: a image that cannot be read.
        DataError: a image whose size is not the annotated one, or a segmentation that breaks COCO's format.
    """
    pixels = read_image(image.path)
    size = (image.height, image.width)
    if pixels.shape[:2] != size:
        raise DataError(
            f"{image.path} has {pixels.shape[0]}x{pixels.shape[1]} pixels (height x width), its annotation says "
            f"{size[0]}x{size[1]}"
        )
    masks = np.zeros((len(image.labels), *size), dtype=bool)
    for i, segmentation in enumerate(image.segmentations):
        try:
            masks[i] = segmentation_to_mask(segmentation, *size)
        except CrispmaskError as error:
            raise DataError(f"instance {i} of {image.path}: {error}") from None
    return Sample(pixels, masks, image.labels)


def random_view(sample: Sample, canvas: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Scale by a log-uniform factor, crop or pad to the canvas, flip; instances of which little is left are dropped."""
    height, width = sample.image.shape[:2]
    canvas_h, canvas_w = canvas
    fit = min(canvas_h / height, canvas_w / width)
    scale = fit * np.exp(rng.uniform(np.log(0.5), np.log(2.2)))
    stretch = np.exp(rng.uniform(-0.1, 0.1))
    scale_y, scale_x = scale * stretch, scale / stretch
    # The crop in source pixels: only what will be seen is resized.
    crop_h, crop_w = min(height, canvas_h / scale_y), min(width, canvas_w / scale_x)
    top, left = rng.uniform(0, height - crop_h), rng.uniform(0, width - crop_w)
    if len(sample.masks) and rng.random() < 0.8:  # centre the crop on an instance rather than on any place
        box = tight_box(sample.masks[rng.integers(len(sample.masks))])
        centre_x = rng.uniform(box[0], max(box[2], box[0] + 1))
        centre_y = rng.uniform(box[1], max(box[3], box[1] + 1))
        top = np.clip(centre_y - crop_h * rng.uniform(0.25, 0.75), 0, height - crop_h)
        left = np.clip(centre_x - crop_w * rng.uniform(0.25, 0.75), 0, width - crop_w)
    y0, x0 = int(top), int(left)
    y1, x1 = min(height, y0 + max(1, round(crop_h))), min(width, x0 + max(1, round(crop_w)))
    size_h = min(canvas_h, max(1, round((y1 - y0) * scale_y)))
    size_w = min(canvas_w, max(1, round((x1 - x0) * scale_x)))
    off_y, off_x = rng.integers(canvas_h - size_h + 1), rng.integers(canvas_w - size_w + 1)

    image = np.full((canvas_h, canvas_w, 3), 127, dtype=np.uint8)
    part = Image.fromarray(sample.image[y0:y1, x0:x1]).resize((size_w, size_h), Image.Resampling.BILINEAR)
    image[off_y : off_y + size_h, off_x : off_x + size_w] = np.asarray(part)

    masks = np.zeros((len(sample.masks), canvas_h, canvas_w), dtype=bool)
    rows = np.minimum(y0 + ((np.arange(size_h) + 0.5) * (y1 - y0) / size_h).astype(int), y1 - 1)
    columns = np.minimum(x0 + ((np.arange(size_w) + 0.5) * (x1 - x0) / size_w).astype(int), x1 - 1)
    seen = sample.masks[:, y0:y1, x0:x1].sum((1, 2))
    keep = (seen > 0) & (seen >= MIN_VISIBLE * sample.masks.sum((1, 2)))
    masks = masks[keep]
    for i, mask in enumerate(sample.masks[keep]):
        masks[i, off_y : off_y + size_h, off_x : off_x + size_w] = mask[np.ix_(rows, columns)]
    labels = sample.labels[keep]

    if rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    return Sample(image, masks, labels)


def paste_instances(target: Sample, source: Sample, focus: np.ndarray, rng: np.random.Generator) -> Sample:
    """Copy some of the source's instances of `focus` over the target, their edges blurred in half of the cases."""
    candidates = np.flatnonzero(np.isin(source.labels, focus))
    chosen = candidates[rng.random(len(candidates)) < 0.6]
    if not len(chosen):
        return target
    pasted = source.masks[chosen]
    cover: np.ndarray = np.any(pasted, axis=0)
    alpha: np.ndarray = cover.astype(np.float32)
    if rng.random() < 0.5:
        alpha = v2.functional.gaussian_blur(torch.from_numpy(alpha)[None], [5, 5], [1.0, 1.0])[0].numpy()
    image = (target.image * (1 - alpha[..., None]) + source.image * alpha[..., None] + 0.5).astype(np.uint8)
    below = target.masks & ~cover
    keep = below.sum((1, 2)) > MIN_VISIBLE * np.maximum(target.masks.sum((1, 2)), 1)
    return Sample(
        image, np.concatenate([below[keep], pasted]), np.concatenate([target.labels[keep], source.labels[chosen]])
    )


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """Tight half-open boxes (N, 4) float32 xyxy of bool masks (N, H, W); an empty mask gives zeros."""
    return np.stack([tight_box(mask) for mask in masks]) if len(masks) else np.zeros((0, 4), dtype=np.float32)
