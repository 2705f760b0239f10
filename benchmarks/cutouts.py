"""How much of the old background do cut-outs show?

    python benchmarks/cutouts.py                    # the objects of the samples, as `crispmask demo` finds them
    python benchmarks/cutouts.py photo.jpg more/*.jpg

Prints a Markdown table, a row for each object: within three pixels of the mask's edge, weighted by opacity, cut along
the mask (before) and by `crispmask.cutout` (after):

- background: the part of the background in the colours, 0 the colour of the object's inside (more than 6 pixels from
  the edge), 1 that of the background (more than 4 pixels), where the two can be told apart;
- difference: the mean difference to the colour of the inside, of 255;
- inside: the same difference 6 to 9 pixels inside, to the colour 12 pixels inside. No background is mixed in there: it
  is what the object's own texture and shading give.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

import crispmask
from crispmask.samples import sample_images

NAMES = ("background before", "after", "difference before", "after", "inside", "opacity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path, help="image files; by default the samples")
    parser.add_argument("--least", type=int, default=1500, help="smaller masks are left out, pixels")
    options = parser.parse_args()
    print(f"| object | {' | '.join(NAMES)} |\n| --- |{' --- |' * len(NAMES)}")
    rows = []
    for path in options.photos or sample_images():
        image = crispmask.read_image(path)
        for number, found in enumerate(crispmask.segment(image), start=1):
            if found.windows[0].mask.sum() >= options.least:
                rows.append(measures(image, found))
                print(line(f"{path.name} {number}", rows[-1]))
    if rows:
        print(line(f"mean of {len(rows)}", np.nanmean(rows, axis=0)))


def line(name: str, values: np.ndarray) -> str:
    digits = (2, 2, 0, 0, 0, 2)
    return f"| {name} | {' | '.join(f'{v:.{d}f}' for v, d in zip(values, digits, strict=True))} |"


def measures(image: np.ndarray, found: crispmask.Instances) -> np.ndarray:
    """Of one object, what `NAMES` says."""
    mask = found.mask(0)
    (picture,) = crispmask.cutout(image, found, crop=False)
    depth = np.where(mask, distance_transform_edt(mask) - 0.5, 0.5 - distance_transform_edt(~mask))
    smooth = gaussian_filter(image.astype(float), (1, 1, 0))
    own, behind = nearest(smooth, depth > 6), nearest(smooth, depth < -4)
    band = np.abs(depth) <= 3
    plain, soft = band * mask, band * (picture[:, :, 3] / 255)
    sides = [(image.astype(float), plain), (picture[:, :, :3].astype(float), soft)]
    background = [part_of(colours, own, behind, weight) for colours, weight in sides]
    difference = [mean(np.abs(colours - own).mean(-1), weight) for colours, weight in sides]
    deep = nearest(smooth, depth > 12)
    inside = mean(np.abs(image - deep).mean(-1), (depth > 6) & (depth <= 9)) if (depth > 12).any() else np.nan
    return np.array([*background, *difference, inside, soft.sum() / plain.sum()])


def nearest(colours: np.ndarray, core: np.ndarray) -> np.ndarray:
    """The colour of the nearest pixel of `core`; its own where there is none."""
    if not core.any():
        return colours
    _, place = distance_transform_edt(~core, return_indices=True)
    return colours[place[0], place[1]]


def part_of(colours: np.ndarray, own: np.ndarray, behind: np.ndarray, weight: np.ndarray) -> float:
    """The mean part of the background, where its colour is at least 30 from the object's in each channel."""
    direction = behind - own
    length = (direction**2).sum(-1)
    part = np.clip(((colours - own) * direction).sum(-1) / np.maximum(length, 1), 0, 1)
    return mean(part, weight * (length > 3 * 30**2))


def mean(values: np.ndarray, weight: np.ndarray) -> float:
    total = weight.sum()
    return float((weight * values).sum() / total) if total else float("nan")


if __name__ == "__main__":
    main()
