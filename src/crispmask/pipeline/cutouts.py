"""The cut-outs of an image as files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.cutouts import cutout
from crispmask.files import replacing
from crispmask.instances import Instances

_LEVEL = 2
"""Of PNG's compression: photos of tens of megapixels take a third of the time of the usual 6, in files as large."""


@dataclass(frozen=True)
class CutoutStyle:
    """How objects are cut out.

    Attributes:
        full_size: whether the pictures have the size of their image, rather than that of their object.
        together: whether all objects of an image are in one picture.
    """

    full_size: bool = False
    together: bool = False


def write_cutouts(
    folder: Path, image: NDArray[np.uint8], instances: Instances, names: Mapping[int, str], style: CutoutStyle
) -> list[str]:
    """Write the objects of an image as PNG files with an alpha channel, each in place of an older one when complete.

    Args:
        folder: of the files.
        image: uint8 (H, W, 3) RGB.
        instances: its objects.
        names: category names by id.
        style: how.

    Returns:
        The files' names in the order of the objects: ``1-person.png``, ``2-dog.png``, or ``all.png`` alone; none
        without an object.
    """
    files = []
    if style.together:
        files = ["all.png"] if len(instances) else []
        parts = [instances] if len(instances) else []
    else:
        parts = list(instances)
        for k, category in enumerate(instances.category_ids.tolist(), start=1):
            files.append(f"{k}-{re.sub(r'[^0-9A-Za-z]+', '-', names.get(category, '')).strip('-') or 'object'}.png")
    # One by one, since all of them may not fit into memory: the next is cut out while the last one is compressed.
    with ThreadPoolExecutor(1) as pool:
        writing: list[Future[None]] = []
        for name, part in zip(files, parts, strict=True):
            (picture,) = cutout(image, part, crop=not style.full_size, together=style.together)
            for before in writing:
                before.result()
            writing = [pool.submit(_write, folder / name, picture)]
        for last in writing:
            last.result()
    return files


def _write(file: Path, picture: NDArray[np.uint8]) -> None:
    with replacing(file) as partial:
        Image.fromarray(picture).save(partial, format="PNG", compress_level=_LEVEL)
