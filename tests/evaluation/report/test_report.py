"""The page about two results: complete, self-contained, within its size, and correct."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crispmask.coco import CocoDataset, mask_to_rle
from crispmask.errors import DataError, ParamsError
from crispmask.evaluation.bootstrap import Interval
from crispmask.evaluation.comparison import Value, compare
from crispmask.evaluation.report import write_report
from crispmask.evaluation.report.charts import histogram, whisker
from crispmask.evaluation.report.crops import surroundings

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Fails on tags that do not match; keeps what the page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict]] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += f" {' '.join(data.split())}"

    def images(self) -> list[np.ndarray]:
        uris = [attributes["src"] for tag, attributes in self.attributes if tag == "img"]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))) for uri in uris]


def square(y: int, x: int, side: int) -> dict:
    mask = np.zeros((160, 200), bool)
    mask[y : y + side, x : x + side] = True
    return mask_to_rle(mask)


@pytest.fixture
def case(tmp_path):
    """Three photos with an object each: one gains, one loses, one stays; a category with a hostile name."""
    names = ["a.png", "sub/b.png", "c & d.png"]
    content = {
        "images": [{"id": k, "file_name": n, "height": 160, "width": 200} for k, n in enumerate(names, start=1)],
        "categories": [{"id": 1, "name": "<script>alert(1)</script>"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": k, "image_id": k, "category_id": c, "iscrowd": 0, "segmentation": square(20, 30, side)}
            for k, (c, side) in enumerate(((1, 100), (2, 60), (2, 20)), start=1)
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    for k, name in enumerate(names):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((160, 200, 3), 60 + 50 * k, np.uint8)).save(tmp_path / "photos" / name)
    places = [((24, 30, 100), (20, 30, 100)), ((20, 30, 60), (20, 38, 60)), ((20, 30, 20), (20, 30, 20))]
    results = {"coarse": [], "fine": []}
    for k, (category, pair) in enumerate(zip((1, 2, 2), places, strict=True), start=1):
        for name, place in zip(results, pair, strict=True):
            record = {"image_id": k, "category_id": category, "score": 0.5 + k / 10, "bbox": [30, 20, 9, 9]}
            results[name].append({**record, "segmentation": square(*place)})
    return CocoDataset.from_file(tmp_path / "gt.json"), tmp_path / "photos", results


def written(case, path: Path, resamples: int = 50, **options):
    dataset, photos, results = case
    comparison = compare(dataset, results, resamples=resamples)
    report = write_report(path, dataset, photos, results, comparison, **options)
    return report, path.read_text(encoding="utf-8"), comparison


def test_the_page_is_complete_and_correct(case, tmp_path):
    report, text, comparison = written(case, tmp_path / "new" / "report.html")
    page = Page(text)
    assert (report.best, report.worst, report.left_out, report.bytes) == (1, 1, 0, len(text.encode()))
    assert "coarse → fine" in page.words
    assert "on 3 images of gt.json with 3 annotated objects" in page.words
    for metric in ("AP", "AP50", "AP75"):
        for name in comparison.names:
            assert f"{100 * comparison.overall[name]['segm'][metric].value:.1f}" in page.words
    assert "33 % of 3" in page.words
    assert "1 better, 1 worse" in page.words
    assert "92.3 → 100.0" in page.words  # IoU of the object that gained: 96 of 104 rows
    assert "+7.7" in page.words
    assert "100.0 → 76.5" in page.words  # 52 of 68 columns
    assert "0.60" in page.words
    assert "0.70" in page.words
    assert "large, 10000 px" in page.words
    assert "sub/b.png" in page.words
    assert len(page.images()) == 8


def test_nothing_is_loaded_and_nothing_is_executed(case, tmp_path):
    _, text, _ = written(case, tmp_path / "report.html", title="<b>&amp;")
    page = Page(text)
    assert not {tag for tag, _ in page.attributes} & {"script", "link", "iframe", "object", "base"}
    assert not re.search(r"(?:https?:)?//|@import|url\(", re.sub(r'src="data:[^"]*"', "", text))
    assert all(a["src"].startswith("data:image/webp;base64,") for tag, a in page.attributes if tag == "img")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<title>&lt;b&gt;&amp;amp;</title>" in text


def test_crops_show_the_masks(case, tmp_path):
    """The object that gained was 4 rows too low: these are blue in the last crop, and nothing is orange."""
    _, text, _ = written(case, tmp_path / "report.html")
    before, after, truth, change = Page(text).images()[:4]
    assert max(before.shape) == max(change.shape) == 320
    red, green, yellow = (
        int((np.abs(p.astype(int) - c).sum(axis=2) < 90).sum())
        for p, c in ((before, (255, 70, 85)), (after, (0, 225, 150)), (truth, (255, 214, 0)))
    )
    assert min(red, green, yellow) > 500
    blue = (change[..., 2].astype(int) - change[..., 0] > 80).sum()
    orange = (change[..., 0].astype(int) - change[..., 2] > 80).sum()
    share = 320 / 136  # pixels of the crop for one of the photo
    assert blue == pytest.approx(2 * 4 * 100 * share**2, rel=0.15)
    assert orange == 0


def test_the_same_bytes_every_time(case, tmp_path):
    assert written(case, tmp_path / "a.html")[1] == written(case, tmp_path / "b.html")[1]


def test_the_size_is_bounded(case, tmp_path):
    report, text, _ = written(case, tmp_path / "report.html", megabytes=0.105)
    assert len(text.encode()) < 105_000
    assert report.left_out == 2 - report.best - report.worst > 0
    assert f"{report.left_out} crops were left out" in text
    assert written(case, tmp_path / "none.html", crops=0)[0].best == 0


def test_without_resamples_and_without_matches(case, tmp_path):
    dataset, photos, results = case
    _, text, _ = written(case, tmp_path / "report.html", resamples=0)
    assert "interval" not in Page(text).words
    nothing = {name: [] for name in results}
    write_report(tmp_path / "none.html", dataset, photos, nothing, compare(dataset, nothing, resamples=5))
    assert "There are no matched instances." in Page((tmp_path / "none.html").read_text(encoding="utf-8")).words


def test_a_change_of_nothing_is_no_finding(case, tmp_path):
    """The interval of a change of 0.0 points may leave out 0; that is not more than chance, it is nothing."""
    dataset, photos, results = case
    same = {"one": results["fine"], "other": results["fine"]}
    comparison = compare(dataset, same, resamples=5)
    tiny = Value(0.5, 0.0002, Interval(0.0001, 0.0003))
    metrics = {**comparison.overall["other"], "segm": {"AP": tiny, "AP50": Value(0.5, 0.02, Interval(0.01, 0.03))}}
    overall = {**comparison.overall, "other": metrics}
    write_report(tmp_path / "r.html", dataset, photos, same, replace(comparison, overall=overall))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Mask AP does not change (by less than 0.05 points)." in text
    assert '<span class="same">+0.0</span>' in text
    assert '<span class="better sure">+2.0</span>' in text


def test_the_headline_says_how_certain_a_change_is(case, tmp_path):
    dataset, photos, results = case
    comparison = compare(dataset, results)
    for interval, words in ((Interval(0.01, 0.03), "points, more than the choice"), (Interval(-0.01, 0.03), "no more")):
        after = {**comparison.overall["fine"], "segm": {"AP": Value(0.5, 0.02, interval)}}
        changed = replace(comparison, overall={**comparison.overall, "fine": after})
        write_report(tmp_path / "r.html", dataset, photos, results, changed)
        assert words in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_refusals(case, tmp_path):
    dataset, photos, results = case
    with pytest.raises(DataError, match="elsewhere is not a folder: name the one that holds the images"):
        written((dataset, tmp_path / "elsewhere", results), tmp_path / "r.html")
    Image.new("RGB", (50, 40)).save(photos / "a.png")
    with pytest.raises(DataError, match=r"a\.png has 50x40 pixels .* the annotation file says 200x160"):
        written(case, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
    one = {"coarse": results["coarse"]}
    with pytest.raises(ParamsError, match="two results"):
        write_report(tmp_path / "r.html", dataset, photos, one, compare(dataset, one))


def test_surroundings_hold_the_mask_and_stay_inside():
    mask = np.zeros((100, 140), bool)
    mask[90:100, 0:20] = True
    x0, y0, x1, y1 = surroundings(mask)
    assert (x0, y1) == (0, 100)
    assert x1 - x0 == y1 - y0 == 40
    mask[:] = True
    assert surroundings(mask) == (0, 0, 140, 100)


def test_histogram_counts_everything():
    changes = np.array([-0.9, -0.001, 0.0, 0.0, 0.001, 0.002, 0.9])
    chart = histogram(changes, 'a "label"')
    assert sum(int(n) for n in re.findall(r"points: (\d+)<", chart)) == len(changes)
    assert 'class="same"' in chart
    assert "<title>0 points: 2<" in chart
    assert 'aria-label="a &quot;label&quot;"' in chart
    assert "NaN" not in histogram(np.zeros(3), "zero") + whisker(0.0, None, 0.01, "none")
