"""Detections in COCO's results format (https://cocodataset.org/#format-results)."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crispmask.arguments import as_path
from crispmask.coco import records as checks
from crispmask.coco.rle import check_segmentation, segmentation_to_window, window_to_rle
from crispmask.coco.stream import JsonStream, open_stream
from crispmask.errors import CrispmaskError, DataError
from crispmask.files import replacing
from crispmask.instances import Instances

# Enough digits to keep the order of a float32 network's scores in practice.
SCORE_DIGITS = 6
BOX_DIGITS = 2


def instances_to_results(instances: Instances, image_id: int) -> list[dict[str, Any]]:
    """Instances as records that JSON can hold.

    Args:
        instances: the objects of one image.
        image_id: the data set's id of that image.

    Returns:
        One mapping per instance: ``image_id``, ``category_id``, ``bbox`` [x, y, width, height] in pixels rounded to
        hundredths, ``score`` rounded to six digits, ``segmentation`` as compressed RLE of the full image.
    """
    found = []
    for i in range(len(instances)):
        x0, y0, x1, y1 = (float(v) for v in instances.boxes[i])
        found.append(
            {
                "image_id": int(image_id),
                "category_id": int(instances.category_ids[i]),
                "bbox": [round(v, BOX_DIGITS) for v in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(float(instances.scores[i]), SCORE_DIGITS),
                "segmentation": window_to_rle(instances.windows[i], *instances.image_size),
            }
        )
    return found


def results_to_instances(records: Sequence[Mapping[str, Any]], height: int, width: int) -> Instances:
    """The records of one image as instances.

    Args:
        records: as `instances_to_results` writes them; ``bbox`` may be missing (tight around the mask then), and
            ``segmentation`` may be in any of COCO's encodings.
        height: H of the image, pixels.
        width: W of the image, pixels.

    Raises:
        DataError: a record that breaks the format, by its number and the reason.
    """
    windows, boxes, scores, categories = [], [], [], []
    for k, record in enumerate(records):
        where = f"result {k}"
        check_has_mask(record, where)
        try:
            window = segmentation_to_window(record["segmentation"], height, width)
        except CrispmaskError as error:
            raise DataError(f"{where}: {error}") from None
        if record.get("bbox") is None:
            boxes.append([float(side) for side in window.mask_box])
        else:
            x, y, w, h = checks.box(record, where)
            boxes.append([x, y, x + w, y + h])
        scores.append(checks.number(record.get("score"), "'score'", where))
        categories.append(checks.whole(record, "category_id", where))
        windows.append(window)
    try:
        return Instances(
            (height, width),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(categories, np.int64),
            tuple(windows),
        )
    except CrispmaskError as error:
        raise DataError(f"results: {error}") from None


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """The records of a results file, gzip-compressed or not; masks are checked when they are decoded.

    Raises:
        DataError: a file that cannot be read, or a record without image id, category id or score.
    """
    found: list[dict[str, Any]] = []
    seen: dict[Any, int] = {}
    with open_stream(as_path(path, "a results file", DataError)) as file:
        stream = JsonStream(file, str(path))
        if stream.peek() != "[":
            if stream.peek() != "{":
                stream.value()
            raise DataError(f"{path} is not a COCO results file: it must hold a list of records")
        for k, value in enumerate(stream.elements()):
            check_result(value.content, f"{path}: result {k}")
            check_own_id(value.content, k, seen, f"{path}: result {k}")
            found.append(value.content)
        stream.end()
    return found


def images_file_beside(results: Path) -> Path | None:
    """``images.json`` in the folder of a results file, which names the files of its image ids; None without one."""
    path = results.with_name("images.json")
    return path if path.is_file() else None


def check_results(records: Iterable[Any], source: str) -> None:
    """Raise DataError, naming `source`, for a record without whole ids, a score, a usable box, or an id of its own."""
    seen: dict[Any, int] = {}
    for k, record in enumerate(records):
        check_result(record, f"{source}: result {k}")
        check_own_id(record, k, seen, f"{source}: result {k}")


def check_result(record: Any, where: str) -> None:
    """Raise DataError, beginning with `where`, for a record without whole ids, a score, or a usable box."""
    if not isinstance(record, Mapping):
        raise DataError(f"{where} must be an object, got {type(record).__name__}")
    checks.whole(record, "image_id", where)
    checks.whole(record, "category_id", where)
    checks.number(record.get("score"), "'score'", where)
    if record.get("bbox") is not None:
        checks.box(record, where)


def check_own_id(record: Mapping[str, Any], number: int, seen: dict[Any, int], where: str) -> None:
    """Raise DataError, beginning with `where`, for an ``id`` that an earlier record has; `seen` is their numbers by id.

    Results need no ids: where they have some, two that are equal are one detection that was written twice.
    """
    own = record.get("id")
    if isinstance(own, int | str) and seen.setdefault(own, number) != number:
        raise DataError(f"{where}: the id {own!r} is used twice, first by result {seen[own]}")


def is_box_only(record: Mapping[str, Any]) -> bool:
    """Whether a record has a box and no mask."""
    return record.get("segmentation") is None and record.get("bbox") is not None


def check_has_mask(record: Mapping[str, Any], where: str) -> None:
    """Raise DataError, beginning with `where`, for a record without a mask."""
    if record.get("segmentation") is None:
        raise DataError(f"{where} has no 'segmentation': masks are needed, not only boxes")


def check_mask(record: Mapping[str, Any], where: str, size: tuple[int, int], *, box_suffices: bool = False) -> None:
    """Raise DataError, beginning with `where`, for a record whose mask or box does not fit an image of (H, W) pixels.

    The mask is not made, which saves most of the time. With `box_suffices`, a record may have a
    ``bbox`` and no ``segmentation``; the box must then cover a pixel of the image.
    """
    if not is_box_only(record):
        check_has_mask(record, where)
        try:
            check_segmentation(record["segmentation"], *size)
        except CrispmaskError as error:
            raise DataError(f"{where}: {error}") from None
    elif not box_suffices:
        check_has_mask(record, where)
    else:
        x, y, width, height = checks.box(record, where)
        if min(x + width, size[1]) - max(x, 0) < 1 or min(y + height, size[0]) - max(y, 0) < 1:
            raise DataError(
                f"{where}: 'bbox' {record['bbox']!r} covers less than one pixel of the image of {size[0]}x{size[1]} "
                "pixels (height x width)"
            )
    if record.get("bbox") is not None:
        x, y, width, height = checks.box(record, where)
        if x + width < 0 or y + height < 0 or x > size[1] or y > size[0] or max(width, height) > 1e9:
            raise DataError(
                f"{where}: 'bbox' {record['bbox']!r} lies outside the image of {size[0]}x{size[1]} pixels "
                "(height x width)"
            )


def write_results(path: str | Path, records: Iterable[Mapping[str, Any]], partial_in: Path | None = None) -> None:
    """Write records as JSON, one a line, in place of an older file only when complete.

    Args:
        path: the file; one that ends in ``.gz`` is compressed, with the same bytes for the same records.
        records: what JSON can hold, one by one.
        partial_in: folder for the unfinished file, on the same disk; by default that of `path`.

    Raises:
        DataError: a number that JSON cannot hold.
    """
    with results_writer(path, partial_in) as write:
        for record in records:
            write(record)


@contextmanager
def results_writer(path: str | Path, partial_in: Path | None = None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that writes one record, for as long as the block runs; otherwise as `write_results`."""
    path = Path(path)
    with replacing(path, partial_in) as partial, partial.open("wb") as raw:
        packed = gzip.GzipFile("", "wb", 6, raw, mtime=0) if path.suffix == ".gz" else raw
        with io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as file:
            before = "["

            def write(record: Mapping[str, Any]) -> None:
                nonlocal before
                try:
                    line = json.dumps(record, separators=(",", ":"), allow_nan=False)
                except (TypeError, ValueError) as error:
                    raise DataError(f"cannot write {path}: {error}") from None
                file.write(before + line)
                before = ",\n"

            yield write
            file.write("[]\n" if before == "[" else "]\n")
