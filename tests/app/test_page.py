"""The page in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crispmask import CRFParams, read_image, refine
from crispmask.app.controls import RANGES
from crispmask.samples import sample_images

pytestmark = pytest.mark.needs("chromium")
IMAGE = next(p for p in sample_images() if p.stem == "astronaut")


@pytest.fixture
def page(browser, server):
    """The page on a desktop; it must not request anything from another server."""
    opened = browser.new_page(viewport={"width": 1500, "height": 1200})
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(server)
    opened.wait_for_selector("#samples")
    yield opened
    outside = [url for url in asked if not url.startswith((server, "data:", "blob:"))]
    opened.close()
    assert outside == []


def says(page, text: str) -> None:
    """Wait until the summary holds a text."""
    page.wait_for_function("t => document.querySelector('#summary')?.innerText.includes(t)", arg=text, timeout=60_000)


def choose(page, control: str, file) -> None:
    page.set_input_files(f"#{control} input[type=file]", file)


def picture(page) -> str:
    """Address of the refined picture, which is new with every picture."""
    return page.eval_on_selector_all("#compare img", "images => images.map(i => i.src).join()")


def open_tab(page, name: str) -> None:
    """Choose a tab, from the menu of those that do not fit where it is there."""
    tab = page.get_by_role("tab", name=name)
    if not tab.first.is_visible():
        page.locator(".overflow-menu button").first.click()
        page.locator(f".overflow-dropdown button:has-text('{name}')").first.click()
        return
    tab.first.click()


def test_an_image_a_slider_and_the_files(page, tmp_path):
    choose(page, "image", IMAGE)
    says(page, "1 mask")
    before = picture(page)
    page.fill("#theta_beta input[type=number]", "15")
    page.press("#theta_beta input[type=number]", "Enter")
    page.wait_for_function(
        "old => [...document.querySelectorAll('#compare img')].map(i => i.src).join() != old", arg=before
    )
    open_tab(page, "Convergence")
    page.wait_for_selector("#kl svg .mark-line path", state="attached", timeout=60_000)
    open_tab(page, "Files")
    page.wait_for_function("document.querySelector('#command')?.innerText.includes('--theta-beta 15')")
    assert "theta_beta = 15" in page.inner_text("#toml")
    page.click("#prepare")
    page.wait_for_selector("#files a")
    files = {}
    for link in page.query_selector_all("#files a[download]"):
        with page.expect_download() as download:
            link.click()
        name = download.value.suggested_filename
        download.value.save_as(tmp_path / name)
        files[name] = tmp_path / name
    assert {"mask_1.png", "coco_results.json", "polygons.json", "params.toml"} <= set(files)
    assert CRFParams.from_toml(files["params.toml"]) == CRFParams(theta_beta=15)
    mask = np.asarray(Image.open(files["mask_1.png"])) > 0
    assert mask.shape == (512, 512)
    (record,) = json.loads(Path(files["coco_results.json"]).read_text())
    assert record["segmentation"]["size"] == [512, 512]


def test_an_own_mask_is_refined(page, tmp_path):
    own = np.zeros((512, 512), np.uint8)
    own[60:500, 120:380] = 255
    Image.fromarray(own).save(tmp_path / "own.png")
    choose(page, "image", IMAGE)
    says(page, "1 mask")
    open_tab(page, "Upload")
    choose(page, "own", tmp_path / "own.png")
    expected = refine(read_image(IMAGE), own > 0)
    moved = (expected ^ (own > 0)).sum() / (own > 0).sum()
    says(page, f"changed {moved:.1%}")


def test_a_box_becomes_a_mask(page):
    choose(page, "image", IMAGE)
    says(page, "1 mask")
    open_tab(page, "Box")
    image = page.wait_for_selector("#canvas img")
    before = picture(page)
    box = image.bounding_box()
    for x, y in ((0.16, 0.04), (0.8, 0.98)):
        source = image.get_attribute("src")
        image.click(position={"x": x * box["width"], "y": y * box["height"]})
        page.wait_for_function("old => document.querySelector('#canvas img')?.src != old", arg=source)
        image = page.wait_for_selector("#canvas img")
    page.wait_for_function(
        "old => [...document.querySelectorAll('#compare img')].map(i => i.src).join() != old", arg=before
    )
    page.wait_for_function("document.querySelector('#which input')?.value == 'all'")


def test_a_painted_mask_is_refined(page):
    choose(page, "image", IMAGE)
    says(page, "1 mask")
    open_tab(page, "Draw")
    canvas = page.locator("#editor canvas").first
    canvas.wait_for()
    page.wait_for_timeout(1000)  # the editor has no sign of being ready
    before, box = picture(page), canvas.bounding_box()
    page.mouse.move(box["x"] + 0.45 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.8 * box["height"], steps=10)
    page.mouse.up()
    page.wait_for_timeout(1000)
    page.click("#draw")
    page.wait_for_function(
        "old => [...document.querySelectorAll('#compare img')].map(i => i.src).join() != old", arg=before
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.png", b"not an image", "not an image in a known format"),
        ("drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image in a known format"),
        ("huge.png", None, "more pixels"),
    ],
)
def test_hostile_images_get_a_message_and_leave_it_working(page, tmp_path, name, content, sentence):
    path = tmp_path / name
    if content is None:
        Image.new("1", (20_000, 10_000)).save(path)
    else:
        path.write_bytes(content)
    choose(page, "image", path)
    page.wait_for_function("t => document.body.innerText.includes(t)", arg=sentence, timeout=30_000)
    page.click("#samples label:has-text('astronaut')")
    says(page, "1 mask")


def test_a_phone_shows_the_picture_before_the_parameters(browser, server):
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    phone.goto(server)
    phone.wait_for_selector("#theta_beta")
    top = {name: phone.query_selector(f"#{name}").bounding_box()["y"] for name in ("image", "summary", "theta_beta")}
    assert top["image"] < top["summary"] < top["theta_beta"]
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.close()


def test_every_number_has_a_slider():
    numbers = {
        name for name, v in CRFParams().as_dict().items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    assert set(RANGES) == numbers
    for name, (low, high, _) in RANGES.items():
        assert low <= getattr(CRFParams(), name) <= high
        CRFParams.from_dict({name: low})
        CRFParams.from_dict({name: high})
