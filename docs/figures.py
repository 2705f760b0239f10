"""Draws the pictures of how-it-works.md from real runs on the sample photos: ``python docs/figures.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from crispmask import CRFParams, Instances, Window, load_detector, read_image
from crispmask.app.work import heat_map
from crispmask.draw import draw_instances, edge_zoom
from crispmask.params import DEFAULT_SCORE
from crispmask.refinement import default_params, refine
from crispmask.refinement.instance import InstanceView
from crispmask.refinement.solve import solve
from crispmask.refinement.unary import sigmoid, soften
from crispmask.samples import sample_images

IMAGES = Path(__file__).parent / "images"


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
    image = photos["astronaut"]
    found = detector(image)
    before = found.above(DEFAULT_SCORE)
    learnt = default_params()
    after = refine(image, before, learnt)
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
            ("success: the hair", edge_zoom(image, *pair(image, detector, learnt), place=(140, 10, 330, 200))),
            (
                "failure: the badge falls out",
                edge_zoom(hopper, *pair(hopper, detector, learnt), place=(120, 10, 380, 270)),
            ),
            ("the paper's parameters", edge_zoom(image, *pair(image, detector, CRFParams.paper()))),
        ],
    )


def steps(image: np.ndarray, before: Instances) -> None:
    """What happens to a mask, for learn.md."""
    params = default_params()
    view = InstanceView.of(image, before[0], 0)
    answer = params.answer(view)
    unary = answer.unary(view.image_size, params.crf, params.temperature)
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
    before = found.above(DEFAULT_SCORE)
    return before, refine(image, before, params)


if __name__ == "__main__":
    main()
