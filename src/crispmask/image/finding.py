"""Finding images in folders and by patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from crispmask.errors import ImageError
from crispmask.image.formats import SUFFIXES, UNREAD_SUFFIXES, describe_unread, how_to_read, suffixes


class Found(NamedTuple):
    """What was found under files, folders and patterns.

    Attributes:
        images: files to read, sorted, each once.
        unread: images in folders, or that patterns match, whose format cannot be read here; see `how_to_read`.
    """

    images: list[Path]
    unread: list[Path]


def find_images(sources: Iterable[str | Path]) -> list[Path]:
    """The image files that files, folders and glob patterns stand for; see `search_images`."""
    return search_images(sources).images


def search_images(sources: Iterable[str | Path]) -> Found:
    """The image files that files, folders and glob patterns stand for, and those that cannot be read here.

    Folders are searched with all their sub-folders for names that end in one of `suffixes`. Hidden files and folders
    that may not be entered are left out, by patterns too, and links to folders are not followed there and by ``**``.
    A file named as a source is taken whatever its suffix, and even if it is missing while others are not: reading
    it reports it, and the others go on.

    Args:
        sources: files, folders, or patterns with ``*``, ``?``, ``[...]`` or ``**``.

    Raises:
        ImageError: a folder or pattern without an image that can be read, or no source that exists.
    """
    sources = [sources] if isinstance(sources, str | Path) else list(sources)
    found: list[Path] = []
    unread: list[Path] = []
    for source in sources:
        path = Path(source)
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where the way to it is barred
            matches = _images_below(path, "**/*")
        elif not _exists(path) and glob.has_magic(str(source)):
            pattern = str(path.relative_to(path.anchor))
            # A final ** stands for folders alone in pathlib, for files too in a shell.
            matches = _images_below(Path(path.anchor), pattern + "/*" * (path.name == "**"))
        else:
            found.append(path)
            continue
        unread.extend(match for match in matches if how_to_read(match.suffix))
        readable = [match for match in matches if not how_to_read(match.suffix)]
        if matches and not readable:
            raise ImageError(f"{source} holds no image that can be read here: {describe_unread(matches)}")
        if not matches:
            raise ImageError(f"{source} holds no image (looked for {', '.join(sorted(suffixes()))})")
        found.extend(readable)
    if not any(_exists(path) for path in found):
        names = ", ".join(str(path) for path in found[:3])
        raise ImageError(f"{names} does not exist" if found else "no image was named")
    return Found(_once(found), _once(unread))


def _once(paths: Iterable[Path]) -> list[Path]:
    """Each file once, sorted."""
    once = {os.path.abspath(path): path for path in reversed(list(paths))}  # noqa: PTH100 - resolve() follows links
    return sorted(once.values())


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises on names that are too long


def _images_below(folder: Path, pattern: str) -> list[Path]:
    """Visible image files of a folder that match a pattern.

    pathlib's patterns do not follow links in ``**``, so that loops of them end; glob's do.
    """
    named = set(Path(pattern).parts)  # a hidden folder that the pattern names is wanted
    found = []
    try:
        for path in folder.glob(pattern):
            hidden = any(part.startswith(".") and part not in named for part in path.relative_to(folder).parts)
            known = path.suffix.lower() in SUFFIXES | UNREAD_SUFFIXES
            if known and not hidden and os.path.isfile(path):  # noqa: PTH113 - as above
                found.append(path)
    except (ValueError, IndexError) as error:
        raise ImageError(f"{pattern} is not a glob pattern that can be used: {str(error).lower()}") from None
    return found
