"""The journal of a run: what was finished before an interruption, and with which settings."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from crispmask.errors import ParamsError


def refuse_other_settings(folder: object, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise ParamsError where an unfinished run in `folder` has other settings than the one that would go on."""
    new = json.loads(json.dumps(new))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if changed:
        key = changed[0]
        what = f"{key} was {old.get(key)!r}, is {new.get(key)!r}" if key != "detector" else "another detector"
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ParamsError(
            f"{folder} holds an unfinished run with other settings ({what}{more}): repeat the command "
            "that began it, choose another folder, or begin anew with --restart"
        )


class Journal:
    """An append-only file of JSON lines: the settings, then one record per finished photo.

    It is created with its first record. A last line that was cut off by a crash is dropped.

    Args:
        path: the file.
        settings: what decides the results; only a journal with the same settings is continued.
        restart: drop a journal that is there.

    Attributes:
        records: the finished photos' records by their ``name``.

    Raises:
        ParamsError: a journal of other settings, with what differs.
    """

    def __init__(self, path: Path, settings: dict[str, Any], restart: bool = False) -> None:
        self.path, self.settings = path, settings
        self.records: dict[str, dict[str, Any]] = {}
        self._file: TextIO | None = None
        self._good = 0  # bytes of the old journal that are whole lines
        if restart:
            path.unlink(missing_ok=True)
        elif path.exists():
            self._read()

    def _read(self) -> None:
        for k, line in enumerate(self.path.read_bytes().splitlines(keepends=True)):
            if not line.endswith(b"\n"):
                return
            try:
                content = json.loads(line)
                if k:
                    self.records[content["name"]] = content
                else:
                    refuse_other_settings(self.path.parent, dict(content["settings"]), self.settings)
            except (ValueError, KeyError, TypeError) as error:
                if isinstance(error, ParamsError):
                    raise
                raise ParamsError(f"{self.path} is not a journal of crispmask: remove it, or add --restart") from None
            self._good += len(line)

    def append(self, record: dict[str, Any]) -> None:
        """Add the record of a finished photo, which must have a ``name``."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8", newline="\n")
            self._file.truncate(self._good)
            if not self._good:
                self._write({"settings": self.settings})
        self._write(record)
        self.records[record["name"]] = record

    def _write(self, content: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(content, separators=(",", ":")) + "\n")
        self._file.flush()

    def remove(self) -> None:
        """The run is complete: delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the journal stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
