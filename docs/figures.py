"""Draws the pictures of the README and how-it-works.md from runs on the sample photos: ``python docs/figures.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from crispmask import CRFParams, Instances, Segmenter, Window, load_detector, read_image
from crispmask.draw import draw_instances, edge_zoom, palette
from crispmask.draw.paint import labelled
from crispmask.refinement import default_params, refine
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.solve import solve
from crispmask.refinement.unary import sigmoid, soften
from crispmask.samples import sample_images

IMAGES = Path(__file__).parent / "images"

CLOSE_UPS = {
    "astronaut": (230, 300, 150),
    "camera": (130, 60, 200),
    "chelsea": (250, 0, 200),
    "coffee": (30, 0, 170),
    "grace_hopper": (20, 120, 240),
}
"""Of each photo the part that is shown close up: left, top, width in pixels."""


def strip(name: str, panels: list[tuple[str, np.ndarray]]) -> None:
    """Pictures side by side, each with its title, as one JPEG."""
    figure, axes = plt.subplots(1, len(panels), figsize=(2.9 * len(panels), 3.2), layout="constrained")
    for axis, (title, picture) in zip(axes, panels, strict=True):
        axis.imshow(picture)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    figure.savefig(IMAGES / name, dpi=110, pil_kwargs={"quality": 88})
    plt.close(figure)


def with_probability(instances: Instances, change) -> Instances:  # type: ignore[no-untyped-def]
    """The same instances, their windows' probabilities changed."""
    return instances.with_windows([Window(change(w.probabilities), w.y, w.x) for w in instances.windows])


def main() -> None:
    """Write the pictures."""
    detector, photos = load_detector(), {p.stem: read_image(p) for p in sample_images()}
    demo(photos)
    image = photos["astronaut"]
    found = detector(image)
    before = found.above(detector.default_score)
    learned = default_params()
    after = refine(image, before, learned)
    strip(
        "pipeline.jpg",
        [
            ("photo", image),
            ("detector: 28x28 probabilities, pasted", heat_map(image, before)),
            ("marginals of the CRF", heat_map(image, after)),
            ("mask", draw_instances(image, after, labels=False)),
        ],
    )
    steps(image, before)
    binary = with_probability(before, lambda p: (p > 0.5).astype(np.float32))
    soft = with_probability(binary, lambda p: soften(p, CRFParams().smoothing))
    strip(
        "smoothing.jpg",
        [
            ("binary mask", heat_map(image, binary)),
            ("smoothed", heat_map(image, soft)),
            ("after the CRF", heat_map(image, refine(image, binary, CRFParams()))),
        ],
    )
    crop = (90, 120, 330, 360)
    widths = [0.03, 0.1, 0.4]
    panels = [edge_zoom(image, before, refine(image, before, CRFParams(theta_alpha=w)), place=crop) for w in widths]
    strip("theta_alpha.jpg", [(f"θα = {w} x size", p) for w, p in zip(widths, panels, strict=True)])
    hopper = photos["grace_hopper"]
    strip(
        "success_failure.jpg",
        [
            ("success: the hair", edge_zoom(image, *pair(image, detector, learned), place=(140, 10, 330, 200))),
            (
                "failure: the badge falls out",
                edge_zoom(hopper, *pair(hopper, detector, learned), place=(120, 10, 380, 270)),
            ),
            ("the paper's parameters", edge_zoom(image, *pair(image, detector, CRFParams.paper()))),
        ],
    )


def demo(photos: dict[str, np.ndarray], height: int = 270) -> None:
    """What ``crispmask demo`` finds, a column for each photo: the detector's masks, refined, and close up."""
    model = Segmenter()
    columns = []
    for name, photo in photos.items():
        before = model.detect(photo)
        after = model.refine(photo, before)
        width = round(height * photo.shape[1] / photo.shape[0])
        scale, colours = height / photo.shape[0], palette(len(before))
        x, y, side = CLOSE_UPS[name]
        place = (x, y, x + side, y + round(side * height / width))
        zoomed = edge_zoom(photo, before, after, size=2 * max(width, height), place=place)
        top, left = ((zoomed.shape[k] - 2 * s) // 2 for k, s in enumerate((height, width)))
        drawn = [draw_instances(photo, s, labels=False, line=2 / scale) for s in (before, after)]
        panels = [*drawn, zoomed[top : top + 2 * height, left : left + 2 * width]]
        scaled = [np.array(Image.fromarray(p).resize((width, height), Image.Resampling.LANCZOS)) for p in panels]
        scaled[0] = labelled(scaled[0], before, colours, model.detector.categories, scale)
        columns.append(beside(scaled, axis=0))
    Image.fromarray(beside(columns, axis=1)).save(IMAGES / "demo.jpg", quality=88)


def heat_map(image: np.ndarray, instances: Instances) -> np.ndarray:
    """The highest probability of each pixel, from dark blue (0) to yellow (1), over the image in grey."""
    probability = np.zeros(instances.image_size, np.float32)
    for window in instances.windows:
        np.maximum(probability[window.slices], window.probabilities, out=probability[window.slices])
    grey = image.mean(axis=2, keepdims=True, dtype=np.float32)
    return (0.35 * grey + 0.65 * _CIVIDIS[(probability * 255).astype(np.uint8)]).astype(np.uint8)


def _ramp() -> np.ndarray:
    """The colour map cividis, interpolated between five of its colours: float32 (256, 3)."""
    stops = np.array([[0, 34, 78], [66, 78, 108], [124, 123, 120], [188, 174, 108], [254, 232, 56]], np.float32)
    return np.stack([np.interp(np.linspace(0, 4, 256), range(5), c) for c in stops.T], axis=1).astype(np.float32)


_CIVIDIS = _ramp()


def beside(pictures: list[np.ndarray], axis: int, gap: int = 6) -> np.ndarray:
    """Pictures below (0) or beside (1) one another, with a white gap between them."""
    shape = list(pictures[0].shape)
    shape[axis] = gap
    white = np.full(shape, 255, np.uint8)
    parts = [part for picture in pictures for part in (white, picture)][1:]
    return np.concatenate(parts, axis=axis)


def steps(image: np.ndarray, before: Instances) -> None:
    """What happens to a mask, for learn.md."""
    params = default_params()
    view = InstanceView.of(image, before[0], 0)
    answer = params.answer(view)
    unary = params.unary(view, answer)
    (window,) = solve(image, [unary])
    assert window is not None
    after = before[:1].with_windows([window])
    strip(
        "steps.jpg",
        [
            ("crop", view.crop.image(image)),
            ("prompt", grey(answer.prompt)),
            ("answer of the network", grey(sigmoid(answer.odds))),
            ("marginals of the CRF", grey(window.probabilities)),
            ("before and after", edge_zoom(image, before[:1], after)),
        ],
    )


def grey(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities as an image."""
    return (probabilities * 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def pair(image: np.ndarray, detector, params) -> tuple[Instances, Instances]:  # type: ignore[no-untyped-def]
    """Detected and refined."""
    found = detector(image)
    before = found.above(detector.default_score)
    return before, refine(image, before, params)


if __name__ == "__main__":
    main()
