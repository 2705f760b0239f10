"""Refine the masks of an image: each instance in its window, or the instances that meet, jointly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crispmask.arguments import flag, thread_count
from crispmask.crf import DenseCRF
from crispmask.crf.tensors import device_of
from crispmask.errors import ParamsError, ShapeError
from crispmask.image import as_image
from crispmask.instances import Instances, Window
from crispmask.params import CRFParams
from crispmask.refinement.inputs import as_instances, check_size, like
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.learned import Decision, LearnedParams
from crispmask.refinement.named import default_params
from crispmask.refinement.prompts import from_boxes
from crispmask.refinement.solve import Lattices, kernels, pose, solve, solve_on, window_of, windows_of
from crispmask.refinement.unary import Unary, unary_energies
from crispmask.refinement.windows import overlapping
from crispmask.threads import interruptible_pool

_TOGETHER = 256
_THREADS_BESIDE_A_GPU = 2

S = TypeVar("S")
T = TypeVar("T")
Params = CRFParams | LearnedParams


def refine(
    image: NDArray[np.uint8],
    masks: Any = None,
    params: Params | None = None,
    *,
    boxes: ArrayLike | None = None,
    threads: int | None = None,
    joint: bool = False,
    device: Any = None,
    return_decisions: bool = False,
) -> Any:
    """Refine the masks of one image, or make masks from boxes.

    With the default parameters a class-agnostic network corrects each mask, a fully connected CRF (Krähenbühl and
    Koltun, 2011) finds the edge at the image's resolution, and a mask that is right already is left alone. With
    `CRFParams` there is no network: the CRF's unary term is the mask's own probability. A mask that refinement would
    erase is kept.

    Args:
        image: uint8 (H, W, 3) RGB.
        masks: `Instances`; or bool masks (N, H, W) or (H, W); or float probabilities in [0, 1] of these shapes;
            or `supervision.Detections` with masks.
        params: `LearnedParams`, or `CRFParams` for one fixed setting; by default the learned ones that ship.
        boxes: (N, 4) or (4,), x0, y0, x1, y1 in pixels, half-open: objects of which there are no masks, in place of
            `masks`. Only learned parameters can make masks from them.
        threads: by default one per processor. The result has the same bits for any number.
        joint: give every pixel to one instance at most: instances whose windows overlap share one CRF with a label
            for each of them and one for the background.
        device: where the network and the CRF work: a torch device such as ``"cuda"`` (extra ``torch``), all instances
            at a time; by default the CPU. Labels are those of the CPU but for one in some thousands.
        return_decisions: also return what was decided for each mask.

    Returns:
        What came in, refined: the same type, shape and order; `Instances` for `boxes`. With `return_decisions` a pair:
        that, and a list of `Decision`, one per mask in order, None for an empty mask and for fixed parameters.

    Raises:
        ShapeError: masks of another size than the image, or arrays of a wrong shape.
        ValueRangeError: NaN, values outside [0, 1], or fewer threads than one.
        ParamsError: `params` of another type, boxes with fixed parameters, or a device that there is not.
        MissingExtraError: a device without torch.
    """
    image = as_image(image)
    params = checked_params(params)
    size = image.shape[0], image.shape[1]
    if (masks is None) == (boxes is None):
        raise ShapeError("give masks, or boxes in their place")
    before = as_instances(masks, size) if boxes is None else from_boxes(boxes, size)
    after, decisions = refine_instances(
        image, before, params, from_boxes=boxes is not None, threads=threads, joint=joint, device=device
    )
    result = after if boxes is not None else like(masks, after)
    return (result, decisions) if return_decisions else result


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
    from_boxes: bool | Sequence[bool] = False,
    threads: int | None = None,
    joint: bool = False,
    device: Any = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[Instances, list[Decision | None]]:
    """`refine` for `Instances`; the windows of the result hold the CRF's marginals.

    Args:
        image, instances, params, threads, joint, device: as for `refine`.
        from_boxes: for all instances or for each, whether only its box is known, as `prompts.from_boxes` makes them.
        on_progress: called after each step with the number of finished instances; what it raises ends the work.

    Returns:
        The refined instances, and what was decided for each; see `refine`.
    """
    check_size(image, instances)
    flags = [from_boxes] * len(instances) if isinstance(from_boxes, bool) else list(from_boxes)
    if isinstance(params, CRFParams) and any(flags):
        raise ParamsError("fixed parameters refine masks and cannot make them from boxes: use the learned ones")
    threads, joint = thread_count(threads), flag(joint, "joint")
    place = device_of(device, None)
    if place is not None and isinstance(params, LearnedParams) and not joint:
        return refine_together([(image, instances, flags)], params, place, threads=threads, on_progress=on_progress)[0]
    if place is not None:  # what is left for threads is short, and they wait for one another
        threads = min(threads, _THREADS_BESIDE_A_GPU)
    # An empty mask stays as it is, and takes no part in a group: it would only widen it.
    present = [i for i, window in enumerate(instances.windows) if window.mask.any()]
    windows = list(instances.windows)
    decisions: list[Decision | None] = [None] * len(windows)
    done = len(windows) - len(present)

    def step(finished: int) -> None:
        nonlocal done
        done += finished
        on_progress(done)

    def view_of(i: int) -> InstanceView:
        return InstanceView.of(image, instances, i, flags[i])

    def prepare(
        view: InstanceView, known: tuple[Unary | None, Decision] | None = None
    ) -> tuple[Unary | None, Decision | None]:
        if isinstance(params, CRFParams):
            return view.unary(params), None
        unary, decision = known or params.decide(view)
        # What is left alone still takes its pixels from its neighbours.
        return view.unary(params.crf) if joint and unary is None else unary, decision

    def prepare_all(part: list[int]) -> list[tuple[Unary | None, Decision | None]]:
        if place is None or not part or isinstance(params, CRFParams):
            return _map(lambda i: prepare(view_of(i)), part, threads, lambda _: step(0))
        from crispmask.refinement.on_device import unaries

        views = [view_of(i) for i in part]
        return [prepare(*known) for known in zip(views, unaries(views, params, place), strict=True)]

    for part in [present] if joint else _parts(present):
        prepared = dict(zip(part, prepare_all(part), strict=True))
        for i, (_, decision) in prepared.items():
            decisions[i] = decision
        unaries = {i: unary for i, (unary, _) in prepared.items() if unary is not None}
        groups = [[i] for i in unaries]
        if joint:
            groups = overlapping({i: unary.rect for i, unary in unaries.items()})
            groups = [group for group in groups if len(group) > 1 or _wanted(prepared[group[0]][1])]
        step(len(part) - sum(map(len, groups)))
        for i, window in _solved(image, unaries, groups, threads, place, step):
            windows[i] = window
    return instances.with_windows(windows), decisions


def refine_together(
    photos: Sequence[tuple[NDArray[np.uint8], Instances, Sequence[bool]]],
    params: LearnedParams,
    device: Any,
    *,
    threads: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[tuple[Instances, list[Decision | None]]]:
    """`refine_instances` for several photos on a torch device, their instances together.

    Args:
        photos: of each its image, its instances, and for each of these whether only its box is known.
        params: of the refinement.
        device: of torch.
        threads, on_progress: as for `refine_instances`.
    """
    from crispmask.refinement.on_device import Solved, solved

    windows = [list(instances.windows) for _, instances, _ in photos]
    decisions: list[list[Decision | None]] = [[None] * len(some) for some in windows]
    present = [(n, i) for n, some in enumerate(windows) for i, window in enumerate(some) if window.mask.any()]
    done = sum(map(len, windows)) - len(present)

    def window_from(one: Solved) -> Window | None:
        return None if one.marginals is None else window_of(one.marginals, one.rect, params.crf)

    def step(_: Window | None) -> None:
        nonlocal done
        done += 1
        on_progress(done)

    def view_of(n: int, i: int) -> InstanceView:
        image, instances, from_boxes = photos[n]
        return InstanceView.of(image, instances, i, from_boxes[i])

    threads = min(thread_count(threads), _THREADS_BESIDE_A_GPU)
    for some in solved([view_of(n, i) for n, i in present], params, device) if present else ():
        for one, window in zip(some, _map(window_from, some, threads, step), strict=True):
            n, i = present[one.number]
            decisions[n][i] = one.decision
            if window is not None:  # where the CRF erased an instance, a coarse mask is better than none
                windows[n][i] = window
    made = [instances.with_windows(new) for (_, instances, _), new in zip(photos, windows, strict=True)]
    return list(zip(made, decisions, strict=True))


def _solved(
    image: NDArray[np.uint8],
    unaries: Mapping[int, Unary],
    groups: list[list[int]],
    threads: int,
    place: Any,
    step: Callable[[int], None],
) -> list[tuple[int, Window]]:
    """The new windows of instances by their numbers; `step` is called with how many more are finished."""
    # The largest first, so that no thread is left alone with it at the end.
    order = sorted(groups, key=lambda group: -sum(unaries[i].rect.area for i in group))
    spare = max(1, threads // max(1, len(groups)))  # threads for each group: fewer objects than threads share them

    def work(group: list[int]) -> list[Window | None]:
        return solve(image, [unaries[i] for i in group], threads=spare)

    if place is None:
        made = _map(work, order, threads, lambda found: step(len(found)))
    else:
        problems = _map(lambda group: pose(image, [unaries[i] for i in group]), order, threads)
        posed = list(zip(problems, solve_on(place, problems), strict=True))
        made = _map(lambda pair: windows_of(*pair), posed, threads, lambda found: step(len(found)))
    # Where the CRF erased an instance, a coarse mask is better than none.
    pairs = ((i, w) for group, windows in zip(order, made, strict=True) for i, w in zip(group, windows, strict=True))
    return [(i, window) for i, window in pairs if window is not None]


def _parts(numbers: list[int]) -> Iterator[list[int]]:
    """Instances that are worked on at a time: what is kept of them until they are solved does not grow with all."""
    return (numbers[k : k + _TOGETHER] for k in range(0, len(numbers), _TOGETHER))


def _wanted(decision: Decision | None) -> bool:
    return decision is None or decision.refined


def explain(
    image: NDArray[np.uint8],
    masks: Any = None,
    params: LearnedParams | None = None,
    *,
    boxes: ArrayLike | None = None,
    threads: int | None = None,
) -> list[Decision | None]:
    """What `refine` decides for each mask and why, without running the CRF.

    Args:
        image, masks, boxes: as for `refine`.
        params: learned ones; by default those that ship.
        threads: by default one per processor.

    Returns:
        One decision per mask, in order; None for an empty mask.

    Raises:
        ShapeError, ValueRangeError: as for `refine`.
        ParamsError: `params` that decide nothing.
    """
    image = as_image(image)
    chosen = checked_params(params)
    if not isinstance(chosen, LearnedParams):
        raise ParamsError("only learned parameters decide; CRFParams refine every mask in the same way")
    size = image.shape[0], image.shape[1]
    found = as_instances(masks, size) if boxes is None else from_boxes(boxes, size)
    check_size(image, found)

    def decide(i: int) -> Decision | None:
        if not found.windows[i].mask.any():
            return None
        return chosen.decide(InstanceView.of(image, found, i, boxes is not None))[1]

    return _map(decide, range(len(found)), thread_count(threads))


def refine_each(
    image: NDArray[np.uint8], instances: Instances, settings: Sequence[CRFParams], *, reuse: bool = True
) -> list[Instances]:
    """`refine_instances` with each of several fixed settings, on one thread.

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
    check_size(image, instances)
    refined = [list(instances.windows) for _ in settings]
    for i, window in enumerate(instances.windows):
        if window.mask.any():
            view, lattices = InstanceView.of(image, instances, i), Lattices()
            for params, windows in zip(settings, refined, strict=True):
                (made,) = solve(image, [view.unary(params)], lattices=lattices if reuse else None)
                windows[i] = window if made is None else made
    return [instances.with_windows(windows) for windows in refined]


