"""Label maps: one PNG per image, whose pixels are the numbers of its objects, 0 the background.

With up to 254 objects it is a palette image in the colours of PASCAL VOC, with more it is 16-bit grey. ``labels.json``
beside them gives each number's category, score and crowd flag. Without that file (Penn-Fudan, VOC's SegmentationObject)
all objects are of one category, and 255 in a palette image is VOC's "void". A pixel has one number: where objects
overlap, the one with the higher score gets it, or the later one if the scores are equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.arguments import shown
from crispmask.coco.records import number, read_json, whole
from crispmask.coco.results import SCORE_DIGITS
from crispmask.errors import DataError, ImageError
from crispmask.files import relative_parts, replacing_folder
from crispmask.formats.labels import Hints, LabelFiles, LabelledImage, Labels, Losses, Style, assemble, numbered
from crispmask.image import read_size
from crispmask.instances import Instances

INDEX = "labels.json"
ANY = "object"
"""The category's name in label maps without ``labels.json``."""

_VOID = 255
_MOST = 65535


def read(path: Path, hints: Hints, losses: Losses) -> Labels:
    """The objects of every label map in a folder."""
    if (path / INDEX).is_file():
        return _read_indexed(path, hints)
    files = sorted(path.rglob("*.png"))
    if not files:
        raise DataError(f"{path} holds neither {INDEX} nor a PNG file")
    names = [file.relative_to(path).as_posix() for file in files]
    categories = dict(hints.dataset.categories) if hints.dataset else {1: ANY}
    if len(categories) != 1:
        raise DataError(
            f"{path} has no {INDEX}, so the category of its objects is unknown: it could be any of "
            f"{', '.join(categories.values())}"
        )
    (category,) = categories

    def images() -> Iterator[LabelledImage]:
        for file, (key, name) in zip(files, numbered(names, hints.dataset, path), strict=True):
            pixels, palette = _pixels(file)
            numbers = [int(k) for k in np.unique(pixels) if k and not (palette and k == _VOID)]
            parts = [Instances.from_masks(pixels == k) for k in numbers]
            instances = assemble(pixels.shape, parts, [category] * len(parts))
            yield LabelledImage(key, name, instances, (False,) * len(parts))

    return Labels(categories, images())


def _read_indexed(path: Path, hints: Hints) -> Labels:
    index = path / INDEX
    content = read_json(index)
    try:
        categories = {whole(c, "id", f"{index}: a category", 0): str(c["name"]) for c in content["categories"]}
        entries = [(str(e["label_map"]), str(e["file_name"]), e, list(e["objects"])) for e in content["images"]]
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{index} must list 'images', with their 'objects', and 'categories'") from None

    def images() -> Iterator[LabelledImage]:
        for label_map, name, entry, objects in entries:
            pixels, _ = _pixels(path.joinpath(*relative_parts(label_map)))
            parts, ids, scores, crowds = [], [], [], []
            for found in objects:
                where = f"{index}: an object of {name}"
                if not isinstance(found, dict):
                    raise DataError(f"{where} must be an object of JSON, got {shown(found)}")
                parts.append(Instances.from_masks(pixels == whole(found, "number", where, 1)))
                ids.append(whole(found, "category_id", where, 0))
                if ids[-1] not in categories:
                    raise DataError(f"{where}: there is no category with the id {ids[-1]}")
                scores.append(number(found.get("score", 1.0), "'score'", where))
                crowds.append(bool(found.get("iscrowd", 0)))
            instances = assemble(pixels.shape, parts, ids, scores)
            yield LabelledImage(whole(entry, "id", f"{index}: {name}"), name, instances, tuple(crowds))

    return Labels(categories, images())


def write(labels: Labels, path: Path, style: Style, losses: Losses) -> None:
    """A folder of PNG files and their index."""
    files = LabelFiles(".png")
    entries: list[dict[str, Any]] = []
    with replacing_folder(path) as partial:
        for image in labels.images:
            name = files.name(image.file_name)
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            _write_map(partial / name, image, losses)
            entries.append(
                {
                    "id": image.id,
                    "file_name": image.file_name,
                    "label_map": name.as_posix(),
                    "objects": [_entry(image, i) for i in range(len(image.instances))],
                }
            )
        categories = [{"id": key, "name": name} for key, name in labels.categories.items()]
        lines = ",\n".join(json.dumps(entry) for entry in entries)
        content = f'{{"categories": {json.dumps(categories)},\n"images": [\n{lines}]}}\n'
        (partial / INDEX).write_text(content, encoding="utf-8", newline="\n")


def _entry(image: LabelledImage, i: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"number": i + 1, "category_id": int(image.instances.category_ids[i])}
    if image.instances.scores[i] != 1:
        entry["score"] = round(float(image.instances.scores[i]), SCORE_DIGITS)
    return {**entry, "iscrowd": 1} if image.crowds[i] else entry


def _write_map(file: Path, image: LabelledImage, losses: Losses) -> None:
    instances = image.instances
    if len(instances) > _MOST:
        raise DataError(f"{image.file_name} has {len(instances)} objects, more than a label map can number")
    pixels = np.zeros(instances.image_size, np.uint16)
    covered = 0
    # Single objects are painted over crowds.
    order = sorted(range(len(instances)), key=lambda i: (not image.crowds[i], instances.scores[i]))
    for i in order:
        window = instances.windows[i]
        inner = pixels[window.slices]
        covered += int(np.count_nonzero(inner[window.mask]))
        inner[window.mask] = i + 1
    losses.add("pixels of overlapping objects, given to one of them", covered)
    shown = set(np.unique(pixels).tolist())
    hidden = sum(bool(w.mask.any()) and i + 1 not in shown for i, w in enumerate(instances.windows))
    losses.add("objects that others cover completely", hidden)
    if len(instances) < _VOID:
        picture = Image.fromarray(pixels.astype(np.uint8))
        picture.putpalette(voc_palette().tobytes())
    else:
        picture = Image.fromarray(pixels)
    picture.save(file, "PNG")


def voc_palette() -> NDArray[np.uint8]:
    """PASCAL VOC's colours, uint8 (256, 3): bits 0, 1, 2 of n are the top bits of red, green, blue; and so on."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def _pixels(file: Path) -> tuple[NDArray[np.integer[Any]], bool]:
    """The numbers of a label map (H, W), and whether it is a palette image."""
    read_size(file)  # refuses what is no image, or too large
    try:
        with Image.open(file, formats=("PNG",)) as picture:
            if picture.mode not in ("P", "L", "1", "I", "I;16"):
                raise DataError(f"{file} has colours in place of numbers: a label map is a palette or grey PNG")
            return np.asarray(picture).astype(np.int64), picture.mode == "P"
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{file} cannot be decoded ({error})") from None
