"""In what upstreams differ, row by row: what is sent, what under another name, what is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.messages import (
    CacheHint,
    ChatRequest,
    Media,
    Message,
    Reasoning,
    ReasoningOptions,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from headgate.dialects.openai_chat import decode_request, encode_request
from headgate.dialects.openai_chat.profile import (
    AZURE_OPENAI,
    COHERE,
    COMPATIBLE,
    DEEPSEEK,
    GOOGLE,
    GROQ,
    MISTRAL,
    OPENAI,
    OPENROUTER,
    XAI,
    Profile,
)

ALL = {
    "openai": OPENAI,
    "azure-openai": AZURE_OPENAI,
    "compatible": COMPATIBLE,
    "mistral": MISTRAL,
    "groq": GROQ,
    "deepseek": DEEPSEEK,
    "xai": XAI,
    "openrouter": OPENROUTER,
    "google": GOOGLE,
    "cohere": COHERE,
}

BOTH = ["budget_tokens", "summary"]


def send(profile: Profile, model: str = "m", **fields: Any) -> tuple[dict[str, Any], list[str]]:
    fields = {"messages": (Message("user", (Text("x"),)),)} | fields
    body, losses = encode_request(ChatRequest(model=model, **fields), profile=profile)
    return json.loads(body), [loss.path for loss in losses]


@pytest.mark.parametrize(
    ("profile", "model", "field"),
    [
        ("openai", "gpt-4o", "max_completion_tokens"),
        ("openai", "o3", "max_completion_tokens"),
        ("azure-openai", "my-deployment", "max_tokens"),
        ("azure-openai", "gpt-5-mini", "max_completion_tokens"),
        ("compatible", "llama-3.3-70b", "max_tokens"),
        ("compatible", "gpt-4o", "max_tokens"),
        ("compatible", "o4-mini", "max_completion_tokens"),
        ("compatible", "openai/GPT-5.1", "max_completion_tokens"),
        ("compatible", "gpt-5-chat-latest", "max_completion_tokens"),
        ("compatible", "gpt-oss-120b", "max_tokens"),
        ("compatible", "olmo-2", "max_tokens"),
        ("mistral", "mistral-large-latest", "max_tokens"),
        ("groq", "llama-3.3-70b-versatile", "max_completion_tokens"),
        ("deepseek", "deepseek-chat", "max_tokens"),
        ("xai", "grok-4", "max_completion_tokens"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "max_tokens"),
        ("google", "gemini-2.5-pro", "max_tokens"),
        ("cohere", "command-a-03-2025", "max_tokens"),
    ],
)
def test_the_limit_of_tokens_has_two_names(profile: str, model: str, field: str) -> None:
    wire, losses = send(ALL[profile], model, sampling=Sampling(max_tokens=5))
    assert {key: wire[key] for key in wire if key.startswith("max_")} == {field: 5}
    assert losses == []


WARM = Sampling(temperature=0.2, top_p=0.5, presence_penalty=1, logprobs=True, top_logprobs=2)


@pytest.mark.parametrize("model", ["o1", "o3-mini", "gpt-5", "gpt-5.1-2025-11-13", "azure/o4-mini"])
@pytest.mark.parametrize("profile", [OPENAI, AZURE_OPENAI, COMPATIBLE])
def test_openais_reasoning_models_take_no_sampling(profile: Profile, model: str) -> None:
    wire, losses = send(profile, model, sampling=WARM)
    assert wire.keys() == {"model", "messages"}
    assert sorted(losses) == ["logprobs", "presence_penalty", "temperature", "top_logprobs", "top_p"]


def test_what_the_model_does_anyway_is_no_loss() -> None:
    same = Sampling(temperature=1, top_p=1.0, presence_penalty=0, frequency_penalty=0, logprobs=False)
    wire, losses = send(OPENAI, "o3", sampling=same)
    assert wire.keys() == {"model", "messages"}
    assert losses == []


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1", "gpt-35-turbo", "gpt-5-chat-latest", "omni-moderation"]
)
def test_other_models_take_it(model: str) -> None:
    wire, losses = send(OPENAI, model, sampling=WARM)
    assert (wire["temperature"], wire["top_logprobs"], losses) == (0.2, 2, [])


def test_newer_ones_take_it_where_they_do_not_reason() -> None:
    for effort, lost in (("none", 0), ("low", 5)):
        options = ReasoningOptions(effort=effort)
        assert len(send(OPENAI, "gpt-5.2", sampling=WARM, reasoning=options)[1]) == lost
        losses = send(OPENAI, "gpt-5", sampling=WARM, reasoning=options)[1]
        assert len([path for path in losses if path != "reasoning.effort"]) == 5


@pytest.mark.parametrize(
    ("profile", "model", "options", "sent", "lost"),
    [
        (OPENAI, "o3", {"enabled": True, "budget_tokens": 1024}, "low", ["budget_tokens"]),
        (AZURE_OPENAI, "gpt-5-mini", {"budget_tokens": 16384}, "medium", ["budget_tokens"]),
        (COMPATIBLE, "openai/gpt-oss-120b", {"budget_tokens": 16385}, "high", ["budget_tokens"]),
        (GROQ, "openai/gpt-oss-120b", {"budget_tokens": 9000, "summary": "auto"}, "medium", BOTH),
        (OPENROUTER, "any/model", {"enabled": True}, "medium", []),
        (GOOGLE, "gemini-2.5-flash", {"budget_tokens": -1}, "medium", ["budget_tokens"]),
        (OPENAI, "gpt-5.1", {"enabled": False}, "none", []),
        (OPENAI, "gpt-5.1", {"effort": "low", "enabled": True}, "low", []),
        (OPENAI, "gpt-5.1", {"effort": "low", "enabled": False}, "low", ["enabled"]),
        (OPENAI, "o3", {"enabled": False}, None, ["enabled"]),
        (OPENAI, "o1-mini", {"budget_tokens": 1024}, None, ["budget_tokens"]),
        (OPENAI, "gpt-4.1", {"enabled": True, "budget_tokens": 1024}, None, ["budget_tokens", "enabled"]),
        (OPENAI, "gpt-4.1", {"effort": "low"}, None, ["effort"]),
        (OPENAI, "gpt-4.1", {"effort": "none"}, None, []),
        (OPENAI, "gpt-4.1", {"enabled": False}, None, []),
        (OPENAI, "gpt-4.1", {"budget_tokens": 0}, None, []),
        (OPENAI, "gpt-5-chat-latest", {"effort": "low"}, None, ["effort"]),
        (OPENAI, "o1-mini", {"effort": "low"}, None, ["effort"]),
        (AZURE_OPENAI, "my-deployment", {"effort": "max"}, "max", []),
        (OPENAI, "o3", {"effort": "max"}, "high", ["effort"]),
        (OPENAI, "o3", {"effort": "none"}, "low", ["effort"]),
        (OPENAI, "gpt-5-mini", {"effort": "minimal"}, "minimal", []),
        (OPENAI, "gpt-5", {"effort": "xhigh"}, "high", ["effort"]),
        (OPENAI, "gpt-5.1", {"effort": "minimal"}, "low", ["effort"]),
        (OPENAI, "gpt-5.2", {"effort": "xhigh"}, "xhigh", []),
        (OPENAI, "gpt-5.4-mini", {"effort": "max"}, "xhigh", ["effort"]),
        (OPENAI, "gpt-5.6-terra", {"effort": "max"}, "max", []),
        (OPENAI, "gpt-5.3-codex", {"effort": "xhigh"}, "xhigh", []),
        (OPENAI, "gpt-6-luna", {"effort": "none"}, "none", []),
        (OPENAI, "gpt-6.1-sol", {"effort": "none"}, "low", ["effort"]),
        (OPENAI, "gpt-5", {"effort": "ultra"}, None, ["effort"]),
        (OPENAI, "gpt-5.1", {"effort": "none", "enabled": True}, "none", ["enabled"]),
        (AZURE_OPENAI, "my-deployment", {"budget_tokens": 1024}, None, ["budget_tokens"]),
        (MISTRAL, "mistral-large", {"budget_tokens": 1024}, None, ["budget_tokens"]),
    ],
)
def test_budgets_become_efforts_where_the_model_takes_them(
    profile: Profile, model: str, options: dict[str, Any], sent: str | None, lost: list[str]
) -> None:
    wire, losses = send(profile, model, reasoning=ReasoningOptions(**options))
    assert wire.get("reasoning_effort") == sent
    assert losses == [f"reasoning.{key}" for key in lost]


@pytest.mark.parametrize(
    ("model", "options", "sent", "lost"),
    [
        ("gpt-5.1", {"budget_tokens": 50_000}, "high", ["budget_tokens"]),
        ("gpt-5.1", {"effort": "low"}, "low", []),
        # refuse an effort, and take its absence
        ("gpt-5.4", {"budget_tokens": 50_000}, None, ["budget_tokens"]),
        ("gpt-5.4", {"effort": "low"}, None, ["effort"]),
        ("gpt-5.4", {"effort": "none"}, "none", []),
        ("gpt-5.4", {}, None, []),
        ("gpt-6-astra", {"effort": "low"}, None, ["effort"]),
        # want to hear that they are not to reason
        ("gpt-5.6-sol", {}, "none", []),
        ("gpt-5.6", {"effort": "none"}, "none", []),
        ("gpt-5.6", {"effort": "high", "enabled": True}, "none", ["effort", "enabled"]),
        ("gpt-5.6", {"budget_tokens": 50_000}, "none", ["budget_tokens"]),
        ("gpt-6-luna", {}, "none", []),
    ],
)
def test_later_ones_reason_beside_tools_only_by_responses(
    model: str, options: dict[str, Any], sent: str | None, lost: list[str]
) -> None:
    reasoning = ReasoningOptions(**options) if options else None
    wire, losses = send(OPENAI, model, reasoning=reasoning, tools=(Tool("f"),))
    assert (wire.get("reasoning_effort"), losses) == (sent, [f"reasoning.{key}" for key in lost])
    assert "reasoning_effort" not in send(OPENAI, model)[0]


def test_a_model_that_is_told_not_to_reason_takes_sampling() -> None:
    warm = Sampling(temperature=0.2)
    wire, losses = send(OPENAI, "gpt-5.6", sampling=warm, tools=(Tool("f"),))
    assert (wire["temperature"], losses) == (0.2, [])
    assert send(OPENAI, "gpt-5.6", sampling=warm)[1] == ["temperature"]


def test_an_effort_made_of_a_budget_counts_as_one() -> None:
    wire, losses = send(
        OPENAI,
        "gpt-5.1",
        sampling=Sampling(temperature=0.2),
        reasoning=ReasoningOptions(enabled=True, budget_tokens=2048),
    )
    assert wire.keys() == {"model", "messages", "reasoning_effort"}
    assert losses == ["reasoning.budget_tokens", "temperature"]


def test_the_upstreams_own_name_of_the_model_counts() -> None:
    request = ChatRequest(
        model="public", messages=(Message("user", (Text("x"),)),), sampling=Sampling(temperature=0.2)
    )
    assert b"temperature" not in encode_request(request, model="o3", profile=OPENAI)[0]


@pytest.mark.parametrize(
    ("profile", "role"),
    [(name, "developer" if name in ("openai", "azure-openai", "openrouter") else "system") for name in ALL],
)
def test_the_developers_role(profile: str, role: str) -> None:
    wire, losses = send(ALL[profile], messages=(Message("developer", (Text("x"),)),))
    assert (wire["messages"][0]["role"], losses) == (role, [])


@pytest.mark.parametrize(
    ("profile", "named"), [(name, name not in ("mistral", "groq", "google", "cohere")) for name in ALL]
)
def test_names_on_messages(profile: str, named: bool) -> None:
    wire, losses = send(ALL[profile], messages=(Message("user", (Text("x"),), name="n"),))
    assert ("name" in wire["messages"][0]) is named
    assert losses == ([] if named else ["messages[0].name"])


@pytest.mark.parametrize(
    ("profile", "options"),
    [
        ("openai", {"include_obfuscation": False, "include_usage": True}),
        ("azure-openai", {"include_usage": True}),
        ("compatible", {"include_usage": True}),
        ("groq", {"include_usage": True}),
        ("deepseek", {"include_usage": True}),
        ("mistral", None),
    ],
)
def test_options_of_a_stream(profile: str, options: Any) -> None:
    wire, losses = send(ALL[profile], stream=True, include_usage=True)
    assert (wire.get("stream_options"), losses) == (options, [])
    assert "stream_options" not in send(ALL[profile])[0]


def test_a_callers_own_options_of_a_stream_count() -> None:
    extensions = {"openai_chat": {"stream_options": {"include_obfuscation": True}}}
    wire, losses = send(OPENAI, stream=True, extensions=extensions)
    assert wire["stream_options"] == {"include_obfuscation": True}
    assert losses == ["stream_options.include_obfuscation"]
    wire, losses = send(MISTRAL, stream=True, extensions=extensions)
    assert "stream_options" not in wire
    assert losses == ["stream_options.include_obfuscation"]


@pytest.mark.parametrize(
    ("profile", "model", "fields", "sent", "lost"),
    [
        (MISTRAL, "m", {"sampling": Sampling(seed=7)}, {"random_seed": 7}, []),
        (MISTRAL, "m", {"user": "u"}, {}, ["user"]),
        (MISTRAL, "m", {"sampling": Sampling(logit_bias={"1": 2})}, {}, ["logit_bias"]),
        (MISTRAL, "m", {"extensions": {"openai": {"store": True}}}, {}, ["store"]),
        (MISTRAL, "m", {"extensions": {"openai_chat": {"safe_prompt": True}}}, {"safe_prompt": True}, []),
        (GROQ, "m", {"sampling": Sampling(n=2)}, {}, ["n"]),
        (GROQ, "m", {"sampling": Sampling(n=1)}, {}, []),
        (GROQ, "m", {"sampling": Sampling(logprobs=True)}, {}, ["logprobs"]),
        (GROQ, "m", {"service_tier": "flex"}, {"service_tier": "flex"}, []),
        (DEEPSEEK, "deepseek-reasoner", {"sampling": Sampling(temperature=0)}, {}, ["temperature"]),
        (DEEPSEEK, "deepseek-chat", {"sampling": Sampling(temperature=0)}, {"temperature": 0}, []),
        (XAI, "grok-4-0709", {"sampling": Sampling(stop=("a",))}, {}, ["stop"]),
        (XAI, "grok-4-fast-non-reasoning", {"sampling": Sampling(stop=("a",))}, {"stop": ["a"]}, []),
        (XAI, "grok-3", {"sampling": Sampling(presence_penalty=1)}, {"presence_penalty": 1}, []),
        (COHERE, "m", {"metadata": {"a": "b"}}, {}, ["metadata"]),
        (COHERE, "m", {"parallel_tool_calls": True}, {}, []),
        (COMPATIBLE, "m", {"sampling": Sampling(top_k=5)}, {"top_k": 5}, []),
        (OPENAI, "m", {"sampling": Sampling(top_k=5)}, {}, ["top_k"]),
    ],
)
def test_fields_that_vendors_refuse_or_rename(
    profile: Profile, model: str, fields: dict[str, Any], sent: dict[str, Any], lost: list[str]
) -> None:
    wire, losses = send(profile, model, **fields)
    assert {key: wire[key] for key in wire.keys() - {"model", "messages"}} == sent
    assert losses == lost


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        ("openai", None),
        ("azure-openai", None),
        ("compatible", "reasoning_content"),
        ("mistral", None),
        ("groq", "reasoning"),
        ("deepseek", "reasoning_content"),
        ("xai", "reasoning_content"),
        ("openrouter", "reasoning"),
        ("google", None),
        ("cohere", None),
    ],
)
def test_earlier_thoughts(profile: str, field: str | None) -> None:
    wire, losses = send(ALL[profile], messages=(Message("assistant", (Reasoning("Hm."), Text("x"))),))
    found = [key for key in ("reasoning", "reasoning_content") if key in wire["messages"][0]]
    assert found == ([] if field is None else [field])
    assert losses == ([] if field else ["messages[0].content[0]"])


HINT, HOUR = CacheHint(), CacheHint("1h")
CACHED = (
    Message("system", (Text("s", cache=HOUR),)),
    Message("user", (Text("a"), Media("image", "image/png", "AA", cache=HINT))),
    Message("assistant", (Text("x"), ToolCall("c", "f", "{}", cache=HINT))),
    Message("tool", (ToolResult("c", (Text("r"), Text("s")), cache=HINT),)),
)


def test_cache_hints_go_where_they_are_known() -> None:
    wire, losses = send(OPENROUTER, messages=CACHED, tools=(Tool("f", cache=HINT),))
    system, user, assistant, tool = wire["messages"]
    mark = {"type": "ephemeral"}
    assert system["content"] == [{"type": "text", "text": "s", "cache_control": {**mark, "ttl": "1h"}}]
    assert [part.get("cache_control") for part in user["content"]] == [None, mark]
    assert assistant["tool_calls"][0]["cache_control"] == mark
    assert [part.get("cache_control") for part in tool["content"]] == [None, mark]
    assert wire["tools"][0]["cache_control"] == mark
    assert losses == []


def test_elsewhere_they_are_reported_lost() -> None:
    wire, losses = send(COMPATIBLE, messages=CACHED, tools=(Tool("f", cache=HINT),))
    assert "cache_control" not in json.dumps(wire)
    assert wire["messages"][0]["content"] == "s"
    assert losses == [
        "messages[0].content[0].cache_control",
        "messages[1].content[1].cache_control",
        "messages[2].content[1].cache_control",
        "messages[3].content[0].cache_control",
        "tools[0].cache_control",
    ]
    called = Message("assistant", (ToolCall("c", "f", "{}"),))
    empty = (called, Message("tool", (ToolResult("c", (), cache=HINT),)))
    assert send(OPENROUTER, messages=empty)[1] == ["messages[1].content[0].cache_control"]


def test_cache_hints_of_callers() -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s", **mark},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", **mark}, {"type": "text", "text": "b"}],
            },
            {
                "role": "assistant",
                "content": "x",
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}, **mark}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "r", **mark},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f"}, **mark},
            {"type": "function", "function": {"name": "g", **mark}},
        ],
        "prompt_cache_key": "k",
    }
    request = decode_request(json.dumps(body).encode())
    assert request.messages[0].parts == (Text("s", cache=HOUR),)
    assert request.messages[1].parts == (Text("a", cache=HOUR), Text("b"))
    assert request.messages[2].parts[1] == ToolCall("c", "f", "", cache=HOUR)
    assert request.messages[3].parts == (ToolResult("c", (Text("r", cache=HOUR),)),)
    assert [tool.cache for tool in request.tools] == [HOUR, HOUR]
    assert request.extensions == {"openai": {"prompt_cache_key": "k"}}


@pytest.mark.parametrize(
    "value", [{"type": "x"}, {"type": "ephemeral", "ttl": 5}, {"type": "ephemeral", "x": 1}, "a", None, {}]
)
def test_other_things_of_that_name_are_unknown_fields(value: Any) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "s", "cache_control": value}]}
    request = decode_request(json.dumps(body).encode())
    assert request.messages[0].extensions == {"openai_chat": {"cache_control": value}}
    assert json.loads(encode_request(request)[0]) == body


def test_models_of_other_vendors_are_no_family_of_openais() -> None:
    for model in ("openthinker", "o", "oscar", "text-o1"):
        assert COMPATIBLE.for_model(model) is COMPATIBLE
    assert COMPATIBLE.for_model("gpt-oss-20b").refuses == {}