def instance_crf(
    image: NDArray[np.uint8], instances: Instances, i: int, params: Params
) -> tuple[DenseCRF, tuple[int, int]]:
    """The CRF that `refine_instances` runs for one instance, for a look at its inference.

    Args:
        image: uint8 (H, W, 3) RGB.
        instances: of this image.
        i: number of an instance whose mask is not empty.
        params: of the refinement; where learned ones leave the mask alone, the CRF that they would have run.

    Returns:
        The CRF of the instance's rectangle, label 0 the background and 1 the instance, and the rectangle's first row
        and column in the image.

    Raises:
        ShapeError: instances of another image size.
    """
    check_size(image, instances)
    view = InstanceView.of(image, instances, i)
    unary = view.unary(params) if isinstance(params, CRFParams) else params.unary(view, params.answer(view))
    sampled = unary.odds if unary.sampled else None
    found = kernels(image, unary.rect, unary.scale, unary.params, sampled=sampled)
    return DenseCRF(unary_energies(unary.odds[None]), found), (unary.rect.y0, unary.rect.x0)


def _map(
    work: Callable[[S], T], items: Sequence[S], threads: int, after: Callable[[T], None] = lambda made: None
) -> list[T]:
    """The results in order, `after` being called with each of them.

    The work is in other threads even if it is one, so that an interruption waits for none of it: a thread ends with the
    item that it is at.
    """
    results = []
    with interruptible_pool(max(1, min(threads, len(items)))) as pool:
        for made in pool.map(work, items):
            after(made)
            results.append(made)
    return results
