from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference
from pycocotools.coco import COCO

from crispmask.coco import read_results, results_to_instances, segmentation_to_rle
from crispmask.errors import DataError, ParamsError
from crispmask.files import checksum
from crispmask.image import read_image
from crispmask.params import CRFParams
from crispmask.pipeline import Settings, refine_records, refine_results
from crispmask.pipeline.provenance import beside
from crispmask.refinement import refine

# One iteration: these tests are about files.
SETTINGS = Settings(score=0, params=CRFParams(iterations=1))
SIZES = {139: (40, 56), 285: (44, 60), 632: (48, 40), 724: (36, 36)}


def discs(k: int, size: tuple[int, int]) -> np.ndarray:
    """Mask k of a photo."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (y - size[0] / 2) ** 2 + (x - size[1] / 2 - k) ** 2 < (size[0] / (3 + k % 4)) ** 2


def spelt(mask: np.ndarray, way: int):
    """A mask as compressed RLE, plain RLE, or polygons."""
    rle = reference.encode(np.asfortranarray(mask, np.uint8))
    if way == 0:
        return {"size": list(mask.shape), "counts": rle["counts"].decode()}
    if way == 1:
        edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.ravel(order="F"), [2]))))
        return {"size": list(mask.shape), "counts": np.diff(np.concatenate(([0], edges))).tolist()}
    x, y, w, h = (float(v) for v in reference.toBbox(rle))
    return [[x, y, x + w, y, x + w, y + h, x, y + h], [1.0, 1.0, 5.0, 1.0, 5.0, 5.0]]


@pytest.fixture
def coco_photos(tmp_path) -> Path:
    """Folder `val` of four photos with COCO's names."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "val"
    folder.mkdir()
    for key, (height, width) in SIZES.items():
        image = rng.integers(0, 90, (height, width, 3)) + 150 * discs(1, (height, width))[..., None]
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{key:012d}.jpg")
    return folder


@pytest.fixture
def records() -> list[dict]:
    """Twelve records of the four photos in turn, in all spellings, with fields that nobody knows."""
    found = []
    for k in range(12):
        key = list(SIZES)[k % 4]
        mask = discs(k, SIZES[key])
        box = reference.toBbox(reference.encode(np.asfortranarray(mask, np.uint8)))
        found.append({"image_id": key, "category_id": 1 + k % 3, "score": round(0.99 - 0.08 * k, 2)})
        found[-1]["segmentation"] = spelt(mask, k % 3)
        if k % 5:
            found[-1]["bbox"] = [float(v) + 0.25 for v in box]
        found[-1].update({"track": {"név": [k, None, "\U0001f600"]}, "area": 1.5 * k, "keypoints": []})
    return found


def write(path: Path, records: object) -> Path:
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return path


def truth(path: Path, names: dict[int, str], sizes=SIZES) -> Path:
    images = [{"id": k, "file_name": n, "height": sizes[k][0], "width": sizes[k][1]} for k, n in names.items()]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "cat"}]
    return write(path, {"info": {}, "images": images, "annotations": [], "categories": categories})


@pytest.fixture
def results(tmp_path, records) -> Path:
    return write(tmp_path / "results.json", records)


def test_every_record_refined_and_nothing_else_changed(results, records, coco_photos, tmp_path):
    out, steps = tmp_path / "new" / "out.json", []
    report = refine_results(results, coco_photos, out, SETTINGS, on_progress=steps.append)
    assert (report.records, report.images, report.resumed, report.below, report.skipped) == (12, 4, 0, 0, 0)
    assert [(s.done, s.total, s.resumed) for s in steps] == [(k, 12, 0) for k in (0, 3, 6, 9, 12)]
    found = json.loads(out.read_bytes())
    changed = 0
    for before, after in zip(records, found, strict=True):
        assert list(after) == list(before)
        assert {**after, "segmentation": None} == {**before, "segmentation": None}
        size = SIZES[before["image_id"]]
        image = read_image(coco_photos / f"{before['image_id']:012d}.jpg")
        expected = refine(image, results_to_instances([before], *size), SETTINGS.params)
        rle = after["segmentation"]
        assert isinstance(rle["counts"], str)
        assert (reference.decode(rle).astype(bool) == expected.mask(0)).all()
        changed += rle != segmentation_to_rle(before["segmentation"], *size)
    assert changed > 3
    assert sorted(p.name for p in out.parent.iterdir()) == ["out.json", "out.provenance.json"]
    gt = COCO(str(truth(tmp_path / "gt.json", {k: f"{k}.jpg" for k in SIZES})))
    without_boxes = [{k: v for k, v in r.items() if k != "bbox"} for r in found]
    assert len(gt.loadRes(without_boxes).anns) == 12


