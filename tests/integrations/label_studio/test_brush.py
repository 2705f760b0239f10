"""Run lengths of the brush: a slow decoder, bytes that Label Studio's own package made, and that package itself."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from crispmask.errors import DataError, ShapeError
from crispmask.integrations.label_studio import brush

SIZES = [(1, 1), (1, 2), (3, 5), (16, 16), (37, 53), (120, 301)]


def opacity(rle: list[int], height: int, width: int) -> np.ndarray:
    """The fourth value of every pixel, bit by bit as the format is described."""
    bits, place = "".join(f"{byte:08b}" for byte in rle), 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeated = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return np.array(values).reshape(height, width, 4)[:, :, 3]


def literal(pixels: np.ndarray) -> list[int]:
    """Values that are not repeated, in chunks of at most 16, as Label Studio writes coloured and soft strokes."""
    values = pixels.ravel().tolist()
    bits = f"{len(values):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    for k in range(0, len(values), 16):
        part = values[k : k + 16]
        bits += f"001{len(part) - 1:04b}" + "".join(f"{v:08b}" for v in part)
    bits += "0" * (8 - len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def some_masks(height: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(height + width)
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 3) ** 2
    return [np.zeros((height, width), bool), np.ones((height, width), bool), disc, rng.random((height, width)) > 0.6]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_holds_the_mask(size):
    for mask in some_masks(*size):
        rle = brush.encode(mask)
        assert np.array_equal(opacity(rle, *size), mask * 255)
        assert np.array_equal(brush.decode(rle, *size), mask)


@pytest.mark.parametrize("size", SIZES)
def test_soft_and_coloured_strokes_are_cut_at_half(size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 4))
    rle = literal(pixels)
    assert np.array_equal(opacity(rle, *size), pixels[:, :, 3])
    assert np.array_equal(brush.decode(rle, *size), pixels[:, :, 3] > 127)


def test_bytes_that_label_studio_sdk_makes(tricky_masks):
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    # label_studio_sdk.converter.brush.mask2rle of version 2.1.2.
    assert brush.encode(mask) == [0, 0, 0, 80, 57, 27, 254, 23, 0, 183, 255, 56, 5, 191, 252, 46, 0]
    for mask in tricky_masks.values():
        assert np.array_equal(brush.decode(brush.encode(mask), *mask.shape), mask)


@pytest.mark.parametrize(
    ("rle", "reason"),
    [
        (None, "must be a list of bytes"),
        ("AAAA", "must be a list of bytes"),
        ([], "must be a list of bytes"),
        ([0, 0, 0, 80, 57, 27, 300], "must be a list of bytes"),
        ([0, 0, 0, 80, 57, 27, 0.5], "must be a list of bytes"),
        ([[0, 1]] * 8, "must be a list of bytes"),
        ([0, 0, 0, 10**30], "must be a list of bytes"),
        ([255, 255, 255, 255, 57, 27, 252], "has 1073741824 pixels"),
        ([0, 0, 0, 84, 57, 27, 252, 0, 0], "has 21 pixels, its photo 5x4"),
        ([0, 0, 0, 80, 57, 27, 252], "is cut short"),
        ([0, 0, 0, 80, 25, 27, 252, 0, 0], "not bytes"),
    ],
)
def test_damaged_run_lengths_are_refused(rle, reason):
    with pytest.raises(DataError, match=reason):
        brush.decode(rle, 4, 5)


def test_no_prefix_and_no_changed_byte_breaks_the_decoder():
    rng = np.random.default_rng(0)
    rle = brush.encode(some_masks(37, 53)[2])
    for k in range(7, len(rle)):
        try:
            brush.decode(rle[:k], 37, 53)
        except DataError:
            continue
        assert k >= len(rle) - 1  # a byte of zeros may follow
    for _ in range(300):
        damaged = list(rle)
        damaged[int(rng.integers(4, len(rle)))] = int(rng.integers(0, 256))
        with contextlib.suppress(DataError):
            assert brush.decode(damaged, 37, 53).shape == (37, 53)


def test_what_is_no_mask_is_refused():
    for array in (np.zeros((0, 3), bool), np.zeros(3, bool), np.zeros((2, 2, 2), bool)):
        with pytest.raises(ShapeError):
            brush.encode(array)


@pytest.mark.slow
@pytest.mark.needs("label-studio")
def test_label_studio_sdk_makes_and_reads_the_same(tmp_path):
    """The package of Label Studio, in the environment of the program."""
    program = Path(os.environ.get("LABEL_STUDIO") or shutil.which("label-studio") or "")
    masks = [mask for size in SIZES for mask in some_masks(*size)]
    theirs = """
import json, sys
import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle
made = []
for mask, rle in json.load(open(sys.argv[1])):
    values = np.array(mask, np.uint8) * 255
    assert (decode_rle(rle).reshape(*values.shape, 4) == values[:, :, None]).all()
    made.append(mask2rle(values))
json.dump(made, open(sys.argv[2], "w"))
"""
    ours = [brush.encode(mask) for mask in masks]
    pairs = [(mask.astype(int).tolist(), rle) for mask, rle in zip(masks, ours, strict=True)]
    (tmp_path / "ours.json").write_text(json.dumps(pairs))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [program.parent / "python", "-c", theirs, tmp_path / "ours.json", tmp_path / "theirs.json"],
        check=True,
        env=environment,
    )
    assert json.loads((tmp_path / "theirs.json").read_text()) == ours
