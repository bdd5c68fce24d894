"""What the engines take and refuse, field by field, and tool calls read from text. No weights needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from headgate.core.errors import ConfigError, HeadgateError, Internal, InvalidRequest, Overloaded
from headgate.local.engines import chat_request, embed_request, gguf_header
from headgate.local.engines.chat_answer import Answer, engine_error, refused
from headgate.local.engines.chat_request import Abilities, read_chat_request
from headgate.local.engines.embed_request import read_embed_request
from headgate.local.engines.gguf import Options, context_size
from headgate.local.engines.gguf_header import Header, read_header
from headgate.local.engines.host import Reply, Slots, application
from headgate.local.engines.tool_calls import forced_call_schema, may_become_call, parse_calls

PLAIN = Abilities(tools=False, names=False, reasoning_effort=False, n_vocab=100)
ABLE = Abilities(tools=True, names=True, reasoning_effort=True, n_vocab=100)
USER = [{"role": "user", "content": "x"}]


def tool(name: str, **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def read(abilities: Abilities = PLAIN, **fields: Any) -> chat_request.ChatJob:
    return read_chat_request({"model": "m", "messages": USER, **fields}, abilities)


FORMAT = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": ["x"]}, "messages.0"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "mood": 1}]}, "messages.0.mood"),
        ({"messages": [{"role": "user", "content": "x", "name": "a"}]}, "messages.0.name"),
        ({"messages": [*USER, {"role": "assistant"}]}, "messages.1.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.0.content.0.type"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 2**40}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"presence_penalty": 9}, "presence_penalty"),
        ({"frequency_penalty": 9}, "frequency_penalty"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", 1]}, "stop"),
        ({"seed": 1.5}, "seed"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 1}, "logprobs"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logit_bias": {"word": 1}}, "logit_bias"),
        ({"logit_bias": {"100": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": FORMAT, "grammar": "x"}, "grammar"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"more": 1}}, "stream_options.more"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [tool("a")]}, "tools"),
        ({"tools": "a"}, "tools"),
        ({"tools": [{"type": "custom"}]}, "tools.0.type"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"store": True}, "store"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"verbosity": "low"}, "verbosity"),
        *(({name: {}}, name) for name in chat_request.NEVER),
        ({"anything_else": 1}, "anything_else"),
    ],
)
def test_a_chat_field_that_can_t_be_honoured_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.param == param
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [tool("a")], "grammar": "x"}, "grammar"),
        ({"tools": [tool("a")], "response_format": FORMAT}, "response_format"),
        ({"tools": [tool("a", strict=True)]}, "tools.0.function.strict"),
        ({"tools": [tool("a", parameters=1)]}, "tools.0.function.parameters"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [tool("a")], "tool_choice": tool("b")}, "tool_choice"),
        ({"tools": [tool("a")], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"messages": [{"role": "assistant", "tool_calls": []}]}, "messages.0.content"),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": {"a": 1}}]},
            "messages.0.tool_calls",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [tool("a")]}]},
            "messages.0.tool_calls.0.function.arguments",
        ),
    ],
)
def test_tools_are_checked_where_the_model_has_them(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(ABLE, **fields)
    assert caught.value.param == param


def test_what_is_honoured_reaches_the_engine() -> None:
    job = read(
        ABLE,
        max_completion_tokens=5,
        temperature=0.5,
        top_p=0.9,
        stop="end",
        seed=-1,
        n=2,
        logit_bias={"7": -100},
        top_k=4,
        reasoning_effort="low",
        stream=True,
        stream_options={"include_usage": True},
        user="u",
        store=None,
    )
    sent = job.choice_request(1)
    assert {
        name: sent[name] for name in ("max_tokens", "temperature", "top_p", "stop", "logit_bias", "top_k")
    } == {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["end"],
        "logit_bias": [[7, -100]],
        "top_k": 4,
    }
    assert sent["seed"] == 0
    assert job.choice_request(0)["seed"] == 2**32 - 2
    assert sent["chat_template_kwargs"] == {"reasoning_effort": "low"}
    assert (job.n, job.stream, job.include_usage, job.model) == (2, True, True, "m")
    assert not {"user", "store", "model"} & sent.keys()


def test_a_conversation_with_tools_passes_whole() -> None:
    messages = [
        {"role": "developer", "content": "rules", "name": "boss"},
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [tool("a", arguments="{}") | {"id": "1"}]},
        {"role": "tool", "tool_call_id": "1", "name": "a", "content": [{"type": "text", "text": "y"}]},
        {"role": "assistant", "refusal": "no", "tool_calls": []},
    ]
    sent = read(ABLE, messages=messages, tools=[tool("a")]).engine["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "assistant"]
    assert sent[4] == {"role": "assistant", "content": "no"}


def test_tool_choice_none_keeps_tools_from_the_model() -> None:
    job = read(ABLE, tools=[tool("a")], tool_choice="none", response_format=FORMAT)
    assert "tools" not in job.engine
    assert job.tool_names == frozenset()


def test_a_forced_call_is_a_schema_whose_references_hold() -> None:
    parameters = {
        "properties": {"c": {"$ref": "#/$defs/C"}, "s": {"$ref": "#"}},
        "$defs": {"C": {"enum": [1]}},
    }
    job = read(ABLE, tools=[tool("a"), tool("b", parameters=parameters)], tool_choice="required")
    schema = job.engine["response_format"]["json_schema"]["schema"]
    assert [choice["properties"]["name"] for choice in schema["anyOf"]] == [{"const": "a"}, {"const": "b"}]
    properties = schema["$defs"]["tool1"]["properties"]
    assert properties == {"c": {"$ref": "#/$defs/tool1/$defs/C"}, "s": {"$ref": "#/$defs/tool1"}}
    chosen = read(ABLE, tools=[tool("a"), tool("b")], tool_choice=tool("b"))
    assert chosen.tool_names == {"b"}
    assert [item["function"]["name"] for item in chosen.engine["tools"]] == ["b"]
    assert forced_call_schema([tool("a")])["$defs"] == {"tool0": {"type": "object"}}


NAMES = frozenset({"f", "g"})
F = '{"name": "f", "arguments": {"x": 1}}'
G = '{"name": "g", "arguments": "{}"}'


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (F, ["f"]),
        (f"\n{F}\n{G}", ["f", "g"]),
        (f"[{F}, {G}]", ["f", "g"]),
        (f"```json\n{F}\n```\n\n```json\n{G}\n```", ["f", "g"]),
        (f"<tool_call>\n{F}\n</tool_call>", ["f"]),
        ('{"name": "f"}', ["f"]),
        ("", None),
        ("hello", None),
        (f"{F} is what I would call", None),
        ('{"name": "h", "arguments": {}}', None),
        ('{"name": "f", "arguments": {}, "more": 1}', None),
        ('{"name": "f", "argu', None),
        ("[1]", None),
        ("{" * 5000, None),
        ("[" * 100_000, None),
    ],
)
def test_calls_are_read_from_text(text: str, names: list[str] | None) -> None:
    calls = parse_calls(text, NAMES)
    found = None if calls is None else [call["function"]["name"] for call in calls]
    assert found == names
    for call in calls or []:
        assert json.loads(call["function"]["arguments"]) is not None


def test_a_text_is_held_back_only_while_it_may_be_a_call() -> None:
    for text in (F, f" ```json\n{F}", f"<tool_call> {F}", f"[{F}]"):
        assert all(may_become_call(text[:end]) for end in range(len(text) + 1))
    for text in ("Hello", '{"answer": 1', "```python", "<b>"):
        assert not may_become_call(text)


def chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def fed(job: chat_request.ChatJob, *chunks: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    answer = Answer(job, "engine")
    choice = answer.choice()
    made = [item for each in chunks for item in choice.feed(each)]
    return made, answer.complete()["choices"][0]


@pytest.mark.parametrize("pieces", [[F], list(F + "\n" + F)])
@pytest.mark.parametrize("parallel", [True, False])
def test_a_call_in_text_becomes_a_call(pieces: list[str], parallel: bool) -> None:
    job = read(ABLE, tools=[tool("f")], parallel_tool_calls=parallel)
    made, whole = fed(job, *(chunk({"content": piece}) for piece in pieces), chunk({}, "stop"))
    calls = whole["message"]["tool_calls"]
    assert len(calls) == (2 if len(pieces) > 1 and parallel else 1)
    assert whole["message"]["content"] is None
    assert whole["finish_reason"] == "tool_calls"
    assert not any(item["delta"].get("content") for item in made)


def test_a_text_that_only_looked_like_a_call_is_let_go() -> None:
    job = read(ABLE, tools=[tool("f")])
    text = '{"name": "unknown"}'
    made, whole = fed(job, *(chunk({"content": piece}) for piece in text), chunk({}, "stop"))
    assert "".join(item["delta"].get("content", "") for item in made) == text
    assert whole["message"]["content"] == text
    assert whole["finish_reason"] == "stop"


def test_calls_that_the_engine_parsed_itself_pass_through() -> None:
    def call(**function: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": function}]}

    job = read(ABLE, tools=[tool("f")])
    thought = chunk({"reasoning_content": "hm"})
    parts = [chunk(call(name="f", arguments='{"a"')), chunk(call(arguments=": 1}")), chunk({}, "tool_calls")]
    made, whole = fed(job, thought, *parts)
    assert len(made) == 5
    assert whole["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert whole["message"]["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ({"code": 400, "message": "Field 'x': no; messages = [secret]"}, InvalidRequest, "Field 'x': no"),
        ({"code": 503, "message": "busy"}, Overloaded, "busy"),
        ({"code": 500, "message": 'lost: {"secret": 1}'}, Internal, "the engine failed: lost"),
    ],
)
def test_an_engine_s_error_keeps_its_kind_and_loses_the_payload(
    error: dict[str, Any], kind: type[HeadgateError], message: str
) -> None:
    mapped = engine_error(error)
    assert type(mapped) is kind
    assert message in mapped.message
    assert "secret" not in mapped.message
    assert refused("").message.endswith("no reason given")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input.0"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input.1"),
        ({"input": ["a", 1]}, "input.1"),
        ({"input": ["a", [1]]}, "input.1"),
        ({"input": [[]]}, "input.0"),
        ({"input": [["a"]]}, "input.0"),
        ({"input": [True]}, "input.0"),
        ({"input": {}}, "input"),
        ({"input": ["a"] * (embed_request.MOST_INPUTS + 1)}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
        ({"user": 1}, "user"),
        ({"model": 1}, "model"),
        ({"truncate": True}, "truncate"),
    ],
)
def test_an_embedding_field_that_can_t_be_honoured_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_embed_request({"model": "m", "input": "x", **fields})
    assert caught.value.param == param


def test_options_are_checked_by_name() -> None:
    assert Options.read({"model": "m", "n_ctx": 5}).n_ctx == 5
    for given, message in (
        ({"n_cxt": 5}, "option 'n_cxt' is not known: a GGUF model takes .*n_ctx"),
        ({"model": 1}, "option model must be the path"),
        ({"model": "m", "n_ctx": 0}, "option n_ctx must be a whole number of at least 1"),
        ({"model": "m", "n_threads": "2"}, "option n_threads"),
        ({"model": "m", "flash_attn": "on"}, "option flash_attn must be true or false"),
    ):
        with pytest.raises(ConfigError, match=message):
            Options.read(given)


def test_the_context_fits_the_model_and_the_memory() -> None:
    def header(n_ctx: int) -> Header:
        return Header("llama", None, n_ctx, 10, None, kv_bytes_per_token=100_000)

    assert context_size(header(2048), 2, None) == 2048
    assert context_size(header(131072), 2, None) == 8192
    assert context_size(header(131072), 2, 2 * 2 * 8192 * 100_000) == 8192
    assert context_size(header(131072), 2, 2 * 8192 * 100_000) == 4096
    assert context_size(header(131072), 2, 1) == 2048


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"GGUF" + b"\x09" + bytes(19),
        b"GGUF\x03\0\0\0" + bytes(8) + b"\x01" + bytes(7),
        b"GGUF\x03\0\0\0" + bytes(8) + b"\x01" + bytes(7) + b"\xff" * 8,
        b"GGUF\x03\0\0\0" + bytes(8) + b"\xff" * 8,
        b"GGUF\x03\0\0\0" + bytes(8) + b"\x01" + bytes(7) + b"\x01" + bytes(7) + b"k" + b"\x63\0\0\0",
    ],
)
def test_a_file_that_is_no_model_is_told(tmp_path: Any, content: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a GGUF model file"):
        read_header(path)
    with pytest.raises(ConfigError, match="can't read the weights"):
        gguf_header.read_header(tmp_path / "none.gguf")


class Scripted:
    """An engine with one route, `/go`, that does what the test says."""

    info: Mapping[str, Any] = {}

    def __init__(self, go: Any) -> None:
        self.routes = {"/go": go}


def exchange(go: Any, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Run one request through the host's ASGI app; what it sent."""
    sent: list[dict[str, Any]] = []
    inbox = list(messages)

    async def receive() -> dict[str, Any]:
        if inbox:
            return inbox.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def request() -> None:
        await application(Scripted(go))({"type": "http", "path": "/go", "method": "POST"}, receive, send)

    asyncio.run(request())
    return sent


