"""The frozen detector's feature maps and boxes of the training photos, kept on disk: they are computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispmask.detectors.canvas import network_input
from crispmask.files import replacing
from crispmask.training.embedded.nanodet import Maps, NanoDet
from crispmask.training.embedded.network import CANVAS, DIVISOR, found_boxes
from crispmask.training.refiner.objects import SourceImage

_LEAST_SCORE = 0.1  # of the boxes that are kept
_CHANNELS_STRIDES = ((64, 4), (128, 8), (128, 8), (128, 16), (128, 32))


class Features:
    """A folder with two files for each image, plain and mirrored, made when they are first asked for.

    Args:
        network: the detector.
        folder: is made where it is not there.
    """

    def __init__(self, network: NanoDet, folder: Path) -> None:
        self._network, self._folder = network, folder
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, image: SourceImage, mirrored: bool) -> tuple[Maps, tuple[int, int], Tensor]:
        """The maps of an image (one canvas), the size (h, w) of the scaled image on it, and the boxes found (N, 4)."""
        path = self._folder / f"{image.number}{'m' if mirrored else ''}.npz"
        if not path.is_file():
            pixels = image.read()
            self._write(path, pixels[:, ::-1] if mirrored else pixels)
        return _read(path)

    @torch.inference_mode()
    def _write(self, path: Path, pixels: NDArray[np.uint8]) -> None:
        canvas, size = network_input(pixels, CANVAS, CANVAS, DIVISOR)
        maps = self._network.maps(torch.from_numpy(canvas))
        boxes, _, _ = found_boxes(self._network, maps, torch.tensor([_LEAST_SCORE]))
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                maps=torch.cat([x.flatten() for x in (*maps.early, *maps.late)]).half().numpy(),
                canvas=np.array(canvas.shape[2:]),
                size=np.array(size),
                boxes=boxes.numpy(),
            )


def _read(path: Path) -> tuple[Maps, tuple[int, int], Tensor]:
    with np.load(path) as stored:
        flat = torch.from_numpy(stored["maps"])
        height, width = (int(v) for v in stored["canvas"])
        size_h, size_w = (int(v) for v in stored["size"])
        boxes = torch.from_numpy(stored["boxes"])
    shapes = [(1, c, height // s, width // s) for c, s in _CHANNELS_STRIDES]
    parts = flat.split([int(np.prod(shape)) for shape in shapes])
    a, b, c, d, e = (part.view(shape).float() for part, shape in zip(parts, shapes, strict=True))
    return Maps((a, b), (c, d, e)), (size_h, size_w), boxes
