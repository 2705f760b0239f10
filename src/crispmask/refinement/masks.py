"""Pull every mask onto the object's real edge: one dense CRF per instance window, or one per group of instances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from crispmask.crf import Bilateral, DenseCRF, Gaussian, two_label_marginals
from crispmask.errors import ParamsError, ShapeError, ValueRangeError
from crispmask.image import as_image
from crispmask.instances import Instances, Window
from crispmask.params import CRFParams
from crispmask.refinement.colour import rgb_to_lab
from crispmask.refinement.inputs import as_instances, like
from crispmask.refinement.learned import Decision, LearnedParams
from crispmask.refinement.named import default_params
from crispmask.refinement.unary import is_binary, log_odds, soften, unary_energies
from crispmask.refinement.windows import Rect, Region, overlapping, region_of, union

S = TypeVar("S")
T = TypeVar("T")
Params = CRFParams | LearnedParams

LATTICE_PARAMS = ("theta_alpha", "theta_alpha_scale", "theta_beta", "colour", "context", "context_min")
"""What decides the bilateral lattice of an instance; the other parameters leave it as it is."""


def refine(
    image: NDArray[np.uint8],
    masks: T,
    params: Params | None = None,
    *,
    threads: int | None = None,
    joint: bool = False,
) -> T:
    """Refine the masks of one image.

    Every instance is refined inside its box plus some context, with a fully connected CRF (Krähenbühl and Koltun,
    2011). With the default parameters, which were learnt from annotated photos, its unary term and its settings follow
    the instance, and a mask that is not likely to gain is left alone (`explain` says which and why); with `CRFParams`
    they are the same for all and the unary term is the mask's probability. A mask that the CRF would erase is kept.

    Args:
        image: uint8 (H, W, 3) RGB.
        masks: `Instances`; or bool masks (N, H, W) or (H, W); or float probabilities in [0, 1] of these shapes;
            or `supervision.Detections` with masks.
        params: `LearnedParams`, or `CRFParams` for fixed ones; by default the learnt ones that ship with crispmask.
        threads: by default one per processor. The result has the same bits for any number.
        joint: give every pixel to one instance at most: instances whose windows overlap share one CRF with a label
            for each of them and one for the background.

    Returns:
        What came in, refined: the same type, shape and order.

    Raises:
        ShapeError: masks of another size than the image, or arrays of a wrong shape.
        ValueRangeError: NaN, values outside [0, 1], or fewer threads than one.
        ParamsError: `params` of another type.
    """
    image = as_image(image)
    params = checked_params(params)
    before = as_instances(masks, (image.shape[0], image.shape[1]))
    return cast(T, like(masks, refine_instances(image, before, params, threads=threads, joint=joint)))


def checked_params(params: object) -> Params:
    """The parameters, or the ones that ship for None; ParamsError for anything else."""
    if params is None:
        return default_params()
    if not isinstance(params, CRFParams | LearnedParams):
        raise ParamsError(
            f"params must be CRFParams, such as CRFParams.paper(), or LearnedParams, got {type(params).__name__}"
        )
    return params


def refine_instances(
    image: NDArray[np.uint8],
    instances: Instances,
    params: Params,
    *,
    threads: int | None = None,
    joint: bool = False,
    decisions: list[Decision | None] | None = None,
) -> Instances:
    """`refine` for `Instances`; the windows of the result hold the CRF's marginals.

    Args:
        image, instances, params, threads, joint: as for `refine`.
        decisions: filled with what learnt parameters decided for each instance, in order; None for an empty mask, and
            for all with `CRFParams`, which decide nothing.
    """
    _check_size(image, instances)
    # An empty mask stays as it is, and takes no part in a group: it would only widen it.
    regions = {
        i: region_of(instances, i, params.context, params.context_min)
        for i, window in enumerate(instances.windows)
        if window.mask.any()
    }
    groups = overlapping(regions) if joint else [[i] for i in regions]
    windows = list(instances.windows)
    made: list[Decision | None] = [None] * len(instances)

    threads = _count(threads)
    spare = max(1, threads // max(1, len(groups)))  # threads for each group: fewer objects than threads share them

    def work(group: list[int]) -> list[tuple[int, Window]]:
        rect = union([regions[i] for i in group])
        members = [_member(image, instances, i, regions[i], rect, params) for i in group]
        for i, member in zip(group, members, strict=True):
            made[i] = member.decision
        return _refine_group(image, members, group, rect, spare)

    # The largest first, so that no thread is left alone with it at the end.
    order = sorted(groups, key=lambda group: -sum(regions[i].area for i in group))
    for refined in _map(work, order, threads):
        for i, window in refined:
            windows[i] = window
    if decisions is not None:
        decisions[:] = made
    return instances.with_windows(windows)


def explain(
    image: NDArray[np.uint8], masks: Any, params: LearnedParams | None = None, *, threads: int | None = None
) -> list[Decision | None]:
    """What `refine` does with each mask and why, without refining.

    Args:
        image, masks: as for `refine`.
        params: learnt ones; by default those that ship.
        threads: by default one per processor.

    Returns:
        One decision per mask, in order: ``.setting`` is None where it is left alone, ``.reason`` says why. None for an
        empty mask.

    Raises:
        ShapeError, ValueRangeError: as for `refine`.
        ParamsError: `params` that decide nothing.
    """
    image = as_image(image)
    chosen = checked_params(params)
    if not isinstance(chosen, LearnedParams):
        raise ParamsError("only learnt parameters decide; CRFParams refine every mask in the same way")
    masks = as_instances(masks, (image.shape[0], image.shape[1]))
    _check_size(image, masks)

    def decide(i: int) -> Decision | None:
        if not masks.windows[i].mask.any():
            return None
        region = region_of(masks, i, chosen.context, chosen.context_min)
        return _member(image, masks, i, region, union([region]), chosen).decision

    return list(_map(decide, range(len(masks)), _count(threads)))


def refine_each(
    image: NDArray[np.uint8], instances: Instances, settings: Sequence[CRFParams], *, reuse: bool = True
) -> list[Instances]:
    """`refine_instances` with each of several parameters, on one thread.

    Those that agree in `LATTICE_PARAMS` share each instance's lattice: eight settings that differ in their weights
    took 1.5 times less than on lattices of their own (CPU time, 14 people of Penn-Fudan).

    Args:
        image: uint8 (H, W, 3) RGB.
        instances: of this image.
        settings: the parameters.
        reuse: False builds every lattice anew, to measure what that costs; the result has the same bits.

    Returns:
        One result per setting, in their order.

    Raises:
        ShapeError: instances of another image size.
    """
    _check_size(image, instances)
    refined = [list(instances.windows) for _ in settings]
    for i, window in enumerate(instances.windows):
        lattices: dict[tuple[Any, ...], Bilateral] = {}
        for params, windows in zip(settings, refined, strict=True):
            if window.mask.any():
                region = region_of(instances, i, params.context, params.context_min)
                known = lattices if reuse else None
                rect = union([region])
                member = _member(image, instances, i, region, rect, params)
                for _, changed in _refine_group(image, [member], [i], rect, 1, known):
                    windows[i] = changed
    return [instances.with_windows(windows) for windows in refined]


def instance_crf(
    image: NDArray[np.uint8], instances: Instances, i: int, params: Params
) -> tuple[DenseCRF, tuple[int, int]]:
    """The CRF that `refine_instances` runs for one instance, for a look at its inference.

    Args:
        image: uint8 (H, W, 3) RGB.
        instances: of this image.
        i: number of an instance whose mask is not empty.
        params: of the refinement; where learnt ones would leave the mask alone, the CRF of their first setting.

    Returns:
        The CRF of the instance's region, label 0 the background and 1 the instance, and the region's first row and
        column in the image.

    Raises:
        ShapeError: instances of another image size.
    """
    _check_size(image, instances)
    r = region_of(instances, i, params.context, params.context_min)
    member = _member(image, instances, i, r, union([r]), params)
    kernels = _kernels(image[r.y0 : r.y1, r.x0 : r.x1], r.scale, member.params)
    return DenseCRF(unary_energies(member.odds[None]), kernels), (r.y0, r.x0)


def _check_size(image: NDArray[np.uint8], instances: Instances) -> None:
    if instances.image_size != image.shape[:2]:
        raise ShapeError(
            "the masks are for an image of {}x{} pixels (height x width), the image has {}x{}".format(
                *instances.image_size, *image.shape[:2]
            )
        )


@dataclass(frozen=True)
class _Member:
    """An instance of a group: the log-odds of its unary over the group's rectangle, and the settings it asks for."""

    odds: NDArray[np.float32]
    params: CRFParams
    scale: float
    decision: Decision | None

    @property
    def kept(self) -> bool:
        return self.decision is not None and self.decision.setting is None


