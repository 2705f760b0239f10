from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from crispmask.cli.evaluate import name_results
from crispmask.coco import instances_to_results, mask_to_rle, write_results
from crispmask.errors import DataError
from crispmask.evaluation import average_precision
from crispmask.instances import Instances


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Ground truth of two squares, `exact` results, and `shifted` ones by 3 pixels."""
    masks = np.zeros((2, 90, 120), bool)
    masks[0, 10:40, 10:40] = True
    masks[1, 40:80, 60:110] = True
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "bbox": box, "segmentation": mask_to_rle(mask), "iscrowd": 0}
        for k, (box, mask) in enumerate(zip(([10, 10, 30, 30], [60, 40, 50, 40]), masks, strict=True), start=1)
    ]
    gt = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 90, "width": 120}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": annotations,
    }
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    for name, shift in (("exact", 0), ("shifted", 3)):
        moved = Instances.from_masks(np.roll(masks, shift, axis=2))
        write_results(tmp_path / f"{name}.json", instances_to_results(moved, 1))
    return {path.stem: path for path in tmp_path.iterdir()}


def test_json_holds_the_average_precision(invoke, files):
    result = invoke("evaluate", files["exact"], f"moved={files['shifted']}", "-a", files["gt"], "--json")
    content = json.loads(result.stdout)
    assert (content["images"], content["objects"], content["matched"]) == (1, 2, 2)
    table = content["results"]
    assert list(table) == ["exact", "moved"]
    for name, file in (("exact", "exact"), ("moved", "shifted")):
        for kind in ("segm", "boundary", "bbox"):
            expected = average_precision(files["gt"], files[file], kind)
            values = {k: v for k, v in table[name][kind].items() if k != "change"}
            assert values == {k: None if math.isnan(v) else v for k, v in expected.items()}
    assert table["moved"]["segm"]["AP"] < table["exact"]["segm"]["AP"] == pytest.approx(1)
    change = table["moved"]["segm"]["change"]["AP"]
    assert change == {"value": table["moved"]["segm"]["AP"] - table["exact"]["segm"]["AP"], "low": None, "high": None}
    # 30 of 36 columns and 50 of 56
    assert table["moved"]["matched"]["IoU"] == pytest.approx((27 / 33 + 47 / 53) / 2)


def test_bootstrap_and_classes_in_every_format(invoke, files):
    """One image: every resample is the data set itself, so that intervals have no width."""
    command = ["evaluate", files["exact"], files["shifted"], "-a", files["gt"], "--per-class", "--bootstrap", "10"]
    content = json.loads(invoke(*command, "--json").stdout)
    change = content["results"]["shifted"]["segm"]["change"]["AP"]
    assert change["low"] == change["high"] == pytest.approx(change["value"])
    assert content["bootstrap"] == {"resamples": 10, "seed": 0}
    assert content["classes"]["person"]["results"]["shifted"]["segm"] == content["results"]["shifted"]["segm"]
    assert list(content["classes"]) == ["person"]  # no result has a dog

    rows = list(csv.DictReader(io.StringIO(invoke(*command, "--csv").stdout)))
    (row,) = [
        r for r in rows if (r["class"], r["result"], r["kind"], r["metric"]) == ("person", "shifted", "segm", "AP")
    ]
    assert [float(row[k]) for k in ("change", "low", "high")] == pytest.approx([change["value"]] * 3)
    assert len(rows) == 2 * 2 * 20  # all and one class, two results, 3 x 6 + 2 metrics

    markdown = invoke(*command, "--markdown").stdout
    points = 100 * change["value"]
    assert f"({points:+.1f} [{points:+.2f}, {points:+.2f}])** |" in markdown
    assert "| person | 2 | 100.0 |" in markdown
    assert "paired bootstrap over 1 images, 10 resamples, seed 0" in markdown
    for block in markdown.split("\n\n")[:-1]:
        assert len({line.count("|") for line in block.splitlines()}) == 1

    lines = [line.split() for line in invoke(*command).stdout.splitlines()]
    assert ["from", f"{points:+.2f}"] in [line[:2] for line in lines]
    assert any(line[:2] == ["person", "2"] for line in lines)
    assert not any(line[:1] == ["dog"] for line in lines)  # nothing is annotated


def test_one_result_has_nothing_to_be_resampled_against(invoke, files):
    result = invoke("evaluate", files["exact"], "-a", files["gt"], "--bootstrap", "10", "--json")
    assert "--bootstrap has no effect" in result.stderr
    assert json.loads(result.stdout)["bootstrap"] is None


def test_table(invoke, files):
    lines = [
        line.split()
        for line in invoke("evaluate", files["exact"], files["shifted"], "-a", files["gt"]).stdout.splitlines()
    ]
    segm = average_precision(files["gt"], files["shifted"], "segm")
    assert ["AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"] in lines
    exact = next(k for k, line in enumerate(lines) if line[:2] == ["masks", "exact"])
    assert lines[exact][2] == "100.0"
    assert lines[exact + 1][:2] == ["shifted", f"{100 * segm['AP']:.1f}"]
    assert lines[exact + 2][:2] == ["change", f"{100 * segm['AP'] - 100:+.1f}"]
    assert lines[exact][-1] == "-"  # there is no large object


def test_category(invoke, files):
    person = json.loads(invoke("evaluate", files["exact"], "-a", files["gt"], "--category", "person", "--json").stdout)
    dog = json.loads(invoke("evaluate", files["exact"], "-a", files["gt"], "--category", "dog", "--json").stdout)
    assert person["results"]["exact"]["segm"]["AP"] == pytest.approx(1)
    assert dog["results"]["exact"]["segm"]["AP"] is None


def test_images_without_detections_are_pointed_out(invoke, files, tmp_path):
    assert invoke("evaluate", files["exact"], "-a", files["gt"]).stderr == ""
    (tmp_path / "none.json").write_text("[]")
    stderr = invoke("evaluate", tmp_path / "none.json", files["exact"], "-a", files["gt"]).stderr
    assert stderr == "none has no detection in 1 of 1 images; their objects count as missed.\n"


def test_unknown_categories_are_pointed_out(invoke, files, tmp_path):
    records = json.loads(Path(files["exact"]).read_text())
    (tmp_path / "other.json").write_text(json.dumps([{**record, "category_id": 77} for record in records]))
    stderr = invoke("evaluate", tmp_path / "other.json", "-a", files["gt"]).stderr
    assert f"other has {len(records)} of {len(records)} detections in categories that" in stderr


def test_categories_without_detections_are_named(invoke, files, tmp_path):
    content = json.loads(Path(files["gt"]).read_text())
    content["annotations"].append({**content["annotations"][0], "id": 9, "category_id": 2})
    (tmp_path / "more.json").write_text(json.dumps(content))
    command = "evaluate", files["exact"], "-a", tmp_path / "more.json", "--json"
    result = invoke(*command)
    assert "1 category is left out, since no result has a detection there: dog." in result.stderr
    assert "Count them too with --all-categories." in result.stderr
    few, all_of_them = json.loads(result.stdout), json.loads(invoke(*command, "--all-categories").stdout)
    assert few["left_out"] == ["dog"]
    assert few["results"]["exact"]["segm"]["AP"] == pytest.approx(1)
    assert all_of_them["results"]["exact"]["segm"]["AP"] == pytest.approx(0.5)


def test_images_of_a_folder_are_matched_by_name(invoke, files, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    records = json.loads(Path(files["exact"]).read_text())
    write_results(out / "results.json", [{**record, "image_id": 7} for record in records])
    content = {"images": [{"id": 7, "file_name": "a.jpg", "height": 90, "width": 120}], "categories": []}
    (out / "images.json").write_text(json.dumps({**content, "annotations": []}))
    result = invoke("evaluate", out / "results.json", "-a", files["gt"], "--json")
    assert json.loads(result.stdout)["results"]["results"]["segm"]["AP"] == pytest.approx(1)
    assert result.stderr == f"results is matched with gt.json by the file names in {out / 'images.json'}.\n"


def test_a_broken_record_is_named_with_its_file(refused, files, tmp_path):
    records = json.loads(Path(files["exact"]).read_text())
    (tmp_path / "broken.json").write_text(json.dumps([{**records[0], "segmentation": None}]))
    sentence = refused("evaluate", files["exact"], tmp_path / "broken.json", "-a", files["gt"])
    assert sentence.startswith(f"{tmp_path / 'broken.json'}: result 0: ")


def test_refusals(refused, files, tmp_path):
    assert "no category 'cat'; it has person, dog" in refused(
        "evaluate", files["exact"], "-a", files["gt"], "--category", "cat"
    )
    assert "cannot read" in refused("evaluate", tmp_path / "gone.json", "-a", files["gt"])
    assert "is not a COCO annotation file" in refused("evaluate", files["exact"], "-a", files["exact"])
    assert "is not a COCO results file" in refused("evaluate", files["gt"], "-a", files["gt"])
    assert "choose one of --json, --markdown and --csv" in refused(
        "evaluate", files["exact"], "-a", files["gt"], "--json", "--csv"
    )
    assert "two results are named 'x'" in refused(
        "evaluate", f"x={files['exact']}", f"x={files['shifted']}", "-a", files["gt"]
    )


def test_names(tmp_path):
    assert name_results(["a/results.json", "b.json"]) == {"results": Path("a/results.json"), "b": Path("b.json")}
    assert list(name_results(["a/r.json", "b/r.json"])) == ["a/r.json", "b/r.json"]
    assert name_results(["crf=a/r.json"]) == {"crf": Path("a/r.json")}
    odd = tmp_path / "x=1.json"
    odd.touch()
    assert name_results([str(odd)]) == {"x=1": odd}
    with pytest.raises(DataError, match="two results"):
        name_results(["x=a.json", "x=b.json"])
