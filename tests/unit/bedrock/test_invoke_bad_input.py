"""Whatever a body of InvokeModel holds, it is read or refused, naming the field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.core.errors import InvalidRequest
from headgate.core.messages import ChatRequest
from headgate.core.operations import EmbedRequest
from headgate.dialects.dialect import ChatDialect, EmbedDialect
from headgate.dialects.registry import dialect
from tests.support.fields import invoke
from tests.support.fields.row import Caller
from tests.unit.bedrock.test_invoke_streams import JSON, mutated

GIVEN = settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
CALLERS: dict[str, Caller] = {each.dialect: each for each in (*invoke.CALLERS, *invoke.EMBED_CALLERS)}


def read(form: str, body: bytes) -> Any:
    """What the body says, or None where it was refused."""
    record = cast("ChatDialect | EmbedDialect", dialect(form))
    try:
        return record.decode_request(body, model=CALLERS[form].model)
    except InvalidRequest as error:
        assert error.message
        assert error.param or error.code in ("invalid_json", "invalid_value")
        return None


@pytest.mark.parametrize("form", CALLERS)
@GIVEN
@given(value=JSON)
def test_any_json(form: str, value: Any) -> None:
    read(form, json.dumps(value).encode())


@pytest.mark.parametrize("form", CALLERS)
@GIVEN
@given(body=st.binary(max_size=40))
def test_any_bytes(form: str, body: bytes) -> None:
    read(form, body)


@pytest.mark.parametrize("form", CALLERS)
@GIVEN
@given(data=st.data())
def test_a_valid_body_with_something_wrong_in_it(form: str, data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(CALLERS[form].rows))
    asked = read(form, json.dumps(data.draw(mutated(row.asked))).encode())
    if asked is None:
        return
    record: Any = dialect(form)
    try:
        body, _ = record.encode_request(asked, model=CALLERS[form].model)
    except InvalidRequest as error:
        assert error.param
    else:
        read(form, body)


@pytest.mark.parametrize("form", CALLERS)
def test_valid_bodies_come_back_the_same(form: str) -> None:
    record: Any = dialect(form)
    model = CALLERS[form].model
    for row in CALLERS[form].rows:
        asked = read(form, json.dumps(row.asked).encode())
        assert asked is not None, row.name
        body, losses = record.encode_request(asked, model=model)
        assert losses == [], row.name
        assert plain(record.decode_request(body, model=model)) == plain(asked), row.name


def plain(asked: ChatRequest | EmbedRequest) -> Any:
    """What counts: turns in a row may be joined, and the form of vectors is not asked on."""
    if isinstance(asked, EmbedRequest):
        kept = {
            name: {key: value for key, value in values.items() if key != "embedding_types"}
            for name, values in asked.extensions.items()
        }
        return replace(asked, extensions=kept)
    said = [(message.role, part) for message in asked.messages for part in message.parts]
    return said, replace(asked, messages=())
