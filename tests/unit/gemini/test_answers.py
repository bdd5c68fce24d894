"""Gemini answers, read: streams of both framings at every byte split, and complete ones."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, StreamBroken, UpstreamError
from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    PartDelta,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.fold import fold
from headgate.core.messages import Citation, Media, Opaque, Part, Reasoning, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.gemini import StreamDecoder, decode_result, encode_result
from headgate.dialects.gemini.json_array import ArrayDecoder
from headgate.dialects.gemini.vocabulary import is_made
from tests.unit.gemini.chunks import answer, as_array, as_sse, candidate, decode, usage

GIVEN = settings(max_examples=120, deadline=None, database=None)

TRAFFIC: Any = {"trafficType": "ON_DEMAND"}
MOMENT = "2025-01-01T00:00:00Z"
IMAGE = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
CHUNKS = (
    answer(candidate({"text": "Hm", "thought": True}), usageMetadata=usage(5, 0, 1), createTime=MOMENT),
    answer(candidate({"text": "m.", "thought": True}), usageMetadata=usage(5, 0, 2)),
    answer(candidate({"text": "Grüße, \\\"[{"}), candidate({"text": "B"}, index=1)),
    answer(candidate({"text": "Wörld 🌍\u2028"}), usageMetadata=usage(5, 3, 2)),
    answer(candidate({"text": "!", "thoughtSignature": "AAAA"}), usageMetadata=usage(5, 4, 2)),
    answer(candidate({"executableCode": {"code": "1"}}, IMAGE)),
    answer(
        candidate(
            {"functionCall": {"name": "f", "args": {"x": "}"}}, "thoughtSignature": "BBBB"},
            {"functionCall": {"id": "own", "name": "g", "args": {}}},
        ),
    ),
    answer(
        candidate(finish="STOP", safetyRatings=[{"category": "HARM_CATEGORY_HARASSMENT"}]),
        {"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 1},
        usageMetadata=usage(5, 9, 2, cachedContentTokenCount=1, toolUsePromptTokenCount=7, **TRAFFIC),
        modelStatus={"a": 1},
    ),
)  # fmt: skip
SSE = as_sse(*CHUNKS)
ARRAY = as_array(*CHUNKS)


def error_of(events: list[ChatEvent]) -> Any:
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Finished | Failed) for event in events[:-1])
    return events[-1].error


def parts(*chunks: dict[str, Any]) -> tuple[Part, ...]:
    return fold(decode(as_sse(*chunks))).choices[0].parts


def test_a_rich_stream_folds_to_the_whole_answer() -> None:
    result = fold(decode(SSE))
    calls = [part for part in result.choices[0].parts if isinstance(part, ToolCall)]
    assert is_made(calls[0].id)
    extra: Any = {
        "usageMetadata": {"toolUsePromptTokenCount": 7, "trafficType": "ON_DEMAND"},
        "createTime": MOMENT,
        "modelStatus": {"a": 1},
        "candidates": {"0": {"safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT"}]}},
    }
    assert result == ChatResult(
        "r1",
        "gemini-2.5-flash",
        1735689600,
        (
            Choice(
                0,
                (
                    Reasoning("Hmm."),
                    Text('Grüße, \\"[{Wörld 🌍\u2028'),
                    Reasoning(signature="AAAA", origin="gemini"),
                    Text("!"),
                    Opaque("gemini", {"executableCode": {"code": "1"}}),
                    Media("image", "image/png", "AAAA"),
                    Reasoning(signature="BBBB", origin="gemini"),
                    ToolCall(calls[0].id, "f", '{"x":"}"}'),
                    ToolCall("own", "g", "{}"),
                ),
                Stop("tool_calls", native="STOP"),
            ),
            Choice(1, (Text("B"),), Stop("length", 1, native="MAX_TOKENS")),
        ),
        Usage(12, 11, 1, None, 2),
        {"gemini": extra},
    )


def test_every_byte_split_of_every_framing_gives_the_same_events() -> None:
    expected = decode(SSE)
    assert isinstance(expected[-1], Finished)
    for wire in (SSE, ARRAY, as_sse(*CHUNKS, line_end=b"\n")):
        assert decode(wire, *range(len(wire))) == expected
        for cut in range(0, len(wire), 3):
            assert decode(wire, cut) == expected


@GIVEN
@given(st.lists(st.integers(0, len(ARRAY)), max_size=10), st.sampled_from([SSE, ARRAY]))
def test_any_split_gives_the_same_events(cuts: list[int], wire: bytes) -> None:
    assert decode(wire, *sorted(min(cut, len(wire)) for cut in cuts)) == decode(SSE)


def test_a_stream_is_the_plain_answer_in_pieces() -> None:
    whole = answer(
        candidate(
            {"text": "Hmm.", "thought": True},
            {"text": "Hello"},
            {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "AAAA"},
            finish="STOP",
            avgLogprobs=-0.5,
        ),
        usageMetadata=usage(1, 2, 3),
    )
    chunks = [
        answer(candidate({"text": "Hm", "thought": True}), usageMetadata=usage(1, 0, 1)),
        answer(candidate({"text": "m.", "thought": True}, {"text": "Hel"})),
        answer(candidate({"text": "lo"}), usageMetadata=usage(1, 1, 3)),
        answer(candidate({"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "AAAA"})),
        answer(candidate({"text": ""}, finish="STOP", avgLogprobs=-0.5), usageMetadata=usage(1, 2, 3)),
    ]
    assert fold(decode(as_sse(*chunks))) == decode_result(json.dumps(whole).encode())


def test_deltas_come_out_with_the_bytes_that_hold_them() -> None:
    decoder = StreamDecoder()
    first = as_sse(answer(candidate({"text": "a"})))
    assert decoder.feed(first) == [
        Started("r1", "gemini-2.5-flash", 0),
        PartStarted(0, Text("")),
        PartDelta(0, "a"),
    ]
    assert decoder.feed(as_sse(answer(candidate({"text": "b"})))) == [PartDelta(0, "b")]


def test_usage_is_cumulative_and_told_now_and_then() -> None:
    chunks = [answer(candidate({"text": "a"}), usageMetadata=usage(1, number)) for number in range(1, 71)]
    decoder = StreamDecoder()
    events = [event for chunk in chunks for event in decoder.feed(as_sse(chunk))]
    told = [event.usage.output_tokens for event in events if isinstance(event, UsageReported)]
    assert told == [1, 33, 65]
    assert isinstance(decoder.end()[-1], Failed)
    cut = decode(as_sse(*chunks))
    assert [e.usage.output_tokens for e in cut if isinstance(e, UsageReported)] == [1, 33, 65, 70]


def test_counts_that_go_down_again_are_not_believed() -> None:
    events = decode(
        as_sse(
            answer(candidate({"text": "a"}), usageMetadata=usage(1, 9)),
            answer(candidate(finish="STOP"), usageMetadata=usage(1, 0)),
        )
    )
    assert fold(events).usage == Usage(1, 9, None, None, 0)


def test_a_blocked_prompt_is_an_answer() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage(4, 0)}
    result = fold(decode(as_sse(blocked)))
    assert result.choices == (Choice(0, (), Stop("content_filter", native="SAFETY")),)
    body, losses = encode_result(result, AnswerOptions())
    assert (json.loads(body), losses) == ({**blocked, "modelVersion": "", "responseId": ""}, [])
    assert decode_result(json.dumps(blocked).encode()) == result


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "other"),
        ("LANGUAGE", "other"),
        ("NOVEL_REASON", "other"),
    ],
)
def test_finish_reasons_go_and_come_back(word: str, reason: Any) -> None:
    result = fold(decode(as_sse(answer(candidate({"text": "a"}, finish=word)))))
    assert result.choices[0].stop == Stop(reason, native=word)
    body, _ = encode_result(result, AnswerOptions())
    assert json.loads(body)["candidates"][0]["finishReason"] == word


def test_log_probabilities() -> None:
    wire = {
        "chosenCandidates": [{"token": "ä", "tokenId": 5, "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "b", "logProbability": -1}]}],
    }
    plain = answer(candidate({"text": "ä"}, finish="STOP", logprobsResult=wire))
    entry: Any = {
        "token": "ä",
        "logprob": -0.5,
        "bytes": [195, 164],
        "token_id": 5,
        "top_logprobs": [{"token": "b", "logprob": -1, "bytes": [98]}],
    }
    result = decode_result(json.dumps(plain).encode())
    assert result == fold(decode(as_sse(plain)))
    assert result.choices[0].logprobs == (entry,)
    assert json.loads(encode_result(result, AnswerOptions())[0]) == plain


def test_citations_and_grounding_count_characters() -> None:
    text = "Grüße aus Bonn."
    cited: Any = {"startIndex": 0, "endIndex": 7, "uri": "https://a", "title": "A", "license": "MIT"}
    support = {
        "segment": {"startIndex": 8, "endIndex": 17, "text": "aus Bonn."},
        "groundingChunkIndices": [0, 1, 9],
        "confidenceScores": [0.9],
    }
    grounding = {
        "groundingChunks": [
            {"web": {"uri": "https://b", "title": "B"}},
            {"retrievedContext": {"uri": "gs://c", "text": "q"}},
        ],
        "groundingSupports": [support],
        "webSearchQueries": ["bonn"],
    }
    ends: Any = {"citationMetadata": {"citations": [cited]}, "groundingMetadata": grounding}
    whole = answer(candidate({"text": text}, finish="STOP", **ends))
    result = decode_result(json.dumps(whole).encode())
    own: Any = {"gemini": {"groundingSupport": support}}
    assert result.choices[0].parts == (
        Text(
            text,
            (
                Citation("url", "https://a", "A", None, 0, 5, extensions={"gemini": {"citation": cited}}),
                Citation("url", "https://b", "B", None, 6, 15, extensions=own),
                Citation("file", "gs://c", None, "q", 6, 15, extensions=own),
            ),
        ),
    )
    assert json.loads(encode_result(result, AnswerOptions())[0]) == whole
    streamed = [
        answer(candidate({"text": text[:3]})),
        answer(candidate({"text": text[3:]}, finish="STOP", **ends)),
    ]
    assert fold(decode(as_sse(*streamed))) == result
    behind = [answer(candidate({"text": text}), candidate({"functionCall": {"name": "f"}}))]
    late = [*behind, answer(candidate(finish="STOP", **ends))]
    assert [type(part) for part in parts(*late)] == [Text, ToolCall, Text]


def test_citations_that_come_bit_by_bit_are_told_once() -> None:
    one, two = ({"uri": f"https://{name}", "startIndex": 0, "endIndex": 1} for name in "ab")

    def cited(*citations: Any, text: str = "x", **fields: Any) -> dict[str, Any]:
        return answer(candidate({"text": text}, citationMetadata={"citations": list(citations)}, **fields))

    for chunks in ([cited(one), cited(one, two, finish="STOP")], [cited(one), cited(two, finish="STOP")]):
        result = fold(decode(as_sse(*chunks)))
        (part,) = result.choices[0].parts
        assert isinstance(part, Text)
        assert [citation.url for citation in part.citations] == ["https://a", "https://b"]
        body, _ = encode_result(result, AnswerOptions())
        assert json.loads(body)["candidates"][0]["citationMetadata"] == {"citations": [one, two]}


def test_log_probabilities_without_text_have_a_text_of_their_own() -> None:
    wire = {"chosenCandidates": [{"token": "a", "logProbability": -1}]}
    call = {"functionCall": {"name": "f"}}
    result = fold(decode(as_sse(answer(candidate(call, finish="STOP", logprobsResult=wire)))))
    assert [type(part) for part in result.choices[0].parts] == [ToolCall, Text]
    assert result.choices[0].logprobs is not None


def test_what_gateways_do_is_tolerated() -> None:
    done = b"data: [DONE]\n\n"
    early = as_sse(
        answer(candidate(finish="STOP")), answer(candidate({"text": "a"})), answer(candidate(finish="STOP"))
    )
    assert fold(decode(early + done)).choices[0].parts == (Text("a"),)
    bare = {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]}
    assert fold(decode(b"\n" + as_array(bare))).choices[0].parts == (Text("a"),)
    assert fold(decode(json.dumps(bare).encode())).choices[0].parts == (Text("a"),)
    assert fold(decode(as_sse(bare)[:-4])).choices[0].parts == (Text("a"),)


@pytest.mark.parametrize("end", [0, 1, 2, 6])
def test_a_cut_stream_is_never_whole(end: int) -> None:
    error = error_of(decode(as_sse(*CHUNKS[:end])))
    assert isinstance(error, StreamBroken) and error.code == "upstream_stream_cut"
    assert isinstance(error_of(decode(ARRAY[:-2])), StreamBroken)
    one_candidate = as_sse(
        answer(candidate({"text": "a"}), candidate({"text": "b"}, index=1)), answer(candidate(finish="STOP"))
    )
    assert isinstance(error_of(decode(one_candidate)), StreamBroken)


@pytest.mark.parametrize(
    "wire",
    [
        as_sse(CHUNKS[0]) + b"data: {\n\n",
        as_sse(CHUNKS[0]) + b"data: []\n\n",
        as_sse(CHUNKS[0]) + b'data: "a"\n\n',
        as_sse(answer(candidate({"inlineData": {"mimeType": "image/png", "data": "?"}}))),
        as_sse(answer(candidate({"functionCall": {"args": {}}}))),
        as_array(CHUNKS[0])[:-2] + b", 5]",
        as_array(CHUNKS[0]) + b"[",
        as_array(CHUNKS[0])[:-2] + b', "a"]',
        b"{]",
        b"<html>",
    ],
)
def test_garble_ends_the_stream_in_an_error_at_every_split(wire: bytes) -> None:
    expected = decode(wire)
    assert isinstance(error_of(expected), StreamBroken)
    for cut in range(len(wire)):
        events = decode(wire, cut)
        assert events[:-1] == expected[:-1] and isinstance(error_of(events), StreamBroken)


def test_an_error_within_a_stream_keeps_its_message_and_status() -> None:
    fault = {"error": {"code": 429, "message": "Slow down", "status": "RESOURCE_EXHAUSTED"}}
    for wire in (as_sse(CHUNKS[0], fault, CHUNKS[-1]), as_array(CHUNKS[0], fault, CHUNKS[-1])):
        error = error_of(decode(wire))
        assert isinstance(error, UpstreamError)
        assert (error.status, error.message, error.retryable) == (429, "Slow down", True)
    by_word = error_of(decode(as_sse({"error": {"message": "no", "status": "PERMISSION_DENIED"}})))
    assert by_word.status == 403


def test_after_the_end_nothing_comes() -> None:
    decoder = StreamDecoder()
    decoder.feed(SSE)
    assert isinstance(decoder.end()[-1], Finished)
    assert (decoder.feed(SSE), decoder.end()) == ([], [])


def test_an_endless_element_is_refused() -> None:
    array = ArrayDecoder(limit=64)
    with pytest.raises(StreamBroken, match="64 bytes"):
        list(array.feed(b'[{"a":"' + b"x" * 100))
    with pytest.raises(StreamBroken, match="64 bytes"):
        list(ArrayDecoder(limit=64).feed(b'[{"a":"' + b"x" * 100 + b'"}]'))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"5", b'{"candidates":[]}', b'{"candidates":5}', b"[" * 2000]
)
def test_bodies_that_are_no_answer(body: bytes) -> None:
    with pytest.raises(StreamBroken):
        decode_result(body)


def test_an_error_in_place_of_an_answer() -> None:
    with pytest.raises(UpstreamError, match="boom"):
        decode_result(b'[{"error":{"code":500,"message":"boom","status":"INTERNAL"}}]')


def test_a_plain_answer_without_finish_reason_is_whole() -> None:
    assert decode_result(json.dumps(answer(candidate({"text": "a"}))).encode()).choices[0].stop == Stop(
        "other"
    )


def test_the_same_dialect_loses_nothing() -> None:
    for chunks in (CHUNKS, CHUNKS[-1:]):
        result = fold(decode(as_sse(*chunks)))
        body, losses = encode_result(result, AnswerOptions())
        assert losses == []
        assert decode_result(body) == result


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def mutated(value: Any, path: list[int], patch: Any) -> Any:
    """`value` with what stands at `path` (picked by number, level by level) replaced by `patch`."""
    if not path or not isinstance(value, dict | list) or not value:
        return patch
    if isinstance(value, list):
        index = path[0] % len(value)
        return [mutated(item, path[1:], patch) if i == index else item for i, item in enumerate(value)]
    key = sorted(value)[path[0] % len(value)]
    return {**value, key: mutated(value[key], path[1:], patch)}


@GIVEN
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), JSON_VALUES, st.integers(0, len(CHUNKS) - 1))
def test_mutated_answers_never_raise_anything_else(path: list[int], patch: Any, number: int) -> None:
    chunk = mutated(CHUNKS[number], path, patch)
    for wire in (as_sse(chunk), as_array(*CHUNKS[:number], chunk), as_sse(*CHUNKS[:number], chunk)):
        events = decode(wire)
        assert isinstance(events[-1], Finished | Failed)
        with contextlib.suppress(HeadgateError):
            fold(events)
    with contextlib.suppress(HeadgateError):
        encode_result(decode_result(json.dumps(chunk).encode()), AnswerOptions())


@GIVEN
@given(st.binary(max_size=200), st.sampled_from([b"", b"[", b"{", b"data: ", SSE[:700], ARRAY[:700]]))
def test_arbitrary_bytes_end_in_one_terminal_event(noise: bytes, start: bytes) -> None:
    wire = start + noise
    events = decode(wire, *range(len(start), len(wire)))
    assert [event for event in events if isinstance(event, Finished | Failed)] == events[-1:]
    with contextlib.suppress(HeadgateError):
        decode_result(wire)
