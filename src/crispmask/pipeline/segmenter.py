"""One image: detect, choose by score, refine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.crf.tensors import device_of
from crispmask.detectors import Classes, Detector, Selection, load_detector
from crispmask.image import as_image, read_image
from crispmask.instances import Instances
from crispmask.pipeline.settings import Settings
from crispmask.refinement import (
    Decision,
    LearnedParams,
    Params,
    default_params,
    read_params,
    refine_instances,
    refine_together,
)


@dataclass(frozen=True)
class ImageResult:
    """What was found in one image.

    Attributes:
        before: the detector's instances at or above the score.
        after: the same instances with refined masks.
        left_alone: of each instance that learned parameters left as it was, the reason; "" of all others.
    """

    before: Instances
    after: Instances
    left_alone: tuple[str, ...]


def segment_image(
    image: NDArray[np.uint8],
    detector: Detector,
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    device: Any = None,
) -> ImageResult:
    """Detect and refine the objects of one image.

    Args:
        image: uint8 (H, W, 3) RGB.
        detector: see `crispmask.load_detector`; or any callable from such an image to `Instances`.
        settings: by default ``Settings()``.
        threads: of the refinement; by default one per processor. The result has the same bits for any number.
        device: of the refinement; see `crispmask.refine`.
    """
    chosen, settings = (settings or Settings()).applied_to(detector)
    return refine_found(image, chosen(image), settings, threads=threads, device=device)


def refining_on(device: Any) -> Any:
    """Where the refinement works for a detector's device: the torch device for ``"cuda"``, else None, the CPU.

    Raises:
        MissingExtraError, ParamsError: ``"cuda"`` without torch, or a GPU that there is not.
    """
    return device_of(device, None) if str(device).startswith("cuda") else None


def refine_found(
    image: NDArray[np.uint8],
    found: Instances,
    settings: Settings,
    *,
    from_boxes: bool | Sequence[bool] = False,
    threads: int | None = None,
    device: Any = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> ImageResult:
    """Refine the instances that were found in an image, or leave them as they are where the settings say so.

    Args:
        image: uint8 (H, W, 3) RGB.
        found: all of them are used, whatever their score.
        settings: how to refine.
        from_boxes: for all of them or for each, whether only its box is known; see `refinement.prompts.from_boxes`.
        threads, device: as for `segment_image`.
        on_progress: called again and again with the number of finished instances; what it raises ends the work.
    """
    if not settings.refine or not len(found):
        return ImageResult(found, found, ("",) * len(found))
    after, decisions = refine_instances(
        image,
        found,
        settings.params,
        from_boxes=from_boxes,
        threads=threads,
        joint=settings.joint,
        device=device,
        on_progress=on_progress,
    )
    return ImageResult(found, after, _left_alone(decisions))


def refine_photos(
    images: Sequence[NDArray[np.uint8]],
    found: Sequence[Instances],
    settings: Settings,
    device: Any,
    *,
    from_boxes: Sequence[Sequence[bool]] | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[ImageResult]:
    """`refine_found` for several images on a torch device; with learned parameters, all their instances together."""
    params = settings.params
    flags = from_boxes or [[False] * len(some) for some in found]
    photos = list(zip(images, found, flags, strict=True))
    if not settings.refine or settings.joint or not isinstance(params, LearnedParams):
        return [refine_found(image, some, settings, from_boxes=own, device=device) for image, some, own in photos]
    after = refine_together(photos, params, device, on_progress=on_progress)
    return [ImageResult(some, new, _left_alone(why)) for some, (new, why) in zip(found, after, strict=True)]


def _left_alone(decisions: Sequence[Decision | None]) -> tuple[str, ...]:
    return tuple(d.reason if d is not None and not d.refined else "" for d in decisions)


class Segmenter:
    """A detector and how its masks are refined; made once, used on many images.

    Args:
        detector: a name of ``crispmask models list`` (``"embedded"`` ships), the path of an ONNX file or a
            torchvision checkpoint, or any callable from an image, uint8 (H, W, 3) RGB, to `Instances`.
        params: of the refinement: ``"learned"``, ``"fixed"`` or ``"paper"``, the path of a TOML file, or an object of
            `CRFParams` or `LearnedParams`; by default the learned ones that ship.
        score: detections below it are dropped, in [0, 1]; by default the detector says which.
        classes: the only classes that are wanted, by name or category id: ``["person", "dog"]``; by default all.
        tiles: N to look at N x N overlapping tiles of the image too, for small objects.
        joint: whether every pixel belongs to one instance at most.
        device: where the detector runs: ``"cpu"``, ``"cuda"``, ``"mps"``; see `crispmask.load_detector`. On ``"cuda"``
            the mask network and the CRF work too (extra ``torch``); labels are those of the CPU but for one in some
            thousands.
        half: whether the detector computes in half precision; torchvision's on a GPU only.
        threads: of the refinement; by default one per processor. The result has the same bits for any number.

    Raises:
        ModelError: a detector that is not known or cannot be used.
        ParamsError: parameters, a score, a class, a number of tiles or a device that cannot be used.

    Example:
        >>> import crispmask
        >>> model = crispmask.Segmenter()
        >>> image = crispmask.read_image("photo.jpg")  # doctest: +SKIP
        >>> found = model.detect(image)  # doctest: +SKIP
        >>> crisp = model.refine(image, found)  # doctest: +SKIP
    """

    def __init__(
        self,
        detector: str | Path | Detector = "embedded",
        *,
        params: str | Params | None = None,
        score: float | None = None,
        classes: Classes | None = None,
        tiles: int | None = None,
        joint: bool = False,
        device: str | None = None,
        half: bool = False,
        threads: int | None = None,
    ) -> None:
        chosen = default_params() if params is None else read_params(params) if isinstance(params, str) else params
        settings = Settings(chosen, score, joint=joint, classes=classes, tiles=tiles)
        self.threads, self.device = threads, refining_on(device)
        if isinstance(detector, str | Path):
            detector = load_detector(detector, threads=0 if threads is None else threads, device=device, half=half)
        self.detector: Selection
        self.detector, self.settings = settings.applied_to(detector)

    def __call__(self, image: str | Path | ArrayLike) -> Instances:
        """Detect and refine the objects of an image.

        Args:
            image: a file, or uint8 (H, W, 3) RGB.

        Returns:
            The objects by descending score, with refined masks: ``.masks()`` are bool (N, H, W), ``.boxes`` float32
            (N, 4) xyxy in pixels, ``.scores`` float32 (N,), ``.category_ids`` int64 (N,), whose names are in
            ``detector.categories``.

        Raises:
            ImageError: a file that cannot be read.
            ShapeError, ValueRangeError: an array that is no such image.
        """
        pixels = _pixels(image)
        return segment_image(pixels, self.detector, self.settings, threads=self.threads, device=self.device).after

    def detect(self, image: str | Path | ArrayLike) -> Instances:
        """The detector's own instances at or above the score; arguments and errors as for a call."""
        return self.detector(_pixels(image))

    def refine(self, image: str | Path | ArrayLike, found: Instances) -> Instances:
        """The same instances with refined masks, whatever their score.

        Raises:
            ShapeError: instances of another image size; otherwise as for a call.
        """
        return refine_found(_pixels(image), found, self.settings, threads=self.threads, device=self.device).after