BODY = {"type": "http.request", "body": b"{}"}


def test_a_failure_after_the_first_event_is_a_framed_error_and_the_end() -> None:
    async def go(body: Mapping[str, Any], reply: Reply) -> None:
        await reply.event({"a": 1})
        raise Internal("broke")

    start, first, error, end = exchange(go, BODY)
    assert start["status"] == 200
    assert first["body"] == b'data: {"a":1}\n\n'
    assert error["body"].startswith(b'data: {"error":{"message":"broke"')
    assert error["body"].endswith(b"}}\n\n")
    assert end == {"type": "http.response.body", "body": b""}


def test_an_unexpected_failure_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def go(body: Mapping[str, Any], reply: Reply) -> None:
        raise ValueError("inner secret")

    start, body = exchange(go, BODY)
    assert start["status"] == 500
    assert b"secret" not in body["body"]
    assert "a request failed" in caplog.text


def test_a_client_that_goes_cancels_its_handler() -> None:
    ended: list[str] = []

    async def go(body: Mapping[str, Any], reply: Reply) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    assert exchange(go, BODY, {"type": "http.disconnect"}) == []
    assert ended == ["cancelled"]
    assert exchange(go, {"type": "http.request", "more_body": True}, {"type": "http.disconnect"}) == []


def test_a_slot_waits_and_a_full_queue_refuses() -> None:
    async def test() -> None:
        slots = Slots(1, 1)
        release = asyncio.Event()

        async def hold() -> None:
            async with slots.taken():
                await release.wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(hold())
            await asyncio.sleep(0)
            waiting = group.create_task(hold())
            await asyncio.sleep(0)
            assert slots.info == {"running": 1, "waiting": 1}
            with pytest.raises(Overloaded) as caught:
                async with slots.taken():
                    raise AssertionError
            assert caught.value.retry_after == 1
            release.set()
            await waiting
        assert slots.info == {"running": 0, "waiting": 0}

    asyncio.run(test())
