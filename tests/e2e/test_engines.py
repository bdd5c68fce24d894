"""The engines with their real weights, in their processes, spoken to over their sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from headgate.core.errors import Unavailable
from headgate.local import catalog
from headgate.local.supervisor import EngineSpec, Supervisor

pytestmark = [pytest.mark.weights]

GREETING = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Say hello."},
]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/City"}},
            "required": ["city"],
            "additionalProperties": False,
            "$defs": {"City": {"enum": ["Paris", "Rome"]}},
        },
    },
}
TIME = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}
TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=60)
        self._path = path

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


class Running:
    """A supervised engine on a loop of its own, for tests that block."""

    def __init__(self, spec: EngineSpec) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.supervisor = Supervisor(spec)
        try:
            self.ready()
        except Unavailable:
            self.stop()
            raise

    def ready(self) -> None:
        asyncio.run_coroutine_threadsafe(self.supervisor.ready(), self.loop).result(60)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.supervisor.stop(), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def send(self, path: str, body: Mapping[str, Any] | bytes) -> UnixConnection:
        connection = UnixConnection(self.supervisor.socket_path)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, content, {"content-type": "application/json"})
        return connection

    def post(self, path: str, body: Mapping[str, Any] | bytes) -> tuple[int, Any]:
        connection = self.send(path, body)
        response = connection.getresponse()
        content = json.loads(response.read())
        connection.close()
        return response.status, content

    def chat(self, **fields: Any) -> dict[str, Any]:
        status, content = self.post("/v1/chat/completions", chat_body(**fields))
        assert status == 200, content
        assert isinstance(content, dict)
        return content

    def stream(self, **fields: Any) -> list[Any]:
        """The events' data; the last is the text `[DONE]`."""
        connection = self.send("/v1/chat/completions", chat_body(stream=True, **fields))
        response = connection.getresponse()
        assert response.status == 200
        assert response.getheader("content-type") == "text/event-stream"
        blocks = response.read().decode().split("\n\n")
        connection.close()
        assert blocks.pop() == ""
        data = [block.removeprefix("data: ") for block in blocks]
        return [item if item == "[DONE]" else json.loads(item) for item in data]

    def health(self) -> dict[str, Any]:
        connection = UnixConnection(self.supervisor.socket_path)
        connection.request("GET", "/health")
        told = json.loads(connection.getresponse().read())
        connection.close()
        assert isinstance(told, dict)
        return told

    def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        async def wait() -> None:
            async with asyncio.timeout(seconds):
                while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - another process's state
                    await asyncio.sleep(0.01)

        asyncio.run(wait())


def chat_body(**fields: Any) -> dict[str, Any]:
    body = {"model": "public-name", "messages": GREETING, "max_tokens": 6, "temperature": 0}
    return {name: value for name, value in {**body, **fields}.items() if value is not ...}


@contextlib.contextmanager
def engine(kind: str, ref: str, **options: Any) -> Iterator[Running]:
    weights = catalog.pull(ref)
    running = Running(EngineSpec.for_engine(ref, kind, {"model": str(weights.path), **options}))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Running]:
    with engine("gguf", "smollm2", n_ctx=4096, max_queue=1) as running:
        yield running


@pytest.fixture(scope="module")
def tool_model() -> Iterator[Running]:
    with engine("gguf", "smollm2", n_ctx=1024, n_parallel=1, chat_template=TOOL_TEMPLATE) as running:
        yield running


@pytest.fixture(scope="module")
def minilm() -> Iterator[Running]:
    with engine("embedding", "minilm") as running:
        yield running


def test_an_answer_has_openai_s_shape_and_real_usage(smollm2: Running) -> None:
    answer = smollm2.chat()
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "public-name"
    (choice,) = answer["choices"]
    assert choice["index"] == 0
    assert choice["finish_reason"] == "length"
    assert choice["message"]["role"] == "assistant"
    assert "hello" in choice["message"]["content"].lower()
    assert choice["logprobs"] is None
    usage = answer["usage"]
    assert usage["completion_tokens"] == 6
    assert usage["total_tokens"] == usage["prompt_tokens"] + 6
    longer = smollm2.chat(messages=[*GREETING, {"role": "user", "content": "And once more, please."}])
    assert longer["usage"]["prompt_tokens"] > usage["prompt_tokens"]


