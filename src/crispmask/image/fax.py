"""Fax compression in TIFF files (ITU-T T.4 and T.6): whether the pixels that were decoded are those of the file.

Of damaged data libtiff decodes what it can. The remaining rows are what the memory held before: other pixels each time,
and no error. So what was decoded is encoded again, which gives the bytes of the file only if every row came from them.
"""

from __future__ import annotations

import io

from PIL import Image, ImageChops, TiffImagePlugin

FAX = frozenset({"tiff_ccitt", "group3", "group4", "tiff_raw_16"})
"""Pillow's names of the compressions; the last is run lengths in words of 16 bits, which it cannot write."""

_PHOTOMETRIC, _FILL_ORDER, _OFFSETS, _ROWS, _COUNTS, _T4_OPTIONS = 262, 266, 273, 278, 279, 292
_END_OF_LINE = "000000000001"
_TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def is_faithful(image: Image.Image, content: bytes, orientation: int) -> bool:
    """Whether the pixels of a decoded TIFF file in a fax compression are those of the file.

    Files whose encoder took other codes than libtiff would are not, as far as can be seen here.

    Args:
        image: decoded, with its tags, and turned, as Pillow does it.
        content: of the file.
        orientation: EXIF's, by which it was turned.
    """
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    tags, compression = image.tag_v2, image.info.get("compression")
    if image.mode != "1" or compression == "tiff_raw_16" or _OFFSETS not in tags or _COUNTS not in tags:
        return False
    # The coder's white are bits of 0. Pillow turns them over in a loop where the file says so, which takes minutes.
    bits = image.copy() if tags.get(_PHOTOMETRIC) == 1 else ImageChops.invert(image)  # without the tags
    if orientation in _TURNED_BACK:
        bits = bits.transpose(_TURNED_BACK[orientation])
    chosen = {_PHOTOMETRIC: 1, _ROWS: min(int(tags.get(_ROWS, bits.height)), bits.height)}
    if _T4_OPTIONS in tags:
        chosen[_T4_OPTIONS] = tags[_T4_OPTIONS]
    buffer = io.BytesIO()
    bits.save(buffer, "TIFF", compression=compression, tiffinfo=chosen)
    with Image.open(buffer, formats=["TIFF"]) as again:
        assert isinstance(again, TiffImagePlugin.TiffImageFile)
        expected, found = _strips(again, buffer.getvalue()), _strips(image, content)
    if tags.get(_FILL_ORDER) == 2:
        found = [strip.translate(_REVERSED) for strip in found]
    return len(expected) == len(found) and all(map(_begins_with, found, expected))


def _strips(image: TiffImagePlugin.TiffImageFile, content: bytes) -> list[bytes]:
    places = zip(image.tag_v2[_OFFSETS], image.tag_v2[_COUNTS], strict=False)
    return [content[offset : offset + count] for offset, count in places]


def _begins_with(found: bytes, expected: bytes) -> bool:
    """Whether data hold the bits of the rows in `expected`; what follows the rows may differ."""
    count = 8 * len(expected)
    tail = "".join(f"{byte:08b}" for byte in expected[-16:])
    ended = tail.rstrip("0")
    while ended.endswith(_END_OF_LINE):
        ended = ended.removesuffix(_END_OF_LINE)
        count = 8 * len(expected) - len(tail) + len(ended)
    whole, rest = divmod(count, 8)
    if len(found) < whole + (rest > 0) or found[:whole] != expected[:whole]:
        return False
    return not rest or (found[whole] ^ expected[whole]) >> (8 - rest) == 0
