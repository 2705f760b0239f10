"""Which name an image, its picture and its record in an annotation file have."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path, PurePosixPath

from crispmask.coco import CocoDataset
from crispmask.coco.dataset import CocoImage
from crispmask.errors import DataError


def named_files(sources: Iterable[str | Path]) -> set[Path]:
    """The sources that are files, as absolute paths."""
    return {Path(os.path.abspath(source)) for source in sources if os.path.isfile(source)}  # noqa: PTH100, PTH113


def relative_names(sources: Iterable[str | Path], images: Iterable[Path]) -> dict[str, Path]:
    """Images by their names relative to the folder that holds all sources, with forward slashes, sorted by name.

    Args:
        sources: what the images were found by: a folder keeps its structure, everything else counts as its parent.
        images: what `crispmask.image.find_images` found there.
    """
    files = [Path(os.path.abspath(image)) for image in images]  # noqa: PTH100 - resolve() would follow links
    folders = [Path(os.path.abspath(source)) for source in sources if os.path.isdir(source)]  # noqa: PTH100, PTH112
    loose = [file.parent for file in files if not any(file.is_relative_to(folder) for folder in folders)]
    try:
        root = Path(os.path.commonpath([*folders, *loose]))
        names = {file.relative_to(root).as_posix(): file for file in files}
    except ValueError:  # on different drives of Windows: the drive's letter becomes the first folder
        names = {"/".join((file.drive.rstrip(":"), *file.parts[1:])): file for file in files}
    return dict(sorted(names.items()))


def picture_names(names: Sequence[str]) -> dict[str, str]:
    """The relative path of each image's picture: the image's own with the suffix .jpg.

    An image whose place is taken (``a.webp`` beside ``a.png``) keeps its suffix in front of it (``a.webp.jpg``). Paths
    that differ only in upper and lower case count as the same, as they do on Windows and macOS.
    """
    taken = {str(folder).casefold() for name in names for folder in PurePosixPath(name).parents}
    pictures = {}
    for name in names:
        choices = chain([str(PurePosixPath(name).with_suffix(".jpg"))], (name + k * ".jpg" for k in count(1)))
        pictures[name] = next(path for path in choices if path.casefold() not in taken)
        taken.add(pictures[name].casefold())
    return pictures


def match_annotations(
    images: Mapping[str, Path], dataset: CocoDataset, named: Collection[Path] = ()
) -> dict[str, CocoImage]:
    """The image record of each image that has one, by file name.

    A record's ``file_name`` may hold folders: the longest tail of the image's path that is a file name of the data
    set decides.

    Args:
        images: by name.
        dataset: with the records.
        named: images that must have one.

    Raises:
        DataError: one of `named` that the data set does not name, no image that it names, or two with one record.
    """
    records = {str(PurePosixPath(image.file_name.replace("\\", "/"))): image for image in dataset.images.values()}
    matched: dict[str, CocoImage] = {}
    owner: dict[int, str] = {}
    unnamed = []
    for name, file in images.items():
        tails = ("/".join(file.parts[k:]) for k in range(1, len(file.parts)))
        record = next((records[tail] for tail in tails if tail in records), None)
        if record is None:
            unnamed.append(file)
            continue
        if record.id in owner:
            raise DataError(f"{owner[record.id]} and {name} are both image {record.file_name!r} of {dataset.path}")
        matched[name], owner[record.id] = record, name
    refused = [file for file in unnamed if file in named or not matched]
    if refused:
        raise DataError(
            f"{dataset.path} has no image {refused[0].name!r} (it names {len(records)} images"
            + (f", the first is {next(iter(records))!r})" if records else ")")
        )
    return matched
