"""The API page works in a closed network, and describes every route with an example."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.conftest import Serve
from tests.support.client import request

ROOT = Path(__file__).parents[2]


def test_the_page_loads_nothing_from_strangers(serve: Serve) -> None:
    server = serve(models={"m": {"backend": "scripted"}})
    page = request(server.port, "GET", "/docs").body.decode()
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    for source in sources:
        assert source.startswith("/"), source
        assert request(server.port, "GET", source).status == 200


def test_every_route_has_a_summary_and_an_example(serve: Serve) -> None:
    server = serve(models={"m": {"backend": "scripted"}, "wine": {"folder": str(ROOT / "examples/wine")}})
    schema = request(server.port, "GET", "/openapi.json").json
    assert {"/v1/chat/completions", "/v1/embeddings", "/v1/models", "/models/wine/predict"} <= schema[
        "paths"
    ].keys()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            content = operation["responses"]["200"]["content"]
            assert any("example" in form or "schema" in form for form in content.values()), where
            if method == "post":
                assert operation["requestBody"]["content"], where


def test_keys_show_in_the_schema(serve: Serve) -> None:
    keys = [{"name": "ci", "hash": "sha256:" + "0" * 64}]
    server = serve(models={"m": {"backend": "scripted"}}, server={"keys": keys})
    schema = request(server.port, "GET", "/openapi.json").json
    assert schema["components"]["securitySchemes"].keys() == {"bearer", "key"}
