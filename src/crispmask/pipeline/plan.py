"""The records of a results file, checked, by their places in the file and by their photos."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from crispmask.coco.images import ImageFolder
from crispmask.coco.results import check_mask, check_own_id, check_result
from crispmask.coco.stream import JsonStream, Value
from crispmask.errors import CrispmaskError, DataError
from crispmask.pipeline.journal import stamp

_CHECKED = {"image_id", "category_id", "bbox", "score", "segmentation"}


class Photo(NamedTuple):
    """A photo that records are of; `reason` says why they cannot be refined where that is so."""

    path: Path
    size: tuple[int, int]
    stamp: list[int] | None
    reason: str


@dataclass
class Plan:
    """The usable records: their numbers in the file, and by number their place and photo.

    Arrays instead of objects: 36 000 records are one megabyte.
    """

    file: BinaryIO
    source: Path
    photos: list[Photo] = field(default_factory=list)
    numbers: array[int] = field(default_factory=lambda: array("q"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    owner: array[int] = field(default_factory=lambda: array("q"))
    below: int = 0
    lock: Lock = field(default_factory=Lock)

    @classmethod
    def make(cls, file: BinaryIO, source: Path, photos: ImageFolder, score: float, bad: Callable[[str], None]) -> Plan:
        """Read and check every record; `bad` is told of those that cannot be refined."""
        plan = cls(file, source)
        index: dict[int, int] = {}
        ids: dict[Any, int] = {}
        for k, value in enumerate(_records(file, source, bad)):
            where, record = f"{source}: result {k}", value.content
            owner = -1
            try:
                check_result(record, where)
                check_own_id(record, k, ids, where)
                if score and record["score"] < score:
                    plan.below += 1
                else:
                    owner = plan._owner(record, where, photos, index)
                    check_mask(record, where, plan.photos[owner].size)
                    _check_rest(record, where)
            except CrispmaskError as error:
                bad(str(error))
                owner = -1
            plan.offsets.append(value.offset)
            plan.lengths.append(value.length)
            plan.owner.append(owner)
            if owner >= 0:
                plan.numbers.append(k)
        return plan

    def _owner(self, record: Mapping[str, Any], where: str, photos: ImageFolder, index: dict[int, int]) -> int:
        """The number of the record's photo."""
        image_id, category = int(record["image_id"]), record["category_id"]
        if image_id not in index:
            index[image_id] = len(self.photos)
            try:
                path = photos.path(image_id)
                self.photos.append(Photo(path, photos.size(image_id), stamp(path), ""))
            except CrispmaskError as error:
                self.photos.append(Photo(photos.folder, (0, 0), None, str(error)))
        photo = self.photos[index[image_id]]
        if photo.reason:
            raise DataError(f"{where}: {photo.reason}")
        if photos.dataset is not None and category not in photos.dataset.categories:
            raise DataError(f"{where}: there is no category with the id {category} in {photos.dataset.path}")
        return index[image_id]

    def photo_of(self, k: int) -> Photo:
        """The photo of record k."""
        return self.photos[self.owner[k]]

    def record(self, k: int) -> dict[str, Any]:
        """Record k, from the file."""
        with self.lock:
            self.file.seek(self.offsets[k])
            content = self.file.read(self.lengths[k])
        record: dict[str, Any] = json.loads(content)
        return record

    def groups(self) -> Iterator[list[int]]:
        """The numbers of each photo's records, in the order in which the photos first appear."""
        numbers = np.array(self.numbers, np.int64)
        owners = np.array(self.owner, np.int64)[numbers]
        order = np.argsort(owners, kind="stable")
        edges = np.flatnonzero(np.diff(owners[order])) + 1
        return (group.tolist() for group in np.split(numbers[order], edges) if len(group))


def _records(file: BinaryIO, source: Path, bad: Callable[[str], None]) -> Iterator[Value]:
    """The records of a results file; where it breaks off, `bad` is told and the records before it count."""
    stream = JsonStream(file, str(source))
    if stream.peek() != "[":
        hint = "; of annotations, crispmask convert makes results" if stream.peek() == "{" else ""
        raise DataError(f"{source} is not a COCO results file: it must hold a list of records{hint}")
    elements = stream.elements()
    k = 0
    while True:
        stream.source = f"{source}: result {k}"
        try:
            value = next(elements, None)
            if value is None:
                stream.end()
                return
        except DataError as error:
            bad(f"{error}, and nothing after it can be read")
            return
        yield value
        k += 1


def _check_rest(record: Mapping[str, Any], where: str) -> None:
    """Fields that are passed on must be JSON."""
    rest = {key: value for key, value in record.items() if key not in _CHECKED}
    try:
        json.dumps(rest, allow_nan=False)
    except (ValueError, RecursionError):
        raise DataError(f"{where} holds NaN or infinity, or lists too deep for JSON") from None
