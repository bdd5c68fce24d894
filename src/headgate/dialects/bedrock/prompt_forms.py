"""Body forms of InvokeModel that take one prompt and give one text, as data: Titan Text, Llama, Mistral.

Source: Amazon Bedrock user guide, "Amazon Titan Text models", "Meta Llama models" and "Mistral AI text
completion".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from headgate.core.call import Usage
from headgate.core.events import FinishReason
from headgate.dialects.bedrock.heard import METRICS, Heard, Metrics, counted
from headgate.dialects.bedrock.prompt_templates import LLAMA_2, LLAMA_3, LLAMA_4, MISTRAL, TITAN, Template


class Wire(Protocol):
    """The known fields of an answer or event; unknown ones are skipped."""

    def heard(self) -> Heard: ...


class _TitanResult(msgspec.Struct, gc=False):
    outputText: str | None = None
    tokenCount: int | None = None
    completionReason: str | None = None


class _Titan(msgspec.Struct, gc=False):
    outputText: str | None = None
    completionReason: str | None = None
    inputTextTokenCount: int | None = None
    totalOutputTextTokenCount: int | None = None
    index: int | None = None
    results: list[_TitanResult] = []
    metrics: Metrics | None = msgspec.field(default=None, name=METRICS)

    def heard(self) -> Heard:
        sent = self.inputTextTokenCount
        for result in self.results:
            usage = counted(sent, result.tokenCount, self.metrics)
            return Heard(result.outputText, result.completionReason, usage)
        usage = counted(sent, self.totalOutputTextTokenCount, self.metrics)
        return Heard(self.outputText, self.completionReason, usage)


class _Llama(msgspec.Struct, gc=False):
    generation: str | None = None
    prompt_token_count: int | None = None
    generation_token_count: int | None = None
    stop_reason: str | None = None
    metrics: Metrics | None = msgspec.field(default=None, name=METRICS)

    def heard(self) -> Heard:
        usage = counted(self.prompt_token_count, self.generation_token_count, self.metrics)
        return Heard(self.generation, self.stop_reason, usage)


class _MistralOutput(msgspec.Struct, gc=False):
    text: str | None = None
    stop_reason: str | None = None


class _Mistral(msgspec.Struct, gc=False):
    outputs: list[_MistralOutput] = []
    metrics: Metrics | None = msgspec.field(default=None, name=METRICS)

    def heard(self) -> Heard:
        usage = counted(None, None, self.metrics)
        for output in self.outputs:
            return Heard(output.text, output.stop_reason, usage)
        return Heard(usage=usage)


Write = Callable[[str, str, Usage], dict[str, Any]]
"""An answer's fields: its text, the word for its end, what it used."""


@dataclass(frozen=True, slots=True)
class Form:
    """One row.

    Args:
        name: the dialect's.
        prompt: field of the prompt.
        settings: what `Sampling` calls a setting, and what the body does.
        nest: object that holds the settings; empty: the body itself.
        templates: for which models' names which template; the last holds for all others.
        wire: reads answers and events as a `Wire`.
        reasons, words: of the end, read and written; `stop_word` where a stop sequence was hit.
        answer: writes a whole answer.
        last: writes the last event of a stream.
        opens, closes: what stands around the text, as JSON, in any other event.
    """

    name: str
    prompt: str
    settings: Mapping[str, str]
    templates: tuple[tuple[re.Pattern[str], Template], ...]
    wire: msgspec.json.Decoder[Any]
    reasons: Mapping[str, FinishReason]
    answer: Write
    last: Write
    opens: bytes
    closes: bytes
    words: Mapping[FinishReason, str] = field(default_factory=lambda: {"stop": "stop", "length": "length"})
    stop_word: str | None = None
    nest: str = ""

    def template(self, model: str) -> Template:
        name = model.lower()
        return next(template for pattern, template in self.templates if pattern.search(name))


_ANY = re.compile("")

TITAN_TEXT = Form(
    "invoke_titan",
    "inputText",
    {"max_tokens": "maxTokenCount", "temperature": "temperature", "top_p": "topP", "stop": "stopSequences"},
    ((_ANY, TITAN),),
    msgspec.json.Decoder(_Titan),
    {
        "FINISH": "stop",
        "FINISHED": "stop",
        "STOP_CRITERIA_MET": "stop",
        "LENGTH": "length",
        "CONTENT_FILTERED": "content_filter",
    },
    answer=lambda text, word, usage: {
        "inputTextTokenCount": usage.input_tokens or 0,
        "results": [
            {"tokenCount": usage.output_tokens or 0, "outputText": text, "completionReason": word},
        ],
    },
    last=lambda text, word, usage: {
        "outputText": text,
        "index": 0,
        "totalOutputTextTokenCount": usage.output_tokens or 0,
        "completionReason": word,
        "inputTextTokenCount": usage.input_tokens or 0,
    },
    opens=b'{"outputText":',
    closes=b',"index":0,"totalOutputTextTokenCount":null,"completionReason":null,"inputTextTokenCount":null}',
    words={"stop": "FINISH", "length": "LENGTH", "content_filter": "CONTENT_FILTERED"},
    stop_word="STOP_CRITERIA_MET",
    nest="textGenerationConfig",
)


def _llama(text: str, word: str, usage: Usage) -> dict[str, Any]:
    return {
        "generation": text,
        "prompt_token_count": usage.input_tokens or 0,
        "generation_token_count": usage.output_tokens or 0,
        "stop_reason": word,
    }


LLAMA = Form(
    "invoke_llama",
    "prompt",
    {"max_tokens": "max_gen_len", "temperature": "temperature", "top_p": "top_p"},
    (
        (re.compile(r"llama-?2"), LLAMA_2),
        (re.compile(r"llama-?4"), LLAMA_4),
        (_ANY, LLAMA_3),
    ),
    msgspec.json.Decoder(_Llama),
    {"stop": "stop", "length": "length"},
    answer=_llama,
    last=_llama,
    opens=b'{"generation":',
    closes=b',"prompt_token_count":null,"generation_token_count":null,"stop_reason":null}',
)


def _mistral(text: str, word: str, usage: Usage) -> dict[str, Any]:
    return {"outputs": [{"text": text, "stop_reason": word}]}


MISTRAL_TEXT = Form(
    "invoke_mistral",
    "prompt",
    {
        "max_tokens": "max_tokens",
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "stop": "stop",
    },
    ((_ANY, MISTRAL),),
    msgspec.json.Decoder(_Mistral),
    {"stop": "stop", "length": "length"},
    answer=_mistral,
    last=_mistral,
    opens=b'{"outputs":[{"text":',
    closes=b',"stop_reason":null}]}',
)