def test_joint_refinement_sees_all_objects_of_a_photo(results, records, coco_photos, tmp_path):
    joint = Settings(score=0, params=SETTINGS.params, joint=True)
    refine_results(results, coco_photos, tmp_path / "out.json", joint)
    found = read_results(tmp_path / "out.json")
    for key, size in SIZES.items():
        before = [r for r in records if r["image_id"] == key]
        after = refine(
            read_image(coco_photos / f"{key:012d}.jpg"),
            results_to_instances(before, *size),
            SETTINGS.params,
            joint=True,
        )
        again = results_to_instances([r for r in found if r["image_id"] == key], *size)
        assert (again.masks() == after.masks()).all()


def test_packed_files(results, records, coco_photos, tmp_path):
    refine_results(results, coco_photos, tmp_path / "plain.json", SETTINGS)
    packed = tmp_path / "results.json.gz"
    packed.write_bytes(gzip.compress(results.read_bytes()))
    for name in ("a.json.gz", "b.json.gz"):
        refine_results(packed, coco_photos, tmp_path / name, SETTINGS)
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == (tmp_path / "plain.json").read_bytes()
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert (tmp_path / "a.provenance.json").is_file()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(results, coco_photos, tmp_path, threads):
    refine_results(results, coco_photos, tmp_path / "a.json", SETTINGS)
    refine_results(results, coco_photos, tmp_path / "b.json", SETTINGS, threads=threads)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_scores_of_any_range_and_those_below(coco_photos, records, tmp_path):
    for k, record in enumerate(records):
        record["score"] = 3 - k
    results = write(tmp_path / "r.json", records)
    assert refine_results(results, coco_photos, tmp_path / "all.json", SETTINGS).records == 12
    half = Settings(score=0.5, params=SETTINGS.params)
    report = refine_results(results, coco_photos, tmp_path / "some.json", half)
    assert (report.records, report.below) == (3, 9)
    assert [r["score"] for r in read_results(tmp_path / "some.json")] == [3, 2, 1]


def test_no_records(coco_photos, tmp_path):
    report = refine_results(write(tmp_path / "r.json", []), coco_photos, tmp_path / "out.json", SETTINGS)
    assert report.records == 0
    assert read_results(tmp_path / "out.json") == []


