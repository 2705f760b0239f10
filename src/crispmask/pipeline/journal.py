"""The journal of a run: what was finished before an interruption, and with which settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from crispmask.errors import DataError, ParamsError
from crispmask.files import refuse_other_settings
from crispmask.structured import parse_json

CHECKSUMS = {
    "detector": "another detector",
    "results": "another results file",
    "annotations": "another annotation file",
}
"""What to say of settings whose values are checksums."""


class Journal(Mapping[Hashable, dict[str, Any]]):
    """An append-only file of JSON lines: the settings, then one record per finished piece of work, by its ``name``.

    It is created with its first record. A last line that was cut off by a crash is dropped. Records stay in the file
    and are read when they are asked for; of two with one name, the later counts. Whoever writes it holds its folder
    (`crispmask.files.locked`).

    Args:
        path: the file.
        settings: what decides the results; only a journal with the same settings is continued.
        restart: drop a journal that is there.
        usable: whether a record that is there still counts; one that does not is not among the items.

    Raises:
        ParamsError: a journal of other settings, with what differs; or a file that is no journal or is damaged.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        restart: bool = False,
        usable: Callable[[dict[str, Any]], bool] = lambda record: True,
    ) -> None:
        self.path, self.settings = path, dict(settings)
        self._places: dict[Hashable, int] = {}
        self._writing: BinaryIO | None = None
        self._reading: BinaryIO | None = None
        self._good = 0  # bytes of the file that are whole lines
        if restart:
            path.unlink(missing_ok=True)
        elif path.exists():
            self._load(usable)

    def __getitem__(self, name: Hashable) -> dict[str, Any]:
        place = self._places[name]
        if self._reading is None:
            self._reading = self.path.open("rb")
        self._reading.seek(place)
        try:
            content: dict[str, Any] = parse_json(self._reading.readline(), self.path)
            if content["name"] == name:
                return content
        except (ValueError, LookupError, TypeError):
            pass
        raise DataError(f"{self.path} was changed by another program while it was in use: begin anew with --restart")

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def append(self, *records: dict[str, Any]) -> None:
        """Add the records of finished work, each of which must have a ``name``."""
        if self._writing is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writing = self.path.open("ab")
            self._writing.truncate(self._good)
            if not self._good:
                self._write({"settings": self.settings})
        for record in records:
            self._places[record["name"]] = self._good
            self._write(record)
        self._writing.flush()

    def remove(self) -> None:
        """The run is complete: delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the journal stays."""
        for file in (self._writing, self._reading):
            if file is not None:
                file.close()
        self._writing = self._reading = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _load(self, usable: Callable[[dict[str, Any]], bool]) -> None:
        with self.path.open("rb") as file:
            for k, line in enumerate(file):
                if not line.endswith(b"\n"):
                    return
                try:
                    content = parse_json(line, self.path)
                    if k:
                        self._places.pop(content["name"], None)
                        if usable(content):
                            self._places[content["name"]] = self._good
                    else:
                        refuse_other_settings(self.path.parent, dict(content["settings"]), self.settings, CHECKSUMS)
                except ParamsError:
                    raise
                except (ValueError, LookupError, TypeError):
                    what = f"is damaged in line {k + 1}" if k else "is not a journal of crispmask"
                    raise ParamsError(f"{self.path} {what}: remove it, or begin anew with --restart") from None
                self._good += len(line)

    def _write(self, content: dict[str, Any]) -> None:
        assert self._writing is not None
        self._good += self._writing.write((json.dumps(content, separators=(",", ":")) + "\n").encode())


def readable_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of any journal as far as they can be read; none where there is no such file."""
    try:
        with path.open("rb") as file:
            for line in file:
                content = parse_json(line, path)
                if isinstance(content, dict) and "name" in content:
                    yield content
    except (OSError, DataError):
        return


def stamp(path: Path) -> list[int] | None:
    """Size and time of a file: another file under the same name is not taken for the one that was finished."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
