"""Lists of models, page by page, as the official SDKs ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from tests.support.client import request
from tests.support.server import Running, settings_from

NAMES = [f"model-{number:02}" for number in range(53)]
GEMINI = "/v1beta/models"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    models: dict[str, Any] = {name: {"backend": "scripted"} for name in NAMES}
    models["lost"] = {"python": "no_such_module:predict"}
    with Running(
        settings_from(tmp_path_factory.mktemp("lists"), {"models": models}), keep_going=True
    ) as running:
        yield running


@pytest.fixture(scope="module")
def google(server: Running) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=server.url, timeout=20_000)
    with genai.Client(api_key="any", http_options=options) as client:
        yield client


def test_openai(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", timeout=20) as client:
        assert [model.id for model in client.models.list()] == NAMES


@pytest.mark.parametrize("limit", [1, 7, 53, 1000])
def test_anthropic(server: Running, limit: int) -> None:
    with anthropic.Anthropic(base_url=server.url, api_key="any", timeout=20) as client:
        assert [model.id for model in client.models.list(limit=limit)] == NAMES
        page = client.models.list(limit=3, before_id="model-10")
        assert [model.id for model in page.data] == ["model-07", "model-08", "model-09"]
        assert (page.first_id, page.last_id, page.has_more) == ("model-07", "model-09", True)
        with pytest.raises(anthropic.BadRequestError, match="limit must be"):
            client.models.list(limit=1001)


@pytest.mark.parametrize("size", [None, 1, 7, 52, 53, 54, 5000])
def test_gemini(google: genai.Client, size: int | None) -> None:
    listed = google.models.list(config={"page_size": size} if size is not None else None)
    assert [model.name for model in listed] == [f"models/{name}" for name in NAMES]


def test_a_page_of_gemini(server: Running) -> None:
    page = request(server.port, "GET", GEMINI).json
    assert len(page["models"]) == 50
    last = request(server.port, "GET", f"{GEMINI}?pageToken={page['nextPageToken']}").json
    assert [model["name"] for model in last["models"]] == [f"models/{name}" for name in NAMES[50:]]
    assert "nextPageToken" not in last
    assert request(server.port, "GET", f"{GEMINI}?pageSize=0").json == page
    assert "nextPageToken" not in request(server.port, "GET", f"{GEMINI}?pageSize=53").json


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("pageSize=-1", "pageSize"),
        ("pageSize=many", "pageSize"),
        ("pageSize=%D9%A3", "pageSize"),
        ("pageSize=" + "9" * 5000, "pageSize"),
        ("pageToken=bW9kZWw", "pageToken"),
        ("pageToken=%00", "pageToken"),
    ],
)
def test_what_is_no_page(server: Running, query: str, named: str) -> None:
    answer = request(server.port, "GET", f"{GEMINI}?{query}")
    assert answer.status == 400
    assert answer.json["error"]["status"] == "INVALID_ARGUMENT"
    assert named in answer.json["error"]["message"]


@pytest.mark.parametrize("limit", ["0", "-1", "many", "%D9%A3", "9" * 5000])
def test_what_is_no_limit(server: Running, limit: str) -> None:
    answer = request(
        server.port, "GET", f"/v1/models?limit={limit}", None, {"anthropic-version": "2023-06-01"}
    )
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")


def test_a_model_that_did_not_start_is_told_in_the_callers_form(
    server: Running, google: genai.Client
) -> None:
    with pytest.raises(errors.ServerError, match="failed to start"):
        google.models.get(model="lost")
    with pytest.raises(errors.ClientError) as raised:
        google.models.get(model="nope")
    assert raised.value.code == 404
