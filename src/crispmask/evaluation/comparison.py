"""Several results against one ground truth: every metric of each, and the changes from the first to the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crispmask.arguments import flag, whole
from crispmask.coco.dataset import CocoDataset
from crispmask.errors import ParamsError
from crispmask.evaluation import bootstrap
from crispmask.evaluation.bootstrap import Interval
from crispmask.evaluation.columns import Columns, annotation_columns, detection_columns
from crispmask.evaluation.matching import match_objects
from crispmask.evaluation.metrics import METRICS, IouType, known_ids, match_detections, overall
from crispmask.evaluation.overlap import pair_ious

if TYPE_CHECKING:
    import pandas

MATCHED = ("IoU", "boundary IoU")
# What `Comparison` holds for a result: AP of three kinds, and the mean overlaps of the matched instances.
KINDS: dict[str, tuple[str, ...]] = {"segm": METRICS, "boundary": METRICS, "bbox": METRICS, "matched": MATCHED}


@dataclass(frozen=True)
class Value:
    """A metric of a result.

    Attributes:
        value: a fraction in [0, 1], NaN where it is not defined.
        change: the value minus that of the first result; None for the first.
        interval: of the change, None without a bootstrap.
    """

    value: float
    change: float | None = None
    interval: Interval | None = None

    @property
    def changed(self) -> bool:
        """Whether there is a change, and one that is not 0.0 in percentage points with one decimal."""
        return self.change is not None and abs(self.change) >= SMALLEST_CHANGE

    @property
    def significant(self) -> bool:
        """Whether it `changed` and the interval of the change leaves out 0."""
        return self.changed and self.interval is not None and self.interval.excludes_zero


_NAMED = 10  # categories that a note names
SMALLEST_CHANGE = 0.0005
"""Smaller changes are 0.0 percentage points; a mask with a smaller change of IoU is the same but for a pixel or two."""

Metrics = Mapping[str, Mapping[str, Value]]  # by kind and metric, as in KINDS


@dataclass(frozen=True, eq=False)
class Pairs:
    """Annotated objects that the first result matches, with the mask that each result gives them.

    Attributes:
        image_id, category_id: int64 (n,).
        annotation: int64 (n,), number of the object in ``dataset.annotations[image_id]``.
        area: float64 (n,), of the annotated mask in pixels.
        record: int64 (n, results), number of the detection in each result.
        iou, boundary_iou: float64 (n, results), with the annotated mask, in [0, 1].
    """

    image_id: NDArray[np.int64]
    category_id: NDArray[np.int64]
    annotation: NDArray[np.int64]
    area: NDArray[np.float64]
    record: NDArray[np.int64]
    iou: NDArray[np.float64]
    boundary_iou: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.area)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The metrics of one or several results. Its text, as `print` shows it, is the table of all categories.

    Attributes:
        names: of the results; the others are compared with the first.
        images: how many there are.
        labels: the categories' names by id, made different where two are the same.
        left_out: names by id of the categories that have annotated objects but no detection in any of the results, and
            that are left out of everything else here.
        objects: how many annotated objects each category id has, crowds left out.
        detections: how many detections of these images and categories each result has.
        overall: by result, kind and metric (`KINDS`; without ``bbox`` where a result or the annotations have no
            boxes).
        by_category: by category id, result, kind and metric.
        pairs: the matched instances.
        resamples, seed: of the bootstrap; 0 resamples means that there was none.
        notes: sentences about what is unusual in the results, such as images without detections.
    """

    names: tuple[str, ...]
    images: int
    labels: Mapping[int, str]
    left_out: Mapping[int, str]
    objects: Mapping[int, int]
    detections: Mapping[str, int]
    overall: Mapping[str, Metrics]
    by_category: Mapping[int, Mapping[str, Metrics]]
    pairs: Pairs
    resamples: int
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def kinds(self) -> list[str]:
        """The kinds that were measured."""
        return list(self.overall[self.names[0]])

    def __str__(self) -> str:
        from crispmask.evaluation.tables import as_text

        return as_text(self)

    def to_dict(self, per_class: bool = True) -> dict[str, Any]:
        """Everything as plain dictionaries that JSON can hold: fractions, None where undefined.

        Args:
            per_class: whether to include each category by itself.
        """
        from crispmask.evaluation.tables import as_dict

        return as_dict(self, per_class)

    def to_pandas(self, per_class: bool = True) -> pandas.DataFrame:
        """A table with one row for each number: class ("" for all), result, kind, metric, value, change, low, high.

        Args:
            per_class: whether to include each category by itself.

        Raises:
            CrispmaskError: pandas is not installed.
        """
        from crispmask.evaluation.tables import as_data_frame

        return as_data_frame(self, per_class)


