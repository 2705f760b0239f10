"""JSON files of records, with errors that say which file, which record and why."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crispmask.coco.stream import CHUNK, open_stream
from crispmask.errors import DataError
from crispmask.structured import parse_json


def read_json(path: str | Path) -> Any:
    """The content of a JSON file, gzip-compressed or not (the content decides, not the name).

    Raises:
        DataError: a file that is missing or not JSON.
    """
    path = Path(path)
    try:
        with open_stream(path) as file:
            content = b"".join(iter(lambda: file.read(CHUNK), b""))
    except OSError as error:
        # gzip's own complaints are OSErrors without strerror.
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: the gzip file is damaged ({error})") from None
    return parse_json(content, path)


def whole(record: Mapping[str, Any], key: str, where: str, low: int | None = None) -> int:
    """A whole number of at most 63 bits, at least `low`."""
    value = record.get(key)
    # Some tools write 17.0 or "17" for an id; only the first is the same number.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise DataError(f"{where}: {key!r} must be a whole number, got {value!r}")
    if low is not None and value < low:
        raise DataError(f"{where}: {key!r} must be at least {low}, got {value!r}")
    return value


def number(value: Any, name: str, where: str) -> float:
    """A finite number."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number beyond floats
        pass
    raise DataError(f"{where}: {name} must be a finite number, got {value!r}")


def box(record: Mapping[str, Any], where: str) -> list[float]:
    """The record's ``bbox`` as [x, y, width, height] in pixels, sides not negative."""
    value = record["bbox"]
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise DataError(f"{where}: 'bbox' must be [x, y, width, height], got {value!r}")
    sides = [number(v, "'bbox'", where) for v in value]
    if sides[2] < 0 or sides[3] < 0:
        raise DataError(f"{where}: 'bbox' has a negative width or height: {value!r}")
    return sides
