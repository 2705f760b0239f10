"""The HTTP interface, and what keeps hostile requests away."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from crispmask import CRFParams, load_detector, read_image, refine
from crispmask.coco import results_to_instances
from crispmask.pipeline import Settings, segment_image
from crispmask.refinement.sketch import mask_from_box
from crispmask.samples import sample_images


def post(server: str, route: str, files: dict, **data: str) -> httpx.Response:
    return httpx.post(f"{server}/api/{route}", files=files, data=data, timeout=60)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def mask_of(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content))) > 127


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return read_image(next(p for p in sample_images() if p.stem == "astronaut"))


def test_segment_gives_what_python_gives(server, image, pixels):
    answer = post(server, "segment", {"image": image}, params='{"theta_beta": 4}').json()
    after = segment_image(pixels, load_detector(), Settings(CRFParams(theta_beta=4))).after
    found = results_to_instances(answer["after"], *pixels.shape[:2])
    np.testing.assert_array_equal(found.masks(), after.masks())
    assert answer["before"][0]["category"] == "person"


def test_only_the_wanted_objects(server, image, pixels):
    answer = post(server, "segment", {"image": image}, classes="person", score="0.2", tiles="2").json()
    settings = Settings(score=0.2, classes="person", tiles=2)
    after = segment_image(pixels, load_detector(), settings).after
    np.testing.assert_array_equal(results_to_instances(answer["after"], *pixels.shape[:2]).masks(), after.masks())
    refused = post(server, "segment", {"image": image}, classes="unicorn")
    assert refused.status_code == 422
    assert "no class 'unicorn'" in refused.json()["detail"]
    assert post(server, "segment", {"image": image}, tiles="5").status_code == 422


def test_refine_gives_what_python_gives(server, image, pixels):
    mask = np.zeros(pixels.shape[:2], bool)
    mask[60:500, 120:380] = True
    found = mask_of(post(server, "refine", {"image": image, "mask": png(mask.astype(np.uint8) * 255)}))
    np.testing.assert_array_equal(found, refine(pixels, mask))


def test_box_gives_what_python_gives(server, image, pixels):
    box = (90, 20, 400, 505)
    found = mask_of(post(server, "box", {"image": image}, box=",".join(map(str, box))))
    np.testing.assert_array_equal(found, mask_from_box(pixels, box).mask(0))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"not an image", "not an image in a known format"),
        (b"", "empty"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image in a known format"),
        (bomb(10_000, 10_000), "100 megapixels"),
        (bomb(20_000, 10_000), "more pixels"),
    ],
    ids=["text", "empty", "svg", "large", "bomb"],
)
def test_files_that_are_no_images(server, content, sentence):
    answer = post(server, "segment", {"image": ("../../etc/passwd", content)})
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert "/" not in answer.json()["detail"]  # no path of the server


@pytest.mark.parametrize(
    ("route", "data", "sentence"),
    [
        ("segment", {"params": "{"}, "not valid JSON"),
        ("segment", {"params": "[]"}, "must be a JSON object"),
        ("segment", {"params": '{"theta": 1}'}, "unknown parameter 'theta'"),
        ("segment", {"score": "7"}, "score must be a number in [0, 1]"),
        ("box", {"box": "1,2,x,4"}, "box must be x0,y0,x1,y1"),
        ("box", {"box": "5,5,5,5"}, "less than one pixel"),
    ],
)
def test_bad_fields(server, image, route, data, sentence):
    answer = post(server, route, {"image": image}, **data)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def test_a_mask_of_another_size(server, image):
    answer = post(server, "refine", {"image": image, "mask": png(np.full((9, 8), 255, np.uint8))})
    assert answer.json()["detail"] == "the mask has 8x9 pixels (width x height), the image 512x512"


def test_large_uploads_are_refused_before_they_are_read(server):
    form = {"content-type": "multipart/form-data; boundary=x"}
    for headers in (form, {**form, "transfer-encoding": "chunked"}):
        content = iter([b"x" * 1_000_000] * 4) if len(headers) > 1 else b"x" * 4_000_000
        answer = httpx.post(f"{server}/photos", content=content, headers=headers, timeout=30)
        assert answer.status_code == 413
        assert "3 MB" in answer.json()["detail"]


def test_other_names_for_this_computer_are_refused(server):
    assert httpx.get(server, headers={"host": "evil.example"}).status_code == 400


def test_the_browser_is_told_to_fetch_nothing_from_elsewhere(server):
    policy = httpx.get(server).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_thirty_at_once_leave_it_working(server, image):
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: post(server, "box", {"image": image}, box="90,20,400,505"), range(30)))
    codes = [a.status_code for a in answers]
    assert set(codes) <= {200, 503}
    assert codes.count(200) >= 9
    assert all("try again" in a.json()["detail"] for a in answers if a.status_code == 503)
    assert post(server, "box", {"image": image}, box="90,20,400,505").status_code == 200
