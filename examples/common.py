"""What the examples share: options, material, the check against the exact CRF, and the picture."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import grey_dilation
from skimage import data
from skimage.color import label2rgb
from skimage.draw import line
from skimage.segmentation import mark_boundaries

from crispmask.crf import DenseCRF, exact

# Okabe and Ito's colours, which colour-blind people can tell apart.
COLOURS = np.array([[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [240, 228, 66], [213, 94, 0]]) / 255


def options(description: str | None, size: int) -> argparse.Namespace:
    """Command line: where the picture goes, and how large the problem is."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-o", "--output", type=Path, help="PNG to write")
    parser.add_argument("--size", type=int, default=size, help=f"longest side in pixels (default {size})")
    return parser.parse_args()


def check(crf: DenseCRF) -> None:
    """Compare the lattice with brute force, which takes the square of the number of points: for small crops only."""
    ours, reference = crf.run(), exact.run(crf)
    difference = np.abs(ours.marginals - reference.marginals).mean()
    equal = (ours.labels == reference.labels).mean()
    print(f"against the exact CRF on {ours.labels.size} points: mean |dQ| {difference:.4f}, equal labels {equal:.2%}")


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """A uint8 image whose longest side is `size`."""
    factor = size / max(image.shape[:2])
    picture = Image.fromarray(image)
    return np.asarray(picture.resize((round(picture.width * factor), round(picture.height * factor))))


def mosaic(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nine fields of three textures, equally bright: uint8 (H, W); labels; the same in three spots, elsewhere 3."""
    y, x = np.mgrid[:size, :size] / size
    rows, columns = 3 * y + 0.1 * np.sin(13 * x), 3 * x + 0.1 * np.sin(11 * y)
    truth = (np.clip(rows, 0, 2.9).astype(int) + np.clip(columns, 0, 2.9).astype(int)) % 3
    spots = sum(np.hypot(y - 1 / 6, x - centre) < 0.09 for centre in (1 / 6, 1 / 2, 5 / 6))
    photos = (shrink(t, max(size, 400)) for t in (data.grass(), data.gravel(), data.brick()))  # CC0
    textures = [t[:size, :size].astype(float) for t in photos]
    equal = np.stack([128 + 45 * (t - t.mean()) / t.std() for t in textures])
    image = np.take_along_axis(equal, truth[None], 0)[0].clip(0, 255).astype(np.uint8)
    return image, truth, np.where(spots, truth, 3)


def scribbles(strokes: list[list[tuple[int, int, int, int]]], size: int) -> np.ndarray:
    """Labels from 1 where there is a stroke, else 0: (size, size).

    Args:
        strokes: per label lines from (row, column) to (row, column) in an image of 512x512 pixels.
        size: of the image now.
    """
    marks = np.zeros((size, size), int)
    for label, lines in enumerate(strokes, start=1):
        for ends in lines:
            marks[line(*(v * size // 512 for v in ends))] = label
    return grey_dilation(marks, max(1, size // 100))


def cutout(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image uint8 (H, W, 3) that is dimmed outside of a mask."""
    shown = np.where(mask[..., None], image, (0.3 * image + 120).astype(np.uint8))
    return (255 * mark_boundaries(shown, mask, color=(0.84, 0.37, 0), mode="thick")).astype(np.uint8)


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """An image uint8 (H, W) or (H, W, 3) under the colours of its labels."""
    tinted = label2rgb(labels, image, colors=COLOURS, alpha=0.5, bg_label=-1, saturation=0.3)
    return (255 * mark_boundaries(tinted, labels, color=(1, 1, 1), mode="inner")).astype(np.uint8)


def save(panels: dict[str, np.ndarray], path: Path | None) -> None:
    """Write titled panels of one size, side by side, at least 300 pixels wide each."""
    if path is None:
        return
    pictures = [Image.fromarray(p).convert("RGB") for p in panels.values()]
    factor = -(-300 // pictures[0].width)
    pictures = [p.resize((p.width * factor, p.height * factor), Image.Resampling.NEAREST) for p in pictures]
    width, height = pictures[0].size
    sheet = Image.new("RGB", ((width + 12) * len(pictures) - 12, height + 30), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (title, picture) in enumerate(zip(panels, pictures, strict=True)):
        draw.text((i * (width + 12), 4), title, fill="black", font=ImageFont.load_default(16))
        sheet.paste(picture, (i * (width + 12), 30))
    sheet.save(path)
    print(f"wrote {path}")
