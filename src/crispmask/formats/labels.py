"""What each format is read into and written from: images, their objects, and the names of the categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from crispmask.coco import CocoDataset
from crispmask.errors import DataError
from crispmask.files import relative_parts
from crispmask.image import read_size
from crispmask.instances import Instances


@dataclass(frozen=True)
class LabelledImage:
    """An image and its objects.

    Attributes:
        id: the image's number.
        file_name: relative to the folder of the images, with forward slashes.
        instances: its objects.
        crowds: for each of them, whether it stands for many (COCO's ``iscrowd``).
    """

    id: int
    file_name: str
    instances: Instances
    crowds: tuple[bool, ...]


@dataclass(frozen=True)
class Labels:
    """A set of labelled images.

    Attributes:
        categories: name by id.
        images: read one by one as they are asked for, once.
    """

    categories: Mapping[int, str]
    images: Iterable[LabelledImage]


@dataclass(frozen=True)
class Hints:
    """What a format may leave out.

    Attributes:
        images: folder of the images.
        dataset: gives ids and sizes of images by file name, and ids of categories by name.
    """

    images: Path | None = None
    dataset: CocoDataset | None = None


@dataclass(frozen=True)
class Style:
    """How to write.

    Attributes:
        tolerance: highest distance of a polygon from the mask's outline, pixels; at 0 the mask can be restored exactly.
        polygons: write polygons where the format also has run lengths.
    """

    tolerance: float = 0.0
    polygons: bool = False


@dataclass
class Losses:
    """What a format could not keep: a sentence about each kind of loss, and how often it occurred.

    Attributes:
        counts: number by sentence.
    """

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, times: int = 1) -> None:
        """Count `times` losses of the kind that the sentence `what` describes."""
        if times:
            self.counts[what] += times


class Format(Protocol):
    """A module that reads and writes one format."""

    def read(self, path: Path, hints: Hints, losses: Losses) -> Labels:
        """Labels from a file or folder."""
        ...

    def write(self, labels: Labels, path: Path, style: Style, losses: Losses) -> None:
        """Labels to a file or folder, which appears only when it is complete."""
        ...


def assemble(
    image_size: tuple[int, int],
    parts: Sequence[Instances],
    category_ids: Sequence[int],
    scores: Sequence[float] | None = None,
) -> Instances:
    """One `Instances` from several that hold one object each.

    Args:
        image_size: (H, W), pixels.
        parts: N of them, of one object each.
        category_ids: N ids.
        scores: N numbers in [0, 1]; by default 1.
    """
    if not parts:
        return Instances.empty(image_size)
    return Instances(
        image_size,
        np.concatenate([part.boxes for part in parts]),
        np.ones(len(parts), np.float32) if scores is None else np.asarray(scores, np.float32),
        np.asarray(category_ids, np.int64),
        tuple(part.windows[0] for part in parts),
    )


def category_ids(names: Mapping[int, str], dataset: CocoDataset | None, source: Path) -> dict[int, int]:
    """Category id by a format's class number: the id that the data set gives the name, else the number itself.

    Args:
        names: name by class number.
        dataset: the data set, or None.
        source: file or folder of the labels, for messages.

    Raises:
        DataError: a name that the data set does not have.
    """
    if dataset is None:
        return {number: number for number in names}
    ids = {name: key for key, name in dataset.categories.items()}
    for name in names.values():
        if name not in ids:
            raise DataError(f"{source}: {dataset.path} has no category {name!r}; it has {', '.join(ids)}")
    return {number: ids[name] for number, name in names.items()}


class LabelFiles:
    """Names of label files: an image's path with another suffix; no two images get the same one."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix
        self._owner: dict[str, str] = {}

    def name(self, image: str) -> Path:
        """The label file of an image, relative to the folder of them all.

        Raises:
            DataError: a name that leads out of that folder, or one that another image has taken.
        """
        path = Path(*relative_parts(image)).with_suffix(self.suffix)
        other = self._owner.setdefault(path.as_posix().casefold(), image)
        if other != image:
            raise DataError(f"{other!r} and {image!r} would both be written as {path.as_posix()}: rename one of them")
        return path


def check_size(size: tuple[int, int], image: Path, source: Path) -> None:
    """Compare the size that labels state with the image's own, where the image is there.

    Args:
        size: (H, W) in pixels, as the labels state it.
        image: file of the image.
        source: file or folder of the labels, for the message.

    Raises:
        DataError: the image has another size.
        ImageError: a file that is not an image.
    """
    if image.is_file() and (found := read_size(image)) != size:
        raise DataError(
            f"{source} says that {image} has {size[0]}x{size[1]} pixels (height x width), but it has "
            f"{found[0]}x{found[1]}: correct the size, or name the right image"
        )


def numbered(names: Iterable[str], dataset: CocoDataset | None, source: Path) -> Iterator[tuple[int, str]]:
    """Id and file name of each image: those that the data set has for it, else 1, 2, ... and the given names.

    Args:
        names: file names of the images; suffixes do not matter where there is a data set.
        dataset: the data set, or None.
        source: file or folder of the labels, for messages.

    Raises:
        DataError: an image that the data set does not have.
    """
    if dataset is None:
        yield from enumerate(names, start=1)
        return
    known: dict[str, int] = {}
    for image in dataset.images.values():
        name = PurePosixPath(image.file_name.replace("\\", "/"))
        known[str(name.with_suffix(""))] = image.id
    for wanted in names:
        key = known.get(str(PurePosixPath(wanted).with_suffix("")))
        if key is None:
            raise DataError(f"{source}: {dataset.path} has no image {wanted!r}")
        yield key, dataset.images[key].file_name
