"""`Instances`: the one type that detection, refinement, evaluation and drawing speak.

Pixel convention, everywhere: pixel (row y, column x) covers [y, y + 1) x [x, x + 1); boxes are half-open xyxy in
these coordinates, so that a mask of one pixel at the origin has the box (0, 0, 1, 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.arguments import as_array, number, sequence, shown, whole
from crispmask.errors import ShapeError, ValueRangeError

Rect = tuple[int, int, int, int]
"""A rectangle of pixels: y0, x0, y1, x1, half-open."""

_FAR = 2**31 - 1

MASK_THRESHOLD = 0.5
"""A pixel belongs to the mask where its probability is above this; at a tie it is background, as in an argmax."""


@dataclass(frozen=True, eq=False)
class Window:
    """The part of an instance's probability map that can differ from zero.

    Why windows: 100 instances on a 12-megapixel image are 1.2 G probabilities as full-size maps, and only the sum of
    their boxes as windows.

    Attributes:
        probabilities: float32 (h, w) in [0, 1].
        y, x: row and column of the window's first pixel in the image.
    """

    probabilities: NDArray[np.float32]
    y: int
    x: int

    def __post_init__(self) -> None:
        probabilities = as_array(self.probabilities, "the probabilities of a window", np.float32)
        if probabilities.ndim != 2:
            raise ShapeError(f"a window needs probabilities of shape (h, w), got {probabilities.shape}")
        # The comparison is false for NaN too.
        if not (probabilities.size == 0 or (probabilities.min() >= 0 and probabilities.max() <= 1)):
            raise ValueRangeError("mask probabilities must be numbers in [0, 1]; apply a sigmoid to logits first")
        object.__setattr__(self, "probabilities", probabilities)
        object.__setattr__(self, "y", whole(self.y, "y", -_FAR, _FAR))
        object.__setattr__(self, "x", whole(self.x, "x", -_FAR, _FAR))

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.probabilities.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.probabilities.shape[1])

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in an array (H, W, ...)."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Bool (h, w)."""
        return self.probabilities > MASK_THRESHOLD

    @property
    def mask_box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the mask in pixels of the image, half-open; without area where it is empty."""
        x0, y0, x1, y1 = (int(v) for v in tight_box(self.mask))
        return x0 + self.x, y0 + self.y, x1 + self.x, y1 + self.y

    def over(self, rect: Rect) -> NDArray[np.float32]:
        """The probabilities over a rectangle of the image, which may cut the window or reach beyond it.

        Returns:
            A new float32 array (y1 - y0, x1 - x0), zero outside the window.

        Raises:
            ShapeError, ValueRangeError: a rectangle that is not four whole numbers, or is turned around.
        """
        y0, x0, y1, x1 = _rect(rect)
        laid = np.zeros((y1 - y0, x1 - x0), np.float32)
        top, left = max(y0, self.y), max(x0, self.x)
        bottom, right = min(y1, self.y + self.height), min(x1, self.x + self.width)
        if top < bottom and left < right:
            part = self.probabilities[top - self.y : bottom - self.y, left - self.x : right - self.x]
            laid[top - y0 : bottom - y0, left - x0 : right - x0] = part
        return laid

    def cropped_to_mask(self) -> Window:
        """The smallest window that holds every pixel above zero; (0, 0) in size where there is none."""
        box = tight_box(self.probabilities > 0)
        x0, y0, x1, y1 = (int(v) for v in box)
        return Window(self.probabilities[y0:y1, x0:x1], self.y + y0, self.x + x0)


@dataclass(frozen=True, eq=False)
class Instances:
    """The objects found in one image.

    Attributes:
        image_size: (H, W) in pixels.
        boxes: float32 (N, 4), xyxy in pixels, half-open.
        scores: float32 (N,) in [0, 1].
        category_ids: int64 (N,), the data set's ids (COCO: 1 is person).
        windows: N `Window`s, each inside the image.

    Raises:
        ShapeError: lengths or shapes that do not fit, or a window that leaves the image.
        ValueRangeError: NaN or infinity among the boxes or scores, a score outside [0, 1], or a box that is turned
            around or does not touch the image; one that reaches beyond it stays as it is.
    """

    image_size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    category_ids: NDArray[np.int64]
    windows: tuple[Window, ...]

    def __post_init__(self) -> None:
        try:
            height, width = (whole(side, "image_size", -_FAR) for side in self.image_size)
        except (TypeError, ValueError, OverflowError):
            raise ShapeError(f"image_size must be (height, width), got {self.image_size!r}") from None
        if height < 1 or width < 1:
            raise ShapeError(f"image_size must be at least (1, 1), got {(height, width)}")
        if not isinstance(self.windows, list | tuple) or not all(isinstance(w, Window) for w in self.windows):
            raise ShapeError(f"windows must be a tuple of Window objects, got {type(self.windows).__name__}")
        n = len(self.windows)
        boxes = as_array(self.boxes, "boxes", np.float32)
        boxes = boxes.reshape(0, 4) if n == 0 and boxes.size == 0 else boxes
        scores = as_array(self.scores, "scores", np.float32)
        categories = as_array(self.category_ids, "category_ids", np.int64)
        for name, array, shape in (
            ("boxes", boxes, (n, 4)),
            ("scores", scores, (n,)),
            ("category_ids", categories, (n,)),
        ):
            if array.shape != shape:
                raise ShapeError(f"{name} must have shape {shape} for {n} windows, got {array.shape}")
        if not np.isfinite(boxes).all():
            raise ValueRangeError("boxes must be finite numbers")
        for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            if x0 > x1 or y0 > y1:
                raise ValueRangeError(f"box {i} {(x0, y0, x1, y1)} must be x0, y0, x1, y1 with x0 <= x1 and y0 <= y1")
            # Detectors overshoot the edge; a box that does not touch the image belongs to another one.
            if x1 < 0 or y1 < 0 or x0 > width or y0 > height:
                raise ValueRangeError(
                    f"box {i} {(x0, y0, x1, y1)} lies outside the image of {height}x{width} pixels (height x width)"
                )
        if n and not (scores.min() >= 0 and scores.max() <= 1):
            raise ValueRangeError("scores must be numbers in [0, 1]")
        for i, window in enumerate(self.windows):
            if window.y < 0 or window.x < 0 or window.y + window.height > height or window.x + window.width > width:
                raise ShapeError(
                    f"window {i} at (y={window.y}, x={window.x}) of size {window.height}x{window.width} leaves the "
                    f"image of {height}x{width} pixels"
                )
        object.__setattr__(self, "image_size", (height, width))
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "category_ids", categories)
        object.__setattr__(self, "windows", tuple(self.windows))

    @classmethod
    def empty(cls, image_size: tuple[int, int]) -> Instances:
        """No object in an image of (H, W) pixels."""
        nothing = np.zeros(0, np.float32)
        return cls(image_size, np.zeros((0, 4), np.float32), nothing, np.zeros(0, np.int64), ())

    @classmethod
    def from_masks(
        cls,
        masks: ArrayLike,
        *,
        boxes: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        category_ids: ArrayLike | None = None,
    ) -> Instances:
        """Full-size masks to instances.

        Args:
            masks: bool or 0/1 (N, H, W), or probabilities in [0, 1]; one mask (H, W) counts as N = 1.
            boxes: (N, 4) xyxy; by default the tight boxes of the masks (zeros for an empty mask).
            scores: (N,); by default 1.
            category_ids: (N,); by default 1.

        Raises:
            ShapeError: masks that are not (N, H, W), or lengths that differ.
            ValueRangeError: values outside [0, 1] or NaN.
        """
        array = as_array(masks, "masks")
        if array.ndim == 2:
            array = array[None]
        if array.ndim != 3:
            raise ShapeError(f"masks must have shape (N, H, W) or (H, W), got {array.shape}")
        n, height, width = array.shape
        if array.dtype.kind not in "buif":
            raise ValueRangeError(f"masks must hold booleans or probabilities in [0, 1], not {array.dtype}")
        if height < 1 or width < 1:
            raise ShapeError(f"masks must have at least one pixel, got shape {array.shape}")
        windows, tight = [], np.zeros((n, 4), np.float32)
        for i, mask in enumerate(array):
            if not (mask.min() >= 0 and mask.max() <= 1):
                raise ValueRangeError(f"mask {i} must hold booleans or probabilities in [0, 1]")
            # Only what is not zero is copied: on a large image that is a small part.
            x0, y0, x1, y1 = (int(v) for v in tight_box(mask if mask.dtype == np.bool_ else mask > 0))
            window = Window(mask[y0:y1, x0:x1].astype(np.float32), y0, x0)
            windows.append(window)
            inner = tight_box(window.mask)
            if inner.any():
                tight[i] = inner + np.array([x0, y0, x0, y0], np.float32)
        return cls(
            (height, width),
            tight if boxes is None else as_array(boxes, "boxes", np.float32),
            np.ones(n, np.float32) if scores is None else as_array(scores, "scores", np.float32),
            np.ones(n, np.int64) if category_ids is None else as_array(category_ids, "category_ids", np.int64),
            tuple(windows),
        )

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[Instances]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray) -> Instances:
        """A subset, always as `Instances`: by number, slice, bool mask (N,) or integer array.

        Raises:
            IndexError: what is none of these, or beyond the last instance.
        """
        chosen = np.atleast_1d(np.arange(len(self))[index])
        return Instances(
            self.image_size,
            self.boxes[chosen],
            self.scores[chosen],
            self.category_ids[chosen],
            tuple(self.windows[i] for i in chosen),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Instances]) -> Instances:
        """The instances of several sets of one image, one after the other.

        Raises:
            ShapeError: no set, or sets of images of different sizes.
        """
        if not isinstance(parts, list | tuple) or not all(isinstance(part, Instances) for part in parts):
            raise ShapeError(f"parts must be a list of Instances, got {type(parts).__name__}")
        if len({part.image_size for part in parts}) != 1:
            raise ShapeError("instances can be joined only if they are of one image")
        return cls(
            parts[0].image_size,
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.category_ids for part in parts]),
            tuple(window for part in parts for window in part.windows),
        )

    def above(self, score: float) -> Instances:
        """The instances whose score is `score` or more; it is compared as float32, as scores are stored."""
        return self[self.scores >= np.float32(number(score, "score"))]

    def scale(self, i: int) -> float:
        """Size of instance i in pixels: the square root of its box's area, at least 1.

        A box without area says nothing about the object: its window is measured instead.
        """
        i = self._place(i)
        x0, y0, x1, y1 = (float(v) for v in self.boxes[i])
        width, height = x1 - x0, y1 - y0
        if width <= 0 or height <= 0:
            width, height = self.windows[i].width, self.windows[i].height
        return math.sqrt(max(1.0, width * height))

    def probability(self, i: int) -> NDArray[np.float32]:
        """Full-size probability map of instance i: float32 (H, W), zero outside its window."""
        i = self._place(i)
        full = np.zeros(self.image_size, np.float32)
        full[self.windows[i].slices] = self.windows[i].probabilities
        return full

    def mask(self, i: int) -> NDArray[np.bool_]:
        """Full-size mask of instance i: bool (H, W)."""
        i = self._place(i)
        full = np.zeros(self.image_size, np.bool_)
        full[self.windows[i].slices] = self.windows[i].mask
        return full

    def masks(self) -> NDArray[np.bool_]:
        """Full-size masks: bool (N, H, W)."""
        full = np.zeros((len(self), *self.image_size), np.bool_)
        for i, window in enumerate(self.windows):
            full[i][window.slices] = window.mask
        return full

    def with_windows(self, windows: Sequence[Window]) -> Instances:
        """The same objects with other masks; boxes, scores and categories stay."""
        try:
            return replace(self, windows=tuple(windows))
        except TypeError:
            raise ShapeError(f"windows must be Window objects, got {shown(windows)}") from None

    def _place(self, i: int) -> int:
        """The number of an instance; negative ones count from the end."""
        return whole(i, "the number of an instance", -len(self), len(self) - 1)


def _rect(rect: Rect) -> Rect:
    sides = sequence(rect, "a rectangle")
    if len(sides) != 4:
        raise ShapeError(f"a rectangle must be y0, x0, y1, x1, got {shown(rect)}")
    y0, x0, y1, x1 = (whole(side, "a side of a rectangle", -_FAR, _FAR) for side in sides)
    if y0 > y1 or x0 > x1:
        raise ShapeError(f"a rectangle must be y0, x0, y1, x1 with y0 <= y1 and x0 <= x1, got {shown(rect)}")
    return y0, x0, y1, x1


def tight_box(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Tight half-open box (4,) float32 xyxy of a bool mask (h, w); zeros where the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
