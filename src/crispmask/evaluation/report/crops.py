"""Crops of one instance: before, after, as annotated, and which pixels the change made correct or wrong."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.coco import CocoDataset, segmentation_to_mask
from crispmask.coco.images import ImageFolder
from crispmask.draw import AFTER, BEFORE, Colour, outline_crop
from crispmask.evaluation.comparison import Pairs

ANNOTATED: Colour = (255, 214, 0)
RIGHT: Colour = (64, 160, 255)
WRONG: Colour = (255, 120, 0)
SIZE = 320
QUALITY = 78


@dataclass(frozen=True)
class Card:
    """An instance on the page.

    Attributes:
        pair: its number in `Pairs`.
        file_name: of the image.
        score: of the detection.
        panels: what each crop shows, and the crop as a data URI.
    """

    pair: int
    file_name: str
    score: float
    panels: tuple[tuple[str, str], ...]

    @property
    def weight(self) -> int:
        """Bytes that the crops take on the page."""
        return sum(len(uri) for _, uri in self.panels)


def make_card(
    dataset: CocoDataset,
    files: ImageFolder,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    pairs: Pairs,
    pair: int,
) -> Card:
    """Draw one of the pairs.

    Raises:
        DataError: an image that is missing, or of another size than annotated.
    """
    info = dataset.image(int(pairs.image_id[pair]))
    image = files.read(info.id)
    found = [records[pairs.record[pair, r]] for r, records in enumerate(results.values())]
    annotation = dataset.annotations[info.id][pairs.annotation[pair]]
    before, after, truth = (segmentation_to_mask(record["segmentation"], *info.size) for record in (*found, annotation))
    place = surroundings(before | after | truth)
    panels = [
        (name, outline_crop(image, mask, place, colour=colour, size=SIZE, fill=0.12))
        for name, mask, colour in zip(
            (*results, "annotation"), (before, after, truth), (BEFORE, AFTER, ANNOTATED), strict=True
        )
    ]
    panels.append(("change", _change(image, before, after, truth, place)))
    return Card(
        pair, info.file_name, float(found[0]["score"]), tuple((name, data_uri(picture)) for name, picture in panels)
    )


def surroundings(mask: NDArray[np.bool_], share: float = 0.18, least: int = 10) -> tuple[int, int, int, int]:
    """The part of the image around a mask, a square if it fits in the image: x0, y0, x1, y1 in pixels."""
    height, width = mask.shape
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = ys[0], ys[-1] + 1, xs[0], xs[-1] + 1
    margin = max(least, round(share * max(y1 - y0, x1 - x0)))
    side = max(y1 - y0, x1 - x0) + 2 * margin
    h, w = min(side, height), min(side, width)
    top = int(np.clip((y0 + y1 - h) // 2, 0, height - h))
    left = int(np.clip((x0 + x1 - w) // 2, 0, width - w))
    return left, top, int(left + w), int(top + h)


def _change(
    image: NDArray[np.uint8],
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    place: tuple[int, int, int, int],
) -> NDArray[np.uint8]:
    """The image in grey, with the pixels that the change made correct and those that it made wrong."""
    x0, y0, x1, y1 = place
    part = np.s_[y0:y1, x0:x1]
    grey = np.asarray(Image.fromarray(image[part]).convert("L"), np.float32)
    picture = np.repeat((grey * 0.6 + 60)[..., None], 3, axis=2)
    for pixels, colour in (((before ^ after) & (after == truth), RIGHT), ((before ^ after) & (after != truth), WRONG)):
        picture[pixels[part]] = 0.2 * picture[pixels[part]] + 0.8 * np.array(colour, np.float32)
    scale = SIZE / max(x1 - x0, y1 - y0)
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    sharp = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(picture.round().astype(np.uint8)).resize(size, sharp))


def data_uri(picture: NDArray[np.uint8]) -> str:
    """A picture as WebP in a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
