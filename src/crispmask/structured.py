"""JSON, TOML and YAML from files and requests, read in one place: size, depth, text and numbers are bounded.

Whatever was read holds at most `MAX_DEPTH` levels, whole numbers of at most 64 bits (larger ones become floats, as in
other readers of JSON), and text that can be written again: characters that belong in no text (NUL, half of a surrogate
pair) are replaced by U+FFFD. Halves that stand for a byte of a file name that is not UTF-8 (see `os.fsdecode`) stay, so
that the file is found again.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crispmask.errors import CrispmaskError, DataError, ParamsError

MAX_DEPTH = 64
"""Levels of lists and objects. COCO needs six; a chain of runs, each of which names the one before, three a run."""

MAX_TOML = 1 << 20
MAX_YAML = 1 << 18
"""Bytes of a file. The learned parameters have 40 kB; PyYAML reads a thousand class names, 20 kB, in 0.1 s."""

_LARGEST = 1 << 63
_NO_TEXT = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")

Kind = type[CrispmaskError]


def parse_json(content: bytes | str, source: object, error: Kind = DataError) -> Any:
    """The value of a JSON text in UTF-8.

    Args:
        content: the text; a byte order mark may stand before it.
        source: where it comes from, for the message.
        error: the kind of exception.

    Raises:
        CrispmaskError: of that kind; text that is not JSON, or is nested too deeply.
    """
    return _parsed(json.loads, content, source, "JSON", error)


def parse_toml(content: bytes | str, source: object, error: Kind = ParamsError) -> dict[str, Any]:
    """The table of a TOML text; otherwise as `parse_json`."""
    table: dict[str, Any] = _parsed(_load_toml, content, source, "TOML", error)
    return table


def parse_yaml(content: bytes | str, source: object, error: Kind = DataError) -> Any:
    """The value of a YAML text of plain types; otherwise as `parse_json`.

    Aliases are refused: with them, a few lines stand for billions of values.
    """
    return _parsed(_load_yaml, content, source, "YAML", error)


def read_toml(path: str | Path, error: Kind = ParamsError) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        CrispmaskError: of the kind `error`; as `parse_toml`, or a file that cannot be read or is too large.
    """
    return parse_toml(read_bytes(path, MAX_TOML, error), path, error)


def read_yaml(path: str | Path, error: Kind = DataError) -> Any:
    """The value of a YAML file; otherwise as `read_toml`."""
    return parse_yaml(read_bytes(path, MAX_YAML, error), path, error)


def read_bytes(path: str | Path, most: int, error: Kind) -> bytes:
    """The content of a file of at most `most` bytes.

    Raises:
        CrispmaskError: of the kind `error`; a file that cannot be read or is too large.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(most + 1)
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror or reason}") from None
    except (TypeError, ValueError) as reason:  # a name that no file can have
        raise error(f"cannot read {str(path)!r}: {reason}") from None
    if len(content) > most:
        raise error(f"{path} is larger than the {most / 2**20:g} MB that such a file may have")
    return content


def _parsed(load: Callable[[str], Any], content: bytes | str, source: object, language: str, error: Kind) -> Any:
    reason = f"{source} is not valid {language}"
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        return sound(load(text))
    except UnicodeDecodeError:
        raise error(f"{reason}: it is not in UTF-8") from None
    except ValueError as found:
        raise error(f"{reason}: {str(found).partition(';')[0]}") from None
    except RecursionError:
        raise error(f"{reason}: {TOO_DEEP}") from None


TOO_DEEP = f"it has more than {MAX_DEPTH} levels of lists and objects"


class Unsound(ValueError):
    """What a parser accepts and crispmask does not."""


def sound(value: Any, levels: int = MAX_DEPTH) -> Any:
    """A value that a parser has read, its text and numbers repaired in place.

    Raises:
        Unsound: it is nested too deeply.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() and "\0" not in value else _NO_TEXT.sub("\ufffd", value)
    if kind is int:
        if not -_LARGEST <= value < _LARGEST:
            return _float(value)
    elif kind is list or kind is dict:
        if not levels:
            raise Unsound(TOO_DEEP)
        if kind is dict:
            for key, item in value.items():
                value[key] = sound(item, levels - 1)
            if any(sound(key) is not key for key in value):
                items = [(sound(key), item) for key, item in value.items()]
                value.clear()
                value.update(items)
        elif not set(map(type, value)) <= _ALWAYS_SOUND:
            value[:] = [sound(item, levels - 1) for item in value]
    return value


def _float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


_ALWAYS_SOUND = {float, bool, type(None)}


# A name of so many parts, a.b.c...: tomllib takes memory with the square of their number.
_PART = r"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_NAME = re.compile(rf"{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_DEPTH}}}")


def _load_toml(text: str) -> dict[str, Any]:
    if _LONG_NAME.search(text):
        raise Unsound(TOO_DEEP)
    return tomllib.loads(text)


def _load_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise Unsound("aliases (*name) are not read: write the value out")
            return super().compose_node(parent, index)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as found:
        mark = getattr(found, "problem_mark", None)
        raise Unsound(f"line {mark.line + 1}: {found.problem}" if mark else str(found).splitlines()[0]) from None
    except (TypeError, OverflowError, AttributeError, LookupError) as found:  # PyYAML's own, for values such as dates
        raise Unsound(str(found)) from None
