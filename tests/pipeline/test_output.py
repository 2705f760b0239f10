"""One folder, one run: what `segment` writes over, and what it refuses to write over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from crispmask.errors import DataError
from crispmask.params import CRFParams
from crispmask.pipeline import Settings, segment_folder, write_picture
from crispmask.pipeline.output import refuse_other_results

SETTINGS = Settings(score=0.5, params=CRFParams(iterations=1))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def out(photos, tmp_path, blob_detector) -> Path:
    """The finished results of `photos`, and a file of the user's."""
    segment_folder([photos], tmp_path / "out", blob_detector(), SETTINGS)
    (tmp_path / "out" / "pictures" / "mine.jpg").write_bytes(b"mine")
    return tmp_path / "out"


def test_the_same_command_again(photos, out, blob_detector):
    before = contents(out)
    segment_folder([photos], out, blob_detector(), SETTINGS)
    assert contents(out) == before


@pytest.mark.parametrize("change", ["images", "settings", "detector", "provenance"])
def test_results_of_another_run_are_not_overwritten(photos, out, blob_detector, change):
    sources, settings, detector = [photos], SETTINGS, blob_detector()
    if change == "images":
        sources, why = [photos / "a.jpg"], r"sources was \['.*photos'\], is \['.*a\.jpg'\]"
    elif change == "settings":
        settings, why = Settings(score=0.8, params=SETTINGS.params), r"score was 0\.5, is 0\.8"
    elif change == "detector":
        detector.checksum, why = "1" * 64, "another detector"
    else:
        (out / "provenance.json").write_text('{"made_by": "hand"}')
        why = "it is not known what they were made from"
    before = contents(out)
    with pytest.raises(DataError, match=rf"out holds the results of another run \({why}.*\): .*--overwrite"):
        segment_folder(sources, out, detector, settings)
    assert contents(out) == before


def test_overwriting_leaves_nothing_of_the_earlier_run(photos, tmp_path, out, blob_detector):
    one = [photos / "sub" / "deep" / "c.png"]
    segment_folder(one, tmp_path / "fresh", blob_detector(), SETTINGS)
    segment_folder(one, out, blob_detector(), SETTINGS, overwrite=True)
    assert contents(out) == {**contents(tmp_path / "fresh"), "pictures/mine.jpg": b"mine"}
    assert not (out / "pictures" / "sub").exists()


def test_nothing_is_removed_for_a_run_that_comes_to_nothing(tmp_path, out, blob_detector):
    (tmp_path / "broken.jpg").write_bytes(b"broken")
    before = contents(out)
    report = segment_folder([tmp_path / "broken.jpg"], out, blob_detector(), SETTINGS, overwrite=True)
    assert report.images == 0
    assert contents(out) == before


def test_pictures_of_images_that_are_gone_go_too(photos, out, blob_detector):
    (photos / "sub" / "a.jpg").unlink()
    segment_folder([photos], out, blob_detector(), SETTINGS)
    assert sorted(p.name for p in (out / "pictures").rglob("*.jpg")) == [
        "a.jpg",
        "b.jpg",
        "c.jpg",
        "d.jpg",
        "e.jpg",
        "mine.jpg",
    ]
    segment_folder([photos], out, blob_detector(), SETTINGS, pictures=False)
    assert [p.name for p in (out / "pictures").rglob("*") if p.is_file()] == ["mine.jpg"]


def test_a_foreign_images_json_removes_nothing_else(photos, tmp_path, out, blob_detector):
    """Names of pictures come from a file: only those below pictures/ are believed."""
    for name in ("precious.txt", "out/precious.txt"):
        (tmp_path / name).write_text("precious")
    content = json.loads((out / "images.json").read_text())
    for name in (
        "../precious.txt",
        "precious.txt",
        str(tmp_path / "precious.txt"),
        "pictures/../precious.txt",
        3,
        None,
    ):
        content["images"].append({"picture": name})
    (out / "images.json").write_text(json.dumps(content))
    segment_folder([photos / "a.jpg"], out, blob_detector(), SETTINGS, overwrite=True)
    assert (tmp_path / "precious.txt").exists()
    assert (out / "precious.txt").exists()


@pytest.mark.parametrize("provenance", [None, 3, [], {}, {"detector": None}, {"sources": 3, "annotations": None}])
def test_a_provenance_that_is_none(provenance):
    facts = {"detector": {"sha256": "1"}, "annotations": None, "sources": ["a"], "settings": {}}
    refuse_other_results("out", facts, facts)
    with pytest.raises(DataError, match="not known what they were made from"):
        refuse_other_results("out", provenance, facts)


@pytest.mark.parametrize(("name", "kind"), [("p.png", "PNG"), ("p.jpg", "JPEG")])
def test_picture(tmp_path, image, blob_detector, name, kind):
    found = blob_detector()(image)
    write_picture(tmp_path / "new" / name, image, found, found)
    with Image.open(tmp_path / "new" / name) as picture:
        assert picture.format == kind
        assert picture.width > 2 * 80
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]
