"""The CRF of one instance, or of several that share a rectangle: kernels, mean field, and the window that comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispmask.crf import Bilateral, DenseCRF, Gaussian, two_label_marginals, window_marginals
from crispmask.errors import ValueRangeError
from crispmask.image.scaling import resized
from crispmask.instances import Window
from crispmask.params import CRFParams
from crispmask.refinement.clean import without_specks
from crispmask.refinement.colour import rgb_to_lab
from crispmask.refinement.evidence import counts, may_sample
from crispmask.refinement.unary import Unary, unary_energies
from crispmask.refinement.windows import Rect, union

LATTICE_PARAMS = ("theta_alpha", "theta_alpha_scale", "theta_beta", "colour", "context", "context_min")
"""What decides the bilateral lattice of an instance; the other parameters leave it as it is."""

MAX_JOINT = 100_000_000
"""Labels times pixels of a joint refinement; 24 people who meet all over an image of four megapixels are as many."""

Lattices = dict[tuple[Any, ...], Bilateral]
"""Bilateral kernels of one instance by `LATTICE_PARAMS`."""


@dataclass(frozen=True, eq=False)
class Problem:
    """The CRF of one instance, or of several that give every pixel to one of them at most.

    Attributes:
        odds: of each instance, float32 (h, w), over the rectangle.
        kernels: of the CRF; none where it has no iterations.
        params: its setting, that of the largest instance.
        rect: the rectangle that holds all instances.
    """

    odds: list[NDArray[np.float32]]
    kernels: list[Bilateral | Gaussian]
    params: CRFParams
    rect: Rect

    @property
    def crf(self) -> dict[str, Any]:
        """Arguments of `DenseCRF`, with the background and each of the instances as labels."""
        return {"unary": unary_energies(np.stack(self.odds)), "kernels": self.kernels}


def pose(image: NDArray[np.uint8], unaries: Sequence[Unary], lattices: Lattices | None = None) -> Problem:
    """What is to be solved; arguments and errors as for `solve`."""
    leader = max(unaries, key=lambda unary: unary.scale)
    params, rect = leader.params, union([unary.rect for unary in unaries])
    _check_joint(len(unaries), rect)
    odds = [unary.over(rect) for unary in unaries]
    scale = float(np.mean([unary.scale for unary in unaries]))
    sampled = odds[0] if len(odds) == 1 and leader.sampled else None
    found = kernels(image, rect, scale, params, lattices, sampled) if params.iterations else []
    return Problem(odds, found, params, rect)


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
    problem = pose(image, unaries, lattices)
    iterations = problem.params.iterations
    if len(unaries) == 1:
        return windows_of(problem, two_label_marginals(problem.odds[0], problem.kernels, iterations, threads=threads))
    return windows_of(problem, DenseCRF(**problem.crf).run(iterations, threads=threads).marginals)


def solve_on(device: Any, problems: Sequence[Problem]) -> list[NDArray[np.float32]]:
    """The marginals of many problems, all windows of one instance as one lattice on the device.

    Returns:
        What `windows_of` takes: float32 (h, w) of a single instance, (N + 1, h, w) of several.
    """
    made: dict[int, NDArray[np.float32]] = {}
    settings: dict[int, list[int]] = {}
    for k, problem in enumerate(problems):
        if len(problem.odds) == 1:
            settings.setdefault(problem.params.iterations, []).append(k)
        else:
            made[k] = DenseCRF(**problem.crf, device=device).run(problem.params.iterations).marginals
    for iterations, some in settings.items():
        odds, found = [problems[k].odds[0] for k in some], [problems[k].kernels for k in some]
        made |= zip(some, window_marginals(odds, found, iterations, device=device), strict=True)
    return [made[k] for k in range(len(problems))]


def windows_of(problem: Problem, marginals: NDArray[np.float32]) -> list[Window | None]:
    """The instances' windows of marginals; None where nothing is left of one.

    Args:
        marginals: of a single instance float32 (h, w), of several (N + 1, h, w), the background first.
    """
    own = marginals[None] if marginals.ndim == 2 else _against_rivals(marginals)
    return [window_of(marginal, problem.rect, problem.params) for marginal in own]


def window_of(marginals: NDArray[np.float32], rect: Rect, params: CRFParams) -> Window | None:
    """An instance's window of its marginals over a rectangle, float32 (h, w) at its `grid`; None where it is empty."""
    # Specks are looked for at the resolution at which the CRF works: there are none of less than one of its pixels.
    probabilities = resized(without_specks(np.clip(marginals, 0, 1), params.clean), rect.shape)
    window = Window(np.clip(probabilities, 0, 1, out=probabilities), rect.y0, rect.x0)
    return window if window.mask.any() else None


