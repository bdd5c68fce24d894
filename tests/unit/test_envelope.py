"""The outer object of a request: read once, values untouched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import InvalidRequest
from headgate.dialects.envelope import Envelope

BODY = b'{ "model": "gpt-\\u0034o", "stream" : true, "seed": 1.50e1, "messages": [ {"a" : "\xc3\xa4\\n"} ] }'


def test_model_and_stream_are_read() -> None:
    envelope = Envelope.read(BODY)
    assert (envelope.model, envelope.stream) == ("gpt-4o", True)
    assert Envelope.read(b'{"model":"m"}').stream is False
    assert Envelope.read(b'{"model":"m","stream":null}').stream is False
    assert Envelope.read(b'{"model":"m","stream":false}').stream is False


def test_a_renamed_model_leaves_the_other_bytes_alone() -> None:
    assert Envelope.read(BODY).body('up"stream') == (
        b'{"model":"up\\"stream","stream":true,"seed":1.50e1,"messages":[ {"a" : "\xc3\xa4\\n"} ]}'
    )


def test_a_field_can_be_set() -> None:
    envelope = Envelope.read(b'{"model":"m","stream_options":{}}')
    wish = ("stream_options", b'{"include_usage":true}')
    assert envelope.body("up", wish) == b'{"model":"up","stream_options":{"include_usage":true}}'
    assert envelope.body("m") == b'{"model":"m","stream_options":{}}'  # the next target may not know the wish


def test_a_route_may_say_model_and_stream() -> None:
    envelope = Envelope.read(b'{"stream":"x","contents":[]}', model="gemini", stream=True)
    assert (envelope.model, envelope.stream) == ("gemini", True)
    assert envelope.body(None) == b'{"stream":"x","contents":[]}'


def test_of_a_key_given_twice_only_the_one_that_was_read_goes_on() -> None:
    envelope = Envelope.read(b'{"model":"allowed","\\u006dodel":"other","x":1}')
    assert envelope.model == "other"
    assert envelope.body("other") == b'{"model":"other","x":1}'


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"null", None),
        (b'{"model":"m"', None),
        (b'{"model":"m"} x', None),
        (b'{"model":"m","x":NaN}', None),
        (b'{"model":"m","x":"\xff"}', None),
        (b'{"model":"\xff"}', None),
        (b'{"\xff":"m"}', None),
        (b'{"model":"\\ud800"}', None),
        (b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b"{}", "model"),
        (b'{"model":null}', "model"),
        (b'{"model":1}', "model"),
        (b'{"model":""}', "model"),
        (b'{"model":["m"]}', "model"),
        (b'{"model":"m","stream":"true"}', "stream"),
        (b'{"model":"m","stream":1}', "stream"),
    ],
)
def test_wrong_bodies_are_refused(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Envelope.read(body)
    assert caught.value.status == 400
    assert caught.value.param == param


def test_the_message_names_the_type() -> None:
    with pytest.raises(InvalidRequest, match="expected a string, but got an array instead"):
        Envelope.read(b'{"model":["m"]}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@settings(max_examples=150, deadline=None, database=None)
@given(st.dictionaries(st.text(max_size=6), json_values, max_size=5), st.text(min_size=1, max_size=8))
def test_any_request_comes_through(fields: dict[str, Any], model: str) -> None:
    fields = {**fields, "model": "m", "stream": False}
    envelope = Envelope.read(json.dumps(fields).encode())
    assert json.loads(envelope.body(model)) == {**fields, "model": model}


@settings(max_examples=150, deadline=None, database=None)
@given(st.binary(max_size=40) | st.builds(lambda value: json.dumps(value).encode(), json_values))
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Envelope.read(body)
