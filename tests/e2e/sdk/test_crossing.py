"""Every SDK before every upstream: what its user sees, what the upstream gets, what is reported as lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.sdk import losses
from tests.e2e.sdk.clients import Client
from tests.e2e.sdk.conftest import Far
from tests.e2e.sdk.said import (
    ASKS,
    HELLO,
    IMAGE,
    INPUT_TOKENS,
    JSON_TEXT,
    ONE_CALL,
    OUTPUT_TOKENS,
    PERSON_SCHEMA,
    SIGNATURE,
    SYSTEM,
    THINKS,
    THOUGHT,
    TWO_CALLS,
    WEATHER,
    WEATHER_SCHEMA,
    Said,
    Told,
    Turn,
)


def ask(client: Client, far: Far, scenario: str, stream: bool, turn: Turn | None = None) -> Told:
    vendor = far.vendor.name
    told = client.ask(f"{vendor}-{scenario}", ASKS[scenario], stream=stream, turn=turn)
    assert set(told.losses) == losses.IN_REQUESTS.get((scenario, client.name, vendor), set())
    if client.dialect == vendor:
        assert not told.losses
    return told


def same(told: Told, said: Said, far: Far, stream: bool) -> None:
    assert told.text == said.text
    if stream:
        assert [piece for piece in told.pieces if piece] == list(said.pieces)
    assert [(name, arguments) for _, name, arguments in told.calls] == [
        (call.name, call.arguments) for call in said.calls
    ]
    ids = [call_id for call_id, _, _ in told.calls]
    if far.vendor.keeps_call_ids:
        assert ids == [call.id for call in said.calls]
    assert len(set(ids)) == len(ids)
    assert told.usage == (INPUT_TOKENS, OUTPUT_TOKENS)


def test_text(client: Client, far: Far, stream: bool) -> None:
    told = ask(client, far, "text", stream)
    same(told, HELLO, far, stream)
    assert told.finish in ("stop", "completed", "end_turn", "STOP")
    assert far.vendor.system(far.last().json) == SYSTEM


def test_image(client: Client, far: Far, stream: bool) -> None:
    same(ask(client, far, "image", stream), HELLO, far, stream)
    assert far.vendor.images(far.last().json) == [IMAGE]


@pytest.mark.parametrize(("scenario", "said"), [("tool", ONE_CALL), ("tools", TWO_CALLS)])
def test_tools(client: Client, far: Far, stream: bool, scenario: str, said: Said) -> None:
    told = ask(client, far, scenario, stream)
    same(told, said, far, stream)
    assert told.finish in ("tool_calls", "completed", "tool_use", "STOP")
    assert far.vendor.tools(far.last().json) == {"get_weather": WEATHER_SCHEMA}

    results = {call_id: f"in {arguments['city']}" for call_id, _, arguments in told.calls}
    same(ask(client, far, scenario, stream, Turn(told, results)), WEATHER, far, stream)
    body = far.last().json
    assert far.vendor.called(body) == [call.arguments for call in said.calls]
    assert far.vendor.results(body) == [f"in {call.city}" for call in said.calls]


def test_schema(client: Client, far: Far, stream: bool) -> None:
    same(ask(client, far, "schema", stream), JSON_TEXT, far, stream)
    assert far.vendor.schema(far.last().json) == PERSON_SCHEMA


def test_thinking(client: Client, far: Far, stream: bool) -> None:
    told = ask(client, far, "thinks", stream)
    same(told, THINKS, far, stream)
    assert told.thought == THOUGHT
    assert far.vendor.thinks(far.last().json) is ((client.name, far.vendor.name) not in losses.NOT_ASKED)

    call_id = told.calls[0][0]
    same(ask(client, far, "thinks", stream, Turn(told, {call_id: "mild"})), WEATHER, far, stream)
    body = far.last().json
    assert far.vendor.signatures(body) == [SIGNATURE]
    assert far.vendor.results(body) == ["mild"]


def test_a_stream_arrives_piece_by_piece(client: Client, far: Far) -> None:
    first: list[str] = []

    def heard(piece: str) -> None:
        if not first:
            far.go_on.set()  # it is here although the upstream has not sent the second
        first.append(piece)

    client.heard = heard
    try:
        told: Any = client.ask(f"{far.vendor.name}-waits", ASKS["text"], stream=True)
    finally:
        client.heard = None
    assert first == list(HELLO.pieces)
    same(told, HELLO, far, True)
