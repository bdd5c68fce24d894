"""What holds for every request and every stream."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import HeadgateError, InvalidRequest, StreamBroken, UpstreamError
from headgate.core.events import Failed, Finished, PartDelta, PartEnded, PartStarted, Started, Stop
from headgate.core.fold import Assembler, fold, unfold
from headgate.core.messages import Citation, Opaque, Part, Reasoning, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects.anthropic import (
    decode_count,
    decode_error,
    decode_request,
    decode_result,
    encode_request,
    encode_result,
    observer,
)
from headgate.dialects.dialect import AnswerOptions
from tests.support.agent_payload import PNG, agent_payload, meaning
from tests.unit.anthropic.test_answers import CITED, RICH
from tests.unit.anthropic.test_streams import RICH_STREAM
from tests.unit.anthropic.wire import bare, decode, encode

GIVEN = settings(max_examples=150, deadline=None, database=None)

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(words, json_values, max_size=3)
control = st.fixed_dictionaries(
    {"type": st.just("ephemeral")}, optional={"ttl": st.sampled_from(["5m", "1h"])}
)
HINT: dict[str, st.SearchStrategy[Any]] = {"cache_control": control}


def block(kind: str, required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **required}, optional=optional)


citation = st.just(CITED) | st.fixed_dictionaries(
    {
        "type": st.just("char_location"),
        "cited_text": words,
        "document_index": st.integers(0, 9),
        "document_title": st.none() | words,
        "start_char_index": st.integers(0, 9),
        "end_char_index": st.integers(0, 9),
    }
)
text_blocks = block("text", {"text": words}, HINT)
sources = st.one_of(
    st.just({"type": "base64", "media_type": "image/png", "data": PNG}),
    st.fixed_dictionaries({"type": st.just("url"), "url": st.just("https://example.com/x")}),
    st.fixed_dictionaries({"type": st.just("file"), "file_id": words}),
)
images = block("image", {"source": sources}, HINT | {"transformations": st.just({"a": "b"})})
plain_texts = st.fixed_dictionaries(
    {"type": st.just("text"), "media_type": st.just("text/plain"), "data": words}
)
documents = block(
    "document",
    {"source": plain_texts | st.fixed_dictionaries({"type": st.just("content"), "content": words})},
    HINT | {"title": words, "context": words, "citations": st.just({"enabled": True})},
)
search_results = block(
    "search_result", {"source": words, "title": words, "content": st.lists(text_blocks)}, HINT
)
user_blocks = st.one_of(text_blocks, images, documents, search_results)
answers_blocks = st.one_of(
    block("text", {"text": words}, HINT | {"citations": st.lists(citation, min_size=1, max_size=2)}),
    block("thinking", {"thinking": words, "signature": st.just("c2ln")}, {}),
    block("redacted_thinking", {"data": st.just("ZW5j")}, {}),
    block("server_tool_use", {"id": names, "name": names, "input": objects}, HINT),
)
contents = st.lists(user_blocks, min_size=1, max_size=3) | words


@st.composite
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"role": "user", "content": draw(contents)}]
    for number in range(draw(st.integers(0, 3))):
        calls = [
            {"type": "tool_use", "id": f"t{number}_{index}", "name": draw(names), "input": draw(objects)}
            for index in range(draw(st.integers(0, 2)))
        ]
        content = [*draw(st.lists(answers_blocks, min_size=1, max_size=3)), *calls]
        found.append({"role": "assistant", "content": content})
        results = [
            draw(
                block(
                    "tool_result",
                    {"tool_use_id": st.just(call["id"])},
                    HINT | {"content": contents, "is_error": st.booleans()},
                )
            )
            for call in calls
        ]
        more = draw(st.lists(user_blocks, min_size=0 if results else 1, max_size=2))
        found.append({"role": "user", "content": [*results, *more]})
        if draw(st.booleans()):
            found.append({"role": "system", "content": draw(st.lists(text_blocks, min_size=1, max_size=2))})
    return found


tools = st.one_of(
    st.fixed_dictionaries(
        {"name": names, "input_schema": st.just({"type": "object", "properties": {"a": {"type": "string"}}})},
        optional=HINT | {"description": words, "strict": st.booleans(), "defer_loading": st.booleans()},
    ),
    st.fixed_dictionaries(
        {"type": st.just("web_search_20250305"), "name": st.just("web_search")}, optional=HINT
    ),
)
# What single models refuse is put right for them: this is of none of these.
requests = st.fixed_dictionaries(
    {"model": st.just("somebodys"), "max_tokens": st.integers(1, 9999), "messages": turns()},
    optional={
        "system": words | st.lists(text_blocks, min_size=1, max_size=2),
        "tools": st.lists(tools, min_size=1, max_size=3),
        "tool_choice": st.sampled_from(
            [
                {"type": "auto", "disable_parallel_tool_use": True},
                {"type": "any"},
                {"type": "none"},
                {"type": "tool", "name": "f"},
            ]
        ),
        "thinking": st.sampled_from(
            [
                {"type": "enabled", "budget_tokens": 2048, "display": "summarized"},
                {"type": "adaptive", "display": "omitted"},
                {"type": "between_tools"},
                {"type": "disabled"},
            ]
        ),
        "output_config": st.sampled_from(
            [{"effort": "high"}, {"format": {"type": "json_schema", "schema": {"type": "object"}}, "more": 1}]
        ),
        "metadata": st.fixed_dictionaries({}, optional={"user_id": words, "other": words}),
        "service_tier": st.sampled_from(["auto", "standard_only"]),
        "stop_sequences": st.lists(words, min_size=1, max_size=2),
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "top_k": st.integers(0, 99),
        "stream": st.just(True),
        "cache_control": control,
        "container": words,
        "something_new": json_values,
    },
)


@GIVEN
@given(requests)
def test_decoding_and_encoding_loses_nothing(request: dict[str, Any]) -> None:
    wire, losses = encode_request(decode_request(json.dumps(request).encode()))
    assert losses == []
    if request.get("metadata") == {}:
        del request["metadata"]  # an empty object says nothing
    assert meaning(json.loads(wire)) == meaning(request)


@GIVEN
@given(json_values | st.dictionaries(st.sampled_from(list(agent_payload())), json_values))
def test_arbitrary_json_is_refused_as_the_callers_mistake(value: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        decode_request(json.dumps(value).encode())


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """An agent's payload with one value, anywhere in it, replaced or taken out."""
    payload: Any = agent_payload(tools=3)
    place = payload
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 4)):
            place = place[key]
            continue
        if draw(st.booleans()):
            place[key] = draw(json_values)
        else:
            del place[key]
        return payload


