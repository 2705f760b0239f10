"""Any number of labels: a few strokes of a brush on an image, everything else is found.

python examples/multilabel.py -o multilabel.png
"""

from __future__ import annotations

import numpy as np
from common import COLOURS, check, options, overlay, save, scribbles, shrink
from scipy.spatial import cKDTree
from skimage import data

from crispmask import Bilateral, DenseCRF, Gaussian
from crispmask.refinement.colour import rgb_to_lab

# Per label strokes from (row, column) to (row, column) in the image of 512x512 pixels.
STROKES = {
    "background": [(20, 80, 20, 340), (60, 330, 230, 330), (130, 80, 60, 130), (20, 490, 250, 490)],
    "flag": [(10, 20, 200, 40), (215, 20, 280, 20), (20, 50, 120, 60)],
    "astronaut": [(40, 170, 30, 270), (60, 190, 210, 225), (220, 90, 480, 110), (170, 140, 270, 190),
                  (90, 165, 115, 160), (250, 190, 190, 295), (210, 240, 490, 240), (250, 280, 320, 310),
                  (80, 280, 115, 285), (370, 150, 400, 190)],
    "helmet": [(370, 320, 480, 430), (350, 400, 440, 490), (500, 300, 400, 480), (360, 340, 352, 380)],
    "shuttle": [(30, 410, 230, 410), (170, 372, 240, 366), (60, 445, 240, 445), (262, 370, 272, 450)],
    "table": [(310, 390, 290, 480), (330, 500, 400, 508), (310, 372, 345, 368)],
}  # fmt: skip


def energies(colours: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """(L, H, W): up to 1 for colours that are far from all those under a label's strokes; 0 or 20 on the strokes."""
    labels = range(1, len(STROKES) + 1)
    distance = np.stack([cKDTree(colours[marks == label]).query(colours)[0] for label in labels])
    certain = [20.0 * (marks != label) for label in labels]
    return np.where(marks > 0, certain, (distance**2 / (2 * 15**2)).clip(0, 1))


def crf(colours: np.ndarray, unary: np.ndarray) -> DenseCRF:
    """Six labels, the paper's two kernels."""
    return DenseCRF(unary, [Bilateral(colours, 40, 8, 8), Gaussian(2, 2)])


def main() -> None:
    arguments = options(__doc__, size=384)
    image = shrink(data.astronaut(), arguments.size)  # public domain
    marks, colours = scribbles(list(STROKES.values()), arguments.size), rgb_to_lab(image)
    unary = energies(colours, marks)
    labels = crf(colours, unary).run().labels
    print(", ".join(f"{name} {(labels == k).mean():.1%}" for k, name in enumerate(STROKES)))
    thin = slice(None, None, -(-arguments.size // 43))  # every so many pixels: a crop would hold few of the labels
    check(crf(colours[thin, thin], unary[:, thin, thin]))
    drawn = np.where(marks[..., None] > 0, 255 * COLOURS[marks - 1], image).astype(np.uint8)
    alone = overlay(image, unary.argmin(0))
    save({"strokes": drawn, "colours alone": alone, "CRF": overlay(image, labels)}, arguments.output)


if __name__ == "__main__":
    main()
