from __future__ import annotations

import pytest

from crispmask.errors import DataError, ParamsError
from crispmask.pipeline.journal import Journal, readable_records

SETTINGS = {"detector": "x", "score": 0.5, "joint": False}
RECORDS = [{"name": f"photo {k}.jpg", "value": [k, 0.1 * k]} for k in range(3)]


def written(path, records=RECORDS):
    with Journal(path, SETTINGS) as journal:
        for record in records:
            journal.append(record)
    return path


def test_round_trip(tmp_path):
    path = written(tmp_path / "new" / "j.jsonl")
    assert list(Journal(path, SETTINGS).values()) == RECORDS


def test_nothing_is_created_without_a_record(tmp_path):
    with Journal(tmp_path / "new" / "j.jsonl", SETTINGS):
        pass
    assert list(tmp_path.iterdir()) == []


def test_cut_anywhere_and_continued(tmp_path):
    whole = written(tmp_path / "whole.jsonl").read_bytes()
    for size in range(len(whole)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:size])
        kept = whole[:size].count(b"\n") - 1
        with Journal(path, SETTINGS) as journal:
            assert list(journal.values()) == RECORDS[: max(kept, 0)]
            for record in RECORDS[max(kept, 0) :]:
                journal.append(record)
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"score": 0.3}, r"score was 0\.5, is 0\.3"),
        ({"detector": "y"}, "another detector"),
        ({"score": 0.3, "joint": True}, r"score was 0\.5, is 0\.3; 1 more setting differs"),
        ({"new": 1}, "new was None, is 1"),
    ],
)
def test_other_settings_are_refused(tmp_path, changed, what):
    path = written(tmp_path / "j.jsonl")
    before = path.read_bytes()
    with pytest.raises(ParamsError, match=what):
        Journal(path, {**SETTINGS, **changed})
    assert path.read_bytes() == before


def test_restart_drops_it(tmp_path):
    path = written(tmp_path / "j.jsonl")
    assert Journal(path, {**SETTINGS, "score": 0.3}, restart=True) == {}
    assert not path.exists()


def test_records_are_read_back_while_more_are_added(tmp_path):
    with Journal(tmp_path / "j.jsonl", SETTINGS) as journal:
        journal.append(RECORDS[0], RECORDS[1])
        assert journal["photo 1.jpg"] == RECORDS[1]
        changed = {**RECORDS[0], "value": "later"}
        journal.append(changed, RECORDS[2])
        assert journal["photo 0.jpg"] == changed  # the later of two counts
        assert journal["photo 2.jpg"] == RECORDS[2]
        assert "photo 3.jpg" not in journal
    assert Journal(tmp_path / "j.jsonl", SETTINGS)["photo 0.jpg"] == changed


def test_remove(tmp_path):
    with Journal(tmp_path / "j.jsonl", SETTINGS) as journal:
        journal.append(RECORDS[0])
        journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_records_that_no_longer_count(tmp_path):
    path = written(tmp_path / "j.jsonl")
    with Journal(path, SETTINGS, usable=lambda record: record["value"][0] != 1) as journal:
        assert list(journal) == ["photo 0.jpg", "photo 2.jpg"]
        changed = {**RECORDS[1], "value": [7, 0]}
        journal.append(changed)
        assert journal["photo 1.jpg"] == changed
    assert Journal(path, SETTINGS)["photo 1.jpg"] == changed


@pytest.mark.parametrize("line", [b"nonsense", b"[1]", b'{"value": 3}', b"3", b'{"name": ["x"]}', b"[" * 100_000])
def test_a_damaged_line(tmp_path, line):
    path = written(tmp_path / "j.jsonl")
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ParamsError, match=r"j\.jsonl is damaged in line 5: remove it, or begin anew with --restart"):
        Journal(path, SETTINGS)
    assert [record["name"] for record in readable_records(path)][:3] == [record["name"] for record in RECORDS]


def test_a_line_that_another_program_put_in_the_place_of_one(tmp_path):
    path = written(tmp_path / "j.jsonl")
    with Journal(path, SETTINGS) as journal:
        path.write_bytes(path.read_bytes().replace(b"photo 1.jpg", b"photo 7.jpg"))
        assert journal["photo 0.jpg"] == RECORDS[0]
        with pytest.raises(DataError, match="changed by another program"):
            journal["photo 1.jpg"]


@pytest.mark.parametrize("content", [b"[]\n", b"{}\n", b"null\n", b'{"settings": 3}\n', b"\xff\xfe\n"])
def test_a_file_that_is_no_journal(tmp_path, content):
    (tmp_path / "j.jsonl").write_bytes(content)
    with pytest.raises(ParamsError, match="is not a journal"):
        Journal(tmp_path / "j.jsonl", SETTINGS)
