"""The Gradio page: its layout, and which function of `actions` each control calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from crispmask.app.actions import ALL, Actions, curve_table
from crispmask.app.controls import BY_HAND, FIRST, LEARNED, control, settings
from crispmask.detectors import Selection
from crispmask.params import CRFParams
from crispmask.samples import sample_images

BUTTONS: list[Any] = ["download", "fullscreen"]  # not the one that shares images on the internet
INSIDE, OUTSIDE = "#00e196", "#ff4655"

THEME = gr.themes.Soft(  # with the system's fonts: nothing is loaded from the internet
    primary_hue="emerald", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)
CSS = """
.gradio-container { max-width: 1700px !important; margin: auto; }
footer { display: none !important; }
#headline p { margin: 0; }
"""


def build(detector: Selection, max_pixels: int) -> gr.Blocks:
    """The page.

    Args:
        detector: its score is the initial value of the slider for the lowest score.
        max_pixels: most pixels of an image.
    """
    with gr.Blocks(title="crispmask", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(
            "# crispmask\nRefines coarse instance masks. No image leaves this computer.",
            elem_id="headline",
        )
        state = SimpleNamespace(
            scene=gr.State(None, time_to_live=3600), image=gr.State(None, time_to_live=3600), corners=gr.State([])
        )
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                sources = _sources(detector)
            with gr.Column(scale=5, min_width=320):
                views = _views()
            with gr.Column(scale=2, min_width=300):
                parameters = _parameters()
        _connect(Actions(detector, max_pixels), state, sources, views, parameters)
    page.queue(max_size=32, default_concurrency_limit=1)
    return page


def _sources(detector: Selection) -> SimpleNamespace:
    """The left column: the image, and the ways to get a mask of it."""
    made = SimpleNamespace()
    made.upload = gr.File(label="Image", file_types=["image"], height=120, elem_id="image")
    made.samples = gr.Radio([p.stem for p in sample_images()], label="or a sample image", elem_id="samples")
    with gr.Tabs():
        with gr.Tab("Detect"):
            made.classes = gr.Dropdown(
                sorted(detector.categories.values()),
                value=[],
                multiselect=True,
                label="classes (none: all)",
                elem_id="classes",
            )
            made.score = gr.Slider(0.05, 1, detector.default_score, step=0.05, label="lowest score", elem_id="score")
            made.small = gr.Checkbox(False, label="small objects: look at 2 x 2 tiles too, slower", elem_id="small")
            made.detect = gr.Button("Detect again", size="sm")
        with gr.Tab("Box"):
            gr.Markdown("Click two opposite corners of a box around an object.")
            made.canvas = gr.Image(label="Image", interactive=False, format="jpeg", elem_id="canvas", buttons=[])
        with gr.Tab("Draw"):
            gr.Markdown("Mark the object in green and the background in red; or paint the whole mask in green.")
            made.editor = gr.ImageEditor(
                label="Drawing",
                type="numpy",
                sources=[],
                transforms=[],
                layers=False,
                brush=gr.Brush(default_size=12, colors=[INSIDE, OUTSIDE], color_mode="fixed"),
                elem_id="editor",
            )
            with gr.Row():
                made.scribble = gr.Button("Make a mask from the scribbles", size="sm", elem_id="scribble")
                made.draw = gr.Button("Refine the painted mask", size="sm", elem_id="draw")
        with gr.Tab("Upload"):
            made.own = gr.File(
                label="Mask of the image's size: white object on black",
                file_types=["image"],
                height=120,
                elem_id="own",
            )
    return made


def _views() -> SimpleNamespace:
    """The column in the middle: the masks before and after, and what else is known about them."""
    made = SimpleNamespace()
    made.compare = gr.ImageSlider(
        label="Before | after", format="jpeg", interactive=False, elem_id="compare", max_height=700, buttons=BUTTONS
    )
    made.summary = gr.Markdown("Upload an image, or choose a sample.", elem_id="summary")
    options: dict[str, Any] = {"interactive": False, "format": "jpeg", "buttons": BUTTONS}
    with gr.Tabs():
        with gr.Tab("Edge"):
            made.edge = gr.Image(label="Red: before, green: after", elem_id="edge", **options)
        with gr.Tab("Probability"):
            made.heat = gr.Image(label="Dark blue: 0, yellow: 1", elem_id="heat", **options)
        with gr.Tab("Convergence") as made.convergence:
            made.curve = gr.LinePlot(
                curve_table([]),
                x="iteration",
                y="KL",
                x_title="iteration",
                y_title="KL(Q‖P) up to log Z, nats",
                y_axis_format="~s",
                height=320,
                elem_id="kl",
            )
        with gr.Tab("Files"):
            made.prepare = gr.Button("Prepare the files", elem_id="prepare")
            made.downloads = gr.Files(label="Masks (PNG), COCO results and polygons (JSON)", elem_id="files")
            made.toml = gr.Code(label="Parameters, for --params", language=None, elem_id="toml")
            made.command = gr.Code(label="The same on the command line", language="shell", elem_id="command")
    return made


def _parameters() -> SimpleNamespace:
    """The right column: which instance, and with which parameters."""
    made = SimpleNamespace()
    made.which = gr.Dropdown([ALL], value=ALL, label="instance", elem_id="which", interactive=True)
    made.mode = gr.Radio(
        [LEARNED, BY_HAND],
        value=LEARNED,
        label="parameters",
        info="learned: chosen for each instance; by hand: the values below for all instances",
        elem_id="mode",
    )
    with gr.Row():
        made.fixed, made.paper = (
            gr.Button(name, size="sm", elem_id=f"preset-{name.lower()}") for name in ("Fixed", "Paper")
        )
    controls = {name: control(name) for name in FIRST}
    with gr.Accordion("More parameters", open=False):
        controls |= {name: control(name) for name in CRFParams().as_dict() if name not in controls}
    made.controls = {name: controls[name] for name in CRFParams().as_dict()}
    return made


def _connect(
    actions: Actions,
    state: SimpleNamespace,
    sources: SimpleNamespace,
    views: SimpleNamespace,
    parameters: SimpleNamespace,
) -> None:
    """Let every control call its action."""
    image, which, made = state.image, parameters.which, parameters.controls
    controls = [parameters.mode, *made.values()]
    wanted = [image, sources.score, sources.classes, sources.small]
    shown: list[Any] = [views.compare, views.edge, views.heat, views.summary, views.toml, views.command]
    started = [state.scene, which, *shown]
    hidden: dict[str, Any] = {"api_visibility": "private"}

    def on_new_image(event: Any, source: Any) -> None:
        opened = event(actions.open, [source], [image, sources.canvas, sources.editor, state.corners], **hidden)
        opened.success(actions.detect, [*wanted, *controls], started, **hidden)

    on_new_image(sources.upload.upload, sources.upload)
    on_new_image(sources.samples.input, sources.samples)
    again = [sources.detect.click, sources.score.release, sources.classes.input, sources.small.input]
    gr.on(again, actions.detect, [*wanted, *controls], started, **hidden)
    corners = [state.corners, sources.canvas, *started]
    sources.canvas.select(actions.corner, [image, state.corners, *controls], corners, **hidden)
    sources.scribble.click(actions.scribble, [image, sources.editor, *controls], started, **hidden)
    sources.draw.click(actions.draw, [image, sources.editor, *controls], started, **hidden)
    sources.own.upload(actions.own, [image, sources.own, *controls], started, **hidden)
    # While a slider moves, only its newest position is computed.
    live: dict[str, Any] = {**hidden, "show_progress": "hidden", "trigger_mode": "always_last"}
    see: tuple[Any, ...] = (actions.show, [state.scene, which, *controls], shown)
    plot: tuple[Any, ...] = (actions.curve, [state.scene, which, *controls], views.curve)
    gr.on([which.input, parameters.mode.input], *see, **live)
    gr.on([which.input, parameters.mode.input, views.convergence.select], *plot, **live)
    # Moving a control of the parameters by hand chooses these parameters.
    moved = [item.input for name, item in made.items() if name != "theta_alpha_scale"]
    for event in (
        gr.on(moved, lambda: BY_HAND, None, parameters.mode, queue=False, **hidden),
        made["theta_alpha_scale"].input(actions.rescale, controls, controls, **hidden),
        parameters.fixed.click(lambda: [BY_HAND, *settings(CRFParams())], None, controls, **hidden),
        parameters.paper.click(lambda: [BY_HAND, *settings(CRFParams.paper())], None, controls, **hidden),
    ):
        event.then(*see, **live)
        event.then(*plot, **live)
    views.prepare.click(actions.files, [state.scene, which, *controls], views.downloads, **hidden)
