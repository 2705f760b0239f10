"""The records of a results file, checked, by their places in the file and by their images."""

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
from crispmask.structured import parse_json

_CHECKED = {"image_id", "category_id", "bbox", "score", "segmentation"}


class RecordImage(NamedTuple):
    """An image that records are of; `reason` says why they cannot be refined where that is so."""

    path: Path
    size: tuple[int, int]
    stamp: list[int] | None
    reason: str


@dataclass
class RecordPlan:
    """The records that can be refined.

    Arrays instead of objects: 36 000 records are one megabyte.

    Attributes:
        file, source: the results file, opened, and its path.
        images: that the records are of.
        numbers: of the records that can be refined, from 0, in the order of the file.
        offsets, lengths: where each record of the file is, in bytes.
        owner: of each record, the number of its image in `images`; -1 where it cannot be refined.
        below: records left out for their score.
    """

    file: BinaryIO
    source: Path
    images: list[RecordImage] = field(default_factory=list)
    numbers: array[int] = field(default_factory=lambda: array("q"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    owner: array[int] = field(default_factory=lambda: array("q"))
    below: int = 0
    lock: Lock = field(default_factory=Lock)

    @classmethod
    def make(
        cls,
        file: BinaryIO,
        source: Path,
        folder: ImageFolder,
        score: float,
        bad: Callable[[str], None],
        *,
        box_suffices: bool = False,
    ) -> RecordPlan:
        """Read and check every record; `bad` is called with a sentence for each that cannot be refined.

        With `box_suffices`, records that have a box and no mask can be.
        """
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
                    owner = plan._owner(record, where, folder, index)
                    check_mask(record, where, plan.images[owner].size, box_suffices=box_suffices)
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

    def _owner(self, record: Mapping[str, Any], where: str, folder: ImageFolder, index: dict[int, int]) -> int:
        """The number of the record's image."""
        image_id, category = int(record["image_id"]), record["category_id"]
        if image_id not in index:
            index[image_id] = len(self.images)
            try:
                path = folder.path(image_id)
                self.images.append(RecordImage(path, folder.size(image_id), stamp(path), ""))
            except CrispmaskError as error:
                self.images.append(RecordImage(folder.folder, (0, 0), None, str(error)))
        image = self.images[index[image_id]]
        if image.reason:
            raise DataError(f"{where}: {image.reason}")
        if folder.dataset is not None and category not in folder.dataset.categories:
            raise DataError(f"{where}: there is no category with the id {category} in {folder.dataset.path}")
        return index[image_id]

    def image_of(self, k: int) -> RecordImage:
        """The image of record k."""
        return self.images[self.owner[k]]

    def record(self, k: int) -> dict[str, Any]:
        """Record k, from the file."""
        with self.lock:
            self.file.seek(self.offsets[k])
            content = self.file.read(self.lengths[k])
        record: dict[str, Any] = parse_json(content, self.source)
        return record

    def groups(self) -> Iterator[list[int]]:
        """The numbers of each image's records, in the order in which the images first appear."""
        numbers = np.array(self.numbers, np.int64)
        owners = np.array(self.owner, np.int64)[numbers]
        order = np.argsort(owners, kind="stable")
        edges = np.flatnonzero(np.diff(owners[order])) + 1
        return (group.tolist() for group in np.split(numbers[order], edges) if len(group))


def _records(file: BinaryIO, source: Path, bad: Callable[[str], None]) -> Iterator[Value]:
    """The records of a results file; where it breaks off, `bad` is called and the records before it count."""
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
