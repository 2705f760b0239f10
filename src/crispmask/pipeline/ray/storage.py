"""Places by path or URL: local folders, object stores that pyarrow knows, and whatever fsspec adds."""

from __future__ import annotations

import json
import os
import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType, FSSpecHandler, LocalFileSystem, PyFileSystem, copy_files

from crispmask.errors import DataError
from crispmask.files import replacing
from crispmask.structured import parse_json


def is_url(source: str | Path) -> bool:
    """Whether a source is a URL such as ``s3://bucket/photos``, rather than a path of this machine."""
    return "://" in str(source)


@dataclass(frozen=True)
class Place:
    """A file or folder on a file system.

    Attributes:
        url: as the user wrote it, local paths made absolute.
        filesystem: pyarrow's view of where it is; can be sent to other machines.
        path: its path there.
    """

    url: str
    filesystem: FileSystem
    path: str

    @classmethod
    def of(cls, source: str | Path) -> Place:
        """The place of a path or URL; nothing needs to be there.

        Raises:
            DataError: a URL whose scheme neither pyarrow nor fsspec can open here.
        """
        if not is_url(source):
            path = os.path.abspath(source)  # noqa: PTH100 - resolve() would follow links
            return cls(path, LocalFileSystem(), path)
        url = str(source).rstrip("/")
        parts = urlsplit(url, allow_fragments=False)
        try:
            filesystem, root = _filesystem(parts.scheme, parts.netloc, parts.query)
        except (ArrowException, ImportError, OSError, ValueError) as error:
            raise DataError(f"cannot open {url}: {error}") from None
        if root is None:
            return cls(url, filesystem, filesystem.handler.fs._strip_protocol(url))
        rest = parts.path.strip("/")
        return cls(url, filesystem, posixpath.join(root, rest) if rest else root)

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return not is_url(self.url)

    def __truediv__(self, name: str) -> Place:
        base, query, options = self.url.partition("?")
        return Place(f"{base}/{name}{query}{options}", self.filesystem, f"{self.path}/{name}")

    @property
    def parent(self) -> Place:
        """The folder that holds it."""
        base, query, options = self.url.partition("?")
        return Place(base.rpartition("/")[0] + query + options, self.filesystem, self.path.rpartition("/")[0])

    def exists(self) -> bool:
        """Whether a file or folder is there."""
        return self.filesystem.get_file_info(self.path).type != FileType.NotFound

    def is_file(self) -> bool:
        """Whether a file is there."""
        return self.filesystem.get_file_info(self.path).type == FileType.File

    def read_bytes(self) -> bytes:
        """The content of the file. Raises OSError."""
        with self.filesystem.open_input_stream(self.path) as stream:
            return stream.read()

    def files(self) -> list[Place]:
        """The files below, with all sub-folders, sorted; none where there is no such folder."""
        found = self.filesystem.get_file_info(FileSelector(self.path, recursive=True, allow_not_found=True))
        paths = sorted(info.path for info in found if info.type == FileType.File)
        return [self / path[len(self.path) :].lstrip("/") for path in paths]

    def remove(self) -> None:
        """Remove the file or folder, if it is there."""
        kind = self.filesystem.get_file_info(self.path).type
        if kind == FileType.File:
            self.filesystem.delete_file(self.path)
        elif kind == FileType.Directory:
            self.filesystem.delete_dir(self.path)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A local file to fill; when the block succeeds, the whole of it takes this place."""
        if self.is_local:
            with replacing(Path(self.path)) as partial:
                yield partial
            return
        with tempfile.TemporaryDirectory() as folder:
            partial = Path(folder) / "file"
            yield partial
            # An object appears in its store when its upload is complete.
            copy_files(
                str(partial), self.path, source_filesystem=LocalFileSystem(), destination_filesystem=self.filesystem
            )

    @contextmanager
    def filling(self) -> Iterator[Path]:
        """A local folder; when the block succeeds, the files in it are in this one."""
        if self.is_local:
            yield Path(self.path)
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            copy_files(folder, self.path, source_filesystem=LocalFileSystem(), destination_filesystem=self.filesystem)

    def write_json(self, content: Any) -> None:
        """Write a JSON file atomically."""
        with self.writing() as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def read_json(self) -> Any:
        """The content of a JSON file.

        Raises:
            DataError: a file that cannot be read or is not JSON.
        """
        try:
            return parse_json(self.read_bytes(), self.url)
        except OSError as error:
            raise DataError(f"cannot read {self.url}: {error}") from None


@cache  # an S3 file system asks for the bucket's region
def _filesystem(scheme: str, host: str, query: str) -> tuple[FileSystem, str | None]:
    """The file system of a URL, and the path of its root there (None: fsspec's own rules)."""
    try:
        return FileSystem.from_uri(f"{scheme}://{host}/" + (f"?{query}" if query else ""))
    except ArrowException as error:
        if "Unrecognized filesystem" not in str(error):
            raise
    import fsspec

    return PyFileSystem(FSSpecHandler(fsspec.filesystem(scheme))), None
