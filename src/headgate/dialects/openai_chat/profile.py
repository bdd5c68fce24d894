"""In what upstreams of this dialect differ from each other, as data.

Sources: OpenAI, "Reasoning models", pages of models, the API reference (`include_obfuscation`); Azure OpenAI,
"Reasoning models"; Groq, "OpenAI Compatibility" (fields that give a 400); Mistral, API reference (an unknown
field is a 422; `random_seed`); DeepSeek, "Reasoning Model" and "Thinking Mode" (fields without effect, fields
that give an error, what must go back); xAI, "Reasoning" (fields that reasoning models refuse); OpenRouter,
"Reasoning Tokens" and "Prompt Caching"; Cohere, "Using Cohere models via the OpenAI SDK" (unsupported
parameters).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from headgate.core.messages import JSON

MaxTokensField = Literal["max_completion_tokens", "max_tokens"]
EffortWithTools = Literal["any", "unsaid", "none"]

_FREE_SAMPLING: Mapping[str, JSON] = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}
_LOGPROBS: Mapping[str, JSON] = {"logprobs": False, "top_logprobs": 0}
_ONLY_OPENAI: Mapping[str, JSON] = dict.fromkeys(
    (
        "audio",
        "logit_bias",
        "modalities",
        "moderation",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
        "web_search_options",
    )
)


@dataclass(frozen=True, slots=True)
class Family:
    """Models that take less than others of the same upstream.

    pattern: matches the start of the model's name after its last slash, case ignored.
    refuses: request fields that are not sent, and the value of each that says what the model does anyway:
        with that one nothing is lost.
    effort: the family is one only of requests with this reasoning effort.
    efforts: the words that a budget, or a switch, of a caller's may be told in; none where it is not known
        that all of the family take them.
    words: all effort words that it takes; none: not known, so that a caller's goes as it is.
    effort_with_tools: what may be said of the effort in a request with tools: `unsaid` nothing, `none` only
        this, and it must be.
    """

    pattern: str
    refuses: Mapping[str, JSON] = field(default_factory=dict)
    max_tokens_field: MaxTokensField | None = None
    effort: str | None = None
    efforts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    effort_with_tools: EffortWithTools = "any"

    def holds(self, model: str, effort: str | None) -> bool:
        return self.effort in (None, effort) and _starts(self.pattern, model.rpartition("/")[2])


@lru_cache(maxsize=1024)
def _starts(pattern: str, name: str) -> bool:
    return re.match(pattern, name, re.IGNORECASE) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one upstream takes; a row of the registry fills it in. The defaults suit most servers.

    max_tokens_field: OpenAI's newer models refuse the old name, many compatible servers know only that.
    reasoning_field: takes the model's earlier thoughts back; None where the upstream refuses them.
    reasoning_details: takes OpenRouter's list of signed and encrypted thoughts back.
    thought_signatures: takes Gemini's signatures at tool calls back, in Google's place for them.
    cache_control: knows cache hints on content parts and tools.
    top_k: takes `top_k` and `min_p`, which OpenAI itself refuses.
    developer_role: knows the role; elsewhere such messages are the system's, which says the same.
    names: takes `name` on messages.
    stream_options: knows `include_usage`; elsewhere usage comes unasked, or not at all.
    obfuscation: pads the chunks of a stream unless told not to, which costs bytes on a private line.
    refuses, efforts, words, effort_with_tools: as a family's.
    renames: fields under another name.
    families: groups of models that differ; the first that holds a model's name counts.
    """

    max_tokens_field: MaxTokensField = "max_tokens"
    reasoning_field: str | None = "reasoning_content"
    reasoning_details: bool = True
    thought_signatures: bool = True
    cache_control: bool = False
    top_k: bool = True
    developer_role: bool = False
    names: bool = True
    stream_options: bool = True
    obfuscation: bool = False
    refuses: Mapping[str, JSON] = field(default_factory=dict)
    efforts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    effort_with_tools: EffortWithTools = "any"
    renames: Mapping[str, str] = field(default_factory=dict)
    families: tuple[Family, ...] = ()

    def for_model(self, model: str, effort: str | None = None) -> Profile:
        """With what is special about the model, at this reasoning effort, worked in."""
        for family in self.families:
            if family.holds(model, effort):
                return replace(
                    self,
                    max_tokens_field=family.max_tokens_field or self.max_tokens_field,
                    refuses={**self.refuses, **family.refuses},
                    efforts=family.efforts,
                    words=family.words,
                    effort_with_tools=family.effort_with_tools,
                )
        return self


