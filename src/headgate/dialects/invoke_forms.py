"""Which form the body of an InvokeModel request has: the route does not tell, and every vendor has its own.

It is known by the model's id where that is one that a vendor publishes (`us.amazon.nova-pro-v1:0`), else by
the fields of the body.

Source: Amazon Bedrock user guide, "Inference request parameters and response fields for foundation models".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import msgspec

from headgate.core.call import Operation
from headgate.core.errors import InvalidRequest

CHAT_FORMS: Mapping[str, str] = {
    "invoke_anthropic": "'anthropic_version' with 'messages' (Anthropic)",
    "invoke_nova": "'messages' of content blocks (Amazon Nova)",
    "invoke_chat": "'messages' as in Chat Completions (Mistral, gpt-oss)",
    "invoke_titan": "'inputText' with 'textGenerationConfig' (Amazon Titan Text)",
    "invoke_llama": "'prompt' with 'max_gen_len' (Meta Llama)",
    "invoke_mistral": "'prompt' with 'max_tokens' (Mistral)",
    "invoke_cohere": "'message' (Cohere Command R)",
}
"""Dialects, and by what a body of each is known."""
EMBED_FORMS: Mapping[str, str] = {
    "invoke_titan_embed": "'inputText' (Amazon Titan Embeddings)",
    "invoke_cohere_embed": "'texts' with 'input_type' (Cohere Embed)",
}


def _published(vendor: str, models: str) -> re.Pattern[str]:
    """An id, with or without a region before it or an ARN around it; SAP AI Core writes `--` for the dot."""
    return re.compile(rf"(?:^|[./:]){vendor}(?:\.|--)(?:{models})")


FAMILIES: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (_published("anthropic", "claude"), ("invoke_anthropic",)),
    (_published("amazon", r"nova-(?!canvas|reel|sonic|.*embed)"), ("invoke_nova",)),
    (_published("amazon", "titan-t"), ("invoke_titan",)),
    (_published("amazon", "titan-embed"), ("invoke_titan_embed",)),
    (_published("meta", "llama"), ("invoke_llama",)),
    (_published("mistral(?:ai)?", ""), ("invoke_chat", "invoke_mistral")),
    (_published("cohere", "command-r"), ("invoke_cohere",)),
    (_published("cohere", "embed"), ("invoke_cohere_embed",)),
    (_published("openai", "gpt"), ("invoke_chat",)),
)
"""Published ids, and the forms that their models take."""


def forms_of(model: str) -> tuple[str, ...]:
    """The forms that a model takes; none where its id does not tell."""
    name = model.lower()
    return next((forms for pattern, forms in FAMILIES if pattern.search(name)), ())


def form_of(model: str, fields: Mapping[str, msgspec.Raw], able: Collection[Operation], stream: bool) -> str:
    """The dialect of a body.

    Args:
        model: as the caller calls it.
        fields: of the body, as raw JSON.
        able: what the model does.
        stream: the answer is to stream, which vectors do not.

    Raises:
        InvalidRequest: it has none of the forms that are read, or streams what does not.
    """
    known = forms_of(model)
    form = known[0] if len(known) == 1 else _by_shape(fields, known, able, stream)
    if form is None:
        raise InvalidRequest(_unknown(stream), code="unknown_body_form")
    if stream and form in EMBED_FORMS:
        raise InvalidRequest(
            "Vectors don't stream: send this to /model/{modelId}/invoke.", code="unsupported_operation"
        )
    return form


def _by_shape(
    fields: Mapping[str, msgspec.Raw], known: tuple[str, ...], able: Collection[Operation], stream: bool
) -> str | None:
    if "anthropic_version" in fields:
        return "invoke_anthropic"
    if "messages" in fields:
        return "invoke_nova" if "invoke_chat" not in known and _is_nova(fields) else "invoke_chat"
    if "inputText" in fields or "inputImage" in fields:
        chats = Operation.EMBED not in able or stream or "textGenerationConfig" in fields
        return "invoke_titan" if chats else "invoke_titan_embed"
    if "prompt" in fields:
        return "invoke_mistral" if known else _of_prompt(fields)
    if "message" in fields:
        return "invoke_cohere"
    if fields.keys() & {"texts", "inputs", "images"}:
        return "invoke_cohere_embed"
    return None


_LLAMAS = frozenset({"max_gen_len", "images"})
_MISTRALS = frozenset({"max_tokens", "stop", "top_k"})
_LLAMAS_MARKS = re.compile(rb"<\|(?:begin_of_text|start_header_id|header_start)\|>|<<SYS>>")


def _of_prompt(fields: Mapping[str, msgspec.Raw]) -> str | None:
    """By the settings beside a prompt, or its template."""
    if fields.keys() & _LLAMAS or _LLAMAS_MARKS.search(bytes(fields["prompt"])[:256]):
        return "invoke_llama"
    if fields.keys() & _MISTRALS or b"[INST]" in bytes(fields["prompt"])[:256]:
        return "invoke_mistral"
    return None


class _Message(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Block(msgspec.Struct):
    type: msgspec.Raw | None = None


_MESSAGES = msgspec.json.Decoder(list[_Message])
_BLOCKS = msgspec.json.Decoder(list[_Block])


def _is_nova(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Nova's settings, or content blocks that name no type: in `[{"text": …}]` the key is the type."""
    if fields.keys() & {"schemaVersion", "inferenceConfig", "toolConfig"}:
        return True
    try:
        messages = _MESSAGES.decode(fields["messages"])
        return bool(messages) and any(each.type is None for each in _BLOCKS.decode(messages[0].content))
    except (ValueError, RecursionError):
        return False


def _unknown(stream: bool) -> str:
    forms = CHAT_FORMS if stream else {**CHAT_FORMS, **EMBED_FORMS}
    return (
        "The body has none of the forms that InvokeModel takes here, and the model's name does not tell its"
        f" form. A body has {'; or '.join(forms.values())}."
    )
