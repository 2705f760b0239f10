"""The front door: files in, a table out; images matched by their names where the results have their own ids."""

from __future__ import annotations

import json
import math
import sys

import pandas
import pytest

import crispmask
from crispmask.coco import CocoDataset, write_results
from crispmask.errors import CrispmaskError, DataError, ParamsError
from crispmask.evaluation import average_precision


@pytest.fixture
def files(synthetic, tmp_path):
    """An annotation file, its content, and two results files; the second has one detection less."""
    path, results = synthetic(31)
    write_results(tmp_path / "a.json", results)
    write_results(tmp_path / "b.json", results[1:])
    return path, results, {"before": tmp_path / "a.json", "after": str(tmp_path / "b.json")}


def test_a_table_from_files(files):
    path, results, named = files
    found = crispmask.evaluate(path, named)
    expected = average_precision(path, results, category_ids=sorted({r["category_id"] for r in results}))
    lines = [line.split() for line in str(found).splitlines()]
    assert lines[0] == ["Average", "precision,", "%"]
    [row] = [line for line in lines if line[:2] == ["masks", "before"]]
    assert row[2:] == ["-" if math.isnan(v) else f"{100 * v:.1f}" for v in expected.values()]
    assert any(line[:1] == ["change"] for line in lines)


def test_as_dictionaries_and_as_a_pandas_table(files):
    path, results, named = files
    found = crispmask.evaluate(path, named, all_categories=True, bootstrap=10)
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    expected = average_precision(path, results)
    assert content["results"]["before"]["segm"] == {k: None if math.isnan(v) else v for k, v in expected.items()}
    assert content["bootstrap"] == {"resamples": 10, "seed": 0}
    assert "classes" not in found.to_dict(per_class=False)
    table = found.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    row = table.query("`class` == '' and result == 'after' and kind == 'segm' and metric == 'AP'").iloc[0]
    value = found.overall["after"]["segm"]["AP"]
    assert (row.value, row.change, row.low, row.high) == (value.value, value.change, *vars(value.interval).values())
    assert table["change"].dtype == float


def test_without_pandas(files, monkeypatch):
    found = crispmask.evaluate(files[0], files[1])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CrispmaskError, match="run pip install pandas"):
        found.to_pandas()


def test_one_result_as_a_file_and_as_records(files):
    path, results, named = files
    found = crispmask.evaluate(path, named["before"])
    assert found.names == ("results",)
    assert crispmask.evaluate(CocoDataset.from_file(path), results).overall == found.overall


def test_chosen_categories(files):
    path, results, _ = files
    found = crispmask.evaluate(path, results, categories=["car"])
    assert found.overall["results"]["segm"]["AP"].value == average_precision(path, results, category_ids=[3])["AP"]
    with pytest.raises(DataError, match="no category 'boat'; it has person, car"):
        crispmask.evaluate(path, results, categories=["boat"])
    with pytest.raises(ParamsError, match="at least one result"):
        crispmask.evaluate(path, {})
    with pytest.raises(DataError, match="x: result 0: 'image_id'"):
        crispmask.evaluate(path, {"x": [{"category_id": 1}]})


def numbered(files, folder, names: dict[int, str], offset: int = 0):
    """The results in a folder of their own, with other image ids, and which id is which file."""
    _, results, _ = files
    folder.mkdir()
    order = {old: new + offset for new, old in enumerate(sorted(names, reverse=True), start=1)}
    write_results(folder / "results.json", [{**r, "image_id": order[r["image_id"]]} for r in results])
    images = [{"id": order[k], "file_name": name, "height": 9, "width": 9} for k, name in names.items()]
    (folder / "images.json").write_text(json.dumps({"images": images, "categories": [], "annotations": []}))
    return folder / "results.json"


def test_images_are_matched_by_the_names_beside_the_results(files, tmp_path):
    path, results, _ = files
    expected = crispmask.evaluate(path, results)
    moved = numbered(files, tmp_path / "out", {k: f"{k}.jpg" for k in range(1, 9)})
    found = crispmask.evaluate(path, {"mine": moved})
    assert found.overall["mine"] == expected.overall["results"]
    assert f"mine is matched with {path.name} by the file names in {tmp_path / 'out' / 'images.json'}." in found.notes
    deep = numbered(files, tmp_path / "deep", {k: f"some/folder/{k}.jpg" for k in range(1, 9)}, offset=100)
    assert crispmask.evaluate(path, {"mine": deep}).overall["mine"] == expected.overall["results"]


def test_images_that_the_annotations_do_not_have_are_left_out_and_said(files, tmp_path):
    path, results, _ = files
    moved = numbered(files, tmp_path / "out", {k: f"{k}.jpg" if k > 2 else f"other {k}.jpg" for k in range(1, 9)})
    found = crispmask.evaluate(path, moved)
    expected = crispmask.evaluate(path, [r for r in results if r["image_id"] > 2])
    assert found.overall == expected.overall
    others = len({r["image_id"] for r in results if r["image_id"] <= 2})
    assert any(f"; {others} of its" in note and "are not in the annotation file and are left out." in note
               for note in found.notes)  # fmt: skip


def test_results_of_other_images_are_refused(files, tmp_path):
    moved = numbered(files, tmp_path / "out", {k: f"other {k}.jpg" for k in range(1, 9)})
    with pytest.raises(DataError, match="are about other images: of the"):
        crispmask.evaluate(files[0], moved)


def test_ids_that_agree_and_files_about_other_results_change_nothing(files, tmp_path):
    path, results, named = files
    expected = crispmask.evaluate(path, results)
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 9, "width": 9} for k in range(1, 9)]
    for kept in (images, images[:1]):
        (tmp_path / "images.json").write_text(json.dumps({"images": kept, "categories": [], "annotations": []}))
        found = crispmask.evaluate(path, named["before"])
        assert found.overall == expected.overall
        assert found.notes == expected.notes
