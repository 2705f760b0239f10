"""The folder that `segment` writes: COCO files, provenance and pictures of one run, never of two."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.coco.results import results_writer
from crispmask.detectors.base import Detector
from crispmask.draw import before_after
from crispmask.errors import CrispmaskError, DataError
from crispmask.files import difference, relative_parts, remove_partial_files, replacing, write_text
from crispmask.instances import Instances
from crispmask.pipeline.journal import CHECKSUMS
from crispmask.pipeline.plan import Categories
from crispmask.pipeline.provenance import IN_FOLDER, describe
from crispmask.pipeline.settings import Settings
from crispmask.structured import parse_json

JOURNAL, PICTURES, CUTOUTS, TABLE = "unfinished.jsonl", "pictures", "cutouts", "images.parquet"
COCO_FILES = ("images.json", "results.json", "results_before.json")


class Segmented(NamedTuple):
    """An image of the results.

    Attributes:
        image_id: of the results.
        name: of the image.
        size: (H, W) in pixels.
        before: COCO results with the detector's category ids and masks; their image ids are not looked at.
        after: the same with refined masks.
        picture: path of its picture in the output folder, with forward slashes; None where there is none.
        cutouts: paths of its cut-outs in the output folder, in the order of its objects.
    """

    image_id: int
    name: str
    size: tuple[int, int]
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    picture: str | None = None
    cutouts: Sequence[str] = ()


def write_coco(folder: Path, images: Iterable[Segmented], categories: Categories) -> list[Path]:
    """Write ``results.json``, ``results_before.json`` and ``images.json``; the files.

    Args:
        folder: of the files.
        images: in the order of the files; each is looked at once.
        categories: those that the results do not have are left out.
    """
    paths = [folder / name for name in COCO_FILES]
    entries: list[dict[str, Any]] = []
    with results_writer(paths[1]) as write_after, results_writer(paths[2]) as write_before:
        for image in images:
            for write, records in ((write_before, image.before), (write_after, image.after)):
                for record in records:
                    if record["category_id"] in categories.ids:
                        ids = {"image_id": image.image_id, "category_id": categories.ids[record["category_id"]]}
                        write({**record, **ids})
            height, width = image.size
            entry = {"id": image.image_id, "file_name": image.name, "height": height, "width": width}
            if image.picture is not None:
                entry["picture"] = image.picture
            if image.cutouts:
                entry["cutouts"] = list(image.cutouts)
            entries.append(entry)
    content = {"images": entries, "categories": categories.records, "annotations": []}
    write_text(paths[0], json.dumps(content, indent=1) + "\n")
    return paths


def write_picture(
    path: Path,
    image: NDArray[np.uint8],
    before: Instances,
    after: Instances,
    *,
    names: Mapping[int, str] | None = None,
    refined: bool = True,
) -> None:
    """Write the before/after picture of an image, in place of an older one only when complete.

    Args:
        path: the file, ``.png`` or ``.jpg``.
        image: uint8 (H, W, 3) RGB.
        before, after: its instances.
        names: category names by id, written on the instances with their scores; by default nothing is written.
        refined: whether the masks were refined, for the title.
    """
    titles = ("Detector", "Refined" if refined else "Not refined")
    picture = before_after(image, before, after, titles=titles, names=names, labels=names is not None)
    with replacing(path) as partial:
        kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
        Image.fromarray(picture).save(partial, format=kind, quality=92)


def run_facts(
    detector: Detector, annotations: str | Path | None, sources: Sequence[str | Path], settings: Settings
) -> dict[str, Any]:
    """What a run is, for its provenance."""
    return {
        "detector": {"name": detector.name, "sha256": detector.checksum},
        "annotations": describe(Path(annotations)) if annotations else None,
        "sources": [str(source) for source in sources],
        "settings": settings.as_dict(),
    }


def refuse_other_results(where: object, provenance: Any, facts: Mapping[str, Any]) -> None:
    """Refuse to write a run's results over those of another run.

    Args:
        where: the folder that holds results.
        provenance: of these results, as read from JSON; None where it is missing.
        facts: of the run that would write there, see `run_facts`.

    Raises:
        DataError: results of other images, another detector, or other settings.
    """
    try:
        what = difference(_identity(provenance), _identity(facts), CHECKSUMS)
    except (LookupError, TypeError, ValueError):
        what = "it is not known what they were made from"
    if what is not None:
        raise DataError(
            f"{where} holds the results of another run ({what}): choose another folder, or add --overwrite, which "
            "removes them first"
        )


def _identity(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal in two runs of the same command."""
    annotations = facts["annotations"]
    return {
        "sources": list(facts["sources"]),
        "detector": facts["detector"]["sha256"],
        "annotations": annotations["sha256"] if annotations else None,
        **facts["settings"],
    }


