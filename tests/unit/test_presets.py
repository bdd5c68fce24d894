"""The vendors' rows, one by one: where requests go, in which dialect, with which key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from headgate.backends import clouds
from headgate.backends.pools import Pools
from headgate.backends.registry import BUILT_IN, BackendType, BuildContext, Registry
from headgate.backends.remote import RemoteBackend, RemoteSettings, RemoteWire
from headgate.core.backend import RawHeaders, Timeouts
from headgate.core.call import Operation
from headgate.core.errors import ConfigError
from headgate.core.messages import ChatRequest, Message, Sampling, Text
from headgate.core.operations import EmbedRequest, RerankRequest
from headgate.dialects.invoke_forms import CHAT_FORMS, EMBED_FORMS
from headgate.dialects.registry import DIALECTS

CHAT, EMBED, RERANK, COUNT = Operation.CHAT, Operation.EMBED, Operation.RERANK, Operation.COUNT_TOKENS
Routes = dict[tuple[Operation, str], str]
Address = tuple[str, int, bool]


def server(prefix: str, *more: Operation) -> Routes:
    """The routes of a server in OpenAI's dialects."""
    routes: Routes = {
        (CHAT, "openai_chat"): f"{prefix}/chat/completions",
        (CHAT, "openai_completions"): f"{prefix}/completions",
        (EMBED, "openai_embeddings"): f"{prefix}/embeddings",
    }
    if RERANK in more:
        routes[RERANK, "jina_rerank"] = f"{prefix}/rerank"
    return routes


@dataclass
class Row:
    """What a row must give. `key` is the variable and the header field as it is sent."""

    address: Address
    routes: Routes
    key: tuple[str, str, str] | None = None
    usage_when_asked: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


def bearer(variable: str) -> tuple[str, str, str]:
    return variable, "authorization", "Bearer k"


