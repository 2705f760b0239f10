"""Traces of all objects of many images, and contact sheets of the first of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.arguments import thread_count
from crispmask.files import replacing
from crispmask.instances import Instances
from crispmask.params import CRFParams
from crispmask.tuning.convergence.sheet import contact_sheet, stack_sheets
from crispmask.tuning.convergence.summary import Course
from crispmask.tuning.convergence.trace import Trace, trace_image

Read = Callable[[], tuple[NDArray[np.uint8], Instances]]
"""Gives an image's pixels, uint8 (H, W, 3) RGB, and the objects in it."""

_OBJECTS = 3  # shown on a sheet, the largest


def survey(
    images: Mapping[str, Read],
    params: CRFParams,
    iterations: int,
    folder: Path,
    *,
    sheets: int = 0,
    threads: int | None = None,
    on_image: Callable[[int], None] | None = None,
) -> list[Course]:
    """Follow the refinement of every object of the images.

    Args:
        images: how to read each, by its name.
        params: of the refinement; their number of iterations does not count.
        iterations: how many to follow.
        folder: where contact sheets go, as ``NAME.png``.
        sheets: how many images with objects get one.
        threads: over the images; by default one per processor. The result is the same for any number.
        on_image: called after each image with the number of its objects.

    Returns:
        The objects in the order of the images.
    """
    courses: list[Course] = []
    drawn = 0

    def follow(item: tuple[str, Read]) -> tuple[NDArray[np.uint8], Instances, dict[int, Trace], list[Course]]:
        name, read = item
        image, instances = read()
        traces = trace_image(image, instances, params, iterations)
        return image, instances, traces, [Course.of(name, i, trace) for i, trace in traces.items()]

    with ThreadPoolExecutor(thread_count(threads)) as pool:
        # Traces hold a mask per iteration: at most one image per thread waits to be written.
        items, ahead = iter(images.items()), thread_count(threads)
        coming = [pool.submit(follow, item) for _, item in zip(range(ahead), items, strict=False)]
        for name in images:
            image, instances, traces, found = coming.pop(0).result()
            coming += [pool.submit(follow, item) for _, item in zip(range(1), items, strict=False)]
            if traces and drawn < sheets:
                drawn += 1
                _write_sheet(folder / PurePosixPath(name).with_suffix(".png"), image, instances, traces)
            courses += found
            if on_image:
                on_image(len(found))
    return courses


def _write_sheet(path: Path, image: NDArray[np.uint8], instances: Instances, traces: dict[int, Trace]) -> None:
    largest = sorted(traces, key=lambda i: -int(traces[i].masks[-1].sum()))[:_OBJECTS]
    sheet = stack_sheets(
        [contact_sheet(image, instances[i], traces[i], label=f"object {i}, ") for i in sorted(largest)]
    )
    with replacing(path) as partial:
        Image.fromarray(sheet).save(partial, format="PNG")
