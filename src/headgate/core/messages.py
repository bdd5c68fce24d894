"""Neutral parts of a conversation, richer than any one dialect.

A dialect decodes its wire form into these and encodes them back; what it can't express it reports as
lost, and what it does not know it keeps in `extensions[dialect]` or as an `Opaque` part, so that the same
dialect gets it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal, TypeAlias

from headgate.core.record import record

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
Extensions: TypeAlias = Mapping[str, Mapping[str, "JSON"]]
"""Unknown or vendor-only fields by dialect: `{"openai_chat": {"modalities": ["text"]}}`.

Fields that both of OpenAI's chat dialects have, and only these, are in `openai`
(`headgate.dialects.openai_shared`).
"""

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
MediaKind: TypeAlias = Literal["image", "audio", "video", "file"]


@record(frozen=True, slots=True)
class CacheHint:
    """The prompt up to and including this part is worth caching, for `ttl` ("5m", "1h") where given."""

    ttl: str | None = None


@record(frozen=True, slots=True)
class Citation:
    """What a span of an answer's text rests on.

    `start` and `end` are character offsets into the answer's text, `quote` is the cited source's own words,
    `source` the index of the cited document in the request. What only one dialect knows, the whole of its own
    form included, is in `extensions`.
    """

    kind: Literal["url", "document", "file", "search", "other"]
    url: str | None = None
    title: str | None = None
    quote: str | None = None
    start: int | None = None
    end: int | None = None
    source: int | None = None
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class Text:
    text: str
    citations: tuple[Citation, ...] = ()
    cache: CacheHint | None = None
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class Media:
    """An image, sound, video or file; exactly one of `data` (base64), `url` and `file_id` is set."""

    kind: MediaKind
    mime: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    detail: str | None = None
    cache: CacheHint | None = None
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class Reasoning:
    """What the model thought. `signature` and `data` are opaque and go back as they came.

    `origin` names the dialect of the upstream that made them; no other upstream can use them
    (`headgate.dialects.sealed` carries them through callers of another dialect). A part with a signature
    and no text belongs to the part that follows it: that is how Gemini signs tool calls.
    """

    text: str = ""
    signature: str | None = None
    data: str | None = None
    redacted: bool = False
    origin: str | None = None
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class Refusal:
    text: str
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class ToolCall:
    """A call that the model wants made. `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str
    kind: str = "function"
    cache: CacheHint | None = None
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class ToolResult:
    call_id: str
    parts: tuple[Text | Media | Opaque, ...]
    is_error: bool = False
    cache: CacheHint | None = None
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class Opaque:
    """A block that only `dialect` understands; echoed to it and lost, with a report, elsewhere."""

    dialect: str
    value: JSON


Part: TypeAlias = Text | Media | Reasoning | Refusal | ToolCall | ToolResult | Opaque


@record(frozen=True, slots=True)
class Message:
    """One turn, or a part of one: a dialect's turn may become several messages.

    The last four fields say where it stood in the caller's own request, for reports of what got lost; they
    are no part of what it says. `content` is the caller's word for a list of parts, in a tool message for
    the list in each result too; it is empty where parts are counted right behind `path`. The first
    `first_part` items of the list became another message. `part_paths` has the places of parts that do not
    stand in one list.
    """

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    extensions: Extensions = field(default_factory=dict)
    path: str | None = field(default=None, compare=False)
    first_part: int = field(default=0, compare=False)
    content: str = field(default="content", compare=False)
    part_paths: tuple[str, ...] = field(default=(), compare=False)

    def place(self, index: int) -> str:
        """Where the caller wrote this message; `index` is its number among the neutral ones."""
        return self.path if self.path is not None else f"messages[{index}]"

    def place_of(self, index: int, part: int) -> str:
        """Where the caller wrote the part numbered `part`."""
        if part < len(self.part_paths):
            return self.part_paths[part]
        dot = "." if self.content else ""
        return f"{self.place(index)}{dot}{self.content}[{self.first_part + part}]"


@record(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is its JSON schema.

    A tool of another `kind` runs at the vendor (web search, code execution): only the dialect whose
    extensions hold its definition knows it. `path` is as a message's.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, JSON] | None = None
    strict: bool | None = None
    kind: str = "function"
    cache: CacheHint | None = None
    extensions: Extensions = field(default_factory=dict)
    path: str | None = field(default=None, compare=False)

    def place(self, index: int) -> str:
        """Where the caller wrote this tool; `index` is its number among the neutral ones."""
        return self.path if self.path is not None else f"tools[{index}]"


@record(frozen=True, slots=True)
class ToolChoice:
    """`auto`, `none`, `required` (some tool), or `tool` (the one that `name` says)."""

    mode: Literal["auto", "none", "required", "tool"]
    name: str | None = None
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class ResponseFormat:
    """Plain text, any JSON, or JSON that fits `schema`."""

    kind: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: Mapping[str, JSON] | None = None
    strict: bool | None = None
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn. None: the target's own default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


@record(frozen=True, slots=True, kw_only=True)
class ReasoningOptions:
    """How much the model may think: an effort word, a budget in tokens, or both.

    With `effort_only` the word is for the answer as a whole, as Anthropic has it, and asks for no thinking.
    """

    effort: str | None = None
    budget_tokens: int | None = None
    enabled: bool | None = None
    summary: str | None = None
    effort_only: bool = False


@record(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    sampling: Sampling = Sampling()
    reasoning: ReasoningOptions | None = None
    stream: bool = False
    include_usage: bool = False
    user: str | None = None
    metadata: Mapping[str, str] | None = None
    service_tier: str | None = None
    extensions: Extensions = field(default_factory=dict)
