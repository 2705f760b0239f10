"""The cut-outs of an image as files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.cutouts import cutout
from crispmask.files import replacing
from crispmask.instances import Instances


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
    for name, part in zip(files, parts, strict=True):  # one by one: at full size all of them may not fit into memory
        (picture,) = cutout(image, part, crop=not style.full_size, together=style.together)
        with replacing(folder / name) as partial:
            Image.fromarray(picture).save(partial, format="PNG")
    return files
