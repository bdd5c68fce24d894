"""`generateContent`, as the google-genai SDK types it."""

from __future__ import annotations

from typing import Any

from google.genai import types

from tests.support.fields.row import PDF, PNG, SCHEMA, WAV, Body, Caller, Row, camel, keys

HI = {"text": "hi"}
USER = {"role": "user", "parts": [HI]}
BASE: Body = {"contents": [USER]}
DECLARATION: Body = {"name": "f", "parametersJsonSchema": SCHEMA}
TOOLS = [{"functionDeclarations": [DECLARATION]}]
CALL = {"functionCall": {"id": "c1", "name": "f", "args": {"a": "b"}}}
RESULT: Body = {"id": "c1", "name": "f", "response": {"output": "done"}}
JSON: Body = {"responseMimeType": "application/json"}
VIDEO = {"fileData": {"fileUri": "https://example.com/a.mp4", "mimeType": "video/mp4"}}


def setting(name: str, value: Any, implied: str | None = None, **beside: Any) -> Row:
    return Row("request", name, {**BASE, **beside, name: value}, {**BASE, **beside}, implied)


def config(name: str, value: Any, implied: str | None = None, **beside: Any) -> Row:
    bare = {**BASE, "generationConfig": beside} if beside else BASE
    return Row("config", name, {**BASE, "generationConfig": {**beside, name: value}}, bare, implied)


def thinking(name: str, value: Any) -> Row:
    return Row("thinkingConfig", name, {**BASE, "generationConfig": {"thinkingConfig": {name: value}}}, BASE)


def part(name: str, *parts: Any, without: tuple[Any, ...] = ()) -> Row:
    return Row(
        "parts",
        name,
        {"contents": [{"role": "user", "parts": [HI, *parts]}]},
        {"contents": [{"role": "user", "parts": [HI, *without]}]},
    )


def said(*parts: Any, after: tuple[Any, ...] = (HI,)) -> Body:
    turns = [USER, {"role": "model", "parts": [HI, *parts]}, {"role": "user", "parts": [*after]}]
    return {"contents": turns, "tools": TOOLS}


def answered(response: Body) -> Body:
    return said(CALL, after=({"functionResponse": response}, HI))


def calling(name: str, value: Any, **beside: Any) -> Row:
    bare = {"functionCallingConfig": beside} if beside else {}
    return Row(
        "functionCallingConfig",
        name,
        {**BASE, "tools": TOOLS, "toolConfig": {"functionCallingConfig": {**beside, name: value}}},
        {**BASE, "tools": TOOLS, "toolConfig": bare},
    )


def declared(name: str, **fields: Any) -> Row:
    return Row(
        "functionDeclarations",
        name,
        {**BASE, "tools": [{"functionDeclarations": [{"name": "f", **fields}]}]},
        {**BASE, "tools": [{"functionDeclarations": [{"name": "f"}]}]},
    )


VENDOR_TOOLS = camel(keys(types.ToolDict)) - {"functionDeclarations", "mcpServers"}
VENDOR_CONFIG: dict[str, Any] = {
    "audioTimestamp": True,
    "audioTranscriptionConfig": {},
    "enableEnhancedCivicAnswers": True,
    "imageConfig": {"aspectRatio": "1:1"},
    "mediaResolution": "MEDIA_RESOLUTION_LOW",
    "modelSelectionConfig": {},
    "responseModalities": ["TEXT", "IMAGE"],
    "routingConfig": {},
    "speechConfig": {"languageCode": "en-US"},
    "continuationToken": "t",
    "automaticContinuation": {},
    "generationOutputConfig": {},
}

