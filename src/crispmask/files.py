"""Writing files so that neither a crash nor a second program at the same place leaves half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from crispmask.errors import DataError, ParamsError

LOCK = ".crispmask.lock"
"""The file by which a running program holds a folder."""

_ATTEMPTS = 100
"""So often making a folder is tried while others remove it; then it is one that cannot be made."""


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


def remove_partial_files(folder: Path, *, below: bool = False) -> None:
    """Remove what `replacing` leaves in a folder when its process is killed. Nobody else may be writing there.

    Args:
        folder: which need not be there.
        below: also in its folders.
    """
    for path in folder.rglob(".*.part") if below else folder.glob(".*.part"):
        path.unlink(missing_ok=True)


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
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise DataError(f"{name!r} cannot be the name of a file") from None
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
    """Write UTF-8 text atomically; "?" stands for what is no text, such as bytes of a file name (`os.fsdecode`)."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path) as partial:
        partial.write_bytes(content)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process while the block runs; it is created where needed.

    The operating system lets go of the lock when the process ends, however it ends. A folder that was created for the
    lock and is still empty at the end is removed. On file systems without locks, such as some network drives, nothing
    is held.

    Raises:
        DataError: another process holds it, or another block of this one; the message says which process.
    """
    folder = Path(folder)
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    file = _acquire(folder)
    try:
        yield
    finally:
        # Removed while it is locked, so that another process that has it open sees that it is no longer at its path.
        # Windows does not remove open files.
        if sys.platform == "win32":
            os.close(file)
        with suppress(OSError):
            (folder / LOCK).unlink()
        if sys.platform != "win32":
            os.close(file)
        with suppress(OSError):
            for path in created:
                path.rmdir()


def _acquire(folder: Path) -> int:
    """The open and locked file of a folder."""
    path = folder / LOCK
    refused = 0
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except (FileExistsError, FileNotFoundError):  # another process has just removed the folder, or it cannot be
            refused += 1
            if refused == _ATTEMPTS:
                raise
            continue
        try:
            _lock(file)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                holder = os.read(file, 200).decode(errors="replace").strip() or "another process"
                os.close(file)
                raise DataError(f"{folder} is in use by {holder}: wait until it has ended") from None
        if _is_at(file, path):
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return file
        os.close(file)


def _lock(file: int) -> None:
    """Lock an open file; OSError where it is locked."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, 1 << 30, os.SEEK_SET)  # beyond the text, which other processes read
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one at a path, rather than one that was removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def difference(old: Mapping[str, Any], new: Mapping[str, Any], named: Mapping[str, str] | None = None) -> str | None:
    """What differs between the settings of two runs, in words; None where they are the same.

    Args:
        old: of the earlier run, as read from JSON.
        new: of the later run.
        named: what to say of a setting instead of its two values, where these say nothing to a reader.
    """
    new = json.loads(json.dumps(dict(new)))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if not changed:
        return None
    key = changed[0]
    values = f"{key} was {old.get(key)!r}, is {new.get(key)!r}"
    what = (named or {}).get(key, values if len(values) < 400 else f"another {key}")
    more = len(changed) - 1
    return what + (f"; {more} more setting{'s' * (more > 1)} differ{'s' * (more == 1)}" if more else "")


def refuse_other_settings(
    where: object, old: Mapping[str, Any], new: Mapping[str, Any], named: Mapping[str, str] | None = None
) -> None:
    """Refuse to go on with unfinished work that was begun with other settings.

    Args:
        where: the file or folder that holds the unfinished work.
        old, new, named: as for `difference`.

    Raises:
        ParamsError: with the first setting that differs.
    """
    what = difference(old, new, named)
    if what is not None:
        raise ParamsError(
            f"{where} holds an unfinished run with other settings ({what}): repeat the command that began it, choose "
            "another output, or begin anew with --restart"
        )
