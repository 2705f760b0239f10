"""The machine learning backend over HTTP, as Label Studio asks it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from crispmask.app import label_studio
from crispmask.app.label_studio import VERSION, Backend, make_app
from crispmask.app.remote import Photos
from crispmask.app.server import in_background, run
from crispmask.integrations.label_studio import shapes
from crispmask.refinement import default_params

CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="box" toName="image" smart="true"><Label value="Person"/></RectangleLabels>
  <BrushLabels name="brush" toName="image"><Label value="Person"/></BrushLabels>
</View>"""
VALUE = {"x": 4.0, "y": 0.5, "width": 74.0, "height": 99.0, "rotation": 0, "rectanglelabels": ["Person"]}
REGION = {"id": "r1", "type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": VALUE}
REGION |= {"original_width": 512, "original_height": 512, "image_rotation": 0}
DRAWN = [{"id": 7, "result": [REGION], "updated_at": "2026-01-01T00:00:00Z", "was_cancelled": False}]


@pytest.fixture(scope="module")
def photo(image) -> str:
    """A photo of a person as a data URL."""
    return "data:image/jpeg;base64," + base64.b64encode(image).decode()


@pytest.fixture(scope="module")
def log() -> list[str]:
    return []


@pytest.fixture(scope="module")
def make_backend(log):
    """Starts a backend; gives its address."""

    def make(**options: Any) -> str:
        backend = Backend(Photos("http://127.0.0.1:9"), default_params(), 1_000_000, log=log.append, **options)
        return in_background(run, make_app(backend, "127.0.0.1"), "127.0.0.1", 0)

    return make


@pytest.fixture(scope="module")
def client(make_backend) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=make_backend(), timeout=100) as opened:
        yield opened


def request(*tasks: Any, context: Any = None, config: str = CONFIG) -> dict[str, Any]:
    params = {"login": None, "password": None, "context": context}
    return {"tasks": list(tasks), "project": "1.1700000000", "label_config": config, "params": params}


def task(photo: str, key: int = 1, **drawn: Any) -> dict[str, Any]:
    return {"id": key, "project": 1, "data": {"image": photo}, "annotations": [], "predictions": [], **drawn}


def test_health_setup_and_webhook(client):
    for path in ("/", "/health"):
        assert client.get(path).json()["status"] == "UP"
    body = {"project": "1.1700000000", "schema": CONFIG, "hostname": "http://evil.example", "access_token": "x"}
    assert client.post("/setup", json={**body, "extra_params": None}).json() == {"model_version": VERSION}
    assert client.get("/versions").json() == {"versions": [VERSION]}
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).json() == {"status": "ok"}


def test_annotations_become_predictions(client, photo):
    answer = client.post("/predict", json=request(task(photo, annotations=DRAWN))).json()
    assert answer["model_version"] == VERSION
    (prediction,) = answer["results"]
    (item,) = prediction["result"]
    assert (item["id"], item["type"], item["value"]["brushlabels"]) == ("r1", "brushlabels", ["Person"])
    assert prediction["model_version"] == VERSION
    assert 0.5 < prediction["score"] <= 1
    mask = shapes.read(item["value"], (512, 512)).instance.mask(0)
    assert mask[150, 230]  # her chin
    assert not mask[60, 320]  # the wall beside her


def test_a_smart_tools_region_comes_back_beside_it(client, photo):
    answer = client.post("/predict", json=request(task(photo, drafts=[]), context={"result": [REGION]})).json()
    (prediction,) = answer["results"]
    (item,) = prediction["result"]
    assert item["id"] != "r1"
    assert item["type"] == "brushlabels"


