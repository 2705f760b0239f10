"""Which photos a run is about: manifests that the user has, or one that is made from folders and URLs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import ray

from crispmask.coco import CocoDataset
from crispmask.errors import DataError, ImageError
from crispmask.image import SUFFIXES, find_images
from crispmask.pipeline.naming import match_annotations, relative_names
from crispmask.pipeline.ray.stages import KEY, RECORDS, locate
from crispmask.pipeline.ray.storage import Place, is_url

KINDS = {".parquet": "parquet", ".jsonl": "json", ".ndjson": "json"}
COLUMNS = {KEY: pa.string(), "uri": pa.string(), "image_id": pa.int64(), "height": pa.int32(), "width": pa.int32()}


@dataclass(frozen=True)
class Manifest:
    """Parquet or JSON-lines files with a row per photo.

    Attributes:
        places: the files.
        kind: ``parquet`` or ``json``.
        columns: those of `COLUMNS` that it has, and ``records`` where it is one of ``refine``.
        photos: number of rows.
        base: path or URL that its relative names start from.
    """

    places: tuple[Place, ...]
    kind: str
    columns: tuple[str, ...]
    photos: int
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
            raise DataError(f"{named}: manifests must all be of one kind, and without photos beside them")
        places = tuple(Place.of(source) for source in sources)
        try:
            content = _open(places, kind)
            photos = content.count_rows()
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
        return cls(places, kind, columns, photos, places[0].parent.url)

    def read(self) -> ray.data.Dataset:
        """Its rows as a Ray data set."""
        paths, filesystem = [place.path for place in self.places], self.places[0].filesystem
        if self.kind == "parquet":
            return ray.data.read_parquet(paths, filesystem=filesystem, columns=list(self.columns))
        # Without `lines` it reads JSON lines all the same, and from any file system.
        return ray.data.read_json(paths, filesystem=filesystem, file_extensions=None)

    def find(self) -> dict[str, str]:
        """All its photos as `find_photos` gives them."""
        rows = _open(self.places, self.kind).to_table(list(self.columns)).to_pylist()
        return {row[KEY]: locate(row, self.base).url for row in rows}


def is_manifest(sources: Sequence[str | Path]) -> bool:
    """Whether any of the sources is a manifest, by its suffix."""
    return any(_kind(source) is not None for source in sources)


def make_manifest(
    photos: Mapping[str, str], annotations: CocoDataset | None, place: Place, outright: Collection[Path] = ()
) -> Manifest:
    """Write a manifest of photos.

    Args:
        photos: paths or URLs by name, see `find_photos`.
        annotations: what gives the image ids and sizes, by file name.
        place: the Parquet file to write.
        outright: photos that the annotations must name; others are left out where they do not.

    Raises:
        DataError: a photo that the annotations do not name.
    """
    rows: list[dict[str, Any]] = [{KEY: name, "uri": uri} for name, uri in photos.items()]
    columns = [KEY, "uri"]
    if annotations is not None:
        images = match_annotations({name: Path(uri) for name, uri in photos.items()}, annotations, outright)
        sizes = {name: {"height": image.size[0], "width": image.size[1]} for name, image in images.items()}
        rows = [{**row, "image_id": images[row[KEY]].id, **sizes[row[KEY]]} for row in rows if row[KEY] in images]
        columns = list(COLUMNS)
    with place.writing() as partial:
        pq.write_table(pa.Table.from_pylist(rows, pa.schema({name: COLUMNS[name] for name in columns})), partial)
    return Manifest.open([place.url])


def find_photos(sources: Sequence[str | Path]) -> dict[str, str]:
    """The photos that files, folders, patterns and URLs stand for: paths and URLs by name, sorted by name.

    Names of local photos are relative, as in a run without a cluster; those under URLs are their URLs.

    Raises:
        ImageError: a source without any photo.
    """
    local = [source for source in sources if not is_url(source)]
    found = {name: str(file) for name, file in relative_names(local, find_images(local)).items()} if local else {}
    for source in sources:
        if is_url(source):
            found |= {place.url: place.url for place in _images_at(Place.of(source))}
    return dict(sorted(found.items()))


def _images_at(place: Place) -> list[Place]:
    try:
        files = [place] if place.is_file() else place.files()
    except OSError as error:
        raise ImageError(f"{place.url} cannot be read: {error}") from None
    photos = [file for file in files if file is place or PurePosixPath(file.path).suffix.lower() in SUFFIXES]
    if not photos:
        raise ImageError(f"{place.url} holds no image (looked for {', '.join(sorted(SUFFIXES))})")
    return photos


def _open(places: Sequence[Place], kind: str) -> ds.Dataset:
    paths = [place.path for place in places]
    # Only a single path may be a folder.
    return ds.dataset(paths if len(paths) > 1 else paths[0], filesystem=places[0].filesystem, format=kind)


def _kind(source: str | Path) -> str | None:
    return KINDS.get(PurePosixPath(str(source).partition("?")[0].rstrip("/")).suffix.lower())


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
