"""`evaluate`: files in, a table of metrics out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from crispmask.arguments import sequence
from crispmask.coco.dataset import CocoDataset
from crispmask.errors import DataError
from crispmask.evaluation.comparison import Comparison, compare
from crispmask.evaluation.reading import Records, Sides, read_sides


def evaluate(
    annotations: str | Path | CocoDataset,
    results: Mapping[str, str | Path | Records] | str | Path | Records,
    *,
    categories: Sequence[str] | None = None,
    all_categories: bool = False,
    bootstrap: int = 0,
    seed: int = 0,
) -> Comparison:
    """Measure results against the ground truth: AP of masks, their boundaries and boxes, and matched instances.

    ``print(evaluate("gt.json", {"before": "a.json", "after": "b.json"}))`` shows the table; the changes are those from
    the first result. Masks and boxes give the numbers of pycocotools, boundaries those of Cheng et al., "Boundary IoU",
    CVPR 2021.

    Args:
        annotations: a COCO annotation file, or a data set already read.
        results: COCO results files, or their records, by name; or just one. Where ``images.json`` is beside a file, as
            ``crispmask segment`` writes it, images are matched by their file names.
        categories: names of categories to measure; by default those of which at least one result has a detection.
        all_categories: by default, measure all categories of the ground truth instead.
        bootstrap: draws of the paired bootstrap over images, for 95 % intervals of the changes; 0 for none.
        seed: of the draws.

    Returns:
        The metrics, as fractions in [0, 1]: `print` shows a table, ``to_dict()`` and ``to_pandas()`` convert.

    Raises:
        DataError: a file or record that breaks the format, results of other images, or unknown categories.
        ParamsError: no results, or a negative number of draws or seed.
    """
    return compare_sides(
        read_sides(annotations, results),
        categories=categories,
        all_categories=all_categories,
        bootstrap=bootstrap,
        seed=seed,
    )


def compare_sides(
    sides: Sides,
    *,
    categories: Sequence[str] | None = None,
    all_categories: bool = False,
    bootstrap: int = 0,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda step: None,
) -> Comparison:
    """`evaluate` of what was read before; `on_step` is called with a few words before each part of the work."""
    return compare(
        sides.dataset,
        sides.records,
        category_ids=category_ids(sides.dataset, categories),
        all_categories=all_categories,
        resamples=bootstrap,
        seed=seed,
        sources=sides.sources,
        notes=sides.notes,
        on_step=on_step,
    )


def category_ids(dataset: CocoDataset, names: Sequence[str] | None) -> list[int] | None:
    """The ids of categories by name; None for no names.

    Raises:
        DataError: a name that the data set does not have.
    """
    if names is None:
        return None
    names = sequence(names, "categories", DataError)
    if not names:
        return None
    for name in names:
        if not isinstance(name, str) or name not in dataset.categories.values():
            known = ", ".join(dataset.categories.values())
            raise DataError(f"{dataset.path} has no category {name!r}; it has {known}")
    return [key for key, name in dataset.categories.items() if name in names]
