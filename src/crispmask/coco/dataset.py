"""Ground truth in COCO's annotation format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from crispmask.arguments import as_path
from crispmask.coco import records
from crispmask.coco.rle import segmentation_to_mask
from crispmask.coco.stream import JsonStream, open_stream
from crispmask.errors import CrispmaskError, DataError
from crispmask.image import refused_size
from crispmask.instances import Instances


@dataclass(frozen=True)
class CocoImage:
    """One image of a data set: its id, its file name relative to the image folder, and (H, W) in pixels."""

    id: int
    file_name: str
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """An annotation file (https://cocodataset.org/#format-data, object detection).

    Ids, references between records and image sizes are checked on reading; a segmentation is checked when it is used.

    Attributes:
        path: the file, named in errors.
        images: by id, in ascending order.
        categories: name by id.
        annotations: the records of each image id, in file order, with ``iscrowd`` filled in.
    """

    path: Path
    images: Mapping[int, CocoImage]
    categories: Mapping[int, str]
    annotations: Mapping[int, tuple[Mapping[str, Any], ...]]
    _by_name: Mapping[str, CocoImage] = field(repr=False)

    @classmethod
    def from_file(cls, path: str | Path, annotations: bool = True) -> CocoDataset:
        """Read a JSON file, gzip-compressed or not.

        Args:
            path: the file.
            annotations: whether to read the annotations too; without them, memory does not grow with their number.

        Raises:
            DataError: a file that cannot be read or breaks the format, with the record and the reason.
        """
        path = as_path(path, "an annotation file", DataError)
        content = _content(path, annotations)
        if not isinstance(content, dict):
            raise DataError(f"{path} is not a COCO annotation file: it holds a {type(content).__name__}, not an object")
        images: dict[int, CocoImage] = {}
        for where, record in _records(path, content, "images"):
            name = record.get("file_name")
            if not isinstance(name, str) or not name:
                raise DataError(f"{where}: 'file_name' must be a text, got {name!r}")
            key = records.whole(record, "id", where)
            if key in images:
                raise DataError(f"{where}: the image id {key} is used twice")
            size = records.whole(record, "height", where, 1), records.whole(record, "width", where, 1)
            reason = refused_size(*size)
            if reason:
                raise DataError(f"{where}: {size[1]}x{size[0]} pixels, {reason}: scale it and its annotations down")
            images[key] = CocoImage(key, name, size)
        categories: dict[int, str] = {}
        for where, record in _records(path, content, "categories"):
            category = records.whole(record, "id", where, 0)
            if category in categories:
                raise DataError(f"{where}: the category id {category} is used twice")
            categories[category] = str(record.get("name", category))
        by_image: dict[int, list[Mapping[str, Any]]] = {image: [] for image in images}
        ids: set[Any] = set()
        for where, record in _records(path, content, "annotations"):
            image_id, category = records.whole(record, "image_id", where), records.whole(record, "category_id", where)
            if image_id not in images:
                raise DataError(f"{where}: there is no image with the id {image_id}")
            own = record.get("id")
            if isinstance(own, int | str):
                if own in ids:
                    raise DataError(f"{where}: the annotation id is used twice")
                ids.add(own)
            if category not in categories:
                raise DataError(f"{where}: there is no category with the id {category}")
            if record.get("bbox") is not None:
                records.box(record, where)
            if record.get("area") is not None:
                records.number(record["area"], "'area'", where)
            crowd = {"image_id": image_id, "category_id": category, "iscrowd": int(bool(record.get("iscrowd", 0)))}
            by_image[image_id].append(MappingProxyType({**record, **crowd}))
        return cls(
            path,
            MappingProxyType({key: images[key] for key in sorted(images)}),
            MappingProxyType({key: categories[key] for key in sorted(categories)}),
            MappingProxyType({key: tuple(by_image[key]) for key in sorted(images)}),
            MappingProxyType({image.file_name: image for image in images.values()}),
        )

    def image(self, key: int | str) -> CocoImage:
        """The image of an id or a file name.

        Raises:
            DataError: no such image.
        """
        image = self._by_name.get(key) if isinstance(key, str) else self.images.get(int(key))
        if image is None:
            raise DataError(f"{self.path} has no image {key!r}")
        return image

    def find(self, file_name: str) -> CocoImage | None:
        """The image of a file name; None where there is none."""
        return self._by_name.get(file_name)

    def instances(self, image: int | str, crowds: bool = False) -> Instances:
        """The annotated objects of an image.

        Args:
            image: id or file name.
            crowds: whether to include regions marked ``iscrowd``, which stand for many objects.

        Returns:
            `Instances` with scores 1; boxes are the annotated ones, or tight around the mask where there is none.

        Raises:
            DataError: no such image, or a segmentation that breaks the format, with the record and the reason.
        """
        info = self.image(image)
        chosen = [record for record in self.annotations[info.id] if crowds or not record["iscrowd"]]
        parts = [self._instance(record, info) for record in chosen]
        if not parts:
            return Instances.empty(info.size)
        return Instances(
            info.size,
            np.concatenate([part.boxes for part in parts]),
            np.ones(len(parts), np.float32),
            np.array([record["category_id"] for record in chosen], np.int64),
            tuple(part.windows[0] for part in parts),
        )

    def _instance(self, record: Mapping[str, Any], info: CocoImage) -> Instances:
        try:
            mask = segmentation_to_mask(record.get("segmentation"), *info.size)
            boxes = None
            if record.get("bbox") is not None:
                x, y, width, height = record["bbox"]
                boxes = np.array([[x, y, x + width, y + height]], np.float32)
            return Instances.from_masks(mask, boxes=boxes)
        except CrispmaskError as error:
            raise DataError(f"{self.path}: annotation {record.get('id')!r} of {info.file_name}: {error}") from None


def _content(path: Path, annotations: bool) -> Any:
    """The lists of records that a file holds, that of annotations empty where they are not wanted."""
    with open_stream(path) as file:
        stream = JsonStream(file, str(path))
        if stream.peek() == "[":
            return []
        if stream.peek() != "{":
            return stream.value().content
        content: dict[str, Any] = {} if annotations else {"annotations": []}
        for key in stream.members():
            if key not in ("images", "categories", "annotations")[: 2 + annotations]:
                stream.skip()
            elif stream.peek() == "[":
                content[key] = _list(path, key, stream)
            else:
                content[key] = stream.value().content
        stream.end()
    return content


def _list(path: Path, key: str, stream: JsonStream) -> list[dict[str, Any]]:
    """The records of the next list, which is under `key`."""
    found = []
    for k, value in enumerate(stream.elements()):
        if not isinstance(value.content, dict):
            raise DataError(f"{path}: {key}[{k}] must be an object, got {type(value.content).__name__}")
        found.append(value.content)
    return found


def _records(path: Path, content: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The list under `key`, each record with a text that names it in errors."""
    found = content.get(key)
    if not isinstance(found, list):
        raise DataError(f"{path} is not a COCO annotation file: {key!r} must be a list of records")
    return ((f"{path}: {key}[{k}] (id {record.get('id')!r})", record) for k, record in enumerate(found))