def test_a_stream_is_the_same_answer_in_pieces(smollm2: Running) -> None:
    *chunks, done = smollm2.stream()
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)
    first, *middle, last = [chunk["choices"][0] for chunk in chunks]
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert last["delta"] == {}
    assert [choice["finish_reason"] for choice in (first, *middle, last)] == [None] * (len(middle) + 1) + [
        "length"
    ]
    pieces = [choice["delta"]["content"] for choice in middle]
    assert len(pieces) > 3
    assert "".join(pieces) == smollm2.chat()["choices"][0]["message"]["content"]


def test_usage_in_a_stream_comes_when_asked_for(smollm2: Running) -> None:
    *chunks, report, _ = smollm2.stream(stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in chunks)
    assert report["choices"] == []
    assert report["usage"]["completion_tokens"] == 6


def test_a_seed_repeats_an_answer(smollm2: Running) -> None:
    def said(seed: int) -> Any:
        answer = smollm2.chat(seed=seed, temperature=1.5, max_tokens=12)
        return answer["choices"][0]["message"]["content"]

    assert said(7) == said(7)
    assert len({said(seed) for seed in (7, -3, 2**40)}) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_keep_their_indexes_and_add_up(smollm2: Running, stream: bool) -> None:
    asked = {"n": 3, "temperature": 1.5, "seed": 1}
    if not stream:
        answer = smollm2.chat(**asked)
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
        assert len({choice["message"]["content"] for choice in answer["choices"]}) > 1
        assert answer["usage"]["completion_tokens"] == 18
        return
    *chunks, report, _ = smollm2.stream(stream_options={"include_usage": True}, **asked)
    ends = [c["choices"][0]["index"] for c in chunks if c["choices"][0]["finish_reason"]]
    assert ends == [0, 1, 2]
    assert report["usage"]["completion_tokens"] == 18


def test_log_probabilities_list_as_many_alternatives_as_asked(smollm2: Running) -> None:
    for top in (..., 0, 2):
        logprobs = smollm2.chat(logprobs=True, top_logprobs=top)["choices"][0]["logprobs"]
        entries = logprobs["content"]
        assert len(entries) == 6
        assert [set(entry) for entry in entries] == [{"token", "logprob", "bytes", "top_logprobs"}] * 6
        assert {len(entry["top_logprobs"]) for entry in entries} == {2 if top == 2 else 0}
        assert all(entry["logprob"] <= 0 for entry in entries)
    streamed = smollm2.stream(logprobs=True, top_logprobs=1)[1]["choices"][0]
    assert streamed["logprobs"]["content"][0]["token"] == streamed["delta"]["content"]


def test_the_other_sampling_fields_are_honoured(smollm2: Running) -> None:
    plain = smollm2.chat(logprobs=True, max_tokens=..., max_completion_tokens=4)
    assert plain["usage"]["completion_tokens"] == 4
    content = plain["choices"][0]["message"]["content"]
    stopped = smollm2.chat(stop=[word := content.split()[-1]])["choices"][0]
    assert stopped["finish_reason"] == "stop"
    assert word not in stopped["message"]["content"]
    parts = [GREETING[0], {"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]
    assert smollm2.chat(messages=parts)["choices"][0]["message"]["content"].startswith(content)
    developer = [{**GREETING[0], "role": "developer"}, GREETING[1]]
    assert smollm2.chat(messages=developer)["choices"][0]["message"]["content"].startswith(content)
    greedy = smollm2.chat(temperature=2, top_k=1)["choices"][0]["message"]["content"]
    assert greedy.startswith(content)
    banned = smollm2.chat(logit_bias={"19556": -100, "28120": -100})["choices"][0]["message"]["content"]
    assert not banned.startswith("Hello")
    harmless = {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "tools": []}
    assert smollm2.chat(**harmless, modalities=["text"], response_format={"type": "text"})


def test_a_grammar_or_a_schema_holds(smollm2: Running) -> None:
    assert smollm2.chat(grammar='root ::= "yes"')["choices"][0]["message"]["content"] == "yes"
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    choice = smollm2.chat(response_format=wanted, max_tokens=60)["choices"][0]
    assert json.loads(choice["message"]["content"])["colour"] in ("red", "green")
    loose = smollm2.chat(response_format={"type": "json_object"}, max_tokens=20)["choices"][0]
    assert loose["message"]["content"].startswith("{")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": [WEATHER]}, "tools", "unsupported_parameter"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_parameter"),
        ({"top_k": "many"}, "top_k", "invalid_request"),
        ({"grammar": 'root ::= "yes'}, None, "invalid_request"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "odd"}}}},
            None,
            "invalid_request",
        ),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, "messages", "context_length_exceeded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_can_t_do_is_refused(
    smollm2: Running, fields: dict[str, Any], param: str | None, code: str, stream: bool
) -> None:
    status, content = smollm2.post("/v1/chat/completions", chat_body(stream=stream, **fields))
    assert status == 400
    assert (content["error"]["param"], content["error"]["code"]) == (param, code)
    assert content["error"]["type"] == "invalid_request_error"
    if code == "context_length_exceeded":
        assert "5031 tokens and this model's context holds 4096" in content["error"]["message"]