def _member(
    image: NDArray[np.uint8], instances: Instances, i: int, region: Region, rect: Rect, params: Params
) -> _Member:
    window = instances.windows[i]
    if isinstance(params, CRFParams):
        probabilities = _softened(window, rect, params)
        return _Member(log_odds(probabilities, params.confidence), params, region.scale, None)
    base = params.settings[0].params
    own = union([region])
    probabilities = _softened(window, own, base)
    decision = params.decide(
        image[own[0] : own[2], own[1] : own[3]],
        probabilities,
        scale=region.scale,
        score=float(instances.scores[i]),
        category=int(instances.category_ids[i]),
        binary=is_binary(window.probabilities),
    )
    chosen = base if decision.setting is None else decision.setting.params
    odds = decision.odds if decision.odds is not None else log_odds(probabilities, chosen.confidence)
    if own != rect:
        around = np.full((rect[2] - rect[0], rect[3] - rect[1]), odds.min(), np.float32)
        around[own[0] - rect[0] : own[2] - rect[0], own[1] - rect[1] : own[3] - rect[1]] = odds
        odds = around
    return _Member(odds, chosen, region.scale, replace(decision, odds=None))


def try_settings(
    image: NDArray[np.uint8], instances: Instances, i: int, params: LearnedParams
) -> tuple[NDArray[np.float32], list[Window]]:
    """What every setting would make of an instance, whatever the rules say; for learning them.

    Returns:
        The instance's features, and a window per setting; its own where a setting erases the mask.
    """
    window = instances.windows[i]
    region = region_of(instances, i, params.context, params.context_min)
    rect = union([region])
    seen = params.observe(
        image[rect[0] : rect[2], rect[1] : rect[3]],
        _softened(window, rect, params.settings[0].params),
        scale=region.scale,
        score=float(instances.scores[i]),
        binary=is_binary(window.probabilities),
    )
    made = []
    lattices: dict[tuple[Any, ...], Bilateral] = {}
    for setting in params.settings:
        member = _Member(seen.unary(setting), setting.params, region.scale, None)
        refined = _refine_group(image, [member], [i], rect, 1, lattices)
        made.append(refined[0][1] if refined else window)
    return seen.features, made


