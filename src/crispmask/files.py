"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
