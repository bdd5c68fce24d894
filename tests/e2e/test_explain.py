"""`POST /v1/explain` and `headgate explain`: what they say is what happens, and nothing is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate.cli.main import main
from headgate.policy.keys import new_key
from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import request
from tests.support.upstream import Drop, Seen, Step, completion, plain

ASK = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}]}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}


async def answers(_: Seen) -> AsyncIterator[Step]:
    yield plain(200, completion())


async def drops(_: Seen) -> AsyncIterator[Step]:
    yield Drop()


def models(first: str, second: str) -> dict[str, Any]:
    key = {"api_key": "k"}
    return {
        "gpt": {
            "targets": [
                {"backend": "openai", "base_url": f"{first}/v1", "lacks": ["images"], **key},
                {"backend": "anthropic", "base_url": second, "priority": 2, **key},
            ]
        }
    }


def places(found: dict[str, Any]) -> list[tuple[str, int | None]]:
    return [(each["target"], each["place"]) for each in found["targets"]]


def test_nothing_is_sent_and_the_order_is_that_of_a_request(play: Play, serve: Serve) -> None:
    first, second = play(answers), play(answers)
    server = serve(models=models(first.url, second.url))
    found = request(server.port, "POST", "/v1/explain", {**ASK, "logit_bias": {"1": 2}}).json
    assert places(found) == [("gpt#0", 1), ("gpt#1", 2)]
    assert [each["lane"] for each in found["targets"]] == ["passed through", "translated"]
    assert found["targets"][0]["losses"] == []
    assert {loss["path"] for loss in found["targets"][1]["losses"]} == {"logit_bias"}
    assert (first.seen, second.seen) == ([], [])
    picture = {**ASK, "messages": [{"role": "user", "content": [IMAGE]}]}
    found = request(server.port, "POST", "/v1/explain", picture).json
    assert places(found) == [("gpt#1", 1), ("gpt#0", None)]
    assert found["needs"] == ["images"]
    assert found["targets"][1]["reason"] == "it does not take images"


def test_the_route_may_be_said_and_the_model_alone_is_enough(play: Play, serve: Serve) -> None:
    upstream = play(answers)
    server = serve(models=models(upstream.url, upstream.url))
    found = request(server.port, "POST", "/v1/explain?path=/v1/messages", {"model": "gpt"}).json
    assert [each["lane"] for each in found["targets"]] == ["translated", "passed through"]
    assert found["refusal"] is None
    unknown = request(server.port, "POST", "/v1/explain?path=/v1/nope", {"model": "gpt"})
    assert (unknown.status, unknown.error["param"]) == (404, "path")
    misspelt = request(server.port, "POST", "/v1/explain", {"model": "gtp"})
    assert misspelt.status == 404
    assert "did you mean 'gpt'" in misspelt.error["message"]


def test_it_tells_what_stands_against_a_target(play: Play, serve: Serve) -> None:
    dead, alive = play(drops), play(answers)
    server = serve(models={"gpt": {"targets": [remote(dead), remote(alive, priority=2)]}})
    for _ in range(5):
        request(server.port, "POST", "/v1/chat/completions", ASK)
    found = request(server.port, "POST", "/v1/explain", ASK).json
    assert places(found) == [("gpt#1", 1), ("gpt#0", None)]
    assert "circuit is open" in found["targets"][1]["reason"]
    for target in server.gateway.router.routes["gpt"].targets:
        target.health.drain()
    found = request(server.port, "POST", "/v1/explain", ASK).json
    assert found["refusal"]["status"] == 503
    assert {each["reason"] for each in found["targets"]} == {"drained by the operator"}


def test_a_strict_model_says_that_it_would_refuse(play: Play, serve: Serve) -> None:
    upstream = play(answers)
    content = models(upstream.url, upstream.url)
    content["gpt"]["strict"] = True
    found = request(serve(models=content).port, "POST", "/v1/explain", {**ASK, "logit_bias": {"1": 2}}).json
    assert [each["refusal"] for each in found["targets"]] == [None, "strict: something would get lost"]


def test_it_wants_a_key_where_there_are_keys(play: Play, serve: Serve) -> None:
    secret, digest = new_key()
    server = serve(
        models=models("http://127.0.0.1:1", "http://127.0.0.1:1"),
        server={"keys": [{"name": "ci", "hash": digest}]},
    )
    assert request(server.port, "POST", "/v1/explain", ASK).status == 401
    allowed = {"authorization": f"Bearer {secret}"}
    assert request(server.port, "POST", "/v1/explain", ASK, allowed).status == 200


def test_the_command_reads_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "headgate.yaml"
    keys = [{"name": "ci", "hash": new_key()[1]}]
    content = {
        "server": {"state": "state.db", "keys": keys},
        "models": models("http://127.0.0.1:1", "http://127.0.0.1:1"),
    }
    path.write_text(yaml.safe_dump(content))
    assert main(["explain", "gpt", "--source", str(path)]) == 0
    assert not (tmp_path / "state.db").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["PLACE", "TARGET", "BACKEND", "LANE", "WHY"]
    assert lines[1].startswith("1      gpt#0   openai     passed through")
    body = json.dumps({"messages": [{"role": "user", "content": [IMAGE]}], "logit_bias": {"1": 2}})
    assert main(["explain", "gpt", "--source", str(path), "--body", body]) == 0
    shown = capsys.readouterr().out
    assert "–      gpt#0" in shown
    assert "gpt#1 would lose logit_bias" in shown
    assert main(["explain", "gpt", "--source", str(path), "--json"]) == 0
    assert places(json.loads(capsys.readouterr().out)) == [("gpt#0", 1), ("gpt#1", 2)]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nope"], 1, "does not exist"),
        (["gpt", "--body", "{"], 2, "not JSON"),
        (["gpt", "--body", "[]"], 2, "must be a JSON object"),
        (["gpt", "--url", "ftp://x"], 2, "must begin with http"),
        (["gpt", "--url", "http://127.0.0.1:1"], 5, "can't be asked"),
    ],
)
def test_the_command_says_what_is_wrong(
    words: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "headgate.yaml"
    path.write_text(yaml.safe_dump({"models": models("http://127.0.0.1:1", "http://127.0.0.1:1")}))
    assert main(["explain", *words, "--source", str(path)]) == code
    assert said in capsys.readouterr().err


def test_the_command_asks_a_running_server(
    play: Play, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(models=models(play(answers).url, play(answers).url))
    server.gateway.router.routes["gpt"].targets[0].health.drain()
    assert main(["explain", "gpt", "--url", server.url]) == 0
    assert "drained by the operator" in capsys.readouterr().out
    server.gateway.router.routes["gpt"].targets[1].health.drain()
    assert main(["explain", "gpt", "--url", server.url]) == 4
    assert "would be refused with 503" in capsys.readouterr().out
