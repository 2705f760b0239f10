"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from crispmask.errors import DataError


@contextmanager
def replacing(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """A temporary path beside `path`; when the block succeeds, it takes the place of `path`, else it is removed.

    Args:
        path: the file.
        folder: where the temporary one lies instead: on the same disk, and there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not made from the name: that may be as long as names can be, and another thread may write the same file.
    partial = (folder or path.parent) / f".{secrets.token_hex(8)}.part"
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; when the block succeeds, it takes the place of `path`, else it is removed.

    Raises:
        DataError: something is there already, save an empty folder: old files would mix with new ones.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise DataError(f"{path} is there already: name a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.rmdir()  # Windows does not rename onto a folder, even an empty one
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def relative_parts(name: str) -> tuple[str, ...]:
    """The parts of a file name that comes from a file, with slashes or backslashes between folders.

    Raises:
        DataError: a name that leads out of the folder that it is relative to, by ``..`` or as an absolute path.
    """
    # What is absolute or a step up on any system is refused on every one.
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in parts or "\0" in name:
        raise DataError(f"the file name {name!r} leads out of its folder")
    return parts


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path) as partial:
        partial.write_bytes(content)
