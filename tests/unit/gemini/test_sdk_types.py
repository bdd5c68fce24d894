"""What we write is what Google's own SDK types take: they forbid fields that they do not know."""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any

import pytest

from headgate.core.fold import fold, unfold
from headgate.core.messages import (
    CacheHint,
    ChatRequest,
    Media,
    Message,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.gemini import (
    GEMINI_EMBED_BATCH,
    ModelEntry,
    decode_request,
    decode_result,
    encode_models,
    encode_request,
    encode_result,
)
from tests.unit.gemini.chunks import as_sse, decode, elements, encode
from tests.unit.gemini.test_answers import CHUNKS, SSE
from tests.unit.gemini.test_encoding import FULL
from tests.unit.gemini.test_services import item
from tests.unit.gemini.test_stream_encoder import result_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the SDK's own dependencies
    from google.genai import types

_FIELDS: dict[str, Any] = {
    "systemInstruction": types.Content,
    "generationConfig": types.GenerationConfig,
    "toolConfig": types.ToolConfig,
    "contents": types.Content,
    "tools": types.Tool,
    "safetySettings": types.SafetySetting,
}

SCHEMA: Any = {"type": "object", "properties": {"a": {"type": ["string", "null"], "enum": ["x"]}}}
RICH = ChatRequest(
    model="gemini-3-pro",
    messages=(
        Message("system", (Text("Be brief", cache=CacheHint()),)),
        Message(
            "user", (Text("Look"), Media("image", "image/png", "AAAA"), Media("file", url="https://x/y.pdf"))
        ),
        Message("assistant", (Reasoning("Hm", "sig", origin="anthropic"), ToolCall("c", "f", '{"a":"x"}'))),
        Message("tool", (ToolResult("c", (Text("r"), Media("image", "image/png", "AAAA")), is_error=True),)),
        Message("developer", (Text("Now in German"),)),
    ),
    tools=(Tool("f", "d", SCHEMA), Tool("g", None, {"type": "object", "additionalProperties": False})),
    tool_choice=ToolChoice("tool", "f"),
    response_format=ResponseFormat("json_schema", "n", schema=SCHEMA),
    sampling=Sampling(max_tokens=9, temperature=1, top_k=3, stop=("a",), n=2, logprobs=True, top_logprobs=2),
    reasoning=ReasoningOptions(effort="high", summary="auto"),
    service_tier="default",
)


@pytest.mark.parametrize(
    "request_", [RICH, decode_request(json.dumps(FULL).encode(), model="gemini-2.5-pro")]
)
def test_requests(request_: ChatRequest) -> None:
    wire = json.loads(encode_request(request_)[0])
    for key, kind in _FIELDS.items():
        value = wire.get(key)
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                kind.model_validate(without(each, "novel"))
    assert wire["serviceTier"] in {tier.value for tier in types.ServiceTier}


def without(value: Any, key: str) -> Any:
    return {name: inner for name, inner in value.items() if name != key}


def test_answers_of_both_kinds() -> None:
    result = fold(decode(SSE))
    body = json.loads(encode_result(result, AnswerOptions())[0])
    answer = types.GenerateContentResponse.model_validate(without(body, "modelStatus"))
    assert answer.candidates and answer.usage_metadata
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert answer.usage_metadata.total_token_count == 5 + 9 + 2 + 7
    text, calls = "", []
    for element in elements(encode(unfold(result))):
        chunk = types.GenerateContentResponse.model_validate(without(element, "modelStatus"))
        assert chunk.response_id == "r1"
        assert chunk.candidates
        first = chunk.candidates[0]
        for part in (first.content and first.content.parts) or ():
            if part.function_call:
                calls.append(part.function_call)
            elif not part.thought and not first.index:
                text += part.text or ""
    assert text == "".join(part.text for part in result.choices[0].parts if isinstance(part, Text))
    assert [(call.name, call.args) for call in calls] == [("f", {"x": "}"}), ("g", {})]


def test_a_signature_survives_the_sdk() -> None:
    """It decodes the base64 and writes it anew, in the other alphabet."""
    raw = b"\xfb\xff\xfe sealed"
    sealed = Reasoning("Let me", "a+/b", origin="anthropic")
    own = Reasoning(signature=base64.b64encode(raw).decode(), origin="gemini")
    body, _ = encode_result(result_of(sealed, own, ToolCall("c", "f", "{}")), AnswerOptions())
    parsed = types.GenerateContentResponse.model_validate_json(body)
    assert parsed.candidates and parsed.candidates[0].content
    content = json.loads(parsed.candidates[0].content.model_dump_json(by_alias=True, exclude_none=True))
    request = decode_request(json.dumps({"contents": [content]}).encode(), model="m")
    first, signature, call = request.messages[0].parts
    assert (first, call) == (sealed, ToolCall("c", "f", "{}"))
    assert isinstance(signature, Reasoning) and signature.signature is not None
    assert base64.urlsafe_b64decode(signature.signature) == raw


def test_what_the_sdk_writes_is_read() -> None:
    config = types.GenerateContentConfig(
        temperature=0.5, top_k=40, thinking_config=types.ThinkingConfig(thinking_budget=5)
    )
    content = types.Content(
        role="user",
        parts=[
            types.Part.from_text(text="Hi"),
            types.Part.from_bytes(data=b"\xff\xd8\xff\xfb", mime_type="image/png"),
        ],
    )
    for by_alias in (True, False):
        dumped = [
            json.loads(each.model_dump_json(by_alias=by_alias, exclude_none=True))
            for each in (content, config)
        ]
        body = json.dumps({"contents": [dumped[0]], "generation_config": dumped[1]}).encode()
        request = decode_request(body, model="m")
        assert request.messages == (Message("user", (Text("Hi"), Media("image", "image/png", "/9j/+w=="))),)
        assert request.sampling == Sampling(temperature=0.5, top_k=40)
        assert request.reasoning == ReasoningOptions(budget_tokens=5)


def test_embeddings_and_models() -> None:
    body = json.dumps({"requests": [item("a")]}).encode()
    assert GEMINI_EMBED_BATCH.decode_request(body, model="m").inputs == ("a",)
    types.Model.model_validate(
        {
            key: value
            for key, value in json.loads(encode_models([ModelEntry("m", ())]))["models"][0].items()
            if key != "supportedGenerationMethods"  # which the SDK calls otherwise
        }
    )


def test_the_vendors_answer_is_one_that_we_read() -> None:
    parsed = types.GenerateContentResponse.model_validate(without(CHUNKS[0], "x"))
    dumped = json.loads(parsed.model_dump_json(by_alias=True, exclude_none=True))
    assert fold(decode(as_sse(dumped, CHUNKS[-1]))).choices[0].parts
    assert decode_result(json.dumps(dumped).encode()).model == "gemini-2.5-flash"
