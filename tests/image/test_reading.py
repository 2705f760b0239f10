from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crispmask.errors import ImageError
from crispmask.image import decode_frame, formats, read_frame, read_image, read_size
from crispmask.image import reading as module

from ..memory import megabytes_above


@pytest.fixture
def photo() -> np.ndarray:
    """Smooth uint8 (24, 36, 3), every corner of another colour."""
    y, x = np.mgrid[0:24, 0:36]
    return np.stack([x * 7, y * 10, 255 - x * 3 - y * 3], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp", "jp2"])
def test_lossless_formats_give_the_same_pixels(tmp_path, photo, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(photo).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    assert image.dtype == np.uint8
    assert (image == photo).all()
    image[0, 0] = 0  # writable


@pytest.mark.parametrize("suffix", ["jpg", "avif"])
def test_lossy_formats_come_close(tmp_path, photo, suffix):
    Image.fromarray(photo).save(tmp_path / f"photo.{suffix}", quality=95)
    assert np.abs(read_image(tmp_path / f"photo.{suffix}").astype(int) - photo).mean() < 3


def test_the_suffix_does_not_matter(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "photo.dat", format="PNG")
    assert (read_image(str(tmp_path / "photo.dat")) == photo).all()


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_rotation_is_applied(tmp_path, photo, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo).save(tmp_path / "photo.png", exif=exif)
    assert (read_image(tmp_path / "photo.png") == turn(photo)).all()
    assert read_size(tmp_path / "photo.png") == turn(photo).shape[:2]
    Image.fromarray(photo).save(tmp_path / "photo.tif", exif=exif)
    assert read_size(tmp_path / "photo.tif") == read_image(tmp_path / "photo.tif").shape[:2]


def test_a_damaged_exif_block_is_no_reason_to_refuse(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "photo.jpg", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05\x01\x12\x00")
    assert read_image(tmp_path / "photo.jpg").shape == (24, 36, 3)
    assert read_size(tmp_path / "photo.jpg") == (24, 36)


def test_grey(tmp_path, photo):
    Image.fromarray(photo[:, :, 0]).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == photo[:, :, :1]).all()


def test_black_and_white(tmp_path, photo):
    Image.fromarray(photo[:, :, 0] > 90).save(tmp_path / "bw.png")
    assert (read_image(tmp_path / "bw.png") == np.where(photo[:, :, :1] > 90, 255, 0)).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_keeps_its_range(tmp_path, suffix):
    values = np.array([[0, 257, 128 * 257, 40000, 65535]], np.uint16)
    path = tmp_path / f"deep.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 5 1 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 128, 156, 255]
    assert read_image(path).shape == (1, 5, 3)


def test_16_bit_colour(tmp_path):
    # Pillow cannot write one: 2x1 pixels, RGB, 16 bits, filter 0.
    row = b"\x00" + np.array([[65535, 0, 32896], [257, 514, 771]], ">u2").tobytes()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    (tmp_path / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    )
    assert read_image(tmp_path / "deep.png").tolist() == [[[255, 0, 128], [1, 2, 3]]]


def test_cmyk(tmp_path, photo):
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "print.jpg").astype(int) - photo).mean() < 4


def test_palette(tmp_path, photo):
    quantized = Image.fromarray(photo).quantize(16)
    quantized.save(tmp_path / "palette.png")
    assert (read_image(tmp_path / "palette.png") == np.asarray(quantized.convert("RGB"))).all()


def test_alpha_is_laid_on_white(tmp_path):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = [0, 255, 128]
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    clear, solid, half = read_image(tmp_path / "alpha.png")[0].tolist()
    assert clear == [255, 255, 255]
    assert solid == [200, 0, 0]
    assert np.abs(np.array(half) - [227, 127, 127]).max() <= 1


def test_grey_and_palette_with_transparency(tmp_path):
    grey = Image.fromarray(np.array([[[10, 0], [10, 255]]], np.uint8), "LA")
    grey.save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png").tolist() == [[[255] * 3, [10] * 3]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert read_image(tmp_path / "palette.png").tolist() == [[[255] * 3, [9, 8, 7]]]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_an_animation_the_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=frames[1:], **options)
    frame = read_frame(tmp_path / f"moving.{suffix}")
    assert (frame.pixels == [255, 0, 0]).all()
    assert frame.animated
    frames[0].save(tmp_path / f"still.{suffix}")
    assert not read_frame(tmp_path / f"still.{suffix}").animated


def test_the_preview_in_a_camera_s_file_is_no_second_picture(tmp_path, photo):
    preview = Image.new("RGB", (8, 6))
    Image.fromarray(photo).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    frame = read_frame(tmp_path / "a.jpg")
    assert frame.pixels.shape == photo.shape
    assert not frame.animated


