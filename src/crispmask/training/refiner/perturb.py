"""Photos changed so that a detector errs on them as it does on photos that it was not trained on."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from crispmask.instances import Instances, Window


@dataclass(frozen=True)
class View:
    """A changed photo and the way back.

    Attributes:
        image: uint8 (h, w, 3).
        corner: column and row of its first pixel in the photo.
        scale: pixels of the view per pixel of the photo.
        flipped: whether left and right are exchanged.
    """

    image: NDArray[np.uint8]
    corner: tuple[float, float]
    scale: float
    flipped: bool

    def restore(self, found: Instances, image_size: tuple[int, int]) -> Instances:
        """What was found in the view, on the photo of `image_size` (H, W)."""
        width = found.image_size[1]
        boxes, windows = [], []
        for i, window in enumerate(found.windows):
            x0, y0, x1, y1 = (float(v) for v in found.boxes[i])
            left, probabilities = window.x, window.probabilities
            if self.flipped:
                x0, x1 = width - x1, width - x0
                left, probabilities = width - window.x - window.width, probabilities[:, ::-1]
            boxes.append([self._back(v, axis) for v, axis in ((x0, 0), (y0, 1), (x1, 0), (y1, 1))])
            windows.append(self._window(probabilities, left, window.y, image_size))
        limits = np.array([image_size[1], image_size[0]] * 2, np.float32)
        clipped = np.clip(np.array(boxes, np.float32).reshape(-1, 4), 0, limits)
        keep = [
            i for i, (x0, y0, x1, y1) in enumerate(clipped) if x1 > x0 and y1 > y0 and windows[i].probabilities.size
        ]
        return Instances(
            image_size, clipped[keep], found.scores[keep], found.category_ids[keep], tuple(windows[i] for i in keep)
        )

    def _back(self, value: float, axis: int) -> float:
        return value / self.scale + self.corner[axis]

    def _window(
        self, probabilities: NDArray[np.float32], left: float, top: float, image_size: tuple[int, int]
    ) -> Window:
        """The photo's pixels whose centres lie in a window of the view, and their probabilities."""
        height, width = probabilities.shape
        x0, x1 = self._back(left, 0), self._back(left + width, 0)
        y0, y1 = self._back(top, 1), self._back(top + height, 1)
        columns = [int(np.clip(round(v), 0, image_size[1])) for v in (x0, x1)]
        rows = [int(np.clip(round(v), 0, image_size[0])) for v in (y0, y1)]
        size = columns[1] - columns[0], rows[1] - rows[0]
        if min(size) < 1 or not probabilities.size:
            return Window(np.zeros((0, 0), np.float32), 0, 0)
        inside = (
            float(np.clip((columns[0] - x0) * self.scale, 0, width)),
            float(np.clip((rows[0] - y0) * self.scale, 0, height)),
            float(np.clip((columns[1] - x0) * self.scale, 0, width)),
            float(np.clip((rows[1] - y0) * self.scale, 0, height)),
        )
        full = Image.fromarray(np.ascontiguousarray(probabilities))
        resized = np.asarray(full.resize(size, Image.Resampling.BILINEAR, box=inside))
        return Window(np.clip(resized, 0, 1), rows[0], columns[0])


def perturb(image: NDArray[np.uint8], rng: np.random.Generator, strength: float = 1.0) -> View:
    """A random view: cropped, flipped, coarser, blurred, in other colours, noisy, and JPEG-compressed.

    Args:
        image: uint8 (H, W, 3) RGB.
        rng: what decides.
        strength: 0 changes nothing but left and right; 1 makes a trained detector err about as much as on new photos.
    """
    height, width = image.shape[:2]
    share = 1 - strength * rng.uniform(0, 0.25)
    size = max(1, round(share * width)), max(1, round(share * height))
    x, y = (int(rng.integers(0, limit - side + 1)) for limit, side in zip((width, height), size, strict=True))
    view = Image.fromarray(image[y : y + size[1], x : x + size[0]])
    scale = 1 - strength * rng.uniform(0, 0.6)
    small = max(8, round(size[0] * scale)), max(8, round(size[1] * scale))
    view = view.resize(small, Image.Resampling.BILINEAR)
    flipped = bool(rng.random() < 0.5)
    if flipped:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = enhance(view).enhance(float(np.exp(strength * rng.normal(0, 0.35))))
    view = view.filter(ImageFilter.GaussianBlur(strength * float(rng.uniform(0, 1.5))))
    noisy = np.asarray(view, np.float32) + rng.normal(0, 1, (small[1], small[0], 3)) * strength * rng.uniform(0, 14)
    packed = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(
        packed, "JPEG", quality=int(95 - strength * rng.uniform(0, 70))
    )
    return View(np.asarray(Image.open(packed)), (float(x), float(y)), small[0] / size[0], flipped)
