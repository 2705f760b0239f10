"""The page in a real browser, on a desktop and on a phone."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from crispmask import load_detector, read_image, refine
from crispmask.app import edge
from crispmask.app.controls import RANGES, WORDS, description
from crispmask.params import CRFParams
from crispmask.refinement import default_params, refine_instances
from crispmask.refinement.sketch import mask_from_box
from crispmask.samples import sample_images

chromium = pytest.mark.needs("chromium")
IMAGE = next(p for p in sample_images() if p.stem == "astronaut")
DESKTOP = {"viewport": {"width": 1300, "height": 850}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def until(page, condition: str, seconds: float = 120) -> None:
    """Wait for a condition in JavaScript. (Playwright's own way needs eval, which the page forbids.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(f"() => {condition}"):
        assert time.monotonic() < end, f"{condition}; the page says {page.inner_text('body')!r}"
        time.sleep(0.02)


@pytest.fixture
def visit(browser, server):
    """Opens the page. It must not request anything from another server, nor do anything that its policy forbids."""
    opened = []

    def open_page(**options):
        page = browser.new_page(**options)
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if "policy" in message.text.lower() else None)
        opened.append((page, asked, wrong))
        page.goto(server)
        until(page, "document.body.dataset.ready")
        return page

    yield open_page
    for page, asked, wrong in opened:
        page.close()
        assert [url for url in asked if not url.startswith((server, "data:", "blob:"))] == []
        assert wrong == []


@pytest.fixture
def page(visit):
    return visit(**DESKTOP)


def choose_photos(page, *files) -> None:
    """Open photos, and wait until the first has objects."""
    page.set_input_files("#files", files)
    until(page, "document.querySelectorAll('#objects li').length > 0")


def settled(page) -> None:
    """Wait until nothing is being worked on, and it is drawn."""
    page.wait_for_timeout(50)
    until(page, "document.body.getAttribute('aria-busy') !== 'true'")


def at(page, x: float, y: float) -> dict[str, float]:
    """Where on the screen a pixel of the photo of 512 x 512 pixels lies."""
    box = page.locator("#canvas").bounding_box()
    scale = min(box["width"], box["height"]) / 512
    return {
        "x": box["x"] + box["width"] / 2 + (x - 256) * scale,
        "y": box["y"] + box["height"] / 2 + (y - 256) * scale,
    }


def drag(page, *points: tuple[float, float]) -> None:
    first, *others = [at(page, *point) for point in points]
    page.mouse.move(first["x"], first["y"])
    page.mouse.down()
    for point in others:
        page.mouse.move(point["x"], point["y"], steps=4)
    page.mouse.up()


def objects(page) -> int:
    return page.locator("#objects li").count()


def saved(page, do: Callable[[], None]) -> tuple[str, bytes]:
    """Name and content of what is downloaded."""
    with page.expect_download(timeout=120_000) as download:
        do()
    return download.value.suggested_filename, download.value.path().read_bytes()


def mask_of(page) -> np.ndarray:
    _, content = saved(page, lambda: page.click("[data-file='mask.png']"))
    return np.asarray(Image.open(io.BytesIO(content))) > 127


def slide(page, control: str, value: float) -> None:
    page.locator(control).evaluate(
        "(slider, value) => { slider.value = value; for (const kind of ['input', 'change']) slider.dispatchEvent("
        "new Event(kind)); }",
        value,
    )


@chromium
def test_a_download_is_of_the_slider_that_was_just_moved(page):
    choose_photos(page, IMAGE)
    image = read_image(IMAGE)
    detector = load_detector()
    found = detector(image).above(detector.default_score)
    for position in (0, 0.6, -1):
        slide(page, "#edge", position)
        after, _ = refine_instances(image, found, edge.at(default_params(), position))
        np.testing.assert_array_equal(mask_of(page), after.masks().any(0))  # nothing is waited for


@chromium
def test_a_box_that_was_just_drawn_is_downloaded(page):
    choose_photos(page, IMAGE)
    page.keyboard.press("b")
    drag(page, (90, 20), (400, 505))
    until(page, "document.querySelectorAll('#objects li').length === 2")
    name, content = saved(page, lambda: page.click("[data-file='mask.png']"))
    assert name == "astronaut_object_mask.png"  # the new object is the chosen one
    found = np.asarray(Image.open(io.BytesIO(content))) > 127
    expected = mask_from_box(read_image(IMAGE), (90, 20, 400, 505)).mask(0)
    assert (found & expected).sum() / (found | expected).sum() > 0.97  # the mouse has whole screen pixels
    name, content = saved(page, lambda: page.click("[data-file='cutout.png']"))
    cut = Image.open(io.BytesIO(content))
    assert cut.mode == "RGBA"
    assert cut.size < (512, 512)