def test_from_bytes_as_from_the_file(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    content = (tmp_path / "photo.png").read_bytes()
    assert (decode_frame(content, "photo.png").pixels == photo).all()
    for broken, words in ((b"", "empty"), (content[: len(content) // 2], "cut short"), (b"none", "not an image")):
        with pytest.raises(ImageError, match=rf"photo\.png is .*{words}"):
            decode_frame(broken, "photo.png")


def test_an_image_of_several_strips(tmp_path, photo, monkeypatch):
    """The pixels are converted strip by strip, also where the last one is shorter."""
    monkeypatch.setattr(module, "_STRIP", 7 * photo.shape[1])
    rgba = np.dstack([photo, photo[:, :, 0]])
    Image.fromarray(photo).save(tmp_path / "rgb.png")
    assert (read_image(tmp_path / "rgb.png") == photo).all()
    Image.fromarray(photo[:, :, 0] * np.uint16(257)).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png") == photo[:, :, :1]).all()
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    strips = read_image(tmp_path / "alpha.png")
    monkeypatch.undo()
    assert (read_image(tmp_path / "alpha.png") == strips).all()


HEIC = b"\x00\x00\x00\x1cftypheic" + bytes(40)


def test_formats_that_need_another_package(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "readable_formats", lambda: ("AVIF", "PNG"))
    monkeypatch.setattr(formats, "readable_formats", lambda: ("AVIF", "PNG"))
    (tmp_path / "phone.jpg").write_bytes(HEIC)
    refused(tmp_path / "phone.jpg", "in HEIC format, which cannot be read here: pip install pillow-heif")
    with pytest.raises(ImageError, match="pip install pillow-heif"):
        decode_frame(HEIC, "phone")
    (tmp_path / "camera.nef").write_bytes(b"II*\x00" + bytes(40))
    refused(tmp_path / "camera.nef", "in NEF format: convert it")
    monkeypatch.setattr(formats, "readable_formats", lambda: ("AVIF", "HEIF", "PNG"))
    assert ".heic" in formats.suffixes()
    assert formats.how_to_read(".HEIC") is None
    monkeypatch.setattr(formats, "readable_formats", lambda: ("PNG",))
    assert ".avif" not in formats.suffixes()
    assert "upgrade pillow" in (formats.how_to_read(".avif") or "")


@pytest.mark.parametrize(("orientation", "shape"), [(1, (48, 64)), (6, (64, 48))])
def test_heic(tmp_path, orientation, shape):
    """As a phone writes it: the picture is turned once, not twice, and its suffix is looked for in folders."""
    pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    assert ".heic" in formats.suffixes()  # which registers its decoder
    corner = np.zeros((48, 64, 3), np.uint8)
    corner[:24, :32] = (250, 20, 20)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "phone.heic"
    Image.fromarray(corner).save(path, format="HEIF", quality=95, exif=exif.tobytes())
    image = read_image(path)
    assert image.shape == (*shape, 3)
    assert read_size(path) == shape
    expected = corner if orientation == 1 else np.rot90(corner, -1)
    assert np.abs(image.astype(int) - expected).mean() < 3
    path.write_bytes(path.read_bytes()[:300])
    refused(path, "damaged or cut short|not an image")


def test_heic_of_more_than_8_bits(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    grey = np.full((48, 64, 3), 40000, np.uint16)
    heif.from_bytes("RGB;16", (64, 48), grey.tobytes()).save(tmp_path / "deep.heic", quality=95)
    assert np.abs(read_image(tmp_path / "deep.heic").astype(int) - 40000 / 257).max() <= 2


def refused(path: Path, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        read_image(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "none.jpg", "does not exist")
    refused(tmp_path / ("x" * 5000), "cannot be read: file name too long")
    refused(tmp_path, "is a folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "not a regular file")


def test_empty_and_foreign_files(tmp_path):
    for name, content, words in (
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"this is no photo, whatever its name says", "not an image"),
        ("noise.png", np.random.default_rng(0).bytes(2000), "not an image"),
        ("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not an image"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, words)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "ppm", "tif", "webp", "gif", "jp2", "avif"])
def test_truncated_files_never_pass_in_silence(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    Image.fromarray(noise).save(whole)
    content = whole.read_bytes()
    for part in (0.9, 0.5, 0.1):
        cut.write_bytes(content[: int(len(content) * part)])
        refused(cut, "damaged or cut short|not an image")


def test_damaged_bytes_give_an_image_or_an_image_error(tmp_path, photo):
    random = np.random.default_rng(1)
    for suffix in ("png", "jpg", "tif", "webp", "gif", "bmp", "jp2"):
        whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"damaged.{suffix}"
        Image.fromarray(photo).save(whole)
        for _ in range(40):
            content = bytearray(whole.read_bytes())
            for place in random.integers(0, min(len(content), 400), 4):
                content[place] = random.integers(0, 256)
            path.write_bytes(content)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    assert read_image(path).shape[2] == 3
            except ImageError:
                pass


def test_whatever_a_decoder_raises(tmp_path, photo):
    """A bit that flipped in the pixels of an AVIF file is a RuntimeError of its decoder."""
    Image.fromarray(photo).save(tmp_path / "whole.avif")
    content = (tmp_path / "whole.avif").read_bytes()
    data, kinds = content.index(b"mdat") + 4, set()
    for place in range(data, min(data + 60, len(content))):
        damaged = bytearray(content)
        damaged[place] ^= 0x80
        (tmp_path / "damaged.avif").write_bytes(damaged)
        try:
            with Image.open(tmp_path / "damaged.avif") as image:
                image.load()
        except Exception as error:
            kinds.add(type(error))
            refused(tmp_path / "damaged.avif", "cannot be decoded")
    assert RuntimeError in kinds


def bomb(path: Path, side: int) -> Path:
    """A valid BMP header that claims side x side pixels, and no pixels."""
    path.write_bytes(
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    return path


def test_bombs_are_refused_from_the_header(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, between its limit and ours
        refused(bomb(tmp_path / "large.bmp", 13_000), "13000x13000 pixels, more than the limit of 160 megapixels")
    refused(bomb(tmp_path / "huge.bmp", 30_000), "more pixels")


def test_the_limit_is_on_pixels(tmp_path, photo, monkeypatch):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    monkeypatch.setattr(module, "MAX_PIXELS", 24 * 36)
    assert read_image(tmp_path / "photo.png").shape == photo.shape
    monkeypatch.setattr(module, "MAX_PIXELS", 24 * 36 - 1)
    refused(tmp_path / "photo.png", "36x24")


def test_the_limit_on_sides(tmp_path):
    Image.new("1", (1_000_001, 1)).save(tmp_path / "line.png")
    refused(tmp_path / "line.png", "1000001x1 pixels, a side longer than the limit of 1000000 pixels; scale it down")


@pytest.mark.parametrize("suffix", ["webp", "jp2"])
def test_formats_whose_decoders_take_more_memory(tmp_path, photo, suffix, monkeypatch):
    Image.fromarray(photo).save(tmp_path / f"photo.{suffix}")
    monkeypatch.setattr(module, "_MAX_PIXELS_OF", {"JPEG2000": 24 * 36 - 1, "WEBP": 24 * 36 - 1})
    refused(tmp_path / f"photo.{suffix}", "36x24 pixels, more than the limit of .* scale it down or convert it to PNG")


@pytest.mark.parametrize(
    ("name", "options"), [("large.png", {}), ("large.tif", {"compression": "group4", "strip_size": 1 << 30})]
)
def test_memory_of_a_small_file_with_many_pixels(tmp_path, name, options):
    """A PNG took 18 bytes a pixel, a TIFF of 2 KB 15."""
    Image.new("1" if options else "RGBA", (5000, 4000), 1).save(tmp_path / name, **options)
    assert (tmp_path / name).stat().st_size < 100_000
    prepare = "from crispmask.image import read_image\n"
    assert megabytes_above(prepare, f"read_image({name!r})", tmp_path) < 20 * 9 + 30


def fax(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("compression", ["group4", "group3", "tiff_ccitt"])
@pytest.mark.parametrize("tags", [{262: 1}, {262: 0}, {278: 1}, {278: 512}, {266: 2}, {274: 3}, {274: 6}, {274: 7}])
def test_fax_compression(astronaut, compression, tags):
    image = Image.fromarray(astronaut[:300]).convert("1")
    content = fax(image, compression=compression, tiffinfo=tags)
    turned = Image.open(io.BytesIO(content))
    turned.load()
    pixels = decode_frame(content, "fax").pixels
    assert (pixels == 255 * np.asarray(turned)[:, :, None]).all()


def test_a_damaged_fax_is_refused(astronaut):
    """libtiff gave the rows after the damage as they were in memory: other pixels each time, and no error."""
    image = Image.fromarray(astronaut).convert("1")
    content = bytearray(fax(image, compression="group4"))
    begin = Image.open(io.BytesIO(content)).tag_v2[273][0]
    rng = np.random.default_rng(0)
    for place in rng.integers(begin, begin + 60_000, 60):
        damaged = content.copy()
        damaged[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ImageError, match=r"damaged, or its group4 .* convert it to PNG"):
            decode_frame(bytes(damaged), "fax")


def test_no_process_wide_switch_is_touched(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    read_image(tmp_path / "photo.png")
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_pixels_without_an_8_bit_meaning(tmp_path):
    Image.fromarray(np.ones((3, 3), np.float32)).save(tmp_path / "float.tif")
    refused(tmp_path / "float.tif", "no 8-bit meaning")
    Image.fromarray(np.full((3, 3), 70_000, np.int32)).save(tmp_path / "int.tif")
    refused(tmp_path / "int.tif", "32-bit")


def test_threads_read_side_by_side(tmp_path, photo):
    paths = []
    for i in range(24):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(photo + np.uint8(i)).save(paths[-1])
    with ThreadPoolExecutor(8) as pool:
        for i, image in enumerate(pool.map(read_image, paths)):
            assert (image == photo + np.uint8(i)).all()
