"""Structured text from strangers: depth, size, text and numbers."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from crispmask.errors import CrispmaskError, DataError, ParamsError
from crispmask.structured import MAX_DEPTH, parse_json, parse_toml, parse_yaml, read_toml, read_yaml

DEEP = {
    parse_json: ["[" * 100_000, '{"a":' * 100_000, "[" * 65 + "]" * 65],
    parse_toml: [
        "a=" + "[" * 100_000,
        "a={" * 1000,
        "a" + ".a" * 100_000 + "=1",
        "[a" + " . 'a'" * 100_000 + "]",
        'a=[{"b"' + '."b"' * 70 + "=1}]",
    ],
    parse_yaml: ["a: " + "[" * 50_000, "- " * 50_000, "{a: " * 1000, "? " * 1000],
}


@pytest.mark.parametrize(("parse", "text"), [(parse, text) for parse, texts in DEEP.items() for text in texts])
def test_deep_nesting_is_refused(parse, text):
    with pytest.raises(CrispmaskError, match=f"^the file is not valid .*more than {MAX_DEPTH} levels"):
        parse(text, "the file")


def test_what_is_as_deep_as_it_may_be_is_read():
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(text, "x") == parse_toml(f"a={text[1:-1]}", "x")["a"].__class__([parse_yaml(text[1:-1], "x")])


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_half_surrogates_can_be_written(parse):
    value = parse('{"a\\ud800": ["b\\udfff\\ud800", "c"]}', "x")
    assert value == {"a\ufffd": ["b\ufffd\ufffd", "c"]}
    assert parse_json('["\\ud83d\\ude00"]', "x") == ["\U0001f600"]


def test_bytes_of_file_names_stay():
    name = os.fsdecode(b"\xe9.jpg")
    assert parse_json('["\\udce9.jpg"]', "x") == ["\udce9.jpg"] or name != "\udce9.jpg"


def test_large_numbers_are_floats():
    value = parse_json(f"[{2**63 - 1}, {2**63}, {-(2**63) - 1}, 1{'0' * 400}, -1{'0' * 400}, 1.5]", "x")
    assert value == [2**63 - 1, float(2**63), -float(2**63), math.inf, -math.inf, 1.5]
    assert [type(number) for number in value[:3]] == [int, float, float]
    assert parse_toml(f"a = {2**70}", "x") == parse_yaml(f"a: {2**70}", "x") == {"a": float(2**70)}


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (parse_json, b"\xff", "not in UTF-8"),
        (parse_json, b'"\xed\xa0\x80"', "not in UTF-8"),
        (parse_json, "[1]".encode("utf-16"), "not in UTF-8"),
        (parse_json, "", "Expecting value"),
        (parse_json, "1" * 5000, "integer string conversion"),
        (parse_toml, "a = " + "1" * 5000, "integer string conversion"),
        (parse_toml, "a = 2024-99-99", "line 1"),
        (parse_yaml, "a: 2024-99-99", "month must be in"),
        (parse_yaml, "a: " + "1" * 5000, "integer string conversion"),
        (parse_yaml, "a: !!timestamp x", "groupdict"),
        (parse_yaml, "a: !!int x", "invalid literal"),
        (parse_yaml, "? [a]\n: b", "unhashable"),
        (parse_yaml, "a: !!python/object/apply:os.system [x]", "constructor"),
        (parse_yaml, "a: &x [1]\nb: [*x, *x]", "aliases"),
        (parse_yaml, "&a [*a]", "aliases"),
        (parse_yaml, b"\x00", "special characters"),
        (parse_yaml, "\ud800", "special characters"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(parse, text, words):
    with pytest.raises(CrispmaskError, match=words) as caught:
        parse(text, "the file")
    assert str(caught.value).startswith("the file is not valid ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_files(tmp_path: Path):
    path = tmp_path / "x"
    with pytest.raises(ParamsError, match="No such file"):
        read_toml(path)
    with pytest.raises(DataError, match="directory"):
        read_yaml(tmp_path)
    for name in ("a\0b", "\ud800"):
        with pytest.raises(ParamsError, match="cannot read"):
            read_toml(tmp_path / name)
    path.write_bytes(b"\n" * (1 << 21))
    with pytest.raises(ParamsError, match="larger than the 1 MB"):
        read_toml(path)
    with pytest.raises(DataError, match=r"larger than the 0\.25 MB"):
        read_yaml(path)
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\n")
    assert read_toml(path) == {"a": 1}
