"""`generateContent`, as the google-genai SDK types its answers."""

from __future__ import annotations

import json
from typing import Any

from google.genai import types

from tests.support.answers.row import HERS, Body, Sample, Vendor, fields_of, pieces
from tests.support.fields.row import PNG, WAV, camel

TEXT: Body = {"text": "Hello"}
CANDIDATE: Body = {"content": {"parts": [TEXT], "role": "model"}, "finishReason": "STOP", "index": 0}
USAGE: Body = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
BASE: Body = {
    "candidates": [CANDIDATE],
    "usageMetadata": USAGE,
    "modelVersion": "gemini-2.5-pro",
    "responseId": "r1",
}
THOUGHT: Body = {"text": "pondering", "thought": True}
CALL: Body = {"functionCall": {"id": "fc1", "name": "f", "args": {"a": "b"}}}
SECOND: Body = {"functionCall": {"id": "fc2", "name": "f", "args": {"a": "c"}}}
CODE: Body = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
RAN: Body = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}
SEARCHED: Body = {
    "groundingChunks": [{"web": {"uri": "https://example.com/a", "title": "A"}}],
    "groundingSupports": [
        {"segment": {"startIndex": 1, "endIndex": 3, "text": "el"}, "groundingChunkIndices": [0]}
    ],
}
RETRIEVED: Body = {
    "groundingChunks": [{"retrievedContext": {"title": "Rivers", "text": "a river"}}],
    "groundingSupports": [{"segment": {"startIndex": 1, "endIndex": 3}, "groundingChunkIndices": [0]}],
}
RECITED: Body = {"citations": [{"startIndex": 1, "endIndex": 3, "uri": "https://example.com/a"}]}
TOKEN: Body = {"token": "Hello", "logProbability": -0.5}
RATING: Body = {"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}
MODALITY: Body = {"modality": "IMAGE", "tokenCount": 4}


def top(**fields: Any) -> Body:
    return {**BASE, **fields}


def candidate(**fields: Any) -> Body:
    return top(candidates=[{**CANDIDATE, **fields}])


def content(*parts: Body) -> Body:
    return candidate(content={"parts": list(parts), "role": "model"})


def counted(**fields: Any) -> Body:
    return top(usageMetadata={**USAGE, **fields})


def likely(*others: Body) -> Body:
    return candidate(
        logprobsResult={"chosenCandidates": [TOKEN], "topCandidates": [{"candidates": list(others)}]}
    )


def grounded(**fields: Any) -> Sample:
    return Sample(candidate(groundingMetadata={**SEARCHED, **fields}), candidate(groundingMetadata=SEARCHED))


def part(name: str, value: Any) -> Sample:
    return Sample(content({**TEXT, name: value}), BASE)


COMMON = {
    "text": Sample(content({"text": "Hello there"}), BASE),
    "reasoning": Sample(content(THOUGHT, TEXT), BASE),
    "signed reasoning": Sample(
        content(THOUGHT | {"thoughtSignature": "c2ln"}, TEXT), content(THOUGHT, TEXT), within="].parts["
    ),
    "tool call": Sample(content(TEXT, CALL), BASE),
    "parallel tool calls": Sample(content(CALL, SECOND), content(CALL)),
    "signed tool call": Sample(content(CALL | {"thoughtSignature": "c2ln"}), content(CALL)),
    "second answer": Sample(
        top(
            candidates=[
                CANDIDATE,
                {**CANDIDATE, "index": 1, "content": {"parts": [{"text": "Hi"}], "role": "model"}},
            ]
        ),
        BASE,
    ),
    "image": Sample(content(TEXT, {"inlineData": {"mimeType": "image/png", "data": PNG}}), BASE),
    "sound": Sample(content(TEXT, {"inlineData": {"mimeType": "audio/wav", "data": WAV}}), BASE),
    "call that the vendor ran": Sample(content(CODE, RAN, TEXT), content(RAN, TEXT)),
    "result of what the vendor ran": Sample(content(CODE, RAN, TEXT), content(CODE, TEXT)),
    "block of an unknown type": Sample(content(TEXT, {"novelty": {"a": 1}}), BASE),
    "cited web page": Sample(candidate(groundingMetadata=SEARCHED), BASE),
    "cited document": Sample(candidate(groundingMetadata=RETRIEVED), BASE),
    "log probabilities": Sample(likely(), BASE),
    "alternatives of tokens": Sample(
        likely({"token": "Hi", "logProbability": -1.5}), likely(), within="logprobs"
    ),
    "tokens": Sample(BASE, {key: BASE[key] for key in BASE if key != "usageMetadata"}),
    "tokens from a cache": Sample(counted(cachedContentTokenCount=4), BASE),
    "tokens of reasoning": Sample(
        counted(thoughtsTokenCount=4, totalTokenCount=19), counted(candidatesTokenCount=9, totalTokenCount=19)
    ),
    "tokens of sound": Sample(
        counted(candidatesTokensDetails=[{"modality": "AUDIO", "tokenCount": 4}]), BASE
    ),
    "id": Sample(BASE, top(responseId="r2"), HERS["id"]),
    "model": Sample(BASE, top(modelVersion="gemini-2.5-flash"), HERS["model"]),
    "created": Sample(top(createTime="2026-01-01T00:00:00Z"), BASE, HERS["created"]),
    "service tier": Sample(counted(trafficType="PROVISIONED_THROUGHPUT"), BASE),
}
OWN = {
    "promptFeedback": Sample(top(promptFeedback={"safetyRatings": [RATING]}), BASE),
    "modelStatus": Sample(top(modelStatus={"modelStage": "PREVIEW"}), BASE),
    "candidates[].safetyRatings": Sample(candidate(safetyRatings=[RATING]), BASE),
    "candidates[].finishMessage": Sample(candidate(finishMessage="done"), BASE),
    "candidates[].tokenCount": Sample(candidate(tokenCount=5), BASE),
    "candidates[].avgLogprobs": Sample(candidate(avgLogprobs=-0.5), BASE),
    "candidates[].logprobsResult.logProbabilitySum": Sample(
        candidate(logprobsResult={"chosenCandidates": [TOKEN], "logProbabilitySum": -0.5}),
        candidate(logprobsResult={"chosenCandidates": [TOKEN]}),
    ),
    "candidates[].logprobsResult.*.tokenId": Sample(
        candidate(logprobsResult={"chosenCandidates": [TOKEN | {"tokenId": 7}]}),
        candidate(logprobsResult={"chosenCandidates": [TOKEN]}),
        within="logprobs",
    ),
    "candidates[].citationMetadata": Sample(candidate(citationMetadata=RECITED), BASE),
    "candidates[].citationMetadata.*.license": Sample(
        candidate(citationMetadata={"citations": [RECITED["citations"][0] | {"license": "mit"}]}),
        candidate(citationMetadata=RECITED),
    ),
    "candidates[].urlContextMetadata": Sample(
        candidate(urlContextMetadata={"urlMetadata": [{"retrievedUrl": "https://example.com/a"}]}), BASE
    ),
    "candidates[].continuationToken": Sample(candidate(continuationToken="dG9r"), BASE),
    "candidates[].groundingMetadata.webSearchQueries": grounded(webSearchQueries=["rivers"]),
    "candidates[].groundingMetadata.searchEntryPoint": grounded(
        searchEntryPoint={"renderedContent": "<div></div>"}
    ),
    "candidates[].groundingMetadata.*.confidenceScores": grounded(
        groundingSupports=[SEARCHED["groundingSupports"][0] | {"confidenceScores": [0.5]}]
    ),
    "parts[].fileData": Sample(
        content(TEXT, {"fileData": {"mimeType": "image/png", "fileUri": "https://example.com/a.png"}}), BASE
    ),
    "parts[].toolCall": Sample(content({"toolCall": {"toolType": "GOOGLE_SEARCH_WEB"}}, TEXT), BASE),
    "parts[].toolResponse": Sample(content({"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB"}}, TEXT), BASE),
    "parts[].audioTranscription": Sample(content({"audioTranscription": {"text": "hi"}}, TEXT), BASE),
    "parts[].mediaResolution": part("mediaResolution", {"level": "MEDIA_RESOLUTION_LOW"}),
    "parts[].videoMetadata": part("videoMetadata", {"fps": 1}),
    "parts[].partMetadata": part("partMetadata", {"a": "b"}),
    "parts[].mediaProcessing": part("mediaProcessing", {"a": "b"}),
    "parts[].speechMetadata": part("speechMetadata", {"a": "b"}),
    "usageMetadata.promptTokensDetails": Sample(counted(promptTokensDetails=[MODALITY]), BASE),
    "usageMetadata.cacheTokensDetails": Sample(counted(cacheTokensDetails=[MODALITY]), BASE),
    "usageMetadata.toolUsePromptTokenCount": Sample(
        counted(toolUsePromptTokenCount=4, totalTokenCount=19),
        counted(promptTokenCount=14, totalTokenCount=19),
    ),
    "usageMetadata.toolUsePromptTokensDetails": Sample(
        counted(toolUsePromptTokenCount=4, toolUsePromptTokensDetails=[MODALITY], totalTokenCount=19),
        counted(toolUsePromptTokenCount=4, totalTokenCount=19),
    ),
}
_CALLING = content(TEXT, CALL)
WORDS = {
    **{
        word: candidate(finishReason=word)
        for word in (each.value for each in types.FinishReason)
        if word != "FINISH_REASON_UNSPECIFIED"
    },
    "STOP, with calls": _CALLING,
    "no candidate: promptFeedback.blockReason": {
        **{key: BASE[key] for key in BASE if key != "candidates"},
        "promptFeedback": {"blockReason": "JAILBREAK"},
    },
    "A_WORD_OF_TOMORROW": candidate(finishReason="A_WORD_OF_TOMORROW"),
}