@GIVEN
@given(mutated())
def test_a_request_with_one_thing_wrong_is_taken_or_refused(payload: Any) -> None:
    try:
        encode_request(decode_request(json.dumps(payload).encode()))
    except InvalidRequest as error:
        assert error.param, "a refusal that names no field"


@GIVEN
@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_raise_nothing_but_the_documented_errors(data: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        decode_request(data)
    with contextlib.suppress(StreamBroken, UpstreamError, HeadgateError):
        decode_result(data)
    with contextlib.suppress(StreamBroken):
        decode_count(data)
    assert isinstance(decode_error(500, [], data), HeadgateError)
    for wire in (data, b"data: " + data + b"\n\n", RICH_STREAM[:900] + data, b"event: error\ndata: " + data):
        events = decode(wire)
        assert sum(isinstance(each, Finished | Failed) for each in events) == 1
        for stream in (True, False):
            watching = observer(stream, "")
            watching.feed(wire)
            watching.end()


events_of_the_dialect = st.sampled_from([part + b"\n\n" for part in RICH_STREAM[:-2].split(b"\n\n")])


@GIVEN
@given(st.lists(events_of_the_dialect, max_size=30), st.integers(1, 400))
def test_events_in_any_order_make_a_lawful_stream(pieces: list[bytes], step: int) -> None:
    wire = b"".join(pieces)
    events = decode(wire, *range(step, len(wire), step))
    assembler = Assembler()
    for each in events:
        assembler.feed(each)
    assert isinstance(events[-1], Finished | Failed)


@GIVEN
@given(st.lists(st.integers(1, len(RICH_STREAM) - 1), max_size=12, unique=True))
def test_any_chunking_gives_the_same_answer(cuts: list[int]) -> None:
    assert fold(decode(RICH_STREAM, *sorted(cuts))) == decode_result(json.dumps(RICH).encode())


own_parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, words),
    st.builds(lambda text: Text(text, (Citation("url", "https://a"),)), words),
    st.builds(lambda text: Reasoning(text, "sig", origin="anthropic"), words),
    st.builds(lambda data: Reasoning(data=data, redacted=True, origin="anthropic"), words),
    st.builds(lambda name, value: ToolCall("t", name, json.dumps(value)), names, objects),
    st.builds(lambda value: Opaque("anthropic", {"type": "server_tool_use", "input": value}), objects),
)


@GIVEN
@given(st.lists(own_parts, max_size=4))
def test_a_caller_reads_the_same_streamed_and_whole(parts: list[Part]) -> None:
    result = ChatResult("id", "m", 0, (Choice(0, tuple(parts), Stop("stop")),))
    whole = json.loads(encode_result(result, AnswerOptions())[0])
    told, losses = encode(unfold(result))
    assert losses == []
    content: list[Any] = []
    for data in told:
        match data:
            case {"type": "content_block_start", "content_block": opening}:
                content.append(dict(opening))
            case {"delta": {"type": "text_delta", "text": text}}:
                content[-1]["text"] += text
            case {"delta": {"type": "thinking_delta", "thinking": text}}:
                content[-1]["thinking"] += text
            case {"delta": {"type": "signature_delta", "signature": signature}}:
                content[-1]["signature"] = signature
            case {"delta": {"type": "citations_delta", "citation": form}}:
                content[-1].setdefault("citations", []).append(form)
            case {"delta": {"type": "input_json_delta", "partial_json": text}}:
                content[-1]["input"] = json.loads(text)
    assert content == bare(whole["content"])
    assert told[-2]["delta"]["stop_reason"] == whole["stop_reason"]


@GIVEN
@given(st.lists(st.integers(0, 2), max_size=20))
def test_interleaved_calls_arrive_whole_and_in_order(order: list[int]) -> None:
    events: list[Any] = [Started("c", "m", 0)]
    events += [PartStarted(index, ToolCall(f"t{index}", "f", "")) for index in range(3)]
    events += [PartDelta(index, f"{index}", field="arguments") for index in order]
    events += [PartEnded(index) for index in dict.fromkeys([*order, 0, 1, 2])]
    told, losses = encode([*events, Finished((Stop("tool_calls"),))])
    assert losses == []
    said: dict[int, str] = {}
    open_block = None
    for data in told:
        if data["type"] == "content_block_start":
            assert open_block is None and data["index"] == len(said)
            open_block = data["index"]
            said[open_block] = ""
        elif data["type"] == "content_block_delta":
            assert data["index"] == open_block
            said[open_block] += data["delta"]["partial_json"]
        elif data["type"] == "content_block_stop":
            assert data["index"] == open_block
            open_block = None
    assert said == {index: str(index) * order.count(index) for index in range(3)}