@chromium
def test_clicks_choose_and_make_objects(page):
    choose_photos(page, IMAGE)
    settled(page)
    page.mouse.click(**at(page, 230, 400))
    assert page.get_attribute("#objects .pick", "aria-pressed") == "true"
    assert page.inner_text("#edge-title").lower() == "edge of person"
    page.mouse.click(**at(page, 440, 60))  # beside it
    assert page.get_attribute("#objects .pick", "aria-pressed") == "false"
    assert objects(page) == 1
    page.mouse.click(**at(page, 400, 180))  # the model of a shuttle
    until(page, "document.querySelectorAll('#objects li').length === 2")
    assert page.locator("#objects .pick").nth(1).get_attribute("aria-pressed") == "true"
    page.keyboard.press("Delete")
    until(page, "document.querySelectorAll('#objects li').length === 1")
    page.keyboard.press("Control+z")
    until(page, "document.querySelectorAll('#objects li').length === 2")
    page.keyboard.press("Control+Shift+Z")
    until(page, "document.querySelectorAll('#objects li').length === 1")


@chromium
def test_the_brush_adds_and_erases(page):
    choose_photos(page, IMAGE)
    before = mask_of(page)
    assert before[300, 240]
    assert not before[60, 60]
    page.keyboard.press("e")
    drag(page, (230, 300), (250, 300))
    page.keyboard.press("p")
    drag(page, (50, 60), (70, 60))
    after = mask_of(page)
    assert not after[300, 240]
    assert after[60, 60]
    for _ in range(2):
        page.click("#undo")
    np.testing.assert_array_equal(mask_of(page), before)


@chromium
def test_marks_of_one_colour_say_what_is_missing(page):
    choose_photos(page, IMAGE)
    page.keyboard.press("m")
    drag(page, (230, 300), (230, 450))
    assert "some of the background too" in page.inner_text("#hint")
    assert objects(page) == 1
    page.click("#mark-clear")
    page.click("#mark-outside")
    drag(page, (20, 20), (20, 500))
    assert "some of the object too" in page.inner_text("#hint")
    page.click("#mark-inside")
    drag(page, (230, 300), (230, 450))
    until(page, "document.querySelectorAll('#objects li').length === 2")
    assert not page.locator("#hint.wrong").count()


@chromium
def test_before_and_after_are_divided_by_a_line(page):
    choose_photos(page, IMAGE)
    settled(page)

    def shown(x: float, y: float) -> list[int]:
        """Colour of the canvas beside a pixel of the photo."""
        page.wait_for_timeout(100)
        place, box = at(page, x, y), page.locator("#canvas").bounding_box()
        return page.locator("#canvas").evaluate(
            "(c, [x, y]) => [...c.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)",
            [place["x"] - box["x"], place["y"] - box["y"]],
        )

    page.keyboard.press("3")
    image = read_image(IMAGE)
    before = load_detector()(image).above(0.4)
    after, _ = refine_instances(image, before, default_params())
    # A pixel that the refinement takes away for certain, with those around it, but that the coarse mask has.
    gone = maximum_filter(after.probability(0), 5) < 0.02
    y, x = np.unravel_index(np.argmax(minimum_filter(before.probability(0), 5) * gone), (512, 512))
    assert before.probability(0)[y, x] > 0.3
    ground = shown(x, y)
    page.keyboard.press("c")
    for start, end, is_before in ((256, x + 60, True), (x + 60, x - 60, False)):
        drag(page, (start, 250), (end, 250))
        assert (np.abs(np.subtract(shown(x, y), ground)).max() > 20) == is_before
    slide(page, "#divider", 1)
    assert shown(x, y) != ground
    page.keyboard.press("c")
    assert shown(x, y) == ground


@chromium
def test_several_photos(page):
    others = [p for p in sample_images() if p.stem in ("coffee", "grace_hopper")]
    choose_photos(page, IMAGE, *others)
    until(page, "document.querySelectorAll('#strip img').length === 3")
    settled(page)
    page.locator("#strip li > button[aria-label='coffee.jpg']").click()
    until(page, "document.querySelector('#objects .pick span')?.textContent === 'cup'")
    slide(page, "#edge", 0.5)
    page.locator("#strip li > button[aria-label='astronaut.jpg']").click()
    assert page.input_value("#edge") == "0"
    name, content = saved(page, lambda: page.click("#zip"))
    assert name == "crispmask.zip"
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert {entry.partition("/")[0] for entry in names} == {"astronaut", "coffee", "grace_hopper"}
    assert "coffee/cutouts/1_cup.png" in names
    page.get_by_role("button", name="Close coffee.jpg").click(force=True)
    until(page, "document.querySelectorAll('#strip img').length === 2")


