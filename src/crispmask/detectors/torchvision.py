"""torchvision's Mask R-CNNs: its COCO weights, and checkpoints that were fine-tuned from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList

from crispmask.detectors.canvas import to_instances
from crispmask.detectors.networks import check_device, coco_categories, locate_in_float32, network_of, read_weights
from crispmask.detectors.weights import NAMES, WEIGHTS, local_weights
from crispmask.errors import ModelError, ParamsError
from crispmask.files import checksum
from crispmask.image import as_image
from crispmask.instances import Instances


class TorchvisionDetector:
    """A `Detector` that runs a torchvision `MaskRCNN`; images are scaled and padded as torchvision does it.

    Args:
        source: one of `crispmask.detectors.weights.NAMES`, or a ``.pt`` or ``.pth`` file.
        device: torch device.
        half: compute in float16 where that is safe; boxes are placed in float32.

    Raises:
        ModelError: weights that cannot be fetched, read safely, or that are of another network.
        ParamsError: a device that torch cannot use, or half precision on the CPU.
    """

    def __init__(self, source: str | Path, device: str = "cpu", half: bool = False) -> None:
        self.device = check_device(device)
        if half and self.device.type == "cpu":
            raise ParamsError("half precision needs a GPU: leave it out, or choose the device cuda or mps")
        self.name = str(source)
        path = local_weights(self.name) if self.name in NAMES else Path(source)
        state, names = read_weights(path)
        model = network_of(state, str(path))
        if half:
            locate_in_float32(model)
        self._half, self._model = half, model.to(self.device)
        self.checksum = checksum(path)
        self.categories = _categories(state, names, self.checksum)

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Objects by descending score, from 0.05 up, in an image (H, W, 3) uint8 RGB.

        Raises:
            ModelError: a network that fails, for example because there is not enough memory.
        """
        return self.batch([image])[0]

    def batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Instances]:
        """The objects of several images of any sizes.

        On the CPU the images are computed one by one, so that the results equal those of single calls bit for bit. On a
        GPU, images that need a canvas of the same shape share one pass; its results differ from those of single calls
        by rounding. No image is padded to the shape of another.
        """
        if self.device.type == "cpu":
            return [found for image in images for found in self._together([as_image(image)])]
        return self._together([as_image(image) for image in images])

    def _together(self, images: list[NDArray[np.uint8]]) -> list[Instances]:
        try:
            with torch.autocast(self.device.type, torch.float16, enabled=self._half):
                found = detections(self._model, images, self.device)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"{self.name} failed on {len(images)} images at once: {reason}") from None
        known = np.array(sorted(self.categories), np.int64)
        return [one[np.isin(one.category_ids, known)] for one in found]


@torch.inference_mode()
def detections(model: MaskRCNN, images: Sequence[NDArray[np.uint8]], device: torch.device) -> list[Instances]:
    """Run a Mask R-CNN in evaluation mode; images whose canvases have the same shape share a pass.

    Args:
        model: torchvision's.
        images: uint8 (H, W, 3) RGB of any sizes.
        device: where the model is.

    Returns:
        For each image its instances, with the labels as category ids. Masks are windows of the network's 28x28
        probabilities, so that full-size masks never exist.
    """
    canvases: dict[tuple[int, ...], list[tuple[int, Tensor, tuple[int, int]]]] = defaultdict(list)
    for k, image in enumerate(images):
        pixels = torch.from_numpy(image.copy()).to(device).permute(2, 0, 1).float() / 255
        scaled, _ = model.transform([pixels])
        canvases[tuple(scaled.tensors.shape)].append((k, scaled.tensors, scaled.image_sizes[0]))
    results: dict[int, Instances] = {}
    for group in canvases.values():
        numbers, tensors, sizes = zip(*group, strict=True)
        together = ImageList(torch.cat(tensors), list(sizes))
        features = model.backbone(together.tensors)
        proposals, _ = model.rpn(together, features)
        found, _ = model.roi_heads(features, proposals, together.image_sizes)
        for k, (size_h, size_w), one in zip(numbers, sizes, found, strict=True):
            height, width = images[k].shape[:2]
            scale = np.array([width / size_w, height / size_h] * 2, np.float32)
            boxes, scores, labels, masks = (one[key].cpu().numpy() for key in ("boxes", "scores", "labels", "masks"))
            results[k] = to_instances(boxes * scale, scores, labels, masks[:, 0], (height, width))
    return [results[k] for k in range(len(images))]


def _categories(state: dict[str, Tensor], names: list[str] | None, digest: str) -> dict[int, str]:
    """Class name by label: COCO's for torchvision's own files, else the names in the checkpoint, else numbers."""
    if any(digest.startswith(weights.hash_prefix) for weights in WEIGHTS.values()):
        return coco_categories()
    total = len(state["roi_heads.box_predictor.cls_score.weight"])
    if names and len(names) == total:  # with the background
        names = names[1:]
    if not names or len(names) != total - 1:
        names = [str(label) for label in range(1, total)]
    return dict(enumerate(names, start=1))
