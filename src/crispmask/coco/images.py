"""The image files of a data set: which file an image id stands for, its size and its pixels."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crispmask.coco.dataset import CocoDataset
from crispmask.errors import DataError
from crispmask.files import relative_parts
from crispmask.image import SUFFIXES, read_image, read_size

_NUMBERED = re.compile(r"(?:COCO_\w+_)?0*(\d+)")
"""COCO's names: 000000000139.jpg since 2017, COCO_val2014_000000000139.jpg before; also 139.jpg."""


@dataclass(frozen=True)
class ImageFolder:
    """The image files of a data set.

    Attributes:
        folder: where they are.
        dataset: gives file names, relative to `folder`, and sizes by image id; None: the names follow
            COCO's convention, the image id with leading zeros.

    Raises:
        DataError: `folder` is not a folder.
    """

    folder: Path
    dataset: CocoDataset | None

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder: name the one that holds the images")

    def path(self, image_id: int) -> Path:
        """The file of an image.

        Raises:
            DataError: an unknown id, a name that leaves the folder, or a file that is not there.
        """
        if self.dataset is None:
            return self._by_number(image_id)
        image = self.dataset.images.get(image_id)
        if image is None:
            raise DataError(f"there is no image with the id {image_id} in {self.dataset.path}")
        return inside(self.folder, image.file_name)

    def size(self, image_id: int) -> tuple[int, int]:
        """(H, W) of an image, pixels, from the header of its file.

        Raises:
            DataError: as `path`; or another size than the data set says.
            ImageError: a file that is not an image.
        """
        path = self.path(image_id)
        size = read_size(path)
        if self.dataset is not None and size != self.dataset.images[image_id].size:
            raise other_size(path, size, self.dataset.images[image_id].size)
        return size

    def read(self, image_id: int) -> NDArray[np.uint8]:
        """The pixels of an image, uint8 (H, W, 3) RGB.

        Raises:
            DataError: as `path`; or another size than the data set says.
            ImageError: a file that cannot be read.
        """
        path = self.path(image_id)
        return read_image(path) if self.dataset is None else read_sized(path, self.dataset.images[image_id].size)

    def _by_number(self, image_id: int) -> Path:
        found = self._numbered.get(image_id, [])
        if not found:
            raise DataError(
                f"there is no file of image {image_id} in {self.folder} (looked for {image_id:012d}.jpg, "
                f"{image_id}.jpg and the like): name the annotation file that gives the file names"
            )
        if len(found) > 1:
            raise DataError(
                f"{' and '.join(sorted(found)[:2])} in {self.folder} could both be image {image_id}: name the "
                "annotation file that gives the file names"
            )
        return self.folder / found[0]

    @cached_property
    def _numbered(self) -> Mapping[int, list[str]]:
        """Names of the images in the folder, by the number in the name."""
        names: dict[int, list[str]] = {}
        for path in self.folder.iterdir():
            number = _NUMBERED.fullmatch(path.stem)
            if number and path.suffix.lower() in SUFFIXES:
                names.setdefault(int(number[1]), []).append(path.name)
        return names


def inside(folder: Path, name: str) -> Path:
    """The file of a name in a folder.

    Raises:
        DataError: a name that leads out of the folder, by ``..`` or as an absolute path; or no such file.
    """
    path = folder.joinpath(*relative_parts(name))
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on names that are too long
        raise DataError(f"there is no image {path}: name the folder that the file names of the data set start from")
    return path


def read_sized(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels of an image of a known size (H, W): uint8 (H, W, 3) RGB.

    Raises:
        DataError: an image of another size.
        ImageError: a file that cannot be read.
    """
    image = read_image(path)
    if image.shape[:2] != size:
        raise other_size(path, (image.shape[0], image.shape[1]), size)
    return image


def other_size(path: Path, size: tuple[int, int], expected: tuple[int, int]) -> DataError:
    """The error for an image of another size (H, W) than its annotation file says."""
    return DataError(
        f"{path} has {size[1]}x{size[0]} pixels (width x height), the annotation file says {expected[1]}x{expected[0]}"
    )