def compare(
    dataset: CocoDataset,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    category_ids: Iterable[int] | None = None,
    all_categories: bool = False,
    resamples: int = 0,
    seed: int = 0,
    sources: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
    on_step: Callable[[str], None] = lambda step: None,
) -> Comparison:
    """Measure results side by side.

    The matched instances are the objects that the first result matches with a mask IoU of at least 0.5
    (`crispmask.evaluation.matching.match_results`). In a result with the same detections (equal image, category and
    score at each place, as after a refinement) an object's mask is the one at the same place. In any other result it is
    the mask that this result matches with the object, and objects that it does not match are left out for all.

    Args:
        dataset: the ground truth.
        results: records by name, checked by `crispmask.coco.read_results`.
        category_ids: only these; by default those of which at least one of the results has a detection.
        all_categories: by default, take all categories of the data set instead.
        resamples: draws of the paired bootstrap over images; 0 for none.
        seed: of the draws.
        sources: what each result is called in errors; by default its name.
        notes: sentences that the comparison keeps, before its own.
        on_step: called with a few words before each part of the work.

    Raises:
        DataError: results or annotations that break the format, or unknown categories.
        ParamsError: no results, or a negative number of resamples or seed.
    """
    if not results:
        raise ParamsError("there is nothing to compare: give at least one result")
    resamples = whole(resamples, "the number of resamples", 0, error=ParamsError)
    all_categories = flag(all_categories, "all_categories")
    seed = whole(seed, "the seed", 0, error=ParamsError)
    detected = {record["category_id"] for records in results.values() for record in records}
    if category_ids is None and not all_categories:
        category_ids = [key for key in dataset.categories if key in detected] or None
    categories = known_ids(category_ids, dataset.categories, f"category in {dataset.path}")
    left_out = {} if all_categories else _left_out(dataset, categories, detected)
    images = list(dataset.images)
    annotated = [record for records in dataset.annotations.values() for record in records]
    boxes = all(not side or any(r.get("bbox") is not None for r in side) for side in (annotated, *results.values()))
    on_step("Decoding the masks")
    truth = annotation_columns(dataset, categories, images, masks=True, boxes=boxes)
    sides = {
        name: detection_columns(
            dataset, records, categories, images, (sources or {}).get(name, name), masks=True, boxes=boxes
        )
        for name, records in results.items()
    }
    weights = bootstrap.draws(len(images), resamples, seed)
    tables: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in results}
    kinds: tuple[IouType, ...] = ("segm", "boundary", "bbox") if boxes else ("segm", "boundary")
    objects: dict[int, int] = {}
    for name, found in sides.items():
        for kind in kinds:
            on_step(f"Comparing the {kind} of {name}")
            matched = match_detections(truth, found, kind, categories, len(images))
            objects = matched.objects
            tables[name][kind] = _with_overall(
                np.concatenate([matched.measure(), bootstrap.resampled(matched, weights)])
            )
    on_step("Comparing the matched instances")
    rows, pairs = _pair(dataset, results, truth, sides, categories)
    means = _mean_overlaps(pairs, truth.group[rows], len(categories), weights)
    for r, name in enumerate(results):
        tables[name]["matched"] = means[..., r, :]
    labels = _labels({key: dataset.categories[key] for key in categories})
    by_category = {key: _metrics(tables, k) for k, key in enumerate(categories)}
    detections = {name: len(found.group) for name, found in sides.items()}
    return Comparison(
        tuple(results),
        len(images),
        labels,
        left_out,
        objects,
        detections,
        _metrics(tables, len(categories)),
        by_category,
        pairs,
        resamples,
        seed,
        (*notes, *_notes(dataset, results, left_out, boxes)),
    )


def _left_out(dataset: CocoDataset, categories: Sequence[int], detected: set[int]) -> dict[int, str]:
    """The categories with annotated objects but without detections that are not measured."""
    annotated = {r["category_id"] for records in dataset.annotations.values() for r in records if not r["iscrowd"]}
    chosen = set(categories)
    return {k: name for k, name in dataset.categories.items() if k in annotated and k not in chosen | detected}


def _notes(
    dataset: CocoDataset,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    left_out: Mapping[int, str],
    boxes: bool,
) -> list[str]:
    """What may be a mistake: images without detections, categories that nobody annotated, missing boxes."""
    notes = []
    for name, found in results.items():
        empty = len(dataset.images) - len({record["image_id"] for record in found} & set(dataset.images))
        if empty:
            notes.append(
                f"{name} has no detection in {empty} of {len(dataset.images)} images; their objects count as missed."
            )
        foreign = sum(record["category_id"] not in dataset.categories for record in found)
        if foreign:
            notes.append(
                f"{name} has {foreign} of {len(found)} detections in categories that {dataset.path} does not have."
            )
    if left_out:
        names = list(left_out.values())
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        what = "1 category is" if len(names) == 1 else f"{len(names)} categories are"
        notes.append(f"{what} left out, since no result has a detection there: {shown}.")
    if not boxes:
        notes.append("Boxes are left out: a result or the annotations have none.")
    return notes