def segment(
    image: str | Path | ArrayLike,
    *,
    detector: str | Path | Detector = "embedded",
    params: str | Params | None = None,
    score: float | None = None,
    classes: Classes | None = None,
    tiles: int | None = None,
    joint: bool = False,
    device: str | None = None,
    threads: int | None = None,
) -> Instances:
    """Find the objects of an image and pull their masks onto the real edges.

    A detector that is given by its name or path stays loaded until a call names another one; for two at a time, make a
    `Segmenter` of each.

    Args:
        image: a file, or uint8 (H, W, 3) RGB.
        detector, params, score, classes, tiles, joint, device, threads: as for `Segmenter`.

    Returns:
        The objects by descending score, with refined masks: ``.masks()`` are bool (N, H, W), ``.boxes`` float32 (N, 4)
        xyxy in pixels, ``.scores`` float32 (N,), ``.category_ids`` int64 (N,).

    Raises:
        ImageError: a file that cannot be read.
        ShapeError, ValueRangeError: an array that is no such image.
        ModelError: a detector that is not known or cannot be used.
        ParamsError: parameters, a score, a class, a number of tiles or a device that cannot be used.
    """
    if isinstance(detector, str | Path):
        with _loading:  # else two threads would load it twice
            detector = _loaded(str(detector), device)
    chosen: dict[str, Any] = {"params": params, "score": score, "classes": classes, "tiles": tiles, "joint": joint}
    return Segmenter(detector, **chosen, device=device, threads=threads)(image)


_loading = Lock()


@lru_cache(maxsize=1)
def _loaded(detector: str, device: str | None) -> Detector:
    return load_detector(detector, device=device)


def _pixels(image: str | Path | ArrayLike) -> NDArray[np.uint8]:
    return read_image(image) if isinstance(image, str | Path) else as_image(image)
