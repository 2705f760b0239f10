"""Files to download, made from an open photo at the moment when they are asked for."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from crispmask.app import edge as slider
from crispmask.app.scene import Photo, Scene, Thing
from crispmask.coco import instances_to_results
from crispmask.cutouts import cutout
from crispmask.errors import DataError
from crispmask.formats.polygons import joined, outlines
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.refinement import Params, default_params

OUTLINE_TOLERANCE = 0.5  # highest distance of a polygon from its mask, pixels
_STORED = zipfile.ZIP_STORED  # PNG files are compressed already


def cut_out(photo: Photo, scene: Scene, only: int | None = None) -> bytes:
    """The objects, or one, on transparent ground: a PNG file of the photo's size, or cropped to the one."""
    found = _some(scene.instances(photo.size, only))
    (picture,) = cutout(photo.image, found, crop=only is not None, together=True)
    return _png(Image.fromarray(picture))


def mask(photo: Photo, scene: Scene, only: int | None = None) -> bytes:
    """The objects, or one, in white on black: a PNG file of the photo's size."""
    union = np.zeros(photo.size, np.uint8)
    for window in _some(scene.instances(photo.size, only)).windows:
        union[window.slices][window.mask] = 255
    return _png(Image.fromarray(union))


def coco(photo: Photo, scene: Scene, only: int | None = None) -> bytes:
    """COCO results as JSON."""
    found = scene.instances(photo.size, only)
    pairs = zip(instances_to_results(found, 1), _things(scene, only), strict=True)
    return _json([{**record, "category": thing.label} for record, thing in pairs])


def polygons(photo: Photo, scene: Scene, only: int | None = None) -> bytes:
    """The outlines as JSON, in pixels of the photo."""
    found = scene.instances(photo.size, only)
    shapes = [
        {
            "category_id": thing.category,
            "category": thing.label,
            "segmentation": [joined(part).ravel().tolist() for part in outlines(window, OUTLINE_TOLERANCE)],
        }
        for thing, window in zip(_things(scene, only), found.windows, strict=True)
    ]
    return _json(shapes)


def settings(photo: Photo, scene: Scene, only: int | None = None) -> bytes:
    """The parameters as TOML: all of them for a fixed setting, else the command that names those that were changed."""
    params = params_of(scene, only)
    text = f"# {command_line(scene, only)}\n"
    return (text + (params.to_toml() if isinstance(params, CRFParams) else "")).encode()


FILES: dict[str, Callable[[Photo, Scene, int | None], bytes]] = {
    "cutout.png": cut_out,
    "mask.png": mask,
    "coco_results.json": coco,
    "polygons.json": polygons,
    "params.toml": settings,
}


def archive(photos: Sequence[Photo], path: Path) -> None:
    """Write a ZIP file: a folder for each photo, with a cut-out and a mask of each object, and what all have together.

    Args:
        photos: their names may be anything.
        path: of the file.
    """
    with zipfile.ZipFile(path, "w", _STORED) as archived:
        taken: set[str] = set()
        for photo in photos:
            folder, scene = _folder(photo.name, taken), photo.scene
            for number, thing in enumerate(scene.things, start=1):
                label = f"{number}_{re.sub(r'[^A-Za-z0-9-]+', '_', thing.label)}.png"
                archived.writestr(f"{folder}/cutouts/{label}", cut_out(photo, scene, thing.key))
                archived.writestr(f"{folder}/masks/{label}", mask(photo, scene, thing.key))
            for file in ("cutout.png", "coco_results.json", "polygons.json", "params.toml"):
                if file == "cutout.png" and not scene.things:
                    continue
                archived.writestr(f"{folder}/{file}", FILES[file](photo, scene, None))


def params_of(scene: Scene, only: int | None = None) -> Params:
    """The parameters of an object, or those for new ones."""
    edge = scene.settings.edge if only is None else scene.thing(only).edge
    return slider.at(scene.settings.params(), edge)


def command_line(scene: Scene, only: int | None = None) -> str:
    """The command that refines with these parameters; it names those that differ from the method's."""
    params, method = params_of(scene, only), scene.settings.method
    words = ["crispmask", "segment", "IMAGE", "-o", "out"]
    if isinstance(params, CRFParams):
        words.append(f"--params {method}")
        default, now = (CRFParams.paper() if method == "paper" else CRFParams()).as_dict(), params.as_dict()
    else:
        default, now = default_params().crf.as_dict(), params.crf.as_dict()
        words += ["--gate none"] if params.gated == "none" else []
    for name, value in now.items():
        if value != default[name]:
            flag = name.replace("_", "-")
            words.append(f"--{flag} {value}" if not isinstance(value, bool) else f"--{'' if value else 'no-'}{flag}")
    return " ".join(words)


def _things(scene: Scene, only: int | None) -> tuple[Thing, ...]:
    return scene.things if only is None else (scene.thing(only),)


def _some(instances: Instances) -> Instances:
    if not len(instances):
        raise DataError("there is no object yet: click one, draw a box around one, or look for less certain ones")
    return instances


def _folder(name: str, taken: set[str]) -> str:
    """A name for a folder in an archive, out of whatever a visitor's file was called."""
    stem = PurePosixPath(name.replace("\\", "/")).name.rpartition(".")[0] or name
    plain = re.sub(r"[^\w-]+", "_", stem).strip("_")[:60] or "photo"
    number, found = 1, plain
    while found.casefold() in taken:
        number += 1
        found = f"{plain}_{number}"
    taken.add(found.casefold())
    return found


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _json(content: Any) -> bytes:
    return (json.dumps(content) + "\n").encode()
