"""The embedded detector as an ONNX file, and a comparison of its boxes with those of NanoDet's original graph."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou, nms

from crispmask.detectors.canvas import network_input
from crispmask.detectors.networks import coco_categories
from crispmask.detectors.onnx import FORMAT
from crispmask.errors import ModelError
from crispmask.files import replacing
from crispmask.runtime import onnx_runtime
from crispmask.training.detector.export import fold_batch_norm, halve_weights
from crispmask.training.embedded.branch import MaskBranch
from crispmask.training.embedded.nanodet import CLASSES, MEAN, SCALE, STRIDES, NanoDet
from crispmask.training.embedded.network import (
    CANVAS,
    DEFAULT_SCORE,
    DIVISOR,
    LEAST_SCORE,
    MOST,
    SAME_OBJECT,
    EmbeddedNetwork,
)
from crispmask.training.embedded.tfjs import Graph, run_graph

OPSET = 17
OUTPUTS = ("boxes", "scores", "labels", "masks")

SCORES_APART, BOXES_APART = 1e-3, 0.5
"""Largest differences from the original graph: probability, and pixels of the canvas."""


def export(detector: NanoDet, branch: MaskBranch, output: Path) -> None:
    """Write the detector with its masks as one ONNX file; weights as float16, arithmetic in float32."""
    branch = copy.deepcopy(branch).eval()
    fold_batch_norm(branch)
    with replacing(output) as partial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's remarks on constants
            torch.onnx.export(
                EmbeddedNetwork(detector, branch).eval(),
                (torch.rand(1, 3, 320, CANVAS) * 255, torch.tensor([0.0])),
                partial,
                dynamo=False,
                opset_version=OPSET,
                input_names=["image", "least_score"],
                output_names=list(OUTPUTS),
                dynamic_axes={"image": {2: "height", 3: "width"}} | {name: {0: "n"} for name in OUTPUTS},
            )
        model = onnx.load(str(partial))
        halve_weights(model)
        categories = coco_categories()
        facts = {
            "format": FORMAT,
            "names": list(categories.values()),
            "category_ids": list(categories),
            "min_size": CANVAS,
            "max_size": CANVAS,
            "size_divisor": DIVISOR,
            "default_score": DEFAULT_SCORE,
        }
        for key, value in facts.items():
            model.metadata_props.add(key=key, value=json.dumps(value))
        onnx.checker.check_model(model)
        onnx.save(model, str(partial))


def square_canvas(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The canvas of NanoDet's own graph, float32 (1, 3, 416, 416) in 0..255: the scaled image, then its mean colour."""
    canvas, (height, width) = network_input(image, CANVAS, CANVAS, DIVISOR)
    square = np.empty((1, 3, CANVAS, CANVAS), np.float32)
    square[:] = np.array(MEAN, np.float32)[:, None, None]
    square[:, :, :height, :width] = canvas[:, :, :height, :width]
    return square


def original_boxes(graph: Graph, canvas: NDArray[np.float32]) -> tuple[Tensor, Tensor, Tensor]:
    """What NanoDet's original graph finds, written without the code that is exported.

    Args:
        graph: TensorFlow.js's.
        canvas: of `square_canvas`.

    Returns:
        Boxes (N, 4) xyxy in pixels of the canvas, scores (N,) and classes (N,) from 0, by descending score.
    """
    mean, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, SCALE))
    scaled = (torch.from_numpy(canvas) - mean) * scale
    names = [f"Identity{k}" for k in ("", "_1", "_2", "_3", "_4", "_5")]
    found = run_graph(graph, {"input_1": scaled.flip(1)}, names)
    boxes, scores, classes = [], [], []
    for stride, some, sides in zip(STRIDES, found[:3], found[3:], strict=True):
        cells = CANVAS // stride
        bins = torch.softmax(sides[0].view(-1, 4, 11), 2)
        left, top, right, bottom = ((bins * torch.arange(11)).sum(2) * stride).T
        x = (torch.arange(cells * cells) % cells + 0.5) * stride
        y = (torch.arange(cells * cells) // cells + 0.5) * stride
        boxes.append(torch.stack([x - left, y - top, x + right, y + bottom], 1))
        best = some[0].max(1)
        scores.append(best.values)
        classes.append(best.indices)
    all_boxes, all_scores, all_classes = torch.cat(boxes), torch.cat(scores), torch.cat(classes)
    kept = []
    for label in range(CLASSES):
        of = torch.nonzero((all_classes == label) & (all_scores >= LEAST_SCORE))[:, 0]
        kept.append(of[nms(all_boxes[of], all_scores[of], SAME_OBJECT)])
    order = torch.cat(kept)
    order = order[all_scores[order].argsort(descending=True)][:MOST]
    return all_boxes[order], all_scores[order], all_classes[order]


def check(graph: Graph, path: Path, images: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
    """Compare a file's boxes with those of the original graph.

    Args:
        graph: TensorFlow.js's.
        path: the ONNX file.
        images: uint8 (H, W, 3) RGB.

    Returns:
        The largest differences of ``scores`` and of ``boxes`` in pixels, and the number ``compared``.

    Raises:
        ModelError: a box that only one of them has, or larger differences than allowed.
    """
    session = onnx_runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = {"scores": 0.0, "boxes": 0.0, "compared": 0.0}
    for image in images:
        canvas = square_canvas(image)
        boxes, scores, classes = original_boxes(graph, canvas)
        least = np.array([LEAST_SCORE - SCORES_APART], np.float32)
        found = session.run(list(OUTPUTS[:3]), {"image": canvas, "least_score": least})
        others, other_scores, labels = (torch.from_numpy(array) for array in found)
        overlaps = box_iou(boxes, others) * (classes[:, None] == labels - 1)
        if not len(boxes) or not len(others) or float(overlaps.max(1).values.min()) < 0.9:
            raise ModelError("the exported file misses a box that the original graph finds")
        pairs = overlaps.argmax(1)
        worst["scores"] = max(worst["scores"], float((scores - other_scores[pairs]).abs().max()))
        worst["boxes"] = max(worst["boxes"], float((boxes - others[pairs]).abs().max()))
        worst["compared"] += len(boxes)
    if worst["scores"] > SCORES_APART or worst["boxes"] > BOXES_APART:
        raise ModelError(f"the exported file differs from the original graph: {worst}")
    return worst
