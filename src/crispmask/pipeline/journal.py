"""The journal of a run: what was finished before an interruption, and with which settings."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from crispmask.errors import ParamsError

_CHECKSUMS = {
    "detector": "another detector",
    "results": "another results file",
    "annotations": "another annotation file",
}
"""Settings whose values say nothing to a reader."""


def refuse_other_settings(where: object, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise ParamsError where the unfinished run in a folder has other settings than the one that would go on."""
    new = json.loads(json.dumps(new))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if changed:
        key = changed[0]
        what = _CHECKSUMS.get(key, f"{key} was {old.get(key)!r}, is {new.get(key)!r}")
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ParamsError(
            f"{where} holds an unfinished run with other settings ({what}{more}): repeat the command "
            "that began it, choose another output, or begin anew with --restart"
        )


class Journal(Mapping[Hashable, dict[str, Any]]):
    """An append-only file of JSON lines: the settings, then one record per finished piece of work, by its ``name``.

    It is created with its first record. A last line that was cut off by a crash is dropped. Records stay in the file
    and are read when they are asked for; of two with one name, the later counts.

    Args:
        path: the file.
        settings: what decides the results; only a journal with the same settings is continued.
        restart: drop a journal that is there.

    Raises:
        ParamsError: a journal of other settings, with what differs.
    """

    def __init__(self, path: Path, settings: dict[str, Any], restart: bool = False) -> None:
        self.path, self.settings = path, settings
        self._places: dict[Hashable, int] = {}
        self._writing: BinaryIO | None = None
        self._reading: BinaryIO | None = None
        self._good = 0  # bytes of the file that are whole lines
        if restart:
            path.unlink(missing_ok=True)
        elif path.exists():
            self._read()

    def __getitem__(self, name: Hashable) -> dict[str, Any]:
        place = self._places[name]
        if self._reading is None:
            self._reading = self.path.open("rb")
        self._reading.seek(place)
        content: dict[str, Any] = json.loads(self._reading.readline())
        return content

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

    def _read(self) -> None:
        with self.path.open("rb") as file:
            for k, line in enumerate(file):
                if not line.endswith(b"\n"):
                    return
                try:
                    content = json.loads(line)
                    if k:
                        self._places[content["name"]] = self._good
                    else:
                        refuse_other_settings(self.path.parent, dict(content["settings"]), self.settings)
                except (ValueError, KeyError, TypeError) as error:
                    if isinstance(error, ParamsError):
                        raise
                    what = f"{self.path} is not a journal of crispmask: remove it, or add --restart"
                    raise ParamsError(what) from None
                self._good += len(line)

    def _write(self, content: dict[str, Any]) -> None:
        assert self._writing is not None
        self._good += self._writing.write((json.dumps(content, separators=(",", ":")) + "\n").encode())


def stamp(path: Path) -> list[int] | None:
    """Size and time of a file: another file under the same name is not taken for the one that was finished."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
