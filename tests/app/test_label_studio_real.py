"""The real Label Studio: a project is made and annotated through its API, and gets predictions from crispmask."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from crispmask.app.label_studio import VERSION
from crispmask.integrations.label_studio import brush, shapes

pytestmark = [pytest.mark.slow, pytest.mark.needs("label-studio")]

MAIL, WORD = "someone@example.com", "correct horse"
START_SECONDS = 300
PAGE = Path(__file__).parents[2] / "docs" / "label-studio.md"
MORE = """
  <PolygonLabels name="polygon" toName="image"><Label value="Person"/></PolygonLabels>
  <Choices name="light" toName="image"><Choice value="Day"/><Choice value="Night"/></Choices>
</View>"""
CONFIG = PAGE.read_text().partition("```xml\n")[2].partition("```")[0].replace("</View>", MORE)
COMMON = {"to_name": "image", "original_width": 512, "original_height": 512, "image_rotation": 0}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(command: list[Any], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program and all that it starts, ended afterwards."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """Address of a new Label Studio with one user, and a folder from which it takes photos."""
    folder, port = tmp_path_factory.mktemp("label-studio"), free_port()
    (folder / "photos").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false",
        "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(folder),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    program = os.environ.get("LABEL_STUDIO") or shutil.which("label-studio")
    options = ["--no-browser", "--username", MAIL, "--password", WORD, "--port", port, "--log-level", "WARNING"]
    address = f"http://127.0.0.1:{port}"
    with running([str(v) for v in (program, "start", *options)], environment, folder / "log") as process:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"{address}/health", timeout=10).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(1)
        yield address, folder / "photos"


@pytest.fixture(scope="module")
def token(studio) -> str:
    """A personal access token, which a user makes under Account & Settings."""
    address, _ = studio
    with httpx.Client(base_url=address, headers={"referer": address}, timeout=60) as browser:
        browser.get("/user/login")
        form = {"email": MAIL, "password": WORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        assert browser.post("/user/login/", data=form).status_code == 302
        made = browser.post("/api/token/", headers={"x-csrftoken": browser.cookies["csrftoken"]})
        return str(made.raise_for_status().json()["token"])


@pytest.fixture(scope="module")
def api(studio, token) -> Iterator[httpx.Client]:
    """Label Studio's API, for five minutes."""
    address, _ = studio
    access = httpx.post(f"{address}/api/token/refresh/", json={"refresh": token}).raise_for_status().json()["access"]
    with httpx.Client(base_url=address, headers={"authorization": f"Bearer {access}"}, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def backend(studio, token, tmp_path_factory) -> Iterator[str]:
    """Address of ``crispmask serve label-studio``."""
    log = tmp_path_factory.mktemp("backend") / "log"
    environment = {**os.environ, "LABEL_STUDIO_URL": studio[0], "LABEL_STUDIO_API_KEY": token, "COLUMNS": "200"}
    command = [sys.executable, "-m", "crispmask", "serve", "label-studio", "--port", "0"]
    with running(command, environment, log) as process:
        deadline = time.monotonic() + START_SECONDS
        while "connects to" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield log.read_text().partition("connects to ")[2].split()[0]


def made(api: httpx.Client, path: str, /, **fields: Any) -> Any:
    """What Label Studio makes at a path of its API."""
    return api.post(path, json=fields).raise_for_status().json()


def retrieve(api: httpx.Client, project: int) -> None:
    """What "Retrieve Predictions" in the list of tasks does."""
    everything = {"selectedItems": {"all": True, "excluded": []}}
    asked = {"id": "retrieve_tasks_predictions", "project": project}
    api.post("/api/dm/actions", params=asked, json=everything).raise_for_status()


def region(kind: str, tag: str, key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {**COMMON, "id": key, "from_name": tag, "type": kind, "value": {**value, kind: ["Person"]}}


def mask_of(item: dict[str, Any]) -> np.ndarray:
    return shapes.read(item["value"], (512, 512)).instance.mask(0)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_project_gets_predictions(api, backend, image):
    project = made(api, "/api/projects/", title="People", label_config=CONFIG)["id"]
    api.post(f"/api/projects/{project}/import", files={"file": ("a b.jpg", image, "image/jpeg")}).raise_for_status()
    (task,) = api.get("/api/tasks/", params={"project": project}).raise_for_status().json()["tasks"]
    assert task["data"]["image"].startswith("/data/upload/")

    y, x = np.mgrid[:512, :512]
    coarse = ((x - 205) / 185) ** 2 + ((y - 320) / 280) ** 2 < 1
    box = {"x": 4.0, "y": 0.5, "width": 74.0, "height": 99.0, "rotation": 0}
    drawn = [
        region("rectanglelabels", "box", "by_box", box),
        region("brushlabels", "brush", "by_brush", {"format": "rle", "rle": brush.encode(coarse)}),
        {**COMMON, "id": "c", "from_name": "light", "type": "choices", "value": {"choices": ["Day"]}},
    ]
    annotation = made(api, f"/api/tasks/{task['id']}/annotations/", result=drawn)
    model = made(api, "/api/ml/", project=project, url=backend, title="crispmask", is_interactive=True)
    assert (model["readable_state"], model["model_version"]) == ("Connected", VERSION)

    retrieve(api, project)
    (prediction,) = api.get("/api/predictions/", params={"task": task["id"]}).raise_for_status().json()
    assert prediction["model_version"] == VERSION
    assert 0.5 < prediction["score"] <= 1
    by_box, by_brush, choice = prediction["result"]
    assert [(item["id"], item["type"]) for item in (by_box, by_brush)] == [
        ("by_box", "brushlabels"),
        ("by_brush", "brushlabels"),
    ]
    assert by_box["value"]["brushlabels"] == by_brush["value"]["brushlabels"] == ["Person"]
    assert choice["value"] == {"choices": ["Day"]}
    assert iou(mask_of(by_box), mask_of(by_brush)) > 0.9 > iou(mask_of(by_brush), coarse)

    # A person looks at the prediction, and takes it for a second annotation.
    copied = made(api, f"/api/tasks/{task['id']}/annotations/", result=prediction["result"])
    assert copied["result"][0]["value"]["rle"] == by_box["value"]["rle"]
    assert api.get(f"/api/annotations/{annotation['id']}/").raise_for_status().json()["result"] == drawn

    # What the labeling interface does when somebody draws with a smart tool; the coarse polygon comes back refined.
    corners = [[20.0, 10.0], [70.0, 10.0], [75.0, 99.0], [10.0, 99.0]]
    polygon = region("polygonlabels", "polygon", "by_polygon", {"points": corners, "closed": True})
    for drawn_now, kind in ((drawn[0], "brushlabels"), (polygon, "polygonlabels")):
        context = {"result": [drawn_now]}
        answer = made(api, f"/api/ml/{model['id']}/interactive-annotating", task=task["id"], context=context)
        (item,) = answer["data"]["result"]
        assert item["type"] == kind
        assert item["id"] != drawn_now["id"]
        assert iou(mask_of(item), mask_of(by_box)) > 0.9


def test_photos_of_a_local_storage_and_predictions_of_another_model(api, backend, studio, image):
    (studio[1] / "person.jpg").write_bytes(image)
    project = made(api, "/api/projects/", title="Local", label_config=CONFIG)["id"]
    storage = made(api, "/api/storages/localfiles", project=project, path=str(studio[1]), use_blob_urls=True)
    made(api, f"/api/storages/localfiles/{storage['id']}/sync")
    (task,) = api.get("/api/tasks/", params={"project": project}).raise_for_status().json()["tasks"]
    assert task["data"]["image"].startswith("/data/local-files/")
    box = region("rectanglelabels", "box", "r", {"x": 4.0, "y": 0.5, "width": 74.0, "height": 99.0, "rotation": 0})
    made(api, "/api/predictions/", task=task["id"], result=[box], model_version="yolo")
    made(api, "/api/ml/", project=project, url=backend, title="crispmask")
    retrieve(api, project)
    found = api.get("/api/predictions/", params={"task": task["id"]}).raise_for_status().json()
    assert sorted((p["model_version"], p["result"][0]["type"]) for p in found) == [
        (VERSION, "brushlabels"),
        ("yolo", "rectanglelabels"),
    ]


def test_a_project_without_masks_is_not_connected(api, backend):
    config = "<View><Text name='t' value='$t'/><Choices name='c' toName='t'><Choice value='a'/></Choices></View>"
    project = made(api, "/api/projects/", title="Texts", label_config=config)["id"]
    refused = api.post("/api/ml/", json={"project": project, "url": backend, "title": "crispmask"})
    assert refused.status_code == 400
    assert "422" in refused.text