def _check_joint(count: int, rect: Rect) -> None:
    height, width = rect.grid
    if count > 1 and (count + 1) * height * width > MAX_JOINT:
        raise ValueRangeError(
            f"{count} masks meet one another over {width}x{height} pixels: labels times pixels are more than the limit "
            f"of {MAX_JOINT // 1_000_000} million for joint refinement; refine them one by one (without --joint), or "
            "drop weak detections (--score)"
        )


def kernels(
    image: NDArray[np.uint8],
    rect: Rect,
    scale: float,
    params: CRFParams,
    lattices: Lattices | None = None,
    sampled: NDArray[np.float32] | None = None,
) -> list[Bilateral | Gaussian]:
    """The two kernels of the paper over a rectangle of an image, at its `grid`.

    Args:
        image: uint8 (H, W, 3) RGB.
        rect: the rectangle.
        scale: size of the object, pixels; theta_alpha is a multiple of it where the parameters say so.
        params: of the CRF.
        lattices: see `solve`.
        sampled: log-odds over the rectangle, of which the bilateral kernel may sample what is decided.
    """
    options: dict[str, Any] = {"normalization": params.normalization, "self_term": params.self_term}
    made: list[Bilateral | Gaussian] = []
    if params.bilateral_weight > 0:
        made.append(_bilateral(image, rect, scale, params, lattices, sampled, options))
    if params.smoothness_weight > 0:
        made.append(Gaussian(params.theta_gamma, params.smoothness_weight, **options))
    return made


def _bilateral(
    image: NDArray[np.uint8],
    rect: Rect,
    scale: float,
    params: CRFParams,
    lattices: Lattices | None,
    sampled: NDArray[np.float32] | None,
    options: dict[str, Any],
) -> Bilateral:
    sampled = sampled if may_sample(params) else None
    # Which pixels are sampled depends on the unary: that lattice serves once.
    kept = {} if lattices is None or sampled is not None else lattices
    key = tuple(getattr(params, name) for name in LATTICE_PARAMS)
    if key in kept:
        return kept[key].reweighted(params.bilateral_weight, **options)
    part = resized(image[rect.slices], rect.grid)
    theta_alpha = position_bandwidth(params, scale, rect)
    taken = None if sampled is None else counts(sampled, params.limit, theta_alpha)
    colours = rgb_to_lab(part) if params.colour == "lab" else part
    kept[key] = Bilateral(colours, theta_alpha, params.theta_beta, params.bilateral_weight, counts=taken, **options)
    return kept[key]


def position_bandwidth(params: CRFParams, scale: float, rect: Rect) -> float:
    """theta_alpha in pixels of the rectangle's `grid`; `scale` as for `kernels`."""
    size = scale if params.theta_alpha_scale == "instance" else 1.0
    return params.theta_alpha * size * (rect.grid[1] / rect.shape[1])


def _against_rivals(marginals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each object's probability against its strongest rival: above one half exactly where its label is the argmax.

    A pixel that three labels share has no marginal above one half, and would belong to nobody although one of them
    leads. With one object this would be its marginal.
    """
    ranked = np.sort(marginals, axis=0)
    best, second = ranked[-1], ranked[-2]
    rival = np.where(marginals[1:] == best, second, best)
    return marginals[1:] / np.maximum(marginals[1:] + rival, np.finfo(np.float32).tiny)
