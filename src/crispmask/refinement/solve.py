"""The CRF of one instance, or of several that share a rectangle: kernels, mean field, and the window that comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from crispmask.crf import Bilateral, DenseCRF, Gaussian, two_label_marginals
from crispmask.errors import ValueRangeError
from crispmask.instances import Window
from crispmask.params import CRFParams
from crispmask.refinement.clean import without_specks
from crispmask.refinement.colour import rgb_to_lab
from crispmask.refinement.unary import Unary, unary_energies
from crispmask.refinement.windows import Rect, resized, union

LATTICE_PARAMS = ("theta_alpha", "theta_alpha_scale", "theta_beta", "colour", "context", "context_min")
"""What decides the bilateral lattice of an instance; the other parameters leave it as it is."""

MAX_JOINT = 100_000_000
"""Labels times pixels of a joint refinement; 24 people who meet all over an image of four megapixels are as many."""

Lattices = dict[tuple[Any, ...], Bilateral]
"""Bilateral kernels of one instance by `LATTICE_PARAMS`."""


def solve(
    image: NDArray[np.uint8], unaries: Sequence[Unary], *, threads: int = 1, lattices: Lattices | None = None
) -> list[Window | None]:
    """Mean field over the rectangle that holds all instances, with the background and each of them as labels.

    The setting is that of the largest instance.

    Args:
        image: uint8 (H, W, 3) RGB.
        unaries: of one instance, or of several that give every pixel to one of them at most.
        threads: over the rows of the rectangle; the result has the same bits for any number.
        lattices: kernels of a single instance that are there already; new ones are added.

    Raises:
        ValueRangeError: more instances and pixels together than `MAX_JOINT`.

    Returns:
        A window of marginals for each instance; None where the CRF leaves no pixel of it.
    """
    leader = max(unaries, key=lambda unary: unary.scale)
    params, rect = leader.params, union([unary.rect for unary in unaries])
    _check_joint(len(unaries), rect)
    odds = [unary.over(rect) for unary in unaries]
    scale = float(np.mean([unary.scale for unary in unaries]))
    found = kernels(image, rect, scale, params, lattices) if params.iterations else []
    if len(unaries) == 1:
        marginals = two_label_marginals(odds[0], found, params.iterations, threads=threads)[None]
    else:
        crf = DenseCRF(unary_energies(np.stack(odds)), found)
        marginals = _against_rivals(crf.run(params.iterations, threads=threads).marginals)
    windows: list[Window | None] = []
    for marginal in marginals:
        probabilities = np.clip(resized(marginal, rect.shape), 0, 1)
        window = Window(without_specks(probabilities, params.clean), rect.y0, rect.x0)
        windows.append(window if window.mask.any() else None)
    return windows


def _check_joint(count: int, rect: Rect) -> None:
    height, width = rect.grid
    if count > 1 and (count + 1) * height * width > MAX_JOINT:
        raise ValueRangeError(
            f"{count} masks meet one another over {width}x{height} pixels: labels times pixels are more than the limit "
            f"of {MAX_JOINT // 1_000_000} million for joint refinement; refine them one by one (without --joint), or "
            "drop weak detections (--score)"
        )


def kernels(
    image: NDArray[np.uint8], rect: Rect, scale: float, params: CRFParams, lattices: Lattices | None = None
) -> list[Bilateral | Gaussian]:
    """The two kernels of the paper over a rectangle of an image, at its `grid`.

    Args:
        image: uint8 (H, W, 3) RGB.
        rect: the rectangle.
        scale: size of the object, pixels; theta_alpha is a multiple of it where the parameters say so.
        params: of the CRF.
        lattices: see `solve`.
    """
    options: dict[str, Any] = {"normalization": params.normalization, "self_term": params.self_term}
    made: list[Bilateral | Gaussian] = []
    if params.bilateral_weight > 0:
        key = tuple(getattr(params, name) for name in LATTICE_PARAMS)
        known = lattices.get(key) if lattices is not None else None
        if known is not None:
            made.append(known.reweighted(params.bilateral_weight, **options))
        else:
            part = resized(image[rect.slices], rect.grid)
            theta_alpha = params.theta_alpha * (scale if params.theta_alpha_scale == "instance" else 1.0)
            theta_alpha *= rect.grid[1] / rect.shape[1]
            colours = rgb_to_lab(part) if params.colour == "lab" else part
            made.append(Bilateral(colours, theta_alpha, params.theta_beta, params.bilateral_weight, **options))
            if lattices is not None:
                lattices[key] = cast(Bilateral, made[0])
    if params.smoothness_weight > 0:
        made.append(Gaussian(params.theta_gamma, params.smoothness_weight, **options))
    return made


def _against_rivals(marginals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each object's probability against its strongest rival: above one half exactly where its label is the argmax.

    A pixel that three labels share has no marginal above one half, and would belong to nobody although one of them
    leads. With one object this would be its marginal.
    """
    ranked = np.sort(marginals, axis=0)
    best, second = ranked[-1], ranked[-2]
    rival = np.where(marginals[1:] == best, second, best)
    return marginals[1:] / np.maximum(marginals[1:] + rival, np.finfo(np.float32).tiny)