def streamed(body: Body) -> bytes:
    named = {key: value for key, value in body.items() if key in ("modelVersion", "responseId", "createTime")}
    chunks: list[Body] = []
    for each in body.get("candidates", ()):
        for item in each["content"]["parts"]:
            for piece in _pieces(item):
                whole = {"content": {"parts": [piece], "role": "model"}, "index": each["index"]}
                chunks.append({"candidates": [whole], **named})
        last = {**each, "content": {"parts": [{"text": ""}], "role": "model"}}
        chunks.append({"candidates": [last], **named})
    rest = {key: value for key, value in body.items() if key != "candidates"}
    chunks[-1:] = [{**(chunks[-1] if chunks else {}), **rest}]
    return "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks).encode()


def _pieces(item: Body) -> list[Body]:
    """Text comes in pieces; its signature in an empty part behind it."""
    if "text" not in item or not item.keys() <= {"text", "thought", "thoughtSignature"}:
        return [item]
    mark = {"thought": True} if "thought" in item else {}
    texts = [{"text": piece, **mark} for piece in pieces(item["text"])]
    signature = item.get("thoughtSignature")
    return texts if signature is None else [*texts, {"text": "", **mark, "thoughtSignature": signature}]


VENDOR = Vendor(
    "gemini",
    COMMON,
    OWN,
    WORDS,
    streamed,
    sdk=camel(
        fields_of(
            *(types.GenerateContentResponse, types.Candidate, types.GenerateContentResponseUsageMetadata),
            *(types.Part, types.LogprobsResult),
        )
    ),
    unsaid=frozenset({"sdkHttpResponse", "automaticFunctionCallingHistory", "parsed", "functionResponse"}),
)