LOCAL = "127.0.0.1"
ROWS: dict[str, Row] = {
    "openai": Row(
        ("api.openai.com", 443, True),
        server("/v1") | {(CHAT, "openai_responses"): "/v1/responses"},
        bearer("OPENAI_API_KEY"),
    ),
    "openai-compatible": Row(
        (LOCAL, 9000, False),
        server("/v1", RERANK) | {(CHAT, "openai_responses"): "/v1/responses"},
        settings={"base_url": "http://127.0.0.1:9000/v1", "dialects": ["openai_responses"]},
    ),
    "anthropic": Row(
        ("api.anthropic.com", 443, True),
        {(CHAT, "anthropic"): "/v1/messages", (COUNT, "anthropic_count"): "/v1/messages/count_tokens"},
        ("ANTHROPIC_API_KEY", "x-api-key", "k"),
    ),
    "gemini": Row(
        ("generativelanguage.googleapis.com", 443, True),
        {
            (CHAT, "gemini"): "/v1beta/models/up:generateContent",
            (CHAT, "openai_chat"): "/v1beta/openai/chat/completions",
            (COUNT, "gemini_count"): "/v1beta/models/up:countTokens",
            (EMBED, "gemini_embed"): "/v1beta/models/up:embedContent",
            (EMBED, "gemini_embed_batch"): "/v1beta/models/up:batchEmbedContents",
        },
        ("GEMINI_API_KEY", "x-goog-api-key", "k"),
    ),
    "azure-openai": Row(
        ("acme.openai.azure.com", 443, True),
        server("/openai/v1") | {(CHAT, "openai_responses"): "/openai/v1/responses"},
        ("", "api-key", "k"),
        settings={"base_url": "https://acme.openai.azure.com", "api_key": "k"},
    ),
    "vertex": Row(
        ("aiplatform.googleapis.com", 443, True),
        {
            (CHAT, "gemini"): "/v1/projects/p/locations/global/publishers/google/models/up:generateContent",
            (
                COUNT,
                "gemini_count",
            ): "/v1/projects/p/locations/global/publishers/google/models/up:countTokens",
        },
        ("", "authorization", "Bearer k"),
        settings={"project": "p", "api_key": "k"},
    ),
    "bedrock": Row(
        ("bedrock-runtime.eu-central-1.amazonaws.com", 443, True),
        {
            (CHAT, "converse"): "/model/up/converse",
            **dict.fromkeys(((CHAT, form) for form in CHAT_FORMS), "/model/up/invoke"),
            **dict.fromkeys(((EMBED, form) for form in EMBED_FORMS), "/model/up/invoke"),
        },
        bearer("AWS_BEARER_TOKEN_BEDROCK"),
        settings={"region": "eu-central-1"},
    ),
    "mistral": Row(
        ("api.mistral.ai", 443, True),
        {(CHAT, "openai_chat"): "/v1/chat/completions", (EMBED, "openai_embeddings"): "/v1/embeddings"},
        bearer("MISTRAL_API_KEY"),
        usage_when_asked=False,
    ),
    "groq": Row(
        ("api.groq.com", 443, True),
        {(CHAT, "openai_chat"): "/openai/v1/chat/completions"},
        bearer("GROQ_API_KEY"),
    ),
    "deepseek": Row(
        ("api.deepseek.com", 443, True),
        {(CHAT, "openai_chat"): "/v1/chat/completions"},
        bearer("DEEPSEEK_API_KEY"),
    ),
    "xai": Row(
        ("api.x.ai", 443, True),
        {(CHAT, "openai_chat"): "/v1/chat/completions", (CHAT, "openai_responses"): "/v1/responses"},
        bearer("XAI_API_KEY"),
    ),
    "openrouter": Row(("openrouter.ai", 443, True), server("/api/v1"), bearer("OPENROUTER_API_KEY")),
    "together": Row(("api.together.xyz", 443, True), server("/v1", RERANK), bearer("TOGETHER_API_KEY")),
    "fireworks": Row(("api.fireworks.ai", 443, True), server("/inference/v1"), bearer("FIREWORKS_API_KEY")),
    "cohere": Row(
        ("api.cohere.com", 443, True),
        {
            (CHAT, "openai_chat"): "/compatibility/v1/chat/completions",
            (EMBED, "cohere_embed"): "/v2/embed",
            (EMBED, "openai_embeddings"): "/compatibility/v1/embeddings",
            (RERANK, "cohere_rerank"): "/v2/rerank",
        },
        bearer("CO_API_KEY"),
    ),
    "nvidia-nim": Row(("integrate.api.nvidia.com", 443, True), server("/v1"), bearer("NVIDIA_API_KEY")),
    "jina": Row(
        ("api.jina.ai", 443, True),
        {(EMBED, "openai_embeddings"): "/v1/embeddings", (RERANK, "jina_rerank"): "/v1/rerank"},
        bearer("JINA_API_KEY"),
    ),
    "ollama": Row((LOCAL, 11434, False), server("/v1")),
    "vllm": Row((LOCAL, 8000, False), server("/v1", RERANK)),
    "llama-cpp": Row((LOCAL, 8080, False), server("/v1", RERANK)),
    "lm-studio": Row((LOCAL, 1234, False), server("/v1")),
    "tei": Row(
        (LOCAL, 3000, False),
        {
            (EMBED, "tei_embed"): "/embed",
            (EMBED, "openai_embeddings"): "/v1/embeddings",
            (RERANK, "tei_rerank"): "/rerank",
        },
    ),
}
REQUESTS: dict[Operation, Any] = {
    CHAT: ChatRequest(
        model="m",
        messages=(Message("developer", (Text("Be brief."),)), Message("user", (Text("x"),))),
        sampling=Sampling(max_tokens=5),
    ),
    EMBED: EmbedRequest(model="m", inputs=("a",), dimensions=8),
    RERANK: RerankRequest(model="m", query="q", documents=("a",)),
}
REQUESTS[COUNT] = REQUESTS[CHAT]
NOT_REMOTE = {"scripted", "gguf", "embedding", "folder", "python"}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def context() -> BuildContext:
    return BuildContext("m", "m", Timeouts(), Pools())