def test_a_smart_tool_refines_what_the_gate_would_leave(client, photo):
    blob = np.zeros((512, 512), bool)
    blob[80:140, 190:250] = True
    value = {
        **shapes.write("brush", shapes.Instances.from_masks(blob).windows[0], blob.shape, 0),
        "brushlabels": ["Person"],
    }
    stroke = {**REGION, "type": "brushlabels", "from_name": "brush", "value": value}
    drawn = [{**DRAWN[0], "result": [stroke]}]
    left = client.post("/predict", json=request(task(photo, annotations=drawn))).json()["results"][0]
    made = client.post("/predict", json=request(task(photo), context={"result": [stroke]})).json()["results"][0]
    assert left["result"] == [stroke]
    assert left["score"] is None
    assert made["result"][0]["value"] != value


def test_there_are_as_many_results_as_tasks(client, photo, log):
    log.clear()
    nowhere = task("http://127.0.0.1:9/gone.jpg", 2, annotations=DRAWN)
    tasks = [
        task(photo, 1),
        nowhere,
        task(photo, 3, annotations=DRAWN),
        {"id": 4},
        5,
        task("s3://a/b.jpg", 6, annotations=DRAWN),
    ]
    results = client.post("/predict", json=request(*tasks)).json()["results"]
    assert [bool(result) for result in results] == [False, False, True, False, False, False]
    assert [line.partition(":")[0] for line in log] == ["task 2", "task None", "task 6"]


def test_a_task_without_time_left_waits_for_the_next_request(client, photo, log, monkeypatch):
    log.clear()
    monkeypatch.setattr(label_studio, "SECONDS", -1.0)
    results = client.post(
        "/predict", json=request(task(photo, annotations=DRAWN), task(photo, annotations=DRAWN))
    ).json()
    assert results["results"] == [[], []]
    assert log == ["2 of 2 tasks are left: retrieve the predictions again"]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/setup", [], "JSON object"),
        ("/setup", {}, "no labeling configuration"),
        ("/setup", {"schema": "<View><Image name='i' value='$i'/></View>"}, "no tag to draw masks with"),
        ("/predict", 3, "JSON object"),
        ("/predict", {}, "no labeling configuration"),
        ("/predict", {"label_config": CONFIG}, "'tasks' must be a list"),
        ("/predict", request({"id": 1, "data": {}}, context={"result": [REGION]}), "no address of an image"),
        ("/predict", request(task("data:image/png;base64,AAAA"), context={"result": [REGION]}), "not an image"),
        ("/predict", request(task("http://127.0.0.1:9/a.jpg"), context={"result": [REGION]}), "cannot fetch"),
    ],
)
def test_what_cannot_be_answered_is_said_to_the_caller_and_in_the_log(client, log, path, body, reason):
    log.clear()
    response = client.post(path, json=body)
    assert response.status_code == 422
    assert reason in response.json()["detail"]
    assert len(log) == 1
    assert reason in log[0]


def test_large_photos_are_refused(client):
    buffer = io.BytesIO()
    Image.new("1", (2000, 1000)).save(buffer, "PNG")
    large = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    response = client.post("/predict", json=request(task(large), context={"result": [REGION]}))
    assert response.status_code == 422
    assert "megapixels" in response.json()["detail"]


def test_other_requests_are_refused(client):
    assert client.get("/photos").status_code == 404
    assert client.get("/predict").status_code == 405
    assert client.post("/predict", content=b"{").status_code == 415
    assert client.post("/predict", content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert client.post("/predict", json={}, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/health", headers={"host": "evil.example"}).status_code == 400


def test_the_password(make_backend):
    address = make_backend(password=("ls", "pässword"))
    for auth in (None, ("ls", "other"), ("other", "pässword"), ("ls", "")):
        assert httpx.get(f"{address}/health", auth=auth).status_code == 401
        assert httpx.post(f"{address}/predict", auth=auth, json={}).status_code == 401
    twice = [("authorization", "Basic x"), ("authorization", "Basic y")]
    assert httpx.get(f"{address}/health", headers=twice).status_code == 401
    assert httpx.get(f"{address}/health", auth=("ls", "pässword")).status_code == 200
    assert httpx.post(f"{address}/webhook", json={}).status_code == 200  # Label Studio sends no password there
