"""What a run of `segment` is about, wherever the work is done: which images, under which ids, and which categories."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crispmask.coco import CocoDataset
from crispmask.errors import DataError
from crispmask.pipeline.naming import match_annotations


@dataclass(frozen=True)
class PlannedImage:
    """An image to segment.

    Attributes:
        uri: its path, or on a cluster its URL.
        image_id: of the annotation file, or the place by sorted name, from 1.
        size: (H, W) that the annotation file says; None without one.
    """

    uri: str
    image_id: int
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Plan:
    """The images of a run by their names, and how many images are not among them.

    Attributes:
        images: by name, in the order in which they were found.
        unnamed: images that the annotation file does not name.
        missing: images of the annotation file that were not found.
        unread: files whose format cannot be read here.
    """

    images: Mapping[str, PlannedImage]
    unnamed: int
    missing: int
    unread: tuple[Path, ...]

    @classmethod
    def make(
        cls,
        found: Mapping[str, str],
        unread: Collection[Path],
        dataset: CocoDataset | None,
        named: Collection[Path] = (),
    ) -> Plan:
        """Plan a run.

        Args:
            found: paths or URLs by name, sorted by name.
            unread: files whose format cannot be read here.
            dataset: gives ids and sizes by file name.
            named: images that were named one by one: `dataset` must have them. Others that it lacks are left out.

        Raises:
            DataError: a data set that lacks one of `named`, or all images.
        """
        if dataset is None:
            images = {name: PlannedImage(uri, k, None) for k, (name, uri) in enumerate(found.items(), start=1)}
            return cls(images, 0, 0, tuple(unread))
        matched = match_annotations({name: Path(uri) for name, uri in found.items()}, dataset, named)
        images = {name: PlannedImage(found[name], image.id, image.size) for name, image in matched.items()}
        return cls(images, len(found) - len(images), len(dataset.images) - len(images), tuple(unread))


@dataclass(frozen=True)
class Categories:
    """The detector's categories and those of the results, matched by name.

    Attributes:
        detected: names of the detector's, by id.
        ids: the results' ids by the detector's; of some there may be none.
        records: of the results, as COCO writes them.
        left_out: names of the detector's that the results do not have.
    """

    detected: Mapping[int, str]
    ids: Mapping[int, int]
    records: list[dict[str, Any]]
    left_out: tuple[str, ...]

    @classmethod
    def make(cls, detected: Mapping[int, str], dataset: CocoDataset | None) -> Categories:
        """Match a detector's categories with a data set's; without one, the detector's stay as they are.

        Raises:
            DataError: a data set with none of them.
        """
        known = dict(detected if dataset is None else dataset.categories)
        id_of = {name: key for key, name in known.items()}
        ids = {key: id_of[name] for key, name in detected.items() if name in id_of}
        if dataset is not None and not ids:
            names = ", ".join(detected.values())
            raise DataError(f"{dataset.path} has none of the detector's categories ({names})")
        left_out = tuple(name for name in detected.values() if name not in id_of)
        return cls(detected, ids, [{"id": key, "name": name} for key, name in sorted(known.items())], left_out)