EFFORT = "reasoning_effort"
_NO_EFFORT: Mapping[str, JSON] = {EFFORT: "none"}
_EFFORTS = ("low", "medium", "high")
_REASONING = Family(
    r"(o[1-9]|codex-)",
    {**_FREE_SAMPLING, **_LOGPROBS, "logit_bias": None},
    "max_completion_tokens",
    efforts=_EFFORTS,
    words=_EFFORTS,
)
_GPT_OSS = Family(r"gpt-oss", efforts=_EFFORTS)
OPENAI_FAMILIES = (
    Family(
        r"gpt-(5\.[1-9](?!.*-(chat|codex|pro))|6.*-luna)",
        max_tokens_field="max_completion_tokens",
        effort="none",
        efforts=("none",),
    ),
    # gpt-5-chat-latest and the like
    Family(r"gpt-[5-9].*-chat", _NO_EFFORT, "max_completion_tokens"),
    Family(r"(chat)?gpt-[34]", _NO_EFFORT),
    # These know no effort words at all.
    replace(
        _REASONING,
        pattern=r"o1-(mini|preview)",
        efforts=(),
        words=(),
        refuses={**_REASONING.refuses, EFFORT: None},
    ),
    # What gives tools and an effort is refused here: that goes only by Responses.
    replace(
        _REASONING,
        pattern=r"gpt-6.*-luna",
        words=("none", *_EFFORTS, "xhigh", "max"),
        effort_with_tools="none",
    ),
    replace(_REASONING, pattern=r"gpt-[6-9]", words=(*_EFFORTS, "xhigh", "max"), effort_with_tools="unsaid"),
    replace(
        _REASONING,
        pattern=r"gpt-5\.[6-9](?!.*-(codex|pro))",
        words=("none", *_EFFORTS, "xhigh", "max"),
        effort_with_tools="none",
    ),
    replace(
        _REASONING,
        pattern=r"gpt-5\.[2-5](?!.*-(codex|pro))",
        words=("none", *_EFFORTS, "xhigh"),
        effort_with_tools="unsaid",
    ),
    replace(_REASONING, pattern=r"gpt-5\.1(?!.*-(codex|pro))", words=("none", *_EFFORTS)),
    # gpt-5.3-codex, gpt-5.2-pro
    replace(_REASONING, pattern=r"gpt-5\.[1-9]", words=()),
    replace(_REASONING, pattern=r"gpt-5(?!.*-(codex|pro))", words=("minimal", *_EFFORTS)),
    replace(_REASONING, pattern=r"gpt-5", words=()),
    _REASONING,
    _GPT_OSS,
)

COMPATIBLE = Profile(families=OPENAI_FAMILIES)
"""A server of which nothing is known: what OpenAI's own models would refuse is told by their names."""

AZURE_OPENAI = Profile(
    reasoning_field=None,
    reasoning_details=False,
    thought_signatures=False,
    top_k=False,
    developer_role=True,
    families=OPENAI_FAMILIES,
)
"""Deployments have names of their own: one that does not tell its model gets `max_tokens`, which all but the
reasoning models take."""

OPENAI = replace(AZURE_OPENAI, max_tokens_field="max_completion_tokens", obfuscation=True)

MISTRAL = Profile(
    reasoning_field=None,
    reasoning_details=False,
    thought_signatures=False,
    top_k=False,
    names=False,
    stream_options=False,
    refuses={**_ONLY_OPENAI, **_LOGPROBS},
    renames={"seed": "random_seed"},
)

GROQ = Profile(
    max_tokens_field="max_completion_tokens",
    reasoning_field="reasoning",
    reasoning_details=False,
    thought_signatures=False,
    top_k=False,
    names=False,
    refuses={**_LOGPROBS, "logit_bias": None, "n": 1},
    families=(_GPT_OSS,),
)

DEEPSEEK = Profile(
    reasoning_details=False,
    thought_signatures=False,
    top_k=False,
    families=(Family(r"deepseek-reasoner", {**_FREE_SAMPLING, **_LOGPROBS}),),
)
"""Thinking models refuse a next turn without `reasoning_content`, so that it always goes back."""

XAI = Profile(
    max_tokens_field="max_completion_tokens",
    reasoning_details=False,
    thought_signatures=False,
    top_k=False,
    families=(
        Family(
            r"grok-(3-mini|code|[4-9])(?!.*non-reasoning)",
            {"presence_penalty": 0, "frequency_penalty": 0, "stop": None},
        ),
    ),
)

OPENROUTER = Profile(
    reasoning_field="reasoning",
    thought_signatures=False,
    cache_control=True,
    developer_role=True,
    efforts=_EFFORTS,
)

GOOGLE = Profile(
    reasoning_field=None,
    reasoning_details=False,
    top_k=False,
    names=False,
    families=(Family(r"gemini-(2\.5-(flash|pro)|[3-9])(?!.*-(image|tts|audio|live))", efforts=_EFFORTS),),
)
"""Gemini behind Google's own OpenAI-compatible address."""

COHERE = Profile(
    reasoning_field=None,
    reasoning_details=False,
    thought_signatures=False,
    top_k=False,
    names=False,
    refuses={
        **_ONLY_OPENAI,
        "top_logprobs": 0,
        "n": 1,
        "metadata": None,
        "prediction": None,
        "parallel_tool_calls": True,
    },
)
"""Cohere's compatibility API."""
