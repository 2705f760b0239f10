"""What a run says while it works and when it has ended, and how the errors of single images are set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from crispmask.errors import CrispmaskError, ModelError
from crispmask.pipeline.settings import Settings


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: images (of `refine_results`: records) that are finished or cannot be used.
        total: of all.
        resumed: how many of `done` an earlier, interrupted run had finished.
        objects: instances found so far.
        path: the image that was finished last; None at the start, and on a cluster.
        within: of an image that is being worked on, its instances that are finished, and all of them.
    """

    done: int
    total: int
    resumed: int
    objects: int = 0
    path: Path | None = None
    within: tuple[int, int] | None = None


@dataclass(frozen=True)
class Failure:
    """An image that could not be used, and the reason in one sentence."""

    path: Path
    reason: str


@dataclass(frozen=True)
class SegmentReport:
    """What a run of `segment` did.

    Attributes:
        images: images in the results.
        resumed: how many of them an earlier, interrupted run had finished.
        objects: instances in the results.
        failures: images that are not in the results.
        categories: what the detector looks for.
        left_out: categories of the detector that the annotation file does not have; they are not in the results.
        unnamed: images found in folders that the annotation file does not name; they are not segmented.
        missing: images that the annotation file names and that were not found.
        unread: images found in folders whose format cannot be read here; they are not segmented.
        animated: images in the results whose file holds further frames or pages, which were not read.
        left_alone: how many masks the learned parameters left as they were, by reason.
        settings: of the run, with what the detector decided.
    """

    images: int
    resumed: int
    objects: int
    failures: tuple[Failure, ...]
    categories: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    unnamed: int = 0
    missing: int = 0
    unread: tuple[Path, ...] = ()
    animated: tuple[str, ...] = ()
    left_alone: Mapping[str, int] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class RefineReport:
    """What a run of `refine` did.

    Attributes:
        records: records in the output.
        images: images that they are of.
        resumed: records that an earlier, interrupted run had finished.
        below: records left out for their score.
        skipped: bad records, which are not in the output.
        named_by: the file that gave the images' names; None: COCO's conventions did.
        left_alone: how many masks the learned parameters left as they were, by reason.
    """

    records: int
    images: int
    resumed: int
    below: int
    skipped: int
    named_by: Path | None
    left_alone: Mapping[str, int] = field(default_factory=dict)


@contextmanager
def one_image(name: object, unusable: Callable[[str], None]) -> Iterator[None]:
    """Around work on one image: an error in it is passed to `unusable` as a sentence, and the run goes on.

    A detector that fails (`ModelError`) ends the run all the same: it would fail on every image.
    """
    try:
        yield
    except ModelError:
        raise
    except CrispmaskError as error:
        unusable(str(error))
    except MemoryError:
        unusable(f"{name} does not fit into memory")
