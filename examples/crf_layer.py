"""The CRF as a layer of a torch model: it learns the bandwidths by gradient descent.

python examples/crf_layer.py -o crf_layer.png

A CRF whose parameters are known refines noisy masks of an image. A second one starts with other parameters, sees the
same masks, and learns from the first one's marginals until it has the same parameters. Needs the extra `torch`.
"""

from __future__ import annotations

import numpy as np
import torch
from common import check, options, overlay, save, shrink
from scipy.ndimage import gaussian_filter
from skimage import data

from crispmask import Bilateral, DenseCRF, Gaussian
from crispmask.crf.layer import CRFLayer
from crispmask.refinement.colour import rgb_to_lab

TRUE = {"theta_alpha": 6, "theta_beta": 9, "theta_gamma": 1.3, "bilateral_weight": 3, "smoothness_weight": 1}
START = {"theta_alpha": 3, "theta_beta": 20, "theta_gamma": 0.8, "bilateral_weight": 1.5, "smoothness_weight": 2}


def noisy_unary(shape: tuple[int, int], count: int) -> torch.Tensor:
    """Energies (count, 2, H, W) of masks that know nothing of the image."""
    noise = np.random.default_rng(0).normal(size=(count, *shape))
    log_odds = torch.from_numpy(12 * gaussian_filter(noise, (0, 3, 3)) + noise).float()
    return torch.stack([torch.zeros_like(log_odds), -log_odds], 1)


def learn(layer: CRFLayer, unary: torch.Tensor, image: torch.Tensor, target: torch.Tensor) -> None:
    """Cross entropy to marginals, down to its minimum; any of torch's optimisers would do."""
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = -(target * layer(unary, image).log()).sum(1).mean()
        value.backward()
        return value

    optimizer.step(loss)


def main() -> None:
    arguments = options(__doc__, size=48)
    photo = shrink(data.coffee(), arguments.size)  # CC0
    lab = rgb_to_lab(photo)
    unary = noisy_unary(photo.shape[:2], 2)
    image = torch.from_numpy(lab).permute(2, 0, 1).expand(len(unary), -1, -1, -1)

    teacher, layer = CRFLayer(**TRUE), CRFLayer(**START)
    with torch.no_grad():
        target, before = teacher(unary, image), layer(unary, image)
    learn(layer, unary, image, target)
    with torch.no_grad():
        after = layer(unary, image)
    for name, value in layer.values().items():
        print(f"{name}: true {TRUE[name]:g}, start {START[name]:g}, learned {value.item():.3f}")

    for name, q in (("start", before), ("learned", after)):
        print(f"{name}: {(q.argmax(1) == target.argmax(1)).double().mean():.2%} of the labels are the teacher's")

    learned = {name: value.item() for name, value in layer.values().items()}
    appearance = Bilateral(lab, learned["theta_alpha"], learned["theta_beta"], learned["bilateral_weight"])
    check(DenseCRF(unary[0].numpy(), [appearance, Gaussian(learned["theta_gamma"], learned["smoothness_weight"])]))
    panels = {"unary": unary.softmax(1).flip(1), "start": before, "learned": after, "teacher": target}
    save({name: overlay(photo, q[0].argmax(0).numpy()) for name, q in panels.items()}, arguments.output)


if __name__ == "__main__":
    main()
