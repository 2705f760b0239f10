from __future__ import annotations

import gzip
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispmask.coco import CocoDataset, read_results, stream
from crispmask.coco.records import read_json
from crispmask.coco.stream import JsonStream, open_plain, open_stream
from crispmask.errors import DataError

INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
SCALARS = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | st.text(LETTERS, max_size=8)
KEYS = st.text(LETTERS, max_size=4)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(KEYS, v, max_size=4))


def elements(content: bytes) -> list:
    found = JsonStream(io.BytesIO(content), "x.json")
    values = list(found.elements())
    found.end()
    return values


@pytest.fixture(autouse=True)
def tiny_chunks(monkeypatch):
    monkeypatch.setattr(stream, "CHUNK", 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1]), st.booleans())
def test_every_value_at_its_place(values, indent, ascii_only):
    content = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    found = elements(content)
    assert [value.content for value in found] == values
    for value, expected in zip(found, values, strict=True):
        assert json.loads(content[value.offset : value.offset + value.length]) == expected


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_an_object_s_members(members):
    found = JsonStream(io.BytesIO(json.dumps(members).encode()), "x.json")
    assert {name: found.value().content for name in found.members()} == members
    found = JsonStream(io.BytesIO(json.dumps(members).encode()), "x.json")
    for _ in found.members():
        found.skip()
    found.end()


def test_cut_anywhere():
    content = json.dumps([{"a": "text", "b": [1.5, -2]}, {"c": "é"}], ensure_ascii=False).encode()
    for size in range(len(content)):
        with pytest.raises(DataError, match=r"x\.json is not valid JSON at byte \d+: "):
            elements(content[:size])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1 2]", r"expected ',', got '2'"),
        (b"[1]]", "something follows after the end"),
        (b'[{"a": 1}, {"b": x}]', r"at byte 11: expecting value"),
        (b'[{"a": "\xff"}]', "a text is not in UTF-8"),
        (b'["abc', "the file is cut short"),
        (b'[{"a": 1}', "the file is cut short"),
        (b"[" * 100_000, "more than 64 levels"),
        ("[1]".encode("utf-16"), "not in UTF-8"),
    ],
)
def test_what_is_not_json(content, reason):
    with pytest.raises(DataError, match=reason):
        elements(content)


def test_a_byte_order_mark():
    (value,) = elements(b"\xef\xbb\xbf[7]")
    assert (value.content, value.offset) == (7, 4)


def test_a_value_without_end_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(stream, "MAX_VALUE", 1000)
    file = io.BytesIO(b'["' + b"a" * 1_000_000)
    with pytest.raises(DataError, match=r"x\.json is not valid JSON"):
        list(JsonStream(file, "x.json").elements())
    assert file.tell() < 10_000


def test_packed_or_not(tmp_path):
    (tmp_path / "a").write_bytes(b"[1, 2]")
    (tmp_path / "b").write_bytes(gzip.compress(b"[1, 2]"))
    for name in "ab":
        with open_plain(tmp_path / name) as file:
            assert file.read() == b"[1, 2]"
            file.seek(4)
            assert file.read(1) == b"2"
    (tmp_path / "b").write_bytes(gzip.compress(b"[1, 2]" * 99)[:-9])
    with pytest.raises(DataError, match="the gzip file is damaged"):
        open_plain(tmp_path / "b")
    with pytest.raises(DataError, match="cannot read"):
        open_plain(tmp_path / "none")


@pytest.mark.parametrize("packed", [False, True])
def test_a_data_set_without_its_annotations(synthetic, tmp_path, packed):
    path, _ = synthetic(0)
    whole = CocoDataset.from_file(path)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    light = CocoDataset.from_file(path, annotations=False)
    assert (light.images, light.categories) == (whole.images, whole.categories)
    assert not any(light.annotations.values())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "it holds a list, not an object"),
        ('{"images": {}, "categories": []}', "'images' must be a list"),
        ('{"categories": []}', "'images' must be a list"),
        ('{"images": [', "cut short"),
    ],
)
def test_a_data_set_that_is_none(tmp_path, content, reason):
    path = tmp_path / "gt.json"
    path.write_text(content)
    with pytest.raises(DataError, match=reason):
        CocoDataset.from_file(path, annotations=False)


@pytest.mark.parametrize("records", [b"0", b'{"image_id":1,"category_id":1,"score":1}'])
def test_gzip_that_holds_far_more_than_its_size(tmp_path, monkeypatch, records):
    """2.9 MB took 6 GB of memory in `evaluate`, and as much disk as there was in `refine`."""
    monkeypatch.setattr(stream, "ALWAYS", 1 << 20)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b"[" + (records + b",\n") * (3_000_000 // len(records)) + records + b"]"))
    words = r"bomb.json.gz holds more than 100 times its size, the limit for gzip files: unpack it first"
    with pytest.raises(DataError, match=words):
        open_plain(path)
    with open_stream(path) as file, pytest.raises(DataError, match=words):
        list(iter(lambda: file.read(1 << 16), b""))
    with pytest.raises(DataError, match=words):
        read_json(path)
    with pytest.raises(DataError, match=words if b"score" in records else "result 0 must be an object"):
        read_results(path)
    monkeypatch.setattr(stream, "MAX_RATIO", 10_000)
    with open_plain(path) as file:
        assert len(file.read()) > 2_900_000


def test_a_small_gzip_file_may_hold_any_multiple(tmp_path):
    path = tmp_path / "same.json.gz"
    path.write_bytes(gzip.compress(b"[" + b"0,\n" * 1_000_000 + b"0]"))
    assert path.stat().st_size < 5000
    assert len(read_json(path)) == 1_000_001


def test_names_of_records_are_in_memory_once(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": 1, "category_id": 2, "score": 0.5, "caption": "é"}] * 2))
    first, second = read_results(path)
    assert all(a is b for a, b in zip(first, second, strict=True))
