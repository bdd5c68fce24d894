"""Token counts: what has no neutral place goes through a translation all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.call import Usage
from headgate.core.events import UsageReported
from headgate.core.fold import fold, unfold
from headgate.dialects import sse
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_chat import StreamEncoder, decode_result, encode_result
from headgate.dialects.openai_usage import usage_rest, usage_to_wire
from tests.unit.openai_chunks import ANSWER, DONE, choice, chunk, decode

OPENAI = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 1},
    "completion_tokens_details": {
        "reasoning_tokens": 1,
        "audio_tokens": 2,
        "accepted_prediction_tokens": 3,
        "rejected_prediction_tokens": 4,
    },
}
GROQ = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "queue_time": 0.1, "total_time": 0.2}
OWN_TOTAL = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 9}
PLAIN = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


@pytest.mark.parametrize("usage", [OPENAI, GROQ, OWN_TOTAL, PLAIN])
def test_every_count_comes_through(usage: dict[str, Any]) -> None:
    events = decode(chunk(choice({"content": "a"}, "stop")) + chunk(usage=usage) + DONE)
    encoder = StreamEncoder(AnswerOptions(include_usage=True))
    wire = sse.Decoder().feed(b"".join(encoder.encode(event) for event in events))
    assert json.loads(wire[-2].data)["usage"] == usage
    for result in (decode_result(json.dumps(ANSWER | {"usage": usage}).encode()), fold(events)):
        assert json.loads(encode_result(result, AnswerOptions())[0])["usage"] == usage
        again = StreamEncoder(AnswerOptions(include_usage=True))
        wire = sse.Decoder().feed(b"".join(again.encode(event) for event in unfold(result)))
        assert json.loads(wire[-2].data)["usage"] == usage
        assert all(json.loads(event.data)["usage"] is None for event in wire[:-2])


def test_reports_hold_the_rest_beside_the_neutral_counts() -> None:
    events = decode(chunk(choice({"content": "a"}, "stop"), usage=OPENAI) + DONE)
    (report,) = [event for event in events if isinstance(event, UsageReported)]
    assert report.usage == Usage(9, 5, cached_tokens=2, reasoning_tokens=1)
    predicted = {"accepted_prediction_tokens": 3, "rejected_prediction_tokens": 4}
    details = {
        "prompt_tokens_details": {"audio_tokens": 1},
        "completion_tokens_details": {"audio_tokens": 2, **predicted},
    }
    assert report.extensions == {"openai_chat": {"usage": details}}


def test_what_says_nothing_is_not_kept() -> None:
    dull = PLAIN | {"prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": None}, "x": None}
    assert usage_rest(dull, Usage(1, 2)) == {}
    assert usage_rest(None, Usage()) == {}
    assert usage_rest(PLAIN | {"prompt_tokens_details": 3}, Usage(1, 2)) == {"prompt_tokens_details": 3}
    assert usage_to_wire(Usage(1, 2), {"prompt_tokens_details": 3})["prompt_tokens_details"] == 3
    assert usage_to_wire(Usage(1, 2), "x") == PLAIN
