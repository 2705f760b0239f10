"""The functions of the page and the HTTP interface, on arrays and `Instances`, without Gradio."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crispmask.coco import instances_to_results
from crispmask.draw import FRAME, draw_instances, edge_zoom, palette
from crispmask.errors import ImageError, ShapeError
from crispmask.formats.polygons import joined, outlines
from crispmask.image import read_image
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.refinement import Decision, LearnedParams, instance_crf, refine_instances

CLOSE_UP = 520  # pixels
OUTLINE_TOLERANCE = 0.5  # highest distance of a downloaded polygon from its mask, pixels


@dataclass(frozen=True)
class Scene:
    """An image and its coarse masks.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        before: the coarse masks.
        names: category names by id.
        origin: how the masks were made: "detector", "mask", "box" or "scribble".
    """

    image: NDArray[np.uint8]
    before: Instances
    names: Mapping[int, str]
    origin: str

    def labels(self) -> list[str]:
        """A label for each instance, with its number from 1."""
        if self.origin != "detector":
            return ["1: your mask" if self.origin == "mask" else f"1: from your {self.origin}"]
        pairs = zip(self.before.category_ids, self.before.scores, strict=True)
        return [f"{i}: {self.names.get(int(c), c)} {score:.0%}" for i, (c, score) in enumerate(pairs, start=1)]

    def chosen(self, which: int | None) -> Instances:
        """All instances, or number `which` from 0."""
        return self.before if which is None else self.before[which]


def read_upload(path: str | Path, max_pixels: int) -> NDArray[np.uint8]:
    """Read an image whose path no message must show.

    Args:
        path: the file.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        ImageError: as `read_image`, or an image that is too large.
    """
    path = Path(path)
    width = height = 0  # where the header cannot be read, read_image says why
    with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError), Image.open(path) as opened:
        width, height = opened.size
    if width * height > max_pixels:
        raise ImageError(
            f"the image has {width * height / 1e6:.0f} megapixels, more than the {max_pixels / 1e6:.0f} that this page "
            "accepts: scale it down"
        )
    try:
        return read_image(path)
    except ImageError as error:
        raise ImageError(str(error).replace(str(path), "the file")) from None


def as_mask(image: NDArray[np.uint8], size: tuple[int, int]) -> Instances:
    """A drawn or uploaded mask as one instance: pixels lighter than middle grey are the object.

    Raises:
        ShapeError: a mask of another size than the image, or an empty one.
    """
    if image.shape[:2] != size:
        raise ShapeError(
            f"the mask has {image.shape[1]}x{image.shape[0]} pixels (width x height), the image {size[1]}x{size[0]}"
        )
    mask = image.max(axis=2) > 127
    if not mask.any():
        raise ShapeError("the mask is empty: the object must be white, everything else black")
    return Instances.from_masks(mask)


def refine_scene(
    scene: Scene, params: CRFParams | LearnedParams, which: int | None = None
) -> tuple[Instances, list[Decision | None]]:
    """The chosen instances, refined, and what learnt parameters decided for each."""
    return refine_instances(scene.image, scene.chosen(which), params)


def pictures(
    scene: Scene, after: Instances, which: int | None = None
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.uint8], NDArray[np.uint8]]:
    """Images of the masks before and after, of the edge from near, and of the probabilities; uint8 (h, w, 3) each."""
    before = scene.chosen(which)
    colours = palette(len(scene.before))
    colours = colours if which is None else [colours[which]]
    pair = [draw_instances(scene.image, side, labels=False, colours=colours) for side in (before, after)]
    return (pair[0], pair[1]), edge_zoom(scene.image, before, after, size=CLOSE_UP), heat_map(scene.image, after)


def mark(image: NDArray[np.uint8], corners: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """The image with a box between two corners (x, y), or with a cross at one."""
    picture = Image.fromarray(image)
    pen, line = ImageDraw.Draw(picture), max(2, max(image.shape[:2]) // 250)
    if len(corners) == 2:
        (ax, ay), (bx, by) = corners
        pen.rectangle((min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)), outline=FRAME, width=line)
    for x, y in corners:
        pen.line((x - 4 * line, y, x + 4 * line, y), fill=FRAME, width=line)
        pen.line((x, y - 4 * line, x, y + 4 * line), fill=FRAME, width=line)
    return np.asarray(picture)


def heat_map(image: NDArray[np.uint8], instances: Instances) -> NDArray[np.uint8]:
    """The highest probability of each pixel, from dark blue (0) to yellow (1), over the image in grey."""
    probability = np.zeros(instances.image_size, np.float32)
    for window in instances.windows:
        np.maximum(probability[window.slices], window.probabilities, out=probability[window.slices])
    grey = image.mean(axis=2, keepdims=True, dtype=np.float32)
    return (0.35 * grey + 0.65 * _CIVIDIS[(probability * 255).astype(np.uint8)]).astype(np.uint8)


def _ramp() -> NDArray[np.float32]:
    """The colour map cividis, interpolated between five of its colours: float32 (256, 3)."""
    stops = np.array([[0, 34, 78], [66, 78, 108], [124, 123, 120], [188, 174, 108], [254, 232, 56]], np.float32)
    return np.stack([np.interp(np.linspace(0, 4, 256), range(5), c) for c in stops.T], axis=1).astype(np.float32)


_CIVIDIS = _ramp()


def divergence(scene: Scene, params: CRFParams | LearnedParams, which: int | None = None) -> list[tuple[int, float]]:
    """Iterations and their KL(Q‖P) - log Z, of the chosen instance or of the largest; empty without instances."""
    if not len(scene.before):
        return []
    areas = [int(window.mask.sum()) for window in scene.before.windows]
    index = int(np.argmax(areas)) if which is None else which
    if not areas[index]:
        return []
    crf, _ = instance_crf(scene.image, scene.before, index, params)
    iterations = params.iterations if isinstance(params, CRFParams) else CRFParams().iterations
    kl = crf.run(iterations, track=True).kl
    return [] if kl is None else list(enumerate(kl.tolist()))


def changes(before: Instances, after: Instances, decisions: Sequence[Decision | None]) -> str:
    """A sentence that says how much the refinement changed, and why it kept masks."""
    moved = sum(int((before.mask(i) ^ after.mask(i)).sum()) for i in range(len(before)))
    pixels = max(1, sum(int(window.mask.sum()) for window in before.windows))
    objects = "1 mask" if len(before) == 1 else f"{len(before)} masks"
    reasons = Counter(d.reason for d in decisions if d is not None and not d.refined)
    kept = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
    alone = f"; kept as they were: {kept}" if kept else ""
    return f"{objects}; refinement changed {moved / pixels:.1%} of the pixels{alone}"


def files(after: Instances, folder: Path) -> list[Path]:
    """Write the files for the download: a PNG mask per instance, COCO results and polygons as JSON."""
    written = []
    for i in range(len(after)):
        written.append(folder / f"mask_{i + 1}.png")
        Image.fromarray(after.mask(i).astype(np.uint8) * 255).save(written[-1])
    records = instances_to_results(after, 1)
    shapes = [
        {
            "category_id": int(after.category_ids[i]),
            "segmentation": [joined(part).ravel().tolist() for part in outlines(window, OUTLINE_TOLERANCE)],
        }
        for i, window in enumerate(after.windows)
    ]
    for name, content in (("coco_results.json", records), ("polygons.json", shapes)):
        written.append(folder / name)
        written[-1].write_text(json.dumps(content) + "\n", encoding="utf-8")
    return written


def png(picture: NDArray[np.uint8]) -> bytes:
    """An image or mask as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def as_toml(params: CRFParams | LearnedParams) -> str:
    """The parameters as the text of a file for ``--params``; the learned ones need no file."""
    if isinstance(params, CRFParams):
        return params.to_toml()
    return "# The learned parameters, which are the default: no file is needed.\n"


def command_line(
    params: CRFParams | LearnedParams, base: Sequence[str] = ("crispmask", "segment", "IMAGE", "-o", "out")
) -> str:
    """The command that refines with these parameters; it names those that differ from the fixed setting."""
    if not isinstance(params, CRFParams):
        return " ".join(base)
    defaults = CRFParams().as_dict()
    options = ["--params fixed"]
    for name, value in params.as_dict().items():
        if value != defaults[name]:
            flag = name.replace("_", "-")
            options.append(f"--{flag} {value}" if not isinstance(value, bool) else f"--{'' if value else 'no-'}{flag}")
    return " ".join([*base, *options])


def as_records(instances: Instances, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """COCO results with the categories' names, for the HTTP interface."""
    return [
        {**record, "category": names.get(record["category_id"], str(record["category_id"]))}
        for record in instances_to_results(instances, 1)
    ]
