"""Ground truth and results from files: records by result, their image ids those of the annotation file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from crispmask.arguments import sequence
from crispmask.coco.dataset import CocoDataset
from crispmask.coco.results import check_results, images_file_beside, read_results
from crispmask.errors import DataError, ParamsError

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Sides:
    """What is compared.

    Attributes:
        dataset: the ground truth.
        records: of each result by its name; image ids are those of the data set.
        sources: what each result is called in errors.
        notes: sentences about image ids that were replaced.
    """

    dataset: CocoDataset
    records: Mapping[str, Records]
    sources: Mapping[str, str]
    notes: tuple[str, ...]


def read_sides(
    annotations: str | Path | CocoDataset, results: Mapping[str, str | Path | Records] | str | Path | Records
) -> Sides:
    """Read what is compared.

    Args:
        annotations: a COCO annotation file, or a data set already read.
        results: COCO results files, or their records, by name; or just one, which is named "results".

    Raises:
        DataError: a file or record that breaks the format, or results of images that the annotation file does not have.
        ParamsError: no results.
    """
    dataset = annotations if isinstance(annotations, CocoDataset) else CocoDataset.from_file(annotations)
    named = results if isinstance(results, Mapping) else {"results": results}
    if not named:
        raise ParamsError("there is nothing to measure: give at least one result")
    records: dict[str, Records] = {}
    notes = []
    for name, given in named.items():
        if isinstance(given, str | Path):
            records[name], note = ids_by_name(dataset, read_results(given), Path(given))
            notes += [f"{name} {note}"] if note else []
        else:
            records[name] = sequence(given, name, DataError)
            check_results(records[name], name)
    sources = {name: str(given) if isinstance(given, str | Path) else name for name, given in named.items()}
    return Sides(dataset, records, sources, tuple(notes))


def ids_by_name(dataset: CocoDataset, records: Records, path: Path) -> tuple[Records, str]:
    """The records with the data set's image ids, found by the file names in ``images.json`` beside the results.

    ``crispmask segment`` numbers the images of a folder itself unless it is given an annotation file, and writes which
    number is which file. Names are compared with their folders, or without them where that finds no image twice.

    Args:
        dataset: the ground truth.
        records: of the results file.
        path: of the results file.

    Returns:
        The records, those of images that the data set does not have left out; and the rest of a sentence that says what
        was done, empty where the ids stay as they are.

    Raises:
        DataError: images of which none is in the data set.
    """
    beside = images_file_beside(path)
    used = {record["image_id"] for record in records}
    if beside is None or not used or beside.resolve() == dataset.path.resolve():
        return records, ""
    own = CocoDataset.from_file(beside, annotations=False)
    if not used <= set(own.images):
        return records, ""  # it belongs to other results
    ids = _same_names(own, dataset)
    known = {key: ids[key] for key in used if key in ids}
    if not known:
        raise DataError(
            f"{path} and {dataset.path} are about other images: of the {len(used)} images that {beside} names for "
            "these results, none is in the annotation file"
        )
    if all(key == other for key, other in known.items()) and len(known) == len(used):
        return records, ""
    kept = [{**record, "image_id": known[record["image_id"]]} for record in records if record["image_id"] in known]
    note = f"is matched with {dataset.path.name} by the file names in {beside}"
    foreign = len(used) - len(known)
    if foreign:
        note += f"; {foreign} of its {len(used)} images are not in the annotation file and are left out"
    return kept, note + "."


def _same_names(own: CocoDataset, dataset: CocoDataset) -> dict[int, int]:
    """The data set's id of each image of `own` that it has, by whole names first and then by last parts."""
    ids = {key: other.id for key, image in own.images.items() if (other := dataset.find(image.file_name))}
    mine, theirs = (_last_parts(side) for side in (own, dataset))
    taken = set(ids.values())
    for part, key in mine.items():
        if key not in ids and part in theirs and theirs[part] not in taken:
            ids[key] = theirs[part]
    return ids


def _last_parts(dataset: CocoDataset) -> dict[str, int]:
    """The id of each image by the last part of its file name; names that several images have are left out."""
    found: dict[str, list[int]] = {}
    for image in dataset.images.values():
        found.setdefault(PurePosixPath(image.file_name).name, []).append(image.id)
    return {name: keys[0] for name, keys in found.items() if len(keys) == 1}