@pytest.mark.parametrize(
    ("messages", "read"),
    [
        ([{"role": "user", "content": "Tell me a very long story."}], True),
        ([{"role": "user", "content": "once upon a time " * 900}], False),
    ],
    ids=["while it writes", "while it reads the prompt"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_work(
    smollm2: Running, messages: list[dict[str, str]], read: bool, stream: bool
) -> None:
    body = chat_body(
        messages=messages, max_tokens=3000, stream=stream, ignore_eos=True, logit_bias={"2": -100}
    )
    connection = smollm2.send("/v1/chat/completions", body)
    if read and stream:
        assert connection.getresponse().read(1)
    smollm2.until(lambda: smollm2.health()["running"] == 1)
    connection.close()
    smollm2.until(lambda: smollm2.health()["running"] == 0, seconds=8)
    assert smollm2.chat(max_tokens=1)["usage"]["completion_tokens"] == 1


def test_more_than_the_queue_holds_is_turned_away(smollm2: Running) -> None:
    body = chat_body(max_tokens=3000, ignore_eos=True)
    held = [smollm2.send("/v1/chat/completions", body) for _ in range(3)]
    smollm2.until(lambda: {"running": 2, "waiting": 1}.items() <= smollm2.health().items())
    connection = smollm2.send("/v1/chat/completions", body)
    response = connection.getresponse()
    content = json.loads(response.read())
    assert (response.status, content["error"]["code"]) == (503, "overloaded")
    assert response.getheader("retry-after") == "1"
    for each in (*held, connection):
        each.close()
    smollm2.until(lambda: smollm2.health()["running"] == 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "name"),
    [("required", None), ({"type": "function", "function": {"name": "get_weather"}}, "get_weather")],
)
def test_a_forced_tool_call_is_one(tool_model: Running, choice: Any, name: str | None, stream: bool) -> None:
    asked = {"tools": [TIME, WEATHER], "tool_choice": choice, "max_tokens": 60}
    if stream:
        chunks = [chunk["choices"][0] for chunk in tool_model.stream(**asked)[:-1]]
        assert chunks[-1]["finish_reason"] == "tool_calls"
        (call,) = chunks[-2]["delta"]["tool_calls"]
        assert call["index"] == 0
        assert all(not chunk["delta"].get("content") for chunk in chunks)
    else:
        answered = tool_model.chat(**asked)["choices"][0]
        assert answered["finish_reason"] == "tool_calls"
        assert answered["message"]["content"] is None
        (call,) = answered["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["id"].startswith("call_")
    assert call["function"]["name"] in ((name,) if name else ("get_weather", "get_time"))
    arguments = json.loads(call["function"]["arguments"])
    if call["function"]["name"] == "get_weather":
        assert arguments["city"] in ("Paris", "Rome")


def test_free_text_beside_tools_still_streams(tool_model: Running) -> None:
    *chunks, _ = tool_model.stream(tools=[WEATHER], tool_choice="auto")
    assert sum(1 for chunk in chunks if chunk["choices"][0]["delta"].get("content")) > 3
    none = tool_model.chat(tools=[WEATHER], tool_choice="none")
    assert none["usage"]["prompt_tokens"] < tool_model.chat(tools=[WEATHER])["usage"]["prompt_tokens"]


@pytest.mark.long
def test_a_model_made_for_tools_calls_them_by_itself() -> None:
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    weather = {"type": "function", "function": {**WEATHER["function"], "parameters": city}}
    messages = [
        {"role": "system", "content": "You are helpful. Use tools."},
        {"role": "user", "content": "What is the weather in Paris?"},
    ]
    with engine("gguf", "qwen2.5-coder-0.5b", n_ctx=2048) as running:
        choice = running.chat(messages=messages, tools=[weather, TIME], max_tokens=60)["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        called = {"role": "assistant", "content": None, "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
        after = running.chat(messages=[*messages, called, result], max_tokens=30)
    assert choice["finish_reason"] == "tool_calls"
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    assert after["choices"][0]["message"]["content"]


def test_kill_9_of_a_real_engine_is_survived(tool_model: Running) -> None:
    supervisor = tool_model.supervisor
    pid = tool_model.health()["pid"]
    connection = tool_model.send("/v1/chat/completions", chat_body(stream=True, max_tokens=900))
    assert connection.getresponse().read(1)
    os.kill(pid, signal.SIGKILL)
    tool_model.until(lambda: supervisor.status.state == "restarting")
    with pytest.raises(Unavailable) as caught:
        tool_model.ready()
    assert caught.value.retry_after is not None
    connection.close()
    tool_model.until(lambda: supervisor.status.state == "ready")
    assert tool_model.health()["pid"] != pid
    assert tool_model.chat()["usage"]["completion_tokens"] == 6


def test_a_broken_model_file_is_one_clear_failure(tmp_path: Path) -> None:
    whole = catalog.pull("smollm2").path
    cut = tmp_path / "cut.gguf"
    with whole.open("rb") as source:
        cut.write_bytes(source.read(4_000_000))
    text = tmp_path / "text.gguf"
    text.write_text("not a model")
    for path, message in ((cut, "llama.cpp can't load .*damaged"), (text, "is not a GGUF model file")):
        with pytest.raises(Unavailable, match=message):
            Running(EngineSpec.for_engine("broken", "gguf", {"model": str(path)}))


def vectors(content: Any) -> list[list[float]]:
    return [item["embedding"] for item in content["data"]]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_embeddings_mean_something_and_are_counted(minilm: Running) -> None:
    texts = ["A cat sits on the mat.", "A feline rests on a rug.", "Stock prices fell sharply today."]
    status, content = minilm.post("/v1/embeddings", {"model": "m", "input": texts, "user": "u"})
    assert status == 200
    assert (content["object"], content["model"]) == ("list", "m")
    assert [item["index"] for item in content["data"]] == [0, 1, 2]
    cat, feline, stocks = vectors(content)
    assert len(cat) == 384
    assert abs(dot(cat, cat) - 1) < 1e-5
    assert dot(cat, feline) > 0.5 > 0.2 > dot(cat, stocks)
    assert content["usage"] == {"prompt_tokens": 27, "total_tokens": 27}
    _, alone = minilm.post("/v1/embeddings", {"model": "m", "input": texts[0]})
    assert vectors(alone)[0] == cat


def test_embeddings_take_tokens_base64_and_dimensions(minilm: Running) -> None:
    def ask(**fields: Any) -> Any:
        status, content = minilm.post("/v1/embeddings", {"model": "m", **fields})
        assert status == 200, content
        return content

    (plain,) = vectors(ask(input="hello"))
    tokens = [101, 7592, 102]
    assert vectors(ask(input=tokens)) == [plain]
    assert vectors(ask(input=[tokens, tokens])) == [plain, plain]
    packed = base64.b64decode(ask(input="hello", encoding_format="base64")["data"][0]["embedding"])
    assert len(packed) == 384 * 4
    (short,) = vectors(ask(input="hello", dimensions=8))
    assert len(short) == 8
    assert abs(dot(short, short) - 1) < 1e-5
    assert abs(dot(short, plain[:8]) - dot(plain[:8], plain[:8]) ** 0.5) < 1e-5


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": "word " * 600}, "input.0", "context_length_exceeded"),
        ({"input": ["ok", "x" * 200_000]}, "input.1", "context_length_exceeded"),
        ({"input": "x", "dimensions": 385}, "dimensions", "invalid_request"),
        ({"input": [1, 99_999_999]}, "input.0", "invalid_request"),
        ({"input": []}, "input", "invalid_request"),
        ({"input": "x", "task": "query"}, "task", "unsupported_parameter"),
    ],
)
def test_embeddings_that_can_t_be_are_refused(
    minilm: Running, fields: dict[str, Any], param: str, code: str
) -> None:
    status, content = minilm.post("/v1/embeddings", {"model": "m", **fields})
    assert status == 400
    assert (content["error"]["param"], content["error"]["code"]) == (param, code)


def test_bad_bodies_and_routes_are_answered(minilm: Running) -> None:
    assert minilm.post("/v1/embeddings", b"{")[0] == 400
    assert minilm.post("/v1/embeddings", b"[1]")[1]["error"]["code"] == "invalid_json"
    assert minilm.post("/v1/embeddings", b"\xff")[0] == 400
    assert minilm.post("/v1/embeddings", b"[" * 100_000)[0] == 400
    assert minilm.post("/elsewhere", {})[0] == 404
    with contextlib.closing(UnixConnection(minilm.supervisor.socket_path)) as connection:
        connection.request("GET", "/v1/embeddings")
        assert connection.getresponse().status == 405