def build(name: str, **settings: Any) -> RemoteBackend:
    row: BackendType = Registry().row(name)
    backend = row.build(row.settings(backend=name, model="up", **settings), context())
    assert isinstance(backend, RemoteBackend)
    return backend


def wire_of(backend: RemoteBackend, operation: Operation, dialect: str) -> RemoteWire:
    wire = backend.wire(operation, dialect)
    assert isinstance(wire, RemoteWire)
    assert wire.dialect == dialect
    return wire


def head_of(backend: RemoteBackend, operation: Operation, dialect: str) -> tuple[str, dict[str, str]]:
    """Target and header fields of a request, as they are sent."""
    head = wire_of(backend, operation, dialect)._plain.head.decode()
    line, *fields = head.strip().split("\r\n")
    method, target, _ = line.split(" ")
    assert method == "POST"
    return target, dict(each.split(": ", 1) for each in fields)


def made(name: str, monkeypatch: pytest.MonkeyPatch) -> RemoteBackend:
    row = ROWS[name]
    if row.key is not None and row.key[0]:
        monkeypatch.setenv(row.key[0], "k")
    return build(name, **row.settings)


def test_every_row_of_a_remote_api_is_here() -> None:
    assert set(ROWS) == set(BUILT_IN) - NOT_REMOTE