class Output:
    """The folder of a local run. Its files are written at the end, its pictures one by one.

    What an earlier run wrote goes when the first picture of this one comes (`begin`), where that run had other
    settings and the user wants it so; pictures that this run did not write again go at the end.

    Args:
        folder: may be absent; whoever writes holds it (`crispmask.files.locked`).
        facts: of this run, see `run_facts`.
        overwrite: whether results of another run may be removed.

    Attributes:
        old_pictures: paths of pictures by earlier runs, relative to the folder, with forward slashes.

    Raises:
        DataError: results of another run, without `overwrite`.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], overwrite: bool) -> None:
        self.folder = folder
        self.old_pictures = _pictures_of(folder / COCO_FILES[0])
        self._replaces = False
        if any((folder / name).exists() for name in (IN_FOLDER, *COCO_FILES)):
            try:
                refuse_other_results(folder, _json(folder / IN_FOLDER), facts)
            except DataError:
                if not overwrite:
                    raise
                self._replaces = True

    def begin(self) -> None:
        """Remove what a run that is to be overwritten wrote; call it before anything of this run is written."""
        if self._replaces:
            self._replaces = False
            remove_pictures(self.folder, self.old_pictures)
            remove_results(self.folder)

    def finish(self, images: Iterable[Segmented], categories: Categories) -> list[Path]:
        """Write the COCO files of finished images, and remove pictures that do not belong to them; the files."""
        self.begin()
        written: set[str] = set()

        def noted() -> Iterable[Segmented]:
            for image in images:
                written.update((image.picture or "", *image.cutouts))
                yield image

        paths = write_coco(self.folder, noted(), categories)
        remove_pictures(self.folder, self.old_pictures - written)
        return paths

    def remove_partial_files(self) -> None:
        """Remove what a killed run left half-written, and nothing else: the folder may hold more than results."""
        remove_partial_files(self.folder)
        for name in (PICTURES, CUTOUTS):
            remove_partial_files(self.folder / name, below=True)


def remove_pictures(folder: Path, names: Iterable[str] | None = None) -> None:
    """Remove pictures by their paths in the folder, by default those that its ``images.json`` names."""
    for name in _pictures_of(folder / COCO_FILES[0]) if names is None else names:
        path = folder / name
        path.unlink(missing_ok=True)
        with suppress(OSError):  # folders that hold more than that
            for parent in path.parents[: len(Path(name).parts) - 1]:
                parent.rmdir()


def remove_results(folder: Path) -> None:
    """Remove the COCO files, the provenance and the table that a run wrote into a folder; no pictures."""
    for name in (IN_FOLDER, *COCO_FILES):
        (folder / name).unlink(missing_ok=True)
    for file in (folder / TABLE).glob("*.parquet"):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / TABLE).rmdir()


def _pictures_of(file: Path) -> set[str]:
    """The pictures and cut-outs that an ``images.json`` names, all of them below `PICTURES` and `CUTOUTS`."""
    try:
        return {name for image in _json(file)["images"] for name in pictures_in(image)}
    except (LookupError, TypeError, AttributeError):
        return set()


def pictures_in(record: Mapping[str, Any]) -> list[str]:
    """The pictures and cut-outs that a record of an image names, as it was read from a file."""
    cutouts = record.get("cutouts")
    names = [record.get("picture"), *(cutouts if isinstance(cutouts, list) else ())]
    return [name for name in names if _is_picture(name)]


def _is_picture(name: object) -> bool:
    """Whether a name that was read from a file is that of a picture in an output folder."""
    try:
        return isinstance(name, str) and relative_parts(name)[0] in (PICTURES, CUTOUTS)
    except CrispmaskError:
        return False


def _json(file: Path) -> Any:
    """The content of a JSON file; None where there is none."""
    try:
        return parse_json(file.read_bytes(), file)
    except (OSError, DataError):
        return None
