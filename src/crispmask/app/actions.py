"""What the controls of the page do: functions from the page's state and inputs to its outputs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from crispmask.app import work
from crispmask.app.controls import BY_HAND, params_from, settings
from crispmask.detectors import Selection, select
from crispmask.errors import CrispmaskError
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.refinement.sketch import mask_from_box, mask_from_scribbles
from crispmask.samples import sample_images

ALL = "all"


def _refusing(action: Callable[..., Any]) -> Callable[..., Any]:
    """Show an error of crispmask, or too little memory, as a message on the page."""

    @wraps(action)  # Gradio needs the signature
    def guarded(self: Actions, *arguments: Any) -> Any:
        try:
            return action(self, *arguments)
        except CrispmaskError as error:
            raise gr.Error(str(error), duration=15, print_exception=False) from None
        except MemoryError:
            raise gr.Error("there is not enough memory for this: use a smaller image", print_exception=False) from None

    return guarded


class Actions:
    """The actions of one page. They keep nothing about a visitor: image and masks are part of the page's state."""

    def __init__(self, detector: Selection, max_pixels: int) -> None:
        self.detector, self.max_pixels = detector, max_pixels

    @_refusing
    def open(self, source: str | None) -> tuple[Any, ...]:
        """Read an image, from an upload or by a sample's name."""
        path = {p.stem: p for p in sample_images()}.get(source or "", source)
        if path is None:
            return None, None, None, []
        image = work.read_upload(path, self.max_pixels)
        return image, image, {"background": image, "layers": [], "composite": None}, []

    @_refusing
    def detect(
        self, image: NDArray[np.uint8] | None, score: float, classes: list[str], small: bool, *values: Any
    ) -> list[Any]:
        """The detector's masks of these classes (of all, where none is chosen), refined."""
        detector = select(self.detector, score=score, classes=classes or None, tiles=2 if small else 1)
        return self._start(image, detector(_needed(image)), detector.categories, "detector", values)

    @_refusing
    def corner(
        self, image: NDArray[np.uint8] | None, corners: list[list[int]], event: gr.SelectData, *values: Any
    ) -> list[Any]:
        """The first or second corner of a box."""
        image = _needed(image)
        corners = [*corners, [int(v) for v in event.index]] if len(corners) < 2 else [[int(v) for v in event.index]]
        marked = work.mark(image, corners)
        if len(corners) < 2:
            return [corners, marked, *[gr.skip()] * 8]
        (ax, ay), (bx, by) = corners
        box = min(ax, bx), min(ay, by), max(ax, bx) + 1, max(ay, by) + 1
        return [[], marked, *self._start(image, mask_from_box(image, box), {}, "box", values)]

    @_refusing
    def scribble(self, image: NDArray[np.uint8] | None, drawing: dict[str, Any] | None, *values: Any) -> list[Any]:
        """A mask from green and red scribbles."""
        inside, outside = _strokes(_needed(image), drawing)
        return self._start(image, mask_from_scribbles(_needed(image), inside, outside), {}, "scribble", values)

    @_refusing
    def draw(self, image: NDArray[np.uint8] | None, drawing: dict[str, Any] | None, *values: Any) -> list[Any]:
        """The mask that is painted in green."""
        inside, _ = _strokes(_needed(image), drawing)
        white = np.repeat(inside[..., None], 3, axis=2).astype(np.uint8) * 255
        return self._start(image, work.as_mask(white, inside.shape), {}, "mask", values)

    @_refusing
    def own(self, image: NDArray[np.uint8] | None, path: str | None, *values: Any) -> list[Any]:
        """An uploaded mask."""
        image = _needed(image)
        mask = work.as_mask(work.read_upload(path or "", self.max_pixels), image.shape[:2])
        return self._start(image, mask, {}, "mask", values)

    @_refusing
    def show(self, scene: work.Scene | None, which: str, *values: Any) -> list[Any]:
        """The pictures and texts for these parameters."""
        params = params_from(values)
        texts = [work.as_toml(params), work.command_line(params)]
        if scene is None:
            return [gr.skip()] * 4 + texts
        index = _index(which)
        after, decisions = work.refine_scene(scene, params, index)
        pair, edge, heat = work.pictures(scene, after, index)
        return [pair, edge, heat, work.changes(scene.chosen(index), after, decisions), *texts]

    @_refusing
    def rescale(self, *values: Any) -> list[Any]:
        """Set theta_alpha to the default of its new unit."""
        given = dict(zip(CRFParams().as_dict(), values[1:], strict=True))
        default = CRFParams() if given["theta_alpha_scale"] == "instance" else CRFParams.paper()
        return [BY_HAND, *settings(CRFParams.from_dict({**given, "theta_alpha": default.theta_alpha}, source="page"))]

    @_refusing
    def curve(self, scene: work.Scene | None, which: str, *values: Any) -> Any:
        """KL divergence over the iterations, as a table for the plot."""
        return curve_table([] if scene is None else work.divergence(scene, params_from(values), _index(which)))

    @_refusing
    def files(self, scene: work.Scene | None, which: str, *values: Any) -> list[str]:
        """Files to download, in a folder of their own that Gradio copies from."""
        if scene is None:
            raise gr.Error("there is no mask yet: choose an image first", print_exception=False)
        index, params = _index(which), params_from(values)
        folder = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")))  # removed when the server ends
        after, _ = work.refine_scene(scene, params, index)
        written = work.files(after, folder)
        if isinstance(params, CRFParams):
            written.append(folder / "params.toml")
            params.to_toml(written[-1])
        return [str(path) for path in written]

    def _start(
        self,
        image: NDArray[np.uint8] | None,
        before: Instances,
        names: Any,
        origin: str,
        values: tuple[Any, ...],
    ) -> list[Any]:
        scene = work.Scene(_needed(image), before, names, origin)
        choices = gr.update(choices=[ALL, *scene.labels()], value=ALL)
        if not len(before):
            gr.Info("Nothing was detected: choose a lower score, or draw a box or scribbles.")
        return [scene, choices, *self.show(scene, ALL, *values)]


def curve_table(points: list[tuple[int, float]]) -> Any:
    """A table for the plot, with numeric columns even if it is empty; otherwise the plot would treat them as names."""
    import pandas

    return pandas.DataFrame(points, columns=["iteration", "KL"], dtype=float)


def _needed(image: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if image is None:
        raise gr.Error("choose an image first", print_exception=False)
    return image


def _index(which: str | None) -> int | None:
    """The instance's number from 0, which stands before the colon as a number from 1; None for all."""
    head = (which or ALL).partition(":")[0]
    return int(head) - 1 if head.isdigit() else None


def _strokes(image: NDArray[np.uint8], drawing: dict[str, Any] | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The pixels that are painted green, and those that are painted red: bool (H, W) each."""
    inside, outside = (np.zeros(image.shape[:2], bool) for _ in range(2))
    for layer in (drawing or {}).get("layers", []):
        if layer.shape[:2] != image.shape[:2]:
            raise gr.Error("the drawing belongs to another image: clear it and draw again", print_exception=False)
        painted = layer[..., 3] > 127
        green = layer[..., 1] > layer[..., 0]
        inside |= painted & green
        outside |= painted & ~green
    return inside, outside & ~inside
