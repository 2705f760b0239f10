"""The refinement of one object for a page that asks again and again: only what a change affects is computed anew."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from os import cpu_count

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.app import edge as slider
from crispmask.app.mattes import Matte
from crispmask.app.strokes import Paint
from crispmask.image.scaling import resized
from crispmask.instances import Window
from crispmask.params import CRFParams
from crispmask.refinement import LearnedParams, Params, default_params
from crispmask.refinement.answer import Answer
from crispmask.refinement.crops import Box
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.solve import Lattices, solve
from crispmask.refinement.unary import Unary, sigmoid
from crispmask.refinement.windows import Rect, union

MAX_LATTICES = 400_000_000
"""Bytes of the lattices that are kept, all photos together; those used last stay."""

_PER_PIXEL = 80
"""Bytes of a lattice for each pixel: six corners and weights, colours, and neighbours."""

_TWO = 2
"""Lattices of one object: while a slider for them moves, nobody asks for the ones before."""

_CERTAIN = 12.0
"""Log-odds of a pixel that a brush decided."""

_numbers = count(1)


@dataclass(eq=False)
class Source:
    """What an object's mask is made from.

    Attributes:
        window: its coarse mask.
        box: of the object, x0, y0, x1, y1 in pixels.
        score: of its detector, 1 where there is none.
        from_box: whether only the box is known; the window is then what `prompts.from_boxes` made of it.
        answer: the mask network's, once it was asked.
        number: tells it from all others.
    """

    window: Window
    box: Box
    score: float = 1.0
    from_box: bool = False
    answer: Answer | None = field(default=None, repr=False)
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.window.probabilities.nbytes


@dataclass(frozen=True)
class Refined:
    """A refined object.

    Attributes:
        matte: its probabilities.
        kept: why its mask was left as it was; "" where it was refined.
    """

    matte: Matte
    kept: str = ""


class Refiner:
    """Refines objects, and keeps the lattices that the last requests used."""

    def __init__(self) -> None:
        self._lattices: OrderedDict[tuple[int, Rect, float], Lattices] = OrderedDict()

    def refine(
        self, image: NDArray[np.uint8], objects: Sequence[tuple[Source, float, Paint | None]], params: Params
    ) -> list[Refined]:
        """Refine objects of one photo.

        Args:
            image: uint8 (H, W, 3) RGB.
            objects: of each its source, the position of the slider (see `edge.at`), and what was painted on it.
            params: of the slider's middle.
        """
        threads = cpu_count() or 1
        if len(objects) == 1:
            made = [self._one(image, objects[0], params, threads)]
        else:
            with ThreadPoolExecutor(threads) as pool:
                made = list(pool.map(lambda item: self._one(image, item, params, 1), objects))
        self._forget()
        return made

    def _one(
        self,
        image: NDArray[np.uint8],
        item: tuple[Source, float, Paint | None],
        params: Params,
        threads: int,
    ) -> Refined:
        source, edge, paint = item
        unary, kept = unary_of(image, source, slider.at(params, edge), bool(paint))
        if unary is None:
            return Refined(Matte.of(source.window), kept)
        if paint is not None:
            unary = _with_paint(unary, paint)
        key = source.number, unary.rect, unary.scale
        lattices = self._lattices.setdefault(key, {})
        if len(lattices) >= _TWO:
            del lattices[next(iter(lattices))]
        (window,) = solve(image, [unary], threads=threads, lattices=lattices)
        if window is None:  # the CRF erased it: a coarse mask is better than none
            kept, window = "refining would erase it", source.window
        if paint is not None:
            window = _decided(window, paint)
        return Refined(Matte.of(window), kept)

    def forget(self, sources: Sequence[Source]) -> None:
        """Drop what is kept of these objects."""
        numbers = {source.number for source in sources}
        for key in [key for key in self._lattices if key[0] in numbers]:
            del self._lattices[key]

    def _forget(self) -> None:
        total = 0
        for key in reversed(list(self._lattices)):
            total += _PER_PIXEL * int(np.prod(key[1].grid)) * len(self._lattices[key])
            if total > MAX_LATTICES:
                del self._lattices[key]


def unary_of(
    image: NDArray[np.uint8], source: Source, params: Params, always: bool = False
) -> tuple[Unary | None, str]:
    """The unary term of an object; None and the reason where its mask is left as it is.

    Args:
        image: uint8 (H, W, 3) RGB.
        source: of the object; its network's answer is kept there.
        params: fixed or learned.
        always: whether the object is refined whatever learned parameters decide, since it was painted on.
    """
    view = InstanceView(image, source.window, source.box, source.score, source.from_box)
    if isinstance(params, LearnedParams) or source.from_box:
        learned = params if isinstance(params, LearnedParams) else default_params()
        if source.answer is None:
            source.answer = learned.answer(view)
        if isinstance(params, LearnedParams):
            unary, decision = params.judge(view, source.answer)
            if always and decision.reach is not None:  # paint may move the outline farther
                return params.unary(view, source.answer), ""
            if unary is not None:
                return unary, ""
            return (view.unary(params.crf), "") if always else (None, decision.reason)
        view = _made_by_network(view, source.answer, learned)
    assert isinstance(params, CRFParams)
    return view.unary(params), ""


def _made_by_network(view: InstanceView, answer: Answer, learned: LearnedParams) -> InstanceView:
    """An object of which only the box is known, with the network's mask: fixed parameters cannot make one."""
    unary = learned.unary(view, answer)
    probabilities = np.clip(resized(sigmoid(unary.odds), unary.rect.shape), 0, 1)
    return InstanceView(view.image, Window(probabilities, unary.rect.y0, unary.rect.x0), view.box)


def _with_paint(unary: Unary, paint: Paint) -> Unary:
    """The unary term over what was painted too, where it is certain."""
    rect = union([unary.rect, paint.rect])
    odds = unary.over(rect).copy()
    signs = paint.over(rect)
    if signs.shape != odds.shape:
        signs = np.asarray(Image.fromarray(signs.view(np.uint8)).resize(odds.shape[::-1], Image.Resampling.NEAREST))
        signs = signs.view(np.int8)
    odds[signs > 0], odds[signs < 0] = _CERTAIN, -_CERTAIN
    return Unary(odds, rect, unary.scale, unary.params)


def _decided(window: Window, paint: Paint) -> Window:
    """A window in which every painted pixel is as it was painted, also the small parts that cleaning removes."""
    own = Rect(window.y, window.x, window.y + window.height, window.x + window.width)
    rect = union([own, paint.rect])
    probabilities, signs = window.over(rect), paint.over(rect)
    probabilities[signs > 0] = 1
    probabilities[signs < 0] = 0
    return Window(probabilities, rect.y0, rect.x0)
