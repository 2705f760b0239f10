"""The Gradio page: what is where, and which function of `work` answers which control."""

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
from crispmask.app.controls import BY_HAND, FIRST, LEARNT, control, params_from, settings
from crispmask.detectors.base import Detector
from crispmask.errors import CrispmaskError
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.refinement.sketch import mask_from_box, mask_from_scribbles
from crispmask.samples import sample_photos

ALL = "all"
BUTTONS: list[Any] = ["download", "fullscreen"]  # no sharing elsewhere
INSIDE, OUTSIDE = "#00e196", "#ff4655"

THEME = gr.themes.Soft(  # no font from elsewhere
    primary_hue="emerald", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)
CSS = """
.gradio-container { max-width: 1700px !important; margin: auto; }
footer { display: none !important; }
#headline p { margin: 0; }
"""


def build(detector: Callable[[], Detector], score: float, max_pixels: int) -> gr.Blocks:
    """The page.

    Args:
        detector: gives the detector when it is first needed.
        score: where the slider for the score starts.
        max_pixels: of a photo.
    """
    actions = _Actions(detector, max_pixels)
    with gr.Blocks(title="crispmask", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(
            "# crispmask\nCoarse masks in, crisp ones out. Everything stays on this computer.", elem_id="headline"
        )
        scene = gr.State(None, time_to_live=3600)
        photo = gr.State(None, time_to_live=3600)
        corners = gr.State([])
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                upload = gr.File(label="Photo", file_types=["image"], height=120, elem_id="photo")
                samples = gr.Radio([p.stem for p in sample_photos()], label="or a sample photo", elem_id="samples")
                with gr.Tabs():
                    with gr.Tab("Find"):
                        least = gr.Slider(0.05, 1, score, step=0.05, label="least score", elem_id="score")
                        find = gr.Button("Find again", size="sm")
                    with gr.Tab("Box"):
                        gr.Markdown("Click two opposite corners around an object.")
                        canvas = gr.Image(label="Photo", interactive=False, format="jpeg", elem_id="canvas", buttons=[])
                    with gr.Tab("Draw"):
                        gr.Markdown("Green on the object, red beside it; or paint the whole mask in green.")
                        editor = gr.ImageEditor(
                            label="Drawing",
                            type="numpy",
                            sources=[],
                            transforms=[],
                            layers=False,
                            brush=gr.Brush(default_size=12, colors=[INSIDE, OUTSIDE], color_mode="fixed"),
                            elem_id="editor",
                        )
                        with gr.Row():
                            scribble = gr.Button("Make a mask from the scribble", size="sm", elem_id="scribble")
                            draw = gr.Button("Refine the drawing as it is", size="sm", elem_id="draw")
                    with gr.Tab("Upload"):
                        own = gr.File(
                            label="Mask of the photo's size: white object on black",
                            file_types=["image"],
                            height=120,
                            elem_id="own",
                        )
            with gr.Column(scale=5, min_width=320):
                compare = gr.ImageSlider(
                    label="Before | after",
                    format="jpeg",
                    interactive=False,
                    elem_id="compare",
                    max_height=700,
                    buttons=BUTTONS,
                )
                summary = gr.Markdown("Drop a photo, or choose a sample.", elem_id="summary")
                with gr.Tabs():
                    with gr.Tab("Edge"):
                        edge = gr.Image(
                            label="Red before, green after",
                            interactive=False,
                            format="jpeg",
                            elem_id="edge",
                            buttons=BUTTONS,
                        )
                    with gr.Tab("Probability"):
                        heat = gr.Image(
                            label="Dark 0, yellow 1", interactive=False, format="jpeg", elem_id="heat", buttons=BUTTONS
                        )
                    with gr.Tab("Convergence") as convergence:
                        curve = gr.LinePlot(
                            _curve([]),
                            x="iteration",
                            y="KL",
                            x_title="iteration",
                            y_title="KL(Q‖P) up to log Z, nats",
                            y_axis_format="~s",
                            height=320,
                            elem_id="kl",
                        )
                    with gr.Tab("Files"):
                        prepare = gr.Button("Prepare the files", elem_id="prepare")
                        downloads = gr.Files(label="Masks (PNG), COCO results and polygons (JSON)", elem_id="files")
                        toml = gr.Code(label="Parameters, for --params", language=None, elem_id="toml")
                        command = gr.Code(label="The same on the command line", language="shell", elem_id="command")
            with gr.Column(scale=2, min_width=300):
                which = gr.Dropdown([ALL], value=ALL, label="instance", elem_id="which", interactive=True)
                mode = gr.Radio(
                    [LEARNT, BY_HAND],
                    value=LEARNT,
                    label="parameters",
                    info="learnt: they follow the instance; by hand: those below, for all",
                    elem_id="mode",
                )
                with gr.Row():
                    fixed, paper = (
                        gr.Button(name, size="sm", elem_id=f"preset-{name.lower()}") for name in ("Fixed", "Paper")
                    )
                made = {name: control(name) for name in FIRST}
                with gr.Accordion("More parameters", open=False):
                    made |= {name: control(name) for name in CRFParams().as_dict() if name not in made}
                controls = [mode, *(made[name] for name in CRFParams().as_dict())]

        shown: list[Any] = [compare, edge, heat, summary, toml, command]
        hidden: dict[str, Any] = {"api_visibility": "private"}
        started = [scene, which, *shown]

        def on_new_photo(event: Any, source: Any) -> None:
            event(actions.open, [source], [photo, canvas, editor, corners], **hidden).success(
                actions.find, [photo, least, *controls], started, **hidden
            )

        on_new_photo(upload.upload, upload)
        on_new_photo(samples.input, samples)
        gr.on([find.click, least.release], actions.find, [photo, least, *controls], started, **hidden)
        canvas.select(actions.corner, [photo, corners, *controls], [corners, canvas, *started], **hidden)
        scribble.click(actions.scribble, [photo, editor, *controls], started, **hidden)
        draw.click(actions.draw, [photo, editor, *controls], started, **hidden)
        own.upload(actions.own, [photo, own, *controls], started, **hidden)
        # Only the newest position of a slider counts: those that it passed are skipped.
        live: dict[str, Any] = {**hidden, "show_progress": "hidden", "trigger_mode": "always_last"}
        see: tuple[Any, ...] = (actions.show, [scene, which, *controls], shown)
        plot: tuple[Any, ...] = (actions.curve, [scene, which, *controls], curve)
        gr.on([which.input, mode.input], *see, **live)
        gr.on([which.input, mode.input, convergence.select], *plot, **live)
        # Whoever moves a control means it: from then on the parameters are those by hand.
        moved = [item.input for name, item in made.items() if name != "theta_alpha_scale"]
        for event in (
            gr.on(moved, lambda: BY_HAND, None, mode, queue=False, **hidden),
            made["theta_alpha_scale"].input(actions.rescale, controls, controls, **hidden),
            fixed.click(lambda: [BY_HAND, *settings(CRFParams())], None, controls, **hidden),
            paper.click(lambda: [BY_HAND, *settings(CRFParams.paper())], None, controls, **hidden),
        ):
            event.then(*see, **live)
            event.then(*plot, **live)
        prepare.click(actions.files, [scene, which, *controls], downloads, **hidden)
    page.queue(max_size=32, default_concurrency_limit=1)
    return page


def _refusing(action: Callable[..., Any]) -> Callable[..., Any]:
    """An error of ours becomes a message on the page."""

    @wraps(action)  # Gradio reads the signature
    def guarded(self: _Actions, *arguments: Any) -> Any:
        try:
            return action(self, *arguments)
        except CrispmaskError as error:
            raise gr.Error(str(error), duration=15, print_exception=False) from None
        except MemoryError:
            raise gr.Error("this does not fit into memory: take a smaller photo", print_exception=False) from None

    return guarded


class _Actions:
    """What the controls do. Nothing about a visitor is kept here: photo and masks travel as the page's state."""

    def __init__(self, detector: Callable[[], Detector], max_pixels: int) -> None:
        self.detector, self.max_pixels = detector, max_pixels

    @_refusing
    def open(self, source: str | None) -> tuple[Any, ...]:
        """A photo from an upload or by a sample's name."""
        path = {p.stem: p for p in sample_photos()}.get(source or "", source)
        if path is None:
            return None, None, None, []
        image = work.read_photo(path, self.max_pixels)
        return image, image, {"background": image, "layers": [], "composite": None}, []

    @_refusing
    def find(self, photo: NDArray[np.uint8] | None, score: float, *values: Any) -> list[Any]:
        """The detector's masks, refined."""
        found = self.detector()(_needed(photo))
        names = self.detector().categories
        return self._start(photo, found[found.scores >= np.float32(score)], names, "detector", values)

    @_refusing
    def corner(
        self, photo: NDArray[np.uint8] | None, corners: list[list[int]], event: gr.SelectData, *values: Any
    ) -> list[Any]:
        """The first or second corner of a box."""
        image = _needed(photo)
        corners = [*corners, [int(v) for v in event.index]] if len(corners) < 2 else [[int(v) for v in event.index]]
        marked = work.mark(image, corners)
        if len(corners) < 2:
            return [corners, marked, *[gr.skip()] * 8]
        (ax, ay), (bx, by) = corners
        box = min(ax, bx), min(ay, by), max(ax, bx) + 1, max(ay, by) + 1
        return [[], marked, *self._start(image, mask_from_box(image, box), {}, "box", values)]

    @_refusing
    def scribble(self, photo: NDArray[np.uint8] | None, drawing: dict[str, Any] | None, *values: Any) -> list[Any]:
        """A mask from green and red strokes."""
        inside, outside = _strokes(_needed(photo), drawing)
        return self._start(photo, mask_from_scribbles(_needed(photo), inside, outside), {}, "scribble", values)

    @_refusing
    def draw(self, photo: NDArray[np.uint8] | None, drawing: dict[str, Any] | None, *values: Any) -> list[Any]:
        """What is painted in green is the mask."""
        inside, _ = _strokes(_needed(photo), drawing)
        white = np.repeat(inside[..., None], 3, axis=2).astype(np.uint8) * 255
        return self._start(photo, work.as_mask(white, inside.shape), {}, "mask", values)

    @_refusing
    def own(self, photo: NDArray[np.uint8] | None, path: str | None, *values: Any) -> list[Any]:
        """An uploaded mask."""
        image = _needed(photo)
        mask = work.as_mask(work.read_photo(path or "", self.max_pixels), image.shape[:2])
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
        """theta_alpha in its new unit starts from that unit's usual value."""
        given = dict(zip(CRFParams().as_dict(), values[1:], strict=True))
        usual = CRFParams() if given["theta_alpha_scale"] == "instance" else CRFParams.paper()
        return [BY_HAND, *settings(CRFParams.from_dict({**given, "theta_alpha": usual.theta_alpha}, source="page"))]

    @_refusing
    def curve(self, scene: work.Scene | None, which: str, *values: Any) -> Any:
        """KL over the iterations."""
        return _curve([] if scene is None else work.divergence(scene, params_from(values), _index(which)))

    @_refusing
    def files(self, scene: work.Scene | None, which: str, *values: Any) -> list[str]:
        """Files to download, in a folder of their own that Gradio copies from."""
        if scene is None:
            raise gr.Error("there is no mask yet: choose a photo first", print_exception=False)
        index, params = _index(which), params_from(values)
        folder = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")))  # goes when the server ends
        after, _ = work.refine_scene(scene, params, index)
        written = work.files(after, folder)
        if isinstance(params, CRFParams):
            written.append(folder / "params.toml")
            params.to_toml(written[-1])
        return [str(path) for path in written]

    def _start(
        self,
        photo: NDArray[np.uint8] | None,
        before: Instances,
        names: Any,
        origin: str,
        values: tuple[Any, ...],
    ) -> list[Any]:
        scene = work.Scene(_needed(photo), before, names, origin)
        choices = gr.update(choices=[ALL, *scene.labels()], value=ALL)
        if not len(before):
            gr.Info("Nothing was found: lower the least score, draw a box, or scribble.")
        return [scene, choices, *self.show(scene, ALL, *values)]


def _curve(points: list[tuple[int, float]]) -> Any:
    """A table for the plot: numbers, also where there are none, else the plot takes them for names."""
    import pandas

    return pandas.DataFrame(points, columns=["iteration", "KL"], dtype=float)


def _needed(photo: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if photo is None:
        raise gr.Error("choose a photo first", print_exception=False)
    return photo


def _index(which: str | None) -> int | None:
    """The number before the colon, from 0; None for all."""
    head = (which or ALL).partition(":")[0]
    return int(head) - 1 if head.isdigit() else None


def _strokes(photo: NDArray[np.uint8], drawing: dict[str, Any] | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What is painted green and what red: bool (H, W) each."""
    inside, outside = (np.zeros(photo.shape[:2], bool) for _ in range(2))
    for layer in (drawing or {}).get("layers", []):
        if layer.shape[:2] != photo.shape[:2]:
            raise gr.Error("the drawing is of another photo: clear it and draw again", print_exception=False)
        painted = layer[..., 3] > 127
        green = layer[..., 1] > layer[..., 0]
        inside |= painted & green
        outside |= painted & ~green
    return inside, outside & ~inside
