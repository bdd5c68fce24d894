"""Which form a body of InvokeModel has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.call import Operation
from headgate.core.errors import InvalidRequest
from headgate.dialects.envelope import Envelope
from headgate.dialects.invoke_forms import CHAT_FORMS, EMBED_FORMS, form_of, forms_of
from headgate.dialects.registry import DIALECTS, dialect

CHAT = frozenset({Operation.CHAT})
EMBED = frozenset({Operation.EMBED})
BOTH = CHAT | EMBED

SAYS = [{"role": "user", "content": "hi"}]
BLOCKS = [{"role": "user", "content": [{"text": "hi"}]}]


def found(body: dict[str, Any], model: str = "m", able: Any = BOTH, stream: bool = False) -> str:
    envelope = Envelope.read(json.dumps(body).encode(), model=model, stream=stream)
    return form_of(model, envelope.fields, able, stream)


@pytest.mark.parametrize(
    ("model", "forms"),
    [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", ("invoke_anthropic",)),
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", ("invoke_anthropic",)),
        ("anthropic--claude-4.5-sonnet", ("invoke_anthropic",)),
        ("amazon.nova-lite-v1:0", ("invoke_nova",)),
        ("global.amazon.nova-2-lite-v1:0", ("invoke_nova",)),
        ("amazon--nova-pro", ("invoke_nova",)),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0", ("invoke_nova",)),
        ("amazon.nova-canvas-v1:0", ()),
        ("amazon.nova-2-multimodal-embeddings-v1:0", ()),
        ("amazon.titan-text-express-v1", ("invoke_titan",)),
        ("amazon.titan-tg1-large", ("invoke_titan",)),
        ("amazon.titan-embed-text-v2:0", ("invoke_titan_embed",)),
        ("amazon.titan-embed-image-v1", ("invoke_titan_embed",)),
        ("amazon--titan-embed-text", ("invoke_titan_embed",)),
        ("us.meta.llama3-3-70b-instruct-v1:0", ("invoke_llama",)),
        ("mistral.mixtral-8x7b-instruct-v0:1", ("invoke_chat", "invoke_mistral")),
        ("cohere.command-r-plus-v1:0", ("invoke_cohere",)),
        ("cohere.embed-english-v3", ("invoke_cohere_embed",)),
        ("openai.gpt-oss-120b-1:0", ("invoke_chat",)),
        ("arn:aws:bedrock:eu-central-1:1:application-inference-profile/abc", ()),
        ("my-nova-model", ()),
        ("claude", ()),
    ],
)
def test_published_ids_tell(model: str, forms: tuple[str, ...]) -> None:
    assert forms_of(model) == forms


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ({"anthropic_version": "bedrock-2023-05-31", "messages": SAYS}, "invoke_anthropic"),
        ({"schemaVersion": "messages-v1", "messages": []}, "invoke_nova"),
        ({"messages": BLOCKS}, "invoke_nova"),
        ({"messages": BLOCKS, "inferenceConfig": {"maxTokens": 9}}, "invoke_nova"),
        ({"messages": SAYS}, "invoke_chat"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, "invoke_chat"),
        ({"messages": 7}, "invoke_chat"),
        ({"messages": [7]}, "invoke_chat"),
        ({"inputText": "hi", "textGenerationConfig": {}}, "invoke_titan"),
        ({"inputText": "hi"}, "invoke_titan_embed"),
        ({"inputText": "hi", "dimensions": 256, "normalize": True}, "invoke_titan_embed"),
        ({"inputImage": "aGk="}, "invoke_titan_embed"),
        ({"prompt": "hi", "max_gen_len": 9}, "invoke_llama"),
        ({"prompt": "<|begin_of_text|><|start_header_id|>user"}, "invoke_llama"),
        ({"prompt": "<s>[INST] <<SYS>> s <</SYS>> hi [/INST]"}, "invoke_llama"),
        ({"prompt": "<s>[INST] hi [/INST]"}, "invoke_mistral"),
        ({"prompt": "hi", "max_tokens": 9}, "invoke_mistral"),
        ({"message": "hi", "chat_history": []}, "invoke_cohere"),
        ({"texts": ["hi"], "input_type": "search_query"}, "invoke_cohere_embed"),
        ({"inputs": [], "input_type": "search_query"}, "invoke_cohere_embed"),
    ],
)
def test_a_body_tells_where_the_name_does_not(body: dict[str, Any], form: str) -> None:
    assert found(body) == form


def test_the_id_counts_before_the_body() -> None:
    assert found({"messages": SAYS}, "amazon.nova-lite-v1:0") == "invoke_nova"
    assert found({"messages": BLOCKS}, "mistral.mistral-large-2407-v1:0") == "invoke_chat"
    assert found({"prompt": "hi"}, "mistral.mistral-7b-instruct-v0:2") == "invoke_mistral"
    assert found({"prompt": "hi"}, "meta.llama3-8b-instruct-v1:0") == "invoke_llama"


def test_what_the_model_does_tells_text_from_vectors() -> None:
    assert found({"inputText": "hi"}, able=CHAT) == "invoke_titan"
    assert found({"inputText": "hi"}, able=EMBED) == "invoke_titan_embed"
    assert found({"inputText": "hi"}, stream=True) == "invoke_titan"


@pytest.mark.parametrize("body", [{}, {"prompt": "hi"}, {"taskType": "TEXT_IMAGE"}, {"query": "q"}])
def test_an_unknown_body_is_refused_naming_those_that_are_taken(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        found(body)
    for name in ("anthropic_version", "inferenceConfig", "textGenerationConfig", "max_gen_len", "texts"):
        told = "content blocks" if name == "inferenceConfig" else name
        assert told in raised.value.message
    with pytest.raises(InvalidRequest) as raised:
        found(body, stream=True)
    assert "texts" not in raised.value.message


def test_vectors_do_not_stream() -> None:
    with pytest.raises(InvalidRequest, match="/invoke"):
        found({"texts": ["a"]}, stream=True)
    with pytest.raises(InvalidRequest, match="/invoke"):
        found({"inputText": "a"}, "amazon.titan-embed-text-v2:0", stream=True)


def test_every_form_is_a_dialect_of_its_operation() -> None:
    forms = {**CHAT_FORMS, **EMBED_FORMS}
    assert set(forms) == {name for name in DIALECTS if name.startswith("invoke_")}
    for name in forms:
        wanted = Operation.CHAT if name in CHAT_FORMS else Operation.EMBED
        record = dialect(name)
        assert (record.name, record.operation, record.model_in_body) == (name, wanted, False)
        assert record.path("a/b:0", False) == "/model/a%2Fb%3A0/invoke"
        assert record.path("m", True) == "/model/m/invoke-with-response-stream"


def test_a_deep_body_is_not_looked_into() -> None:
    deep = b'{"messages":[{"content":' + b"[" * 900 + b"]" * 900 + b"}]}"
    envelope = Envelope.read(deep, model="m", stream=False)
    assert form_of("m", envelope.fields, BOTH, False) == "invoke_chat"