ROWS = (
    Row("request", "contents", {"contents": [USER, USER]}, BASE),
    setting("systemInstruction", {"parts": [{"text": "be brief"}]}),
    setting("cachedContent", "cachedContents/1"),
    setting("labels", {"a": "b"}),
    setting("modelArmorConfig", {"promptTemplateName": "p"}),
    setting("safetySettings", [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]),
    setting("serviceTier", "flex"),
    setting("store", True),
    setting("toolConfig", {"functionCallingConfig": {"mode": "ANY"}}, tools=TOOLS),
    setting("tools", TOOLS),
    config("candidateCount", 2),
    config("frequencyPenalty", 0.5),
    config("logprobs", 2, responseLogprobs=True),
    config("maxOutputTokens", 9),
    config("presencePenalty", 0.5),
    Row(
        "config",
        "responseJsonSchema",
        {**BASE, "generationConfig": JSON | {"responseJsonSchema": {"type": "object", "$defs": {}}}},
        BASE,
    ),
    config("responseLogprobs", True),
    config("responseMimeType", "application/json"),
    Row(
        "config",
        "responseSchema",
        {
            **BASE,
            "generationConfig": JSON
            | {"responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}},
        },
        BASE,
    ),
    config("seed", 7),
    config("stopSequences", ["x"]),
    config("temperature", 0.5),
    config("thinkingConfig", {"thinkingBudget": 2048}),
    config("topK", 40),
    config("topP", 0.5),
    *(config(name, value) for name, value in VENDOR_CONFIG.items()),
    thinking("includeThoughts", True),
    thinking("thinkingBudget", 2048),
    thinking("thinkingLevel", "HIGH"),
    calling("mode", "ANY"),
    calling("allowedFunctionNames", ["f"], mode="ANY"),
    calling("streamFunctionCallArguments", True, mode="ANY"),
    Row(
        "toolConfig",
        "functionCallingConfig",
        {**BASE, "tools": TOOLS, "toolConfig": {"functionCallingConfig": {"mode": "NONE"}}},
        {**BASE, "tools": TOOLS},
    ),
    Row(
        "toolConfig",
        "retrievalConfig",
        {**BASE, "tools": TOOLS, "toolConfig": {"retrievalConfig": {"languageCode": "en"}}},
        {**BASE, "tools": TOOLS},
    ),
    Row(
        "toolConfig",
        "includeServerSideToolInvocations",
        {**BASE, "tools": TOOLS, "toolConfig": {"includeServerSideToolInvocations": True}},
        {**BASE, "tools": TOOLS},
    ),
    Row("tools", "functionDeclarations", {**BASE, "tools": TOOLS}, BASE),
    *(Row("tools", kind, {**BASE, "tools": [{kind: {}}]}, BASE) for kind in sorted(VENDOR_TOOLS)),
    Row("tools", "mcpServers", {**BASE, "tools": [{"mcpServers": [{"name": "m"}]}]}, BASE),
    Row(
        "functionDeclarations",
        "name",
        {**BASE, "tools": TOOLS},
        {**BASE, "tools": [{"functionDeclarations": [DECLARATION | {"name": "g"}]}]},
    ),
    declared("behavior", behavior="BLOCKING"),
    declared("description", description="d"),
    declared("parameters", parameters={"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}),
    declared("parametersJsonSchema", parametersJsonSchema=SCHEMA),
    declared("response", response={"type": "STRING"}),
    declared("responseJsonSchema", responseJsonSchema={"type": "string"}),
    Row("contents", "role user", {"contents": [USER, USER]}, BASE),
    Row(
        "contents",
        "role model",
        {"contents": [USER, {"role": "model", "parts": [HI]}, USER]},
        {"contents": [USER, USER]},
    ),
    part("text", {"text": "more"}),
    part("inlineData", {"inlineData": {"mimeType": "image/png", "data": PNG}}),
    part("inlineData document", {"inlineData": {"mimeType": "application/pdf", "data": PDF}}),
    part("inlineData audio", {"inlineData": {"mimeType": "audio/wav", "data": WAV}}),
    part("inlineData video", {"inlineData": {"mimeType": "video/mp4", "data": WAV}}),
    part(
        "inlineData.displayName",
        {"inlineData": {"mimeType": "application/pdf", "data": PDF, "displayName": "a"}},
        without=({"inlineData": {"mimeType": "application/pdf", "data": PDF}},),
    ),
    part("fileData", {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}}),
    part(
        "fileData document",
        {"fileData": {"fileUri": "https://example.com/a.pdf", "mimeType": "application/pdf"}},
    ),
    part("fileData video", VIDEO),
    part("videoMetadata", VIDEO | {"videoMetadata": {"fps": 1}}, without=(VIDEO,)),
    part("mediaResolution", VIDEO | {"mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}, without=(VIDEO,)),
    part("mediaProcessing", VIDEO | {"mediaProcessing": {}}, without=(VIDEO,)),
    part("partMetadata", HI | {"partMetadata": {"a": "b"}}, without=(HI,)),
    part("audioTranscription", {"audioTranscription": {"text": "a"}}),
    part("speechMetadata", HI | {"speechMetadata": {}}, without=(HI,)),
    Row("parts", "thought", said({"text": "hm", "thought": True}), said()),
    Row("parts", "thoughtSignature", said({"text": "so", "thoughtSignature": "c2ln"}), said({"text": "so"})),
    Row("parts", "functionCall", answered(RESULT), said()),
    Row(
        "parts",
        "functionCall.thoughtSignature",
        said(CALL | {"thoughtSignature": "c2ln"}, after=({"functionResponse": RESULT}, HI)),
        answered(RESULT),
    ),
    Row("parts", "functionResponse", answered(RESULT), answered(RESULT | {"response": {"output": "no"}})),
    Row("parts", "executableCode", said({"executableCode": {"language": "PYTHON", "code": "1"}}), said()),
    Row("parts", "codeExecutionResult", said({"codeExecutionResult": {"outcome": "OUTCOME_OK"}}), said()),
    Row("parts", "toolCall", said({"toolCall": {"id": "t", "toolType": "GOOGLE_SEARCH_WEB"}}), said()),
    Row(
        "parts", "toolResponse", said({"toolResponse": {"id": "t", "toolType": "GOOGLE_SEARCH_WEB"}}), said()
    ),
    *(
        Row("functionResponse", name, answered(RESULT), answered(RESULT | {"response": {"output": "no"}}))
        for name in ("id", "name", "response")
    ),
    Row(
        "functionResponse",
        "response error",
        answered(RESULT | {"response": {"error": "no"}}),
        answered(RESULT | {"response": {"output": "no"}}),
    ),
    Row(
        "functionResponse",
        "parts",
        answered(RESULT | {"parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}]}),
        answered(RESULT),
    ),
    Row("functionResponse", "scheduling", answered(RESULT | {"scheduling": "SILENT"}), answered(RESULT)),
    Row("functionResponse", "willContinue", answered(RESULT | {"willContinue": False}), answered(RESULT)),
)

_OUTSIDE = frozenset(
    {
        *("systemInstruction", "cachedContent", "labels", "modelArmorConfig", "safetySettings"),
        *("serviceTier", "store", "toolConfig", "tools"),
    }
)
"""What the SDK's configuration holds, and the wire has beside `generationConfig`."""

CALLER = Caller(
    "gemini",
    ROWS,
    model="gemini-2.5-pro",
    sdk={
        "request": frozenset(_OUTSIDE),
        "config": camel(keys(types.GenerateContentConfigDict)) - _OUTSIDE,
        "thinkingConfig": camel(keys(types.ThinkingConfigDict)),
        "toolConfig": camel(keys(types.ToolConfigDict)),
        "functionCallingConfig": camel(keys(types.FunctionCallingConfigDict)),
        "tools": camel(keys(types.ToolDict)),
        "functionDeclarations": camel(keys(types.FunctionDeclarationDict)),
        "parts": camel(keys(types.PartDict)),
        "functionResponse": camel(keys(types.FunctionResponseDict)),
    },
    unasked=frozenset({"automaticFunctionCalling", "httpOptions", "shouldReturnHttpResponse"}),
)