def _with_overall(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metrics of the categories (B, K, 6) with those of all together behind them: (B, K + 1, 6)."""
    return np.concatenate([values, overall(values)[:, None]], axis=1)


def _metrics(tables: Mapping[str, Mapping[str, NDArray[np.float64]]], k: int) -> dict[str, Metrics]:
    """Values of one category, or of all (k = K), by result, kind and metric; row 0 of a table holds no draw."""
    reference, *_ = tables
    made: dict[str, Metrics] = {}
    for name, kinds in tables.items():
        made[name] = {}
        for kind, table in kinds.items():
            first, own = tables[reference][kind][:, k], table[:, k]
            changes: list[float | None] = [None] * own.shape[1]
            spans: list[Interval | None] = [None] * own.shape[1]
            if name != reference:
                changes = list((own[0] - first[0]).tolist())
                if len(own) > 1:
                    spans = list(bootstrap.intervals(first[1:], own[1:]))
            values = map(Value, own[0].tolist(), changes, spans)
            made[name] = {**made[name], kind: dict(zip(KINDS[kind], values, strict=True))}
    return made


def _pair(
    dataset: CocoDataset,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    truth: Columns,
    sides: Mapping[str, Columns],
    categories: Sequence[int],
) -> tuple[NDArray[np.int64], Pairs]:
    """The matched instances, and the row of truth of each."""
    reference, *_ = sides
    partner, _ = match_objects(truth, sides[reference])
    mine = np.flatnonzero(partner >= 0)
    rows = partner[mine]
    columns = []
    for name, found in sides.items():
        if name == reference or _same_detections(results[reference], results[name]):
            position = np.full(len(results[name]), -1, np.int64)
            position[found.number] = np.arange(len(found.number))
            columns.append(position[sides[reference].number[mine]])
        else:
            own, _ = match_objects(truth, found)
            holder = np.full(len(truth.group), -1, np.int64)
            holder[own[own >= 0]] = np.flatnonzero(own >= 0)
            columns.append(holder[rows])
    chosen = np.stack(columns, axis=1)
    everywhere = (chosen >= 0).all(axis=1)
    chosen, rows = chosen[everywhere], rows[everywhere]
    overlaps = [_overlaps(truth, found, chosen[:, r], rows) for r, found in enumerate(sides.values())]
    records = [found.number[chosen[:, r]] for r, found in enumerate(sides.values())]
    image = truth.group[rows] // len(categories)
    ids = list(dataset.images)
    starts = np.cumsum([0, *(len(dataset.annotations[key]) for key in ids)])
    assert truth.masks is not None
    return rows, Pairs(
        np.array(ids, np.int64)[image],
        np.array(categories, np.int64)[truth.group[rows] % len(categories)],
        truth.number[rows] - starts[image],
        truth.masks.area[rows],
        np.stack(records, axis=1),
        np.stack([iou for iou, _ in overlaps], axis=1),
        np.stack([boundary for _, boundary in overlaps], axis=1),
    )


def _same_detections(first: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    keys = ("image_id", "category_id", "score")
    return len(first) == len(other) and all(a[k] == b[k] for a, b in zip(first, other, strict=True) for k in keys)


def _overlaps(
    truth: Columns, found: Columns, mine: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IoU and boundary IoU of pairs of rows."""
    assert truth.masks is not None
    assert found.masks is not None
    pairs = np.stack([mine, rows], axis=1)
    return (
        pair_ious(found.masks, truth.masks, pairs, truth.crowd),
        pair_ious(found.boundaries, truth.boundaries, pairs, truth.crowd),
    )


def _mean_overlaps(pairs: Pairs, group: NDArray[np.int64], k: int, weights: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean overlaps of the matched instances: float64 (1 + draws, K + 1, results, 2), all categories last."""
    image, category = group // k, group % k
    rows = np.concatenate([np.ones((1, weights.shape[1]), np.uint8), weights])
    values = np.concatenate([pairs.iou, pairs.boundary_iou], axis=1)
    made = np.full((len(rows), k + 1, values.shape[1]), np.nan)
    for c in [*np.unique(category), k]:
        own = category == c if c < k else slice(None)
        made[:, c] = bootstrap.weighted_means(values[own], image[own], rows)
    return made.reshape(len(rows), k + 1, 2, -1).swapaxes(-1, -2)


def _labels(names: Mapping[int, str]) -> dict[int, str]:
    """Names that are all different."""
    count = Counter(names.values())
    labels = {key: name if count[name] == 1 else f"{name} ({key})" for key, name in names.items()}
    return labels if len(set(labels.values())) == len(labels) else {key: f"{n} ({key})" for key, n in names.items()}
