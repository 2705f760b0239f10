"""Lists of images as files: manifests that the user has, or one that is made from the plan of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import ray

from crispmask.errors import DataError, ImageError
from crispmask.image import Found, search_images, suffixes
from crispmask.pipeline.naming import relative_names
from crispmask.pipeline.plan import Plan
from crispmask.pipeline.ray.stages import KEY, RECORDS, locate
from crispmask.pipeline.ray.storage import Place, is_url

KINDS = {".parquet": "parquet", ".jsonl": "json", ".ndjson": "json"}
COLUMNS = {KEY: pa.string(), "uri": pa.string(), "image_id": pa.int64(), "height": pa.int32(), "width": pa.int32()}


@dataclass(frozen=True)
class Manifest:
    """Parquet or JSON-lines files with a row per image.

    Attributes:
        places: the files.
        kind: ``parquet`` or ``json``.
        columns: those of `COLUMNS` that it has, and ``records`` where it is one of ``refine``.
        images: number of rows.
        base: path or URL that its relative names start from.
    """

    places: tuple[Place, ...]
    kind: str
    columns: tuple[str, ...]
    images: int
    base: str

    @classmethod
    def open(cls, sources: Sequence[str | Path]) -> Manifest:
        """Manifests, checked as far as that needs no look at the rows.

        Raises:
            DataError: files of several kinds or that cannot be read, or columns that are missing or of another type.
        """
        named = ", ".join(map(str, sources))
        kinds = {_kind(source) for source in sources}
        kind = kinds.pop()
        if kinds or kind is None:
            raise DataError(f"{named}: manifests must all be of one kind, and without images beside them")
        places = tuple(Place.of(source) for source in sources)
        try:
            content = _open(places, kind)
            images = content.count_rows()
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot read the manifest {named}: {error}") from None
        fields = {field.name: field.type for field in content.schema}
        if KEY not in fields:
            raise DataError(f"the manifest {named} has no column {KEY!r}, only {', '.join(fields)}")
        for name, wanted in COLUMNS.items():
            fits = pa.types.is_integer if pa.types.is_integer(wanted) else _is_text
            if name in fields and not (fits(fields[name]) or pa.types.is_null(fields[name])):
                raise DataError(f"the manifest {named}: the column {name!r} must hold {wanted}, not {fields[name]}")
        columns = tuple(name for name in (*COLUMNS, RECORDS.name) if name in fields)
        return cls(places, kind, columns, images, places[0].parent.url)

    def read(self) -> ray.data.Dataset:
        """Its rows as a Ray data set."""
        paths, filesystem = [place.path for place in self.places], self.places[0].filesystem
        if self.kind == "parquet":
            return ray.data.read_parquet(paths, filesystem=filesystem, columns=list(self.columns))
        # Without `lines` it reads JSON lines all the same, and from any file system.
        return ray.data.read_json(paths, filesystem=filesystem, file_extensions=None)

    def find(self) -> dict[str, str]:
        """All its images: paths or URLs by name."""
        rows = _open(self.places, self.kind).to_table(list(self.columns)).to_pylist()
        return {row[KEY]: locate(row, self.base).url for row in rows}


def is_manifest(sources: Sequence[str | Path]) -> bool:
    """Whether any of the sources is a manifest, by its suffix."""
    return any(_kind(source) is not None for source in sources)


def make_manifest(plan: Plan, place: Place, ids: bool) -> Manifest:
    """Write a manifest of the images of a plan.

    Args:
        plan: with paths or URLs, see `find_images_and_urls`.
        place: the Parquet file to write.
        ids: whether to write the image ids and sizes, which an annotation file gave.
    """
    columns = list(COLUMNS) if ids else [KEY, "uri"]
    rows = []
    for name, image in plan.images.items():
        height, width = image.size or (None, None)
        rows.append({KEY: name, "uri": image.uri, "image_id": image.image_id, "height": height, "width": width})
    schema = pa.schema({name: COLUMNS[name] for name in columns})
    with place.writing() as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema), partial)
    return Manifest.open([place.url])


def find_images_and_urls(sources: Sequence[str | Path]) -> tuple[dict[str, str], list[Path]]:
    """The images that files, folders, patterns and URLs stand for: paths and URLs by name, sorted by name.

    Names of local images are relative, as in a run without a cluster; those under URLs are their URLs.

    Returns:
        The images, and local files whose format cannot be read here.

    Raises:
        ImageError: a source without any image.
    """
    local = [source for source in sources if not is_url(source)]
    found = search_images(local) if local else Found([], [])
    images = {name: str(file) for name, file in relative_names(local, found.images).items()}
    for source in sources:
        if is_url(source):
            images |= {place.url: place.url for place in _images_at(Place.of(source))}
    return dict(sorted(images.items())), found.unread


def _images_at(place: Place) -> list[Place]:
    try:
        files = [place] if place.is_file() else place.files()
    except OSError as error:
        raise ImageError(f"{place.url} cannot be read: {error}") from None
    images = [file for file in files if file is place or PurePosixPath(file.path).suffix.lower() in suffixes()]
    if not images:
        raise ImageError(f"{place.url} holds no image (looked for {', '.join(sorted(suffixes()))})")
    return images


def _open(places: Sequence[Place], kind: str) -> ds.Dataset:
    paths = [place.path for place in places]
    # Only a single path may be a folder.
    return ds.dataset(paths if len(paths) > 1 else paths[0], filesystem=places[0].filesystem, format=kind)


def _kind(source: str | Path) -> str | None:
    return KINDS.get(PurePosixPath(str(source).partition("?")[0].rstrip("/")).suffix.lower())


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