def _refine_group(
    image: NDArray[np.uint8],
    members: list[_Member],
    group: list[int],
    rect: Rect,
    threads: int,
    lattices: dict[tuple[Any, ...], Bilateral] | None = None,
) -> list[tuple[int, Window]]:
    """One CRF over the group's rectangle, with the background and every instance as labels.

    A group has one CRF: its settings are those of its largest member that is not left alone.
    """
    if len(group) == 1 and members[0].kept:
        return []
    leader = max(members, key=lambda member: (not member.kept, member.scale))
    y0, x0, y1, x1 = rect
    kernels: list[Bilateral | Gaussian] = []
    if leader.params.iterations:
        scale = float(np.mean([member.scale for member in members]))
        kernels = _kernels(image[y0:y1, x0:x1], scale, leader.params, lattices)
    if len(group) == 1:
        probabilities = two_label_marginals(members[0].odds, kernels, leader.params.iterations, threads=threads)[None]
    else:
        crf = DenseCRF(unary_energies(np.stack([member.odds for member in members])), kernels)
        probabilities = _against_rivals(crf.run(leader.params.iterations, threads=threads).marginals)
    refined = []
    for i, probability in zip(group, probabilities, strict=True):
        window = Window(np.clip(probability, 0, 1), y0, x0)
        if window.mask.any():  # else the CRF erased it: a coarse mask is better than none
            refined.append((i, window))
    return refined


def _softened(window: Window, rect: Rect, params: CRFParams) -> NDArray[np.float32]:
    """Probabilities of an instance over a rectangle that contains its window, softened as its kind needs."""
    y0, x0, y1, x1 = rect
    probabilities = np.zeros((y1 - y0, x1 - x0), np.float32)
    probabilities[window.y - y0 : window.y - y0 + window.height, window.x - x0 : window.x - x0 + window.width] = (
        window.probabilities
    )
    factor = params.smoothing if is_binary(window.probabilities) else params.smoothing_soft
    return soften(probabilities, factor)


def _kernels(
    image: NDArray[np.uint8],
    scale: float,
    params: CRFParams,
    lattices: dict[tuple[Any, ...], Bilateral] | None = None,
) -> list[Bilateral | Gaussian]:
    """The two kernels of the paper; theta_alpha follows the object's size where the parameters say so.

    `lattices` holds the region's kernels by `LATTICE_PARAMS`: what is there is used again, what is not is added.
    """
    options: dict[str, Any] = {"normalization": params.normalization, "self_term": params.self_term}
    kernels: list[Bilateral | Gaussian] = []
    if params.bilateral_weight > 0:
        key = tuple(getattr(params, name) for name in LATTICE_PARAMS)
        known = lattices.get(key) if lattices is not None else None
        if known is not None:
            kernels.append(known.reweighted(params.bilateral_weight, **options))
        else:
            theta_alpha = params.theta_alpha * (scale if params.theta_alpha_scale == "instance" else 1.0)
            colours = rgb_to_lab(image) if params.colour == "lab" else image
            kernels.append(Bilateral(colours, theta_alpha, params.theta_beta, params.bilateral_weight, **options))
            if lattices is not None:
                lattices[key] = cast(Bilateral, kernels[0])
    if params.smoothness_weight > 0:
        kernels.append(Gaussian(params.theta_gamma, params.smoothness_weight, **options))
    return kernels


def _against_rivals(marginals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each object's probability against its strongest rival: above one half exactly where its label is the argmax.

    A pixel that three labels share has no marginal above one half, and would belong to nobody although one of them
    leads. With one object this would be its marginal.
    """
    ranked = np.sort(marginals, axis=0)
    best, second = ranked[-1], ranked[-2]
    rival = np.where(marginals[1:] == best, second, best)
    return marginals[1:] / np.maximum(marginals[1:] + rival, np.finfo(np.float32).tiny)


def _count(threads: int | None) -> int:
    """How many threads: one per processor for None."""
    if threads is not None and threads < 1:
        raise ValueRangeError(f"threads must be at least 1, got {threads}")
    return threads or cpu_count() or 1


def _map(work: Callable[[S], T], items: Sequence[S], threads: int) -> Iterable[T]:
    count = min(threads, len(items))
    if count <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, items))
