"""Crops of all objects, cut once, for a device whose memory holds them all."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispmask.errors import ModelError
from crispmask.files import replacing
from crispmask.instances import Window
from crispmask.refinement.crops import Crop
from crispmask.training.refiner.errors import grabcut, polygon
from crispmask.training.refiner.objects import AnnotatedObject, SourceImage, decode

CELLS, CONTEXT = 320, 2.0
"""A crop's side: in cells, at most and in the device's memory; and as a multiple of the object's longer side."""

POLYGONS, GRABCUTS, FOUND = 2, 1, 2
"""Coarse masks of an object that are made beforehand, and masks of a detector, the surest."""

PLANES = 2 + POLYGONS + GRABCUTS + FOUND
"""Masks of an object: its own, its neighbours', the polygons, the GrabCut masks, the detector's."""

_QUALITY = 88  # of WebP
_SEED = 77


@dataclass(frozen=True)
class Cuts:
    """Crops of N objects, compressed.

    Attributes:
        photos: N WebP files, squares of at most `CELLS` cells.
        masks: N times `PLANES` masks of the same squares, packed bits.
        found: int64 (N,), how many of the planes of a detector's masks are filled.
    """

    photos: tuple[bytes, ...]
    masks: tuple[bytes, ...]
    found: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.photos)

    def save(self, path: Path) -> None:
        """Write them as a NumPy archive."""
        joined = [np.frombuffer(b"".join(parts), np.uint8) for parts in (self.photos, self.masks)]
        ends = [np.cumsum([len(part) for part in parts]) for parts in (self.photos, self.masks)]
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, found=self.found, photos=joined[0], photos_ends=ends[0], masks=joined[1], masks_ends=ends[1])

    @classmethod
    def load(cls, path: Path) -> Cuts:
        """Read what `save` wrote; ModelError for a damaged file."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                photos, masks = (
                    tuple(part.tobytes() for part in np.split(stored[name], stored[f"{name}_ends"][:-1]))
                    for name in ("photos", "masks")
                )
                return cls(photos, masks, stored["found"])
        except (OSError, EOFError, LookupError, ValueError, BadZipFile, zlib.error):
            raise ModelError(f"{path} is damaged: remove it, and it is made anew") from None

    def decoded(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """RGB (CELLS, CELLS, 3), and masks (PLANES, CELLS, CELLS) from 0 to 255, of an object."""
        photo = Image.open(io.BytesIO(self.photos[i])).convert("RGB")
        side = photo.width
        packed = np.frombuffer(zlib.decompress(self.masks[i]), np.uint8)
        planes = np.unpackbits(packed, count=PLANES * side * side).reshape(PLANES, side, side) * np.uint8(255)
        grown = (CELLS, CELLS)
        shown = [np.asarray(Image.fromarray(plane).resize(grown, Image.Resampling.BILINEAR)) for plane in planes]
        return np.asarray(photo.resize(grown, Image.Resampling.BILINEAR)), np.stack(shown)


def cut_all(
    objects: Sequence[AnnotatedObject],
    path: Path,
    *,
    threads: int = 1,
    on_image: Callable[[int, int], None] | None = None,
) -> Cuts:
    """The crops of all objects, from the file where it is there, which is made otherwise.

    Raises:
        DataError, ImageError: an image that cannot be used.
        ModelError: a damaged file.
    """
    if path.exists():
        return Cuts.load(path)
    by_image: dict[SourceImage, list[int]] = {}
    for i, one in enumerate(objects):
        by_image.setdefault(one.image, []).append(i)

    def work(image: SourceImage) -> dict[int, tuple[bytes, bytes, int]]:
        pixels = image.read()
        return {i: _cut(pixels, objects[i], i) for i in by_image[image]}

    made: dict[int, tuple[bytes, bytes, int]] = {}
    with ThreadPoolExecutor(threads) as pool:
        for done, part in enumerate(pool.map(work, by_image), 1):
            made |= part
            if on_image:
                on_image(done, len(by_image))
    ordered = [made[i] for i in range(len(objects))]
    photos, masks = (tuple(parts) for parts in zip(*((p, m) for p, m, _ in ordered), strict=True))
    cuts = Cuts(photos, masks, np.array([count for _, _, count in ordered], np.int64))
    cuts.save(path)
    return cuts


def _cut(pixels: NDArray[np.uint8], one: AnnotatedObject, number: int) -> tuple[bytes, bytes, int]:
    x0, y0, x1, y1 = one.box
    side = int(np.ceil(CONTEXT * max(x1 - x0, y1 - y0) + 8))
    crop = Crop(int((x0 + x1 - side) // 2), int((y0 + y1 - side) // 2), side, min(side, CELLS))
    rgb = crop.image(pixels)

    def view(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
        return crop.mask(Window(mask.astype(np.float32), 0, 0), one.image.size)

    exact = view(decode([one.rle], one.image.size))
    rng = np.random.default_rng((_SEED, number))
    planes = [exact, view(decode(one.others, one.image.size))]
    planes += [polygon(exact, rng) for _ in range(POLYGONS)]
    planes += [grabcut(exact, rgb, rng) for _ in range(GRABCUTS)]
    found = sorted(one.found, key=lambda pair: -pair[1])[:FOUND]
    planes += [view(decode([rle], one.image.size)) for rle, _ in found]
    planes += [np.zeros_like(exact)] * (PLANES - len(planes))
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "WEBP", quality=_QUALITY)
    return file.getvalue(), zlib.compress(np.packbits(np.stack(planes) > 0.5).tobytes(), 9), len(found)
