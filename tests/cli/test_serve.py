"""``crispmask serve``: what is refused before anything is served."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="the extra 'app' is not installed")

USER, WORD = "BASIC_AUTH_USER", "BASIC_AUTH_PASS"


@pytest.fixture(autouse=True)
def without_variables(monkeypatch):
    for name in (USER, WORD, "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "environment", "reason"),
    [
        (["--host", "0.0.0.0"], {}, "BASIC_AUTH_USER"),
        ([], {USER: "ls"}, "both of"),
        ([], {WORD: "secret"}, "both of"),
        (["--url", "localhost:8080"], {}, "http://"),
        ([], {"LABEL_STUDIO_URL": "ftp://studio"}, "http://"),
        ([], {"LABEL_STUDIO_API_KEY": "two words"}, "without spaces"),
        (["--tolerance", "-1"], {}, "--tolerance"),
        (["--params", "nothing"], {}, "nothing"),
        (["--params", "fixed", "--gate", "none"], {}, "--gate"),
        (["--max-upload", "0"], {}, "--max-upload"),
    ],
)
def test_what_cannot_be_served_is_refused(refused, monkeypatch, arguments, environment, reason):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    sentence = refused("serve", "label-studio", *arguments)
    assert reason in sentence
    assert "two words" not in sentence


def test_the_help_names_the_tools(invoke):
    assert "label-studio" in invoke("serve", "--help").stdout
    assert "LABEL_STUDIO_API_KEY" in invoke("serve", "label-studio", "--help").stdout
