"""What the verbs that learn from annotated images share: their options and checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from crispmask.errors import DataError, MissingExtraError

Annotations = Annotated[
    list[Path], typer.Option("-a", "--annotations", metavar="A.json", help="COCO annotation file; repeatable.")
]
Images = Annotated[
    list[Path],
    typer.Option("-i", "--images", metavar="DIR", help="Its images; once per annotation file, in the same order."),
]


def pair(annotations: list[Path], images: list[Path]) -> list[tuple[Path, Path]]:
    """Each annotation file with its folder of images; both must exist."""
    if len(annotations) != len(images):
        raise DataError(
            f"{len(annotations)} annotation files and {len(images)} image folders were given: give one --images "
            "per --annotations, in the same order"
        )
    for file in annotations:
        if not file.is_file():
            raise DataError(f"there is no annotation file {file}")
    for folder in images:
        if not folder.is_dir():
            raise DataError(f"there is no image folder {folder}")
    return list(zip(annotations, images, strict=True))


@contextmanager
def needs_torch() -> Iterator[None]:
    """Around imports: says that a missing package belongs to the extra 'torch'."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("crispmask"):
            raise
        raise MissingExtraError(error.name or "torch", "torch") from None