@pytest.mark.parametrize("name", ROWS)
def test_where_requests_go(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, backend = ROWS[name], made(name, monkeypatch)
    origin = backend._pool.origin
    assert (origin.host, origin.port, origin.tls) == row.address
    assert backend.operations == {operation for operation, _ in row.routes}
    found = {
        (operation, each.dialect): head_of(backend, operation, each.dialect)[0]
        for operation, endpoints in backend._preset.endpoints.items()
        for each in endpoints
    }
    assert found == row.routes


@pytest.mark.parametrize("name", ROWS)
def test_with_which_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, backend = ROWS[name], made(name, monkeypatch)
    operation, dialect = next(iter(row.routes))
    _, fields = head_of(backend, operation, dialect)
    secrets = {key: value for key, value in fields.items() if value in ("k", "Bearer k")}
    assert secrets == ({row.key[1]: row.key[2]} if row.key else {})
    assert fields["content-type"] == "application/json"


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.key and row.key[0]])
def test_a_key_that_is_missing_is_named_and_never_sent_elsewhere(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ROWS[name]
    assert row.key is not None
    monkeypatch.setenv(row.key[0], "k")
    monkeypatch.setattr(clouds, "SigV4", Signed)
    elsewhere = build(name, **row.settings | {"base_url": "http://127.0.0.1:9"})
    operation, dialect = next(iter(row.routes))
    assert row.key[1] not in head_of(elsewhere, operation, dialect)[1]
    monkeypatch.delenv(row.key[0])
    if name != "bedrock":  # there AWS keys do as well
        with pytest.raises(ConfigError, match=row.key[0]):
            build(name, **row.settings)


@pytest.mark.parametrize("name", ROWS)
def test_every_dialect_is_known_and_writes_requests(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, backend = ROWS[name], made(name, monkeypatch)
    for operation, dialect in row.routes:
        assert dialect in DIALECTS
        wire = wire_of(backend, operation, dialect)
        body, _ = wire.encode(REQUESTS[operation])
        assert body.startswith(b"{")
        if dialect in ("openai_chat", "openai_completions"):
            assert wire.reports_usage_when_asked is row.usage_when_asked


@pytest.mark.parametrize(
    ("name", "operation", "dialect", "there", "not_there"),
    [
        ("openai", CHAT, "openai_chat", b'"max_completion_tokens":5', b'"system"'),
        ("openai-compatible", CHAT, "openai_chat", b'"max_tokens":5', b'"developer"'),
        ("azure-openai", CHAT, "openai_chat", b'"developer"', b'"max_completion_tokens"'),
        ("mistral", CHAT, "openai_chat", b'"max_tokens":5', b'"developer"'),
        ("mistral", EMBED, "openai_embeddings", b'"output_dimension":8', b"encoding_format"),
        ("groq", CHAT, "openai_chat", b'"max_completion_tokens":5', b'"developer"'),
        ("deepseek", CHAT, "openai_chat", b'"system"', b'"developer"'),
        ("xai", CHAT, "openai_chat", b'"max_completion_tokens":5', b'"developer"'),
        ("openrouter", CHAT, "openai_chat", b'"developer"', b'"max_completion_tokens"'),
        ("cohere", CHAT, "openai_chat", b'"max_tokens":5', b'"developer"'),
        ("cohere", EMBED, "cohere_embed", b'"output_dimension":8', b'"dimensions"'),
        ("jina", EMBED, "openai_embeddings", b'"dimensions":8', b"encoding_format"),
        ("gemini", CHAT, "openai_chat", b'"max_tokens":5', b'"developer"'),
        ("vllm", EMBED, "openai_embeddings", b'"encoding_format":"base64"', b'"user"'),
        ("tei", EMBED, "tei_embed", b'"inputs":["a"]', b'"model"'),
    ],
)
def test_a_vendors_quirks_go_with_its_row(
    name: str,
    operation: Operation,
    dialect: str,
    there: bytes,
    not_there: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body, _ = wire_of(made(name, monkeypatch), operation, dialect).encode(REQUESTS[operation])
    assert there in body
    assert not_there not in body


def test_a_dialect_that_the_vendor_does_not_speak_is_translated_into_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, operation, first in (("cohere", EMBED, "cohere_embed"), ("bedrock", CHAT, "converse")):
        wire = made(name, monkeypatch).wire(operation, "something_else")
        assert wire is not None
        assert wire.dialect == first
    assert made("groq", monkeypatch).wire(EMBED, "openai_embeddings") is None


def test_azures_deployments() -> None:
    at = {"base_url": "https://acme.openai.azure.com", "api_key": "k", "api_version": "2024-10-21"}
    backend = build("azure-openai", **at)
    paths = {
        each.dialect: head_of(backend, operation, each.dialect)[0]
        for operation, endpoints in backend._preset.endpoints.items()
        for each in endpoints
    }
    assert paths == {
        "openai_chat": "/openai/deployments/up/chat/completions?api-version=2024-10-21",
        "openai_completions": "/openai/deployments/up/completions?api-version=2024-10-21",
        "openai_embeddings": "/openai/deployments/up/embeddings?api-version=2024-10-21",
    }
    with_path = build("azure-openai", base_url="https://acme.openai.azure.com/openai/v1", api_key="k")
    assert head_of(with_path, CHAT, "openai_chat")[0] == "/openai/v1/chat/completions"
    with pytest.raises(ConfigError, match="'azure-openai' needs base_url"):
        build("azure-openai", api_key="k")


class Signed:
    """Credentials that remember what they were made of."""

    made: ClassVar[list[tuple[Any, dict[str, Any]]]] = []

    def __init__(self, *values: Any, **named: Any) -> None:
        self.made.append((values, named))

    def ready(self) -> bool:
        return True

    def sign(self, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        return ((b"authorization", b"signed"),)

    async def headers(self, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        return self.sign(method, host, path_and_query, body)

    def invalidate(self) -> None: ...


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    Signed.made.clear()
    for name in ("EntraToken", "GoogleServiceAccount", "SigV4"):
        monkeypatch.setattr(clouds, name, Signed)
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    return Signed.made


def test_azure_without_a_key_asks_entra(signed: list[Any]) -> None:
    at = "https://acme.openai.azure.com"
    backend = build("azure-openai", base_url=at, tenant_id="t", client_id="c", client_secret="s")
    assert signed == [(("t", "c", "s"), {})]
    assert "api-key" not in head_of(backend, CHAT, "openai_chat")[1]


def test_vertex_without_a_token_asks_google(signed: list[Any]) -> None:
    backend = build("vertex", project="p", location="europe-west4")
    assert signed == [((None,), {})]
    assert backend._pool.origin.host == "europe-west4-aiplatform.googleapis.com"
    wire = wire_of(backend, CHAT, "gemini")
    assert "/locations/europe-west4/" in wire._plain.target
    assert wire._stream.target.endswith("models/up:streamGenerateContent?alt=sse")


@pytest.mark.parametrize(
    ("model", "chat", "embed"),
    [
        ("us.amazon.nova-pro-v1:0", ["converse", "invoke_nova"], []),
        ("mistral.mistral-large-2407-v1:0", ["converse", "invoke_chat", "invoke_mistral"], []),
        ("amazon.titan-embed-text-v2:0", [], ["invoke_titan_embed"]),
        ("cohere.embed-v4:0", [], ["invoke_cohere_embed"]),
        ("deepseek.r1-v1:0", ["converse", *CHAT_FORMS], list(EMBED_FORMS)),
    ],
)
def test_bedrocks_models_are_asked_in_their_own_form(model: str, chat: list[str], embed: list[str]) -> None:
    row = Registry().row("bedrock")
    options = {"backend": "bedrock", "model": model, "region": "eu-central-1", "api_key": "k"}
    backend = row.build(row.settings.model_validate(options), context())
    assert isinstance(backend, RemoteBackend)
    assert [each.dialect for each in backend._preset.endpoints.get(CHAT, ())] == chat
    assert [each.dialect for each in backend._preset.endpoints.get(EMBED, ())] == embed
    assert backend.operations == {each for each, found in ((CHAT, chat), (EMBED, embed)) if found}


def test_the_target_may_name_the_form() -> None:
    backend = build("bedrock", region="eu-central-1", api_key="k", dialects=["invoke_llama", "converse"])
    assert wire_of(backend, CHAT, "converse").dialect == "converse"
    wire = backend.wire(CHAT, "openai_chat")
    assert wire is not None and wire.dialect == "invoke_llama"
    assert backend.operations == {CHAT}
    with pytest.raises(
        ConfigError, match=r"no dialect 'invoke_lama'; dialects takes converse, invoke_anthropic"
    ):
        build("bedrock", region="eu-central-1", api_key="k", dialects=["invoke_lama"])


def test_bedrock_without_a_key_signs(signed: list[Any]) -> None:
    backend = build(
        "bedrock", region="us-east-1", profile="dev", access_key="a", secret_key="s", session_token="t"
    )
    named = {"profile": "dev", "access_key": "a", "secret_key": "s", "session_token": "t"}
    assert signed == [(("us-east-1",), named)]
    assert "authorization" not in head_of(backend, CHAT, "converse")[1]


def test_a_key_for_bedrocks_own_address_is_not_sent_elsewhere(
    signed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "k")
    build("bedrock", region="us-east-1", base_url="http://127.0.0.1:9")
    assert len(signed) == 1


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bedrock", {"region": "evil.example/"}),
        ("bedrock", {"region": ""}),
        ("vertex", {"project": "p/../q"}),
        ("vertex", {"project": "p", "location": "{model}"}),
    ],
)
def test_what_becomes_part_of_an_address_is_checked(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="part of an address"):
        Registry()[name](backend=name, **settings)


def test_settings_of_a_row_are_those_of_a_remote_api() -> None:
    for name in ROWS:
        assert issubclass(Registry()[name], RemoteSettings)


DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ROWS)
def test_the_page_tells_of_every_row(name: str) -> None:
    row = ROWS[name]
    lines = [
        line for line in (DOCS / "backends.md").read_text().splitlines() if line.startswith(f"| `{name}`")
    ]
    assert len(lines) == 1
    if name in ("openai-compatible", "azure-openai"):
        return
    told = set(re.findall(r"`([\w]+)`", lines[0]))
    assert {dialect for operation, dialect in row.routes if operation is not COUNT} <= told
    assert row.key is None or not row.key[0] or row.key[0] in told
    assert name in ("vertex", "bedrock") or row.address[0] in lines[0]


def test_the_page_tells_of_every_dialect() -> None:
    told = set(re.findall(r"`(\w+)`", (DOCS / "dialects.md").read_text()))
    assert set(DIALECTS) <= told
