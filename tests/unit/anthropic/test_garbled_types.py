"""Types that are no words, where the upstream's answer must have one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.events import Finished
from headgate.core.messages import Opaque, Text
from headgate.dialects import sse
from headgate.dialects.anthropic import decode_result, encode_result
from headgate.dialects.dialect import AnswerOptions
from tests.unit.anthropic.wire import decode, finish, start, text_block

kinds = pytest.mark.parametrize("kind", [[], {}, 1, None, ["text"]])


@kinds
def test_an_event_whose_type_is_no_word_is_passed_over(kind: Any) -> None:
    odd = sse.encode(json.dumps({"type": kind}).encode())
    events = decode(start() + odd + text_block(0, "Hi") + finish())
    assert isinstance(events[-1], Finished)


@kinds
def test_a_block_whose_type_is_no_word_goes_out_as_it_came(kind: Any) -> None:
    block = {"type": kind, "text": "x"}
    answer = {"id": "m", "type": "message", "model": "m", "content": [block, {"type": "text", "text": "Hi"}]}
    result = decode_result(json.dumps(answer).encode())
    assert result.choices[0].parts == (Opaque("anthropic", block), Text("Hi"))
    body, _ = encode_result(result, AnswerOptions())
    assert json.loads(body)["content"][0] == block


def test_a_block_without_a_type_goes_out_as_it_came() -> None:
    answer = {"id": "m", "type": "message", "model": "m", "content": [{"text": "x"}]}
    body, _ = encode_result(decode_result(json.dumps(answer).encode()), AnswerOptions())
    assert json.loads(body)["content"] == [{"text": "x"}]