@chromium
def test_an_own_mask_and_the_parameters(page, tmp_path):
    own = np.zeros((512, 512), np.uint8)
    own[60:500, 120:380] = 255
    Image.fromarray(own).save(tmp_path / "own.png")
    choose_photos(page, IMAGE)
    page.click("#advanced summary")
    page.set_input_files("#own-file", tmp_path / "own.png")
    until(page, "document.querySelectorAll('#objects li').length === 2")
    np.testing.assert_array_equal(mask_of(page), refine(read_image(IMAGE), own > 0))
    page.select_option("#method", "fixed")
    slide(page, "#param-theta_beta", 9)
    np.testing.assert_array_equal(mask_of(page), refine(read_image(IMAGE), own > 0, CRFParams(theta_beta=9)))
    assert page.inner_text("#command") == "crispmask segment IMAGE -o out --params fixed --theta-beta 9.0"
    _, content = saved(page, lambda: page.click("[data-file='coco_results.json']"))
    (record,) = json.loads(content)
    assert record["segmentation"]["size"] == [512, 512]
    page.fill("#classes", "persn")
    page.press("#classes", "Enter")
    assert 'knows no "persn"' in page.inner_text("#classes-wrong")


@chromium
def test_a_photo_that_the_server_forgot_is_opened_again(page, server):
    choose_photos(page, IMAGE)
    settled(page)
    page.evaluate(
        """async () => {
          const asked = performance.getEntriesByType("resource").map((entry) => entry.name);
          const address = asked.findLast((name) => name.endsWith("/shown")).replace("/shown", "/edit");
          const headers = {"content-type": "application/json"};
          await fetch(address, {method: "POST", headers, body: '{"do": "close"}'});
        }"""
    )
    slide(page, "#edge", 0.5)
    until(page, "document.querySelector('#hint').textContent.includes('open again')")
    settled(page)
    assert mask_of(page).any()


@chromium
@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.png", b"not an image", "not an image in a known format"),
        ("drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image in a known format"),
        ("huge.png", None, "more pixels"),
        ("heavy.png", b"x" * 3_000_001, "limit of 3 MB"),
    ],
)
def test_hostile_images_get_a_message_and_leave_it_working(page, tmp_path, name, content, sentence):
    path = tmp_path / name
    if content is None:
        Image.new("1", (20_000, 10_000)).save(path)
    else:
        path.write_bytes(content)
    page.set_input_files("#files", path)
    until(page, f"document.querySelector('#welcome-wrong').innerText.includes({json.dumps(sentence)})")
    assert name in page.inner_text("#welcome-wrong")
    assert page.locator("#welcome-wrong").is_visible()
    page.click("#samples button[title=astronaut]")
    until(page, "document.querySelectorAll('#objects li').length > 0")


@chromium
def test_a_phone_shows_the_photo_over_its_whole_width_and_the_controls_below(visit):
    phone = visit(**PHONE)
    choose_photos(phone, IMAGE)
    settled(phone)
    photo, tools, slider = (phone.locator(name).bounding_box() for name in ("#canvas", ".tools", "#edge"))
    assert (photo["x"], photo["width"]) == (0, 390)
    assert abs(photo["height"] - 390) < 1  # the photo is square
    assert photo["y"] + photo["height"] <= tools["y"] < slider["y"]
    assert phone.evaluate("() => document.documentElement.scrollWidth") <= 390
    place = at(phone, 230, 400)
    phone.touchscreen.tap(place["x"], place["y"])
    assert phone.get_attribute("#objects .pick", "aria-pressed") == "true"
    small = phone.evaluate(
        """() => [...document.querySelectorAll("button, select, input:not([type=file])")].filter((control) => {
          const box = control.getBoundingClientRect();
          return box.width && Math.max(box.width, box.height) < 28;
        }).map((control) => control.outerHTML)"""
    )
    assert [control for control in small if "switch" not in control] == []


@chromium
def test_every_control_has_a_name(page):
    choose_photos(page, IMAGE)
    page.click("#advanced summary")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas")].filter((control) =>
          !(control.getAttribute("aria-label") || control.textContent.trim() || control.labels?.length
            || control.getAttribute("aria-labelledby") || control.querySelector("img[alt]:not([alt=''])"))
          && control.type !== "file").map((control) => control.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))


def test_every_parameter_has_a_control():
    numbers = {
        name for name, v in CRFParams().as_dict().items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    assert set(RANGES) == numbers
    assert set(WORDS) == set(CRFParams().as_dict())
    for name, (low, high, _) in RANGES.items():
        assert low <= getattr(CRFParams(), name) <= high
        CRFParams.from_dict({name: low})
        CRFParams.from_dict({name: high})
    assert json.loads(json.dumps(description())) == description()