def test_names_from_annotations_or_from_beside_the_results(results, coco_photos, tmp_path):
    refine_results(results, coco_photos, tmp_path / "by_number.json", SETTINGS)
    (coco_photos / "sub").mkdir()
    for key in SIZES:
        (coco_photos / f"{key:012d}.jpg").rename(coco_photos / "sub" / f"photo {key}.jpg")
    gt = truth(tmp_path / "gt.json", {k: f"sub/photo {k}.jpg" for k in SIZES})
    report = refine_results(results, coco_photos, tmp_path / "by_name.json", SETTINGS, annotations=gt)
    assert report.named_by == gt
    gt.rename(tmp_path / "images.json")
    report = refine_results(results, coco_photos, tmp_path / "by_folder.json", SETTINGS)
    assert report.named_by == tmp_path / "images.json"
    for name in ("by_name.json", "by_folder.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "by_number.json").read_bytes()


def test_provenance(results, coco_photos, tmp_path):
    gt, out = truth(tmp_path / "gt.json", {k: f"{k:012d}.jpg" for k in SIZES}), tmp_path / "out.json"
    refine_results(results, coco_photos, out, SETTINGS, annotations=gt)
    found = json.loads(beside(out).read_text())
    assert found["made_by"] == "crispmask refine"
    assert found["results"] == {"file": "results.json", "sha256": checksum(results)}
    assert found["annotations"]["sha256"] == checksum(gt)
    assert found["settings"] == SETTINGS.as_dict()
    assert found["records"] == {"refined": 12, "below_score": 0, "skipped": 0}
    assert found["outputs"] == {"out.json": checksum(out)}
    # What was refined carries the provenance of what it was made from, as long as that is the same file.
    refine_results(out, coco_photos, tmp_path / "again.json", SETTINGS)
    assert json.loads(beside(tmp_path / "again.json").read_text())["results"]["provenance"] == found
    out.write_text(out.read_text() + "\n")
    refine_results(out, coco_photos, tmp_path / "again.json", SETTINGS)
    assert "provenance" not in json.loads(beside(tmp_path / "again.json").read_text())["results"]


def rle(size, counts):
    return {"segmentation": {"size": size, "counts": counts}}


BAD = {
    "image id of no photo": ({"image_id": 7}, "there is no file of image 7"),
    "image id is text": ({"image_id": "285"}, "'image_id' must be a whole number"),
    "image id missing": ({"image_id": None}, "'image_id' must be a whole number"),
    "category is text": ({"category_id": "dog"}, "'category_id' must be a whole number"),
    "nan score": ({"score": float("nan")}, "'score' must be a finite number, got nan"),
    "no score": ({"score": None}, "'score' must be a finite number"),
    "no mask": ({"segmentation": None}, "has no 'segmentation'"),
    "rle of another size": (rle([40, 56], [2240]), r"the RLE has size \[40, 56\], the image is \[44, 60\]"),
    "rle too short": (rle([44, 60], [5]), "the RLE covers 5 pixels"),
    "negative run": (rle([44, 60], [-5, 2645]), "a run that is negative"),
    "compressed negative run": (rle([44, 60], "01O"), "negative run"),
    "rle of rubbish": (rle([44, 60], "~~~"), "characters that do not belong"),
    "two points": ({"segmentation": [[1, 1, 5, 5]]}, "polygon 0 has 2 points and needs at least 3"),
    "nan point": ({"segmentation": [[1, 1, 5, float("nan"), 5, 5]]}, "NaN or infinite"),
    "far point": ({"segmentation": [[1, 1, 1e9, 5, 5, 5]]}, "leaves the image"),
    "bad box": ({"bbox": [1, 2, -3, 4]}, "'bbox' has a negative width or height"),
    "foreign box": ({"bbox": [900, 2, 3, 4]}, "lies outside the image of 44x60"),
    "endless box": ({"bbox": [0, 0, 1e300, 4]}, "lies outside the image"),
    "id twice": ({"id": 4}, "the id 4 is used twice, first by result 2"),
    "nan elsewhere": ({"extra": [float("inf")]}, "holds NaN or infinity"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_records(case, coco_photos, records, tmp_path):
    change, reason = BAD[case]
    records[2]["id"] = 4
    good = write(tmp_path / "good.json", [*records[:5], *records[6:]])
    refine_results(good, coco_photos, tmp_path / "expected.json", SETTINGS)
    records[5].update(change)
    results, out = write(tmp_path / "r.json", records), tmp_path / "out.json"
    with pytest.raises(DataError, match=rf"r\.json: result 5:? .*{reason}.*; --skip-bad"):
        refine_results(results, coco_photos, out, SETTINGS)
    assert not out.exists()
    assert not out.with_name("out.json.unfinished").exists()
    told: list[str] = []
    report = refine_results(results, coco_photos, out, SETTINGS, skip_bad=True, on_bad=told.append)
    assert (report.records, report.skipped, len(told)) == (11, 1, 1)
    assert out.read_bytes() == (tmp_path / "expected.json").read_bytes()


def test_records_that_are_none(coco_photos, records, tmp_path):
    results = write(tmp_path / "r.json", [3, records[0], None, [records[1]]])
    told: list[str] = []
    report = refine_results(results, coco_photos, tmp_path / "out.json", SETTINGS, skip_bad=True, on_bad=told.append)
    assert (report.records, report.skipped) == (1, 3)
    assert [sentence.split("r.json: ")[1] for sentence in told] == [
        "result 0 must be an object, got int",
        "result 2 must be an object, got NoneType",
        "result 3 must be an object, got list",
    ]


def test_a_file_that_is_cut_short(results, coco_photos, tmp_path):
    content = results.read_bytes()
    results.write_bytes(content[: content.index(b'"image_id": 724', 3000) + 20])
    whole = json.loads(results.read_bytes().rpartition(b", {")[0] + b"]")
    with pytest.raises(DataError, match=rf"result {len(whole)} is not valid JSON at byte \d+: the file is cut short"):
        refine_results(results, coco_photos, tmp_path / "out.json", SETTINGS)
    report = refine_results(results, coco_photos, tmp_path / "out.json", SETTINGS, skip_bad=True)
    assert (report.records, report.skipped) == (len(whole), 1)


@pytest.mark.parametrize("content", ["{}", '{"images": []}', "", "3", "null", "not JSON"])
def test_a_file_that_is_no_results_file(coco_photos, tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match="is not a COCO results file"):
        refine_results(tmp_path / "r.json", coco_photos, tmp_path / "out.json", SETTINGS, skip_bad=True)


def test_unknown_ids_and_names_of_a_data_set(results, coco_photos, tmp_path):
    names = {139: "000000000139.jpg", 285: "../val/000000000285.jpg", 632: "000000000632.jpg"}
    gt = truth(tmp_path / "gt.json", names, {**SIZES, 632: (99, 99)})
    told: list[str] = []
    options = {"annotations": gt, "skip_bad": True, "on_bad": told.append}
    assert refine_results(results, coco_photos, tmp_path / "out.json", SETTINGS, **options).skipped == 9
    assert "result 1: the file name '../val/000000000285.jpg' leads out of its folder" in told[0]
    assert "the annotation file says 99x99" in told[1]
    assert "result 3: there is no image with the id 724 in" in told[2]
    gt = truth(tmp_path / "gt.json", {k: f"{k:012d}.jpg" for k in SIZES})
    foreign = [{**record, "category_id": 9} for record in json.loads(results.read_bytes())]
    write(results, foreign)
    with pytest.raises(DataError, match=r"result 0: there is no category with the id 9 in .*gt\.json"):
        refine_results(results, coco_photos, tmp_path / "out.json", SETTINGS, annotations=gt)


def test_a_photo_whose_pixels_are_damaged(results, coco_photos, tmp_path):
    """The header does not show it, so that it comes up in the middle of the work; what was finished is not lost."""
    photo = coco_photos / "000000000632.jpg"
    content = photo.read_bytes()
    photo.write_bytes(content[:-300])
    out, told = tmp_path / "out.json", []
    with pytest.raises(DataError, match=r"result 2: .*000000000632\.jpg is damaged or cut short"):
        refine_results(results, coco_photos, out, SETTINGS, threads=1)
    report = refine_results(results, coco_photos, out, SETTINGS, skip_bad=True, on_bad=told.append)
    assert (report.records, report.skipped, report.resumed) == (9, 3, 6)
    assert len(told) == 3
    photo.write_bytes(content)
    assert refine_results(results, coco_photos, out, SETTINGS).records == 12


def test_outputs_that_cannot_be(results, coco_photos, tmp_path):
    before = results.read_bytes()
    with pytest.raises(DataError, match="is also an input"):
        refine_results(results, coco_photos, results, SETTINGS)
    with pytest.raises(DataError, match="is a folder"):
        refine_results(results, coco_photos, tmp_path, SETTINGS)
    with pytest.raises(DataError, match="is not a folder"):
        refine_results(results, tmp_path / "none", tmp_path / "out.json", SETTINGS)
    assert results.read_bytes() == before


class Stop(Exception):
    pass


def stopped_after(photos: int):
    calls = []

    def stop(step) -> None:
        calls.append(step)
        if len(calls) > photos:
            raise Stop

    return stop


@pytest.mark.parametrize("photos", [1, 3, 4])
def test_stopped_and_continued_equals_undisturbed(results, coco_photos, tmp_path, photos):
    refine_results(results, coco_photos, tmp_path / "undisturbed" / "out.json", SETTINGS)
    out = tmp_path / "out" / "out.json"
    with pytest.raises(Stop):
        refine_results(results, coco_photos, out, SETTINGS, on_progress=stopped_after(photos))
    assert not out.exists()
    steps = []
    report = refine_results(results, coco_photos, out, SETTINGS, on_progress=steps.append)
    assert (report.resumed, steps[0].done) == (3 * photos, 3 * photos)
    assert len(steps) == 5 - photos  # nothing is done twice
    for name in ("out.json", "out.provenance.json"):
        assert (out.parent / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert sorted(p.name for p in out.parent.iterdir()) == ["out.json", "out.provenance.json"]


def test_other_settings_and_files_are_not_mixed(results, records, coco_photos, tmp_path):
    out = tmp_path / "out.json"
    with pytest.raises(Stop):
        refine_results(results, coco_photos, out, SETTINGS, on_progress=stopped_after(2))
    for other in (Settings(score=0, params=CRFParams(iterations=2)), Settings(score=0.2, params=SETTINGS.params)):
        with pytest.raises(ParamsError, match="unfinished run with other settings"):
            refine_results(results, coco_photos, out, other)
    gt = truth(tmp_path / "gt.json", {k: f"{k:012d}.jpg" for k in SIZES})
    with pytest.raises(ParamsError, match="another annotation file"):
        refine_results(results, coco_photos, out, SETTINGS, annotations=gt)
    write(results, records[1:])
    with pytest.raises(ParamsError, match="another results file"):
        refine_results(results, coco_photos, out, SETTINGS)
    assert refine_results(results, coco_photos, out, SETTINGS, restart=True).resumed == 0


def test_a_photo_that_changed_meanwhile_is_done_again(results, coco_photos, tmp_path):
    with pytest.raises(Stop):
        refine_results(results, coco_photos, tmp_path / "out.json", SETTINGS, on_progress=stopped_after(4))
    Image.new("RGB", (56, 40), "red").save(coco_photos / "000000000139.jpg")
    assert refine_results(results, coco_photos, tmp_path / "out.json", SETTINGS).resumed == 9
    refine_results(results, coco_photos, tmp_path / "fresh.json", SETTINGS)
    assert (tmp_path / "out.json").read_bytes() == (tmp_path / "fresh.json").read_bytes()


def test_masks_of_a_large_photo_are_refined_a_few_at_a_time(records, coco_photos, monkeypatch):
    own = [record for record in records if record["image_id"] == 285]
    image = read_image(coco_photos / "000000000285.jpg")
    assert len(own) > 2
    expected, seen = refine_records(image, own, SETTINGS, threads=1), []
    monkeypatch.setattr("crispmask.pipeline.results.MASK_PIXELS", image.shape[0] * image.shape[1])
    assert refine_records(image, own, SETTINGS, threads=1, on_progress=seen.append) == expected
    assert seen[-1] == len(own)
    assert seen == sorted(seen)


def test_records_of_one_photo(records, coco_photos):
    own = [record for record in records if record["image_id"] == 285]
    image = read_image(coco_photos / "000000000285.jpg")
    assert refine_records(image, own, SETTINGS, threads=1) == refine_records(image, own, SETTINGS, threads=2)
    assert refine_records(image, [], SETTINGS) == ([], ())
    with pytest.raises(DataError, match="result 1"):
        refine_records(image, [own[0], {**own[1], "segmentation": []}], SETTINGS)


def test_killed_at_random_moments(records, coco_photos, tmp_path):
    """`CRISPMASK_KILLS=20` is the long version."""
    kills = int(os.environ.get("CRISPMASK_KILLS", "3"))
    photo = (coco_photos / "000000000139.jpg").read_bytes()
    for key in range(1, 41):
        (coco_photos / f"{key}.jpg").write_bytes(photo)
    own = [record for record in records if record["image_id"] == 139]
    results = write(tmp_path / "r.json", [{**r, "image_id": key} for r in own * 6 for key in range(1, 41)])
    refine_results(results, coco_photos, tmp_path / "undisturbed" / "out.json", SETTINGS)
    out = tmp_path / "out" / "out.json"
    journal = out.with_name("out.json.unfinished") / "journal.jsonl"
    command = [
        sys.executable,
        "-m",
        "crispmask",
        "refine",
        results,
        "-i",
        coco_photos,
        "-o",
        out,
        "--params",
        "fixed",
        "--iterations",
        "1",
    ]
    random = np.random.default_rng()
    sizes = np.sort(random.uniform(0, 1.1 * (tmp_path / "undisturbed" / "out.json").stat().st_size, kills))
    killed = 0
    for size in sizes:
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while running.poll() is None and not (journal.exists() and journal.stat().st_size > size):
            time.sleep(0.002)
        running.kill()
        assert running.wait() in (0, -signal.SIGKILL)
        killed += running.returncode != 0
        if killed:
            assert out.exists() or journal.exists()
    assert killed
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    for name in ("out.json", "out.provenance.json"):
        assert (out.parent / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert sorted(p.name for p in out.parent.iterdir()) == ["out.json", "out.provenance.json"]


def test_an_image_with_many_objects_is_done_in_pieces(records, coco_photos, tmp_path, monkeypatch):
    """So that an interruption waits for one piece, and keeps the others."""
    own = [record for record in records if record["image_id"] == 139] * 4
    results = write(tmp_path / "r.json", own)
    refine_results(results, coco_photos, tmp_path / "whole.json", SETTINGS)
    monkeypatch.setattr("crispmask.pipeline.results.PIECE", 5)
    with pytest.raises(Stop):
        refine_results(results, coco_photos, tmp_path / "out.json", SETTINGS, threads=1, on_progress=stopped_after(1))
    steps = []
    report = refine_results(results, coco_photos, tmp_path / "out.json", SETTINGS, threads=1, on_progress=steps.append)
    assert report.resumed == 5
    assert [step.done for step in steps] == [5, 10, 12]
    assert (tmp_path / "out.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    joint = Settings(score=0, params=SETTINGS.params, joint=True)
    refine_results(results, coco_photos, tmp_path / "joint.json", joint, on_progress=steps.append)
    done = [step.done for step in steps[3:]]  # with a step every half a second in between
    assert (done[0], done[-1]) == (0, 12)
    assert done == sorted(done)


def test_an_interruption_of_joint_refinement_ends_the_work(records, coco_photos, tmp_path, monkeypatch):
    """Of a photo with 20 000 objects, the rest went on for minutes."""
    from crispmask.pipeline import results as module

    results = write(tmp_path / "r.json", [record for record in records if record["image_id"] == 139] * 40)
    whole, told, begun = module.refine_records, [], Event()

    def watched(*args, on_progress, **options):
        def step(done: int) -> None:
            begun.set()
            told.append(done)
            time.sleep(0.05)
            on_progress(done)

        return whole(*args, on_progress=step, **options)

    def interrupted(step) -> None:
        if begun.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "refine_records", watched)
    joint = Settings(score=0, params=SETTINGS.params, joint=True)
    with pytest.raises(KeyboardInterrupt):
        refine_results(results, coco_photos, tmp_path / "out.json", joint, threads=1, on_progress=interrupted)
    steps = len(told)
    time.sleep(0.5)
    assert len(told) <= steps + 2


def test_two_runs_into_one_output(results, coco_photos, tmp_path):
    out = tmp_path / "out.json"

    def second(step) -> None:
        with pytest.raises(DataError, match=r"out\.json\.unfinished is in use by process"):
            refine_results(results, coco_photos, out, SETTINGS)

    assert refine_results(results, coco_photos, out, SETTINGS, on_progress=second).records == 12
