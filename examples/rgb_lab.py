"""Colours in RGB or in Lab: the same coarse outline of a cup and saucer, refined with either.

python examples/rgb_lab.py -o rgb_lab.png

Distances in Lab are nearer to those that the eye sees, and smaller in number, hence the other bandwidth. On this image
of red china on brown wood both find the rim.
"""

from __future__ import annotations

import numpy as np
from common import check, cutout, options, save, shrink
from skimage import data
from skimage.draw import polygon2mask

from crispmask import Bilateral, DenseCRF, Gaussian
from crispmask.refinement.colour import rgb_to_lab
from crispmask.refinement.unary import log_odds, soften, unary_energies

# Corners as (row, column) in the image of 400x600 pixels, clicked in a hurry.
CORNERS = [
    (30, 180),
    (10, 320),
    (60, 410),
    (150, 470),
    (290, 460),
    (365, 370),
    (390, 280),
    (365, 150),
    (250, 70),
    (110, 90),
]


def crf(colours: np.ndarray, theta_beta: float, unary: np.ndarray) -> DenseCRF:
    """The paper's two kernels on colours of either kind."""
    return DenseCRF(unary, [Bilateral(colours, 30, theta_beta, 5), Gaussian(1, 1)])


def main() -> None:
    arguments = options(__doc__, size=600)
    image = shrink(data.coffee(), arguments.size)  # public domain
    coarse = polygon2mask(image.shape[:2], np.array(CORNERS) * image.shape[1] / 600)
    unary = unary_energies(log_odds(soften(coarse.astype(np.float32), 0.08), 0.95)[None])
    panels = {"coarse outline": cutout(image, coarse)}
    row, column = (int(v * image.shape[1] / 600) for v in (330, 400))  # where saucer and outline part
    crop = np.s_[max(0, row - 20) : row + 20, max(0, column - 20) : column + 20]
    for name, colours, theta_beta in (("RGB", image, 13.0), ("Lab", rgb_to_lab(image), 5.0)):
        labels = crf(colours, theta_beta, unary).run().labels
        print(f"{name}: {(labels != coarse).mean():.1%} of the pixels changed")
        check(crf(colours[crop], theta_beta, unary[(..., *crop)]))
        panels[f"{name}, bandwidth {theta_beta:g}"] = cutout(image, labels == 1)
    save(panels, arguments.output)


if __name__ == "__main__":
    main()
