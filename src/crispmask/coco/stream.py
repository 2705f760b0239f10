"""JSON files read value by value, so that memory does not grow with the file.

The standard library's decoder parses. This module adds a buffer, and the offset of each value in the file, with which
the value can be read again later. (ijson streams too, but does not give offsets.)
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from sys import intern
from tempfile import TemporaryFile
from typing import Any, BinaryIO, NamedTuple, cast

from crispmask.errors import DataError
from crispmask.structured import TOO_DEEP, Unsound, sound

CHUNK = 1 << 18
MAX_VALUE = 1 << 26
"""Bytes of the longest value that is read; no RLE of a real mask is longer."""

MAX_RATIO, ALWAYS = 100, 1 << 26
"""A gzip file may hold so many times its size, or so many bytes: 64 MB. COCO files hold 5 to 20 times, zeros 1000."""

_SPACE = " \t\r\n"


class Value(NamedTuple):
    """A JSON value, the offset of its first byte in the file, and its number of bytes."""

    content: Any
    offset: int
    length: int


class JsonStream:
    """Reads a JSON text in the order of the file; the caller asks for the next value.

    Args:
        file: bytes in UTF-8, read from where they are.
        source: named in errors.

    Raises:
        DataError: from every method, where the text is not valid JSON.
    """

    def __init__(self, file: BinaryIO, source: str) -> None:
        self.source = source
        self._file, self._decoder = file, json.JSONDecoder(object_pairs_hook=_object)
        # Decoded as Latin-1, each byte is a character; JSON's own characters are the same in UTF-8.
        self._text, self._at, self._before, self._ended = "", 0, 0, False
        self._grow()
        if self._text.startswith("\xef\xbb\xbf"):  # byte order mark of UTF-8
            self._at = 3
        elif "\0" in self._text[:4] or self._text.startswith(("\xff\xfe", "\xfe\xff")):
            raise DataError(f"{source} is not valid JSON: it is not in UTF-8")

    def peek(self) -> str:
        """The next character that is not white space, "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._grow()

    def value(self) -> Value:
        """The next value."""
        self.peek()
        while True:
            try:
                content, end = self._decoder.raw_decode(self._text, self._at)
                reason = "a value is too long"
                if end + 2 < len(self._text) or self._ended:  # else a number may go on, as in 1e+|5
                    break
            except (ValueError, RecursionError) as error:
                reason = self._reason(error)
            if self._ended or len(self._text) - self._at > MAX_VALUE:
                raise self._invalid(reason)
            self._grow()
        text, start = self._text[self._at : end], self._at
        self._at = end
        try:
            if not text.isascii():
                content = json.loads(text.encode("latin-1").decode("utf-8"), object_pairs_hook=_object)
            content = sound(content)
        except Unsound as error:
            raise self._invalid(str(error)) from None
        except ValueError:
            raise self._invalid("a text is not in UTF-8") from None
        return Value(content, self._before + start, end - start)

    def elements(self) -> Iterator[Value]:
        """The values of the next list."""
        self._take("[")
        if self.peek() != "]":
            yield self.value()
            while self.peek() != "]":
                self._take(",")
                yield self.value()
        self._take("]")

    def members(self) -> Iterator[str]:
        """The names in the next object; the caller reads each name's value before asking for another name."""
        self._take("{")
        while self.peek() != "}":
            name = str(self.value().content)
            self._take(":")
            yield name
            if self.peek() != "}":
                self._take(",")
        self._take("}")

    def skip(self) -> None:
        """Skip the next value; a list element by element."""
        if self.peek() == "[":
            for _ in self.elements():
                pass
        else:
            self.value()

    def end(self) -> None:
        """Raise DataError unless the file ends here."""
        if self.peek():
            raise self._invalid("something follows after the end")

    def _take(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise self._invalid(f"expected {character!r}, got {found!r}" if found else "the file is cut short")
        self._at += 1

    def _grow(self) -> None:
        """Remove what was read from the buffer, and read at least as much again as is left."""
        rest = self._text[self._at :]
        try:
            more = self._file.read(max(CHUNK, len(rest)))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"cannot read {self.source}: the gzip file is damaged ({error})") from None
        self._before += self._at
        self._text, self._at, self._ended = rest + more.decode("latin-1"), 0, not more

    def _reason(self, error: Exception) -> str:
        """The decoder's message, without its position, which is that in the buffer."""
        if isinstance(error, RecursionError):
            return TOO_DEEP
        if not isinstance(error, json.JSONDecodeError):
            return "a number has more than 4300 digits"
        at_end = error.pos >= len(self._text.rstrip()) or error.msg.startswith("Unterminated string")
        return "the file is cut short" if self._ended and at_end else error.msg[:1].lower() + error.msg[1:]

    def _invalid(self, reason: str) -> DataError:
        return DataError(f"{self.source} is not valid JSON at byte {self._before + self._at}: {reason}")


def open_stream(path: Path) -> BinaryIO:
    """A file for reading in order, decompressed where its content is gzip.

    Raises:
        DataError: a file that cannot be opened.
    """
    file = _open(path)
    return cast(BinaryIO, _Unpacked(file, path)) if _packed(file) else file


def open_plain(path: Path) -> BinaryIO:
    """A file for reading at any offset; for a gzip-compressed one (by its content), a decompressed copy.

    The copy is a temporary file without a name, which disappears when the process ends.

    Raises:
        DataError: a file that cannot be read.
    """
    file = _open(path)
    if not _packed(file):
        return file
    copy = TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with _Unpacked(file, path) as content:
            shutil.copyfileobj(content, copy, CHUNK)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        copy.close()
        raise DataError(f"cannot read {path}: the gzip file is damaged ({error})") from None
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


class _Unpacked(gzip.GzipFile):
    """The content of a gzip file, read piece by piece.

    Raises:
        DataError: on reading, where there is more of it than any COCO file holds.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._packed_file, self._path, self._given = file, path, 0
        self._most = max(ALWAYS, MAX_RATIO * os.fstat(file.fileno()).st_size)

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self._given += len(content)
        if self._given > self._most:
            raise DataError(
                f"{self._path} holds more than {MAX_RATIO} times its size, the limit for gzip files: unpack it first, "
                "and give the unpacked file"
            )
        return content

    def close(self) -> None:
        super().close()
        self._packed_file.close()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; the names that records have in common are in memory once."""
    return {intern(name): value for name, value in pairs}


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # a name that no file can have
        raise DataError(f"cannot read {str(path)!r}: {error}") from None


def _packed(file: BinaryIO) -> bool:
    """Whether a file is gzip-compressed: the content decides, not the name."""
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return packed
